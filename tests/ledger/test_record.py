"""What is written stays as written, and a repeat is visible."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from functools import reduce
from itertools import permutations
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from blocks.errors import LedgerUnreachable
from blocks.ledger import CaseState, Entry, Ledger, new_journey
from blocks.values import Stage


def test_entries_of_a_journey_are_a_chain(ledger: Ledger) -> None:
    before = ledger.now()
    ledger.append([Entry("a", "arrived", {"size": 3}), Entry("b", "arrived")])
    ledger.append([Entry("a", "fetched", {"digest": "ab"}, stage=Stage.FETCHED)])
    first, second = ledger.journey("a")
    assert [(entry.n, entry.kind, entry.body) for entry in (first, second)] == [
        (1, "arrived", {"size": 3}),
        (2, "fetched", {"digest": "ab"}),
    ]
    with ledger._db.read() as connection:
        record = connection.exec_driver_sql("SELECT record FROM entry WHERE journey = 'a' AND n = 2").scalar_one()
    facts = json.loads(record)
    assert hashlib.sha256(record.encode()).hexdigest() == second.hash
    assert (facts["previous"], facts["stage"], facts["v"]) == (first.hash, "fetched", 1)
    assert record == json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert before <= first.at <= second.at <= ledger.now()
    assert ledger.journeys(["b", "none"])["none"] == []
    assert ledger.verify().entries == 3


def test_kinds_that_nobody_has_use_for_are_left_out(ledger: Ledger) -> None:
    ledger.append([Entry("a", kind, {"of": kind}) for kind in ("arrived", "fetched", "filed")] + [Entry("b", "arrived")])
    found = ledger.journeys(["a", "b", "none"], without=["arrived", "fetched"])
    assert {id: [(entry.n, entry.kind, entry.body) for entry in entries] for id, entries in found.items()} == {
        "a": [(3, "filed", {"of": "filed"})],
        "b": [],
        "none": [],
    }


def test_an_entry_with_a_taken_key_is_answered_by_its_holder(ledger: Ledger) -> None:
    [first] = ledger.append([Entry("a", "delivery", {"to": "x"}, once="package/x")])
    again, other = ledger.append(
        [Entry("a", "delivery", {"to": "x"}, once="package/x"), Entry("b", "delivery", once="package/x")]
    )
    assert (first.fresh, again.fresh, other.fresh) == (True, False, False)
    assert (again.seq, other.seq, other.journey, other.body) == (first.seq, first.seq, "a", {"to": "x"})
    assert ledger.journey("b") == []
    assert ledger.verify().entries == 1


def test_within_a_batch_the_first_entry_takes_the_key(ledger: Ledger) -> None:
    first, second, third = ledger.append(
        [Entry("a", "vote", {"for": 1}, once="k"), Entry("b", "vote", once="k"), Entry("b", "note")]
    )
    assert (first.fresh, second.fresh, third.fresh) == (True, False, True)
    assert second.journey == "a"
    assert [entry.kind for entry in ledger.journey("b")] == ["note"]


class Name(str, Enum):  # noqa: UP042 - str() of such a member is not its text
    PRICES = "prices.csv"


class Size(IntEnum):
    SMALL = 3


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"name": "prices.csv", "size": 0, "rate": 1e-7, "well": True, "note": None}, id="plain values"),
        pytest.param({"name": Name.PRICES, "size": Size.SMALL}, id="members of enumerations"),
        pytest.param(
            {"case": {"code": "c", "rows": [1, {"x": None}]}, "parts": [], "name": "prices.csv"}, id="lists and objects"
        ),
        pytest.param({"case": {"code": "c", "sizes": [Size.SMALL]}}, id="a member of an enumeration, further in"),
        pytest.param({"parts": ("a", ["b"]), "name": "prices.csv"}, id="a tuple"),
        pytest.param({"parts": [("a", "b")]}, id="a tuple further in"),
        pytest.param({"parts": [{1: "one"}]}, id="a key that is no text, further in"),
        pytest.param({"parts": reduce(lambda inner, _: [inner], range(800), ())}, id="very deep"),
        pytest.param({"case": MappingProxyType({"code": "c", "state": "new"})}, id="a mapping that is no dict"),
        pytest.param({1: "one"}, id="a key that is no text"),
        pytest.param({"name": "\ud83d\ude00.csv"}, id="two halves of a surrogate pair"),
        pytest.param({"name": "\udcff.csv"}, id="a byte that is no text"),
    ],
)
def test_an_append_answers_and_is_indexed_as_the_record_says(ledger: Ledger, body: dict[str, Any]) -> None:
    [answer] = ledger.append([Entry("a", "arrived", body, once="k", stage=Stage.FETCHED)])
    [read] = ledger.journey("a")
    assert (answer.body, answer.once, answer.stage) == (read.body, "k", Stage.FETCHED) == (read.body, read.once, read.stage)
    # Equal is not enough: a member of an enumeration is equal to its value.
    assert sorted(map(repr, answer.body.items())) == sorted(map(repr, read.body.items()))
    assert ledger.verify().entries == 1


@pytest.mark.parametrize("fact", ["partner", "stream", "digest"])
def test_what_only_one_entry_of_a_batch_tells_anew_is_indexed(ledger: Ledger, fact: str) -> None:
    facts = {"partner": "acme", "stream": "prices", "digest": "ab"}
    ledger.append([Entry(journey, "arrived", facts) for journey in "abc"])
    ledger.append([Entry(journey, "fetched", facts) for journey in "cab"])
    ledger.append([Entry("c", "judged", facts), Entry("b", "judged", facts | {fact: "other"}), Entry("d", "arrived", facts)])
    found = {one.journey: getattr(one, fact) for one in ledger.search()}
    assert found == {"a": facts[fact], "b": "other", "c": facts[fact], "d": facts[fact]}
    assert ledger.verify().entries == 9


@pytest.mark.parametrize("fact", ["partner", "stream", "digest"])
def test_what_journeys_told_of_each_other_before_is_indexed(ledger: Ledger, fact: str) -> None:
    """Whatever order a database has them in."""
    facts = {"partner": "acme", "stream": "prices", "digest": "ab"}
    names, values = ("B", "_", "a"), ("one", "two", "three")
    for exchanged in permutations(values):
        for now in (values, exchanged):
            ledger.append([Entry(name, "arrived", facts | {fact: value}) for name, value in zip(names, now, strict=True)])
            assert tuple(getattr(one, fact) for one in sorted(ledger.search(), key=lambda one: one.journey)) == now
    ledger.verify()


def test_an_answer_stays_what_was_written_whatever_becomes_of_what_was_given(ledger: Ledger) -> None:
    parts = ["a"]
    [answer] = ledger.append([Entry("a", "arrived", {"parts": parts})])
    parts.append("b")
    assert answer.body == {"parts": ["a"]}


def test_what_some_entries_of_a_batch_tell_changes_nothing_about_the_others(ledger: Ledger) -> None:
    ledger.append([Entry("a", "arrived", {"name": "a.csv", "size": 0}), Entry("b", "arrived", {"partner": "acme", "size": 9})])
    ledger.append([Entry("a", "fetched", {"digest": "ab"}), Entry("b", "fetched", {"size": 0}, stage=Stage.FETCHED)])
    ledger.append([Entry("a", "noted"), Entry("b", "noted")])
    found = {one.journey: (one.partner, one.name, one.size, one.digest, one.stage, one.kind) for one in ledger.search()}
    assert found == {"a": (None, "a.csv", 0, "ab", None, "noted"), "b": ("acme", None, 0, None, Stage.FETCHED, "noted")}
    assert ledger.verify().entries == 6


@pytest.mark.parametrize("table", ["entry", "checkpoint"])
def test_the_database_refuses_to_change_or_remove(ledger: Ledger, table: str) -> None:
    ledger.append([Entry("a", "arrived", {"name": "one.csv"})])
    ledger.checkpoint(lambda message: b"signature", "key")
    # SQLite's REPLACE removes the old row without asking the triggers for DELETE.
    own = f"TRUNCATE {table}" if ledger._db.postgres else f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"
    for statement in (f"UPDATE {table} SET hash = 'x'", f"UPDATE {table} SET record = record", f"DELETE FROM {table}", own):
        with ledger._db.engine.connect() as connection, pytest.raises(DBAPIError, match="append-only"):
            connection.exec_driver_sql(statement)
    assert ledger.verify().checkpoints == 1


def test_a_batch_is_whole_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="cannot be recorded: datetime"):
        ledger.append([Entry("a", "arrived"), Entry("b", "arrived", {"at": datetime.now(UTC)})])
    with pytest.raises(ValueError, match="due"):
        ledger.append([Entry("a", "arrived"), Entry("b", "quarantined", {"case": {"due": "soon"}})])
    assert ledger.verify().entries == 0


def test_a_thousand_entries_are_a_few_statements(ledger: Ledger) -> None:
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    entries = [Entry(f"j{n}", "arrived", {"name": f"{n}.csv", "digest": f"{n:064x}"}, once=f"arrived {n}") for n in range(1000)]
    event.listen(ledger._db.engine, "before_cursor_execute", counted)
    written = ledger.append(entries)
    assert [entry.journey for entry in written] == [entry.journey for entry in entries]
    assert count <= 20


def test_hostile_words_are_recorded_and_found(ledger: Ledger) -> None:
    name, once = "nul\0 half \udcff pair é.csv", "delivery \0\udcff\\u0000"
    ledger.append([Entry("a", "arrived", {"name": name, "size": 10**30, "partner": 7, "digest": "f" * 9000}, once=once)])
    [again] = ledger.append([Entry("a", "arrived", once=once)])
    assert (again.fresh, again.once, again.body["name"]) == (False, once, name)
    assert ledger.append([Entry("a", "arrived", once="delivery \\u0000\\udcff\\u0000")])[0].fresh
    assert [found.journey for found in ledger.search(name="PAIR É")] == ["a"]
    assert ledger.verify().entries == 2


def test_writers_at_once_never_collide(ledger: Ledger) -> None:
    """Batches over the same journeys in opposite orders: no deadlock, no number twice, none left out."""
    failed: list[BaseException] = []

    def write(journeys: list[str]) -> None:
        try:
            for _ in range(8):
                ledger.append([Entry(journey, "note") for journey in journeys])
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    names = [f"j{n}" for n in range(20)]
    threads = [threading.Thread(target=write, args=(names if n % 2 else names[::-1],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert ledger.verify().entries == 4 * 8 * 20


def test_a_database_that_stays_locked_is_unreachable(url: str) -> None:
    with Ledger(url) as other, other._db.write() as connection, Ledger(url, timeout_seconds=0.3) as ledger:
        other._db.lock(connection, "record")
        with pytest.raises(LedgerUnreachable, match=r"locked for over 0\.3 s") as caught:
            ledger.append([Entry("a", "arrived")])
    assert caught.value.worth_retrying
    assert Ledger(url).verify().entries == 0


def test_a_connection_that_breaks_is_unreachable_and_then_made_again(url: str) -> None:
    if url.startswith("sqlite"):
        return  # SQLite has no connection to lose
    with Ledger(url) as ledger:
        with pytest.raises(LedgerUnreachable, match="did not answer"), ledger._db.write() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        assert ledger.append([Entry("a", "arrived")])[0].fresh


# --------------------------------------------------------------------------------------------- search and cases


def test_search_by_each_fact(ledger: Ledger) -> None:
    ledger.append(
        [
            Entry(
                "a", "arrived", {"partner": "acme", "stream": "prices", "name": "Preise_ÄÖ.csv", "size": 5}, stage=Stage.FETCHED
            )
        ]
    )
    ledger.append([Entry("b", "arrived", {"partner": "acme", "stream": "assets", "name": "hero_100%.jpg"})])
    ledger.append([Entry("a", "filed", {"digest": "abcdef", "repository": "xecm", "repository_id": 4711}, stage=Stage.FILED)])
    found = {
        "name": ledger.search(name="preise_äö"),
        "percent is no pattern": ledger.search(name="0%.j"),
        "no match": ledger.search(name="_00%"),
        "partner": ledger.search(partner="acme"),
        "stream": ledger.search(partner="acme", stream="assets"),
        "digest": ledger.search(digest="ABC"),
        "other digest": ledger.search(digest="abd"),
        "repository id": ledger.search(repository_id="4711"),
        "stage": ledger.search(stage=Stage.FILED),
        "since": ledger.search(since=ledger.now() + timedelta(seconds=5)),
        "until": ledger.search(until=ledger.now() + timedelta(seconds=5), limit=1),
    }
    assert {asked: [each.journey for each in answer] for asked, answer in found.items()} == {
        "name": ["a"],
        "percent is no pattern": ["b"],
        "no match": [],
        "partner": ["b", "a"],
        "stream": ["b"],
        "digest": ["a"],
        "other digest": [],
        "repository id": ["a"],
        "stage": ["a"],
        "since": [],
        "until": ["b"],
    }
    [summary] = ledger.search(digest="abcdef")
    assert (summary.kind, summary.entries, summary.size, summary.repository, summary.stage) == (
        "filed",
        2,
        5,
        "xecm",
        Stage.FILED,
    )


def test_bytes_are_found_on_whichever_shelf_their_journey_stands(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.ledger.SHELF", 4)
    journeys = [f"j{n:02}" for n in range(12)]
    for journey in journeys:
        ledger.append([Entry(journey, "arrived")])
    for journey in journeys:
        ledger.append([Entry(journey, "fetched", {"digest": f"ab{journey}"})])

    def shelves() -> list[int]:
        with ledger._db.read() as connection:
            return list(connection.exec_driver_sql("SELECT DISTINCT shelf FROM journey ORDER BY shelf").scalars())

    assert shelves() == [0, 1, 2], "by the first entry, wherever later ones are in the record"
    for _ in range(2):
        assert [one.journey for one in ledger.search(digest="AB")] == journeys[::-1]
        assert [one.journey for one in ledger.search(digest="abj07")] == ["j07"]
        assert ledger.search(digest="abj12") == ledger.search(digest="aa") == []
        assert ledger.verify().journeys == 12
        ledger.reindex()


def test_what_began_with_an_order_is_found_while_it_is_open_or_was_changed_lately(ledger: Ledger) -> None:
    ledger.append([Entry(journey, "ordered") for journey in ("open", "moved", "closed", "left")])
    ledger.append([Entry("other", "packaged"), Entry("other", "ordered"), Entry("moved", "frozen", stage=Stage.FILED)])
    ledger.append([Entry("closed", "closed", stage=Stage.CLEARED), Entry("left", "closed", stage=Stage.LEFT)])
    soon = ledger.now() + timedelta(seconds=5)
    assert sorted(ledger.begun("ordered", since=soon)) == ["moved", "open"]
    assert sorted(ledger.begun("ordered", since=soon - timedelta(minutes=1))) == ["closed", "left", "moved", "open"]


def test_a_case_is_opened_changed_and_resolved(ledger: Ledger) -> None:
    ledger.append(
        [
            Entry(
                "a",
                "quarantined",
                {"partner": "acme", "name": "x.csv", "case": {"code": "wrong-type", "reason": "no", "owner": "ops"}},
            ),
            Entry("b", "quarantined", {"partner": "zeta", "case": {"code": "empty", "due": "2026-11-23T10:00:00+01:00"}}),
        ]
    )
    ledger.append([Entry("a", "assigned", {"case": {"state": "assigned", "owner": "anna"}})])
    first, second = ledger.cases()
    assert (first.journey, first.code, first.reason, first.owner, first.state) == (
        "a",
        "wrong-type",
        "no",
        "anna",
        CaseState.ASSIGNED,
    )
    assert (first.partner, first.name) == ("acme", "x.csv")
    assert (second.state, second.due) == (CaseState.NEW, datetime(2026, 11, 23, 9, tzinfo=UTC))
    ledger.append([Entry("a", "resolved", {"case": {"state": "resolved"}})])
    assert [case.journey for case in ledger.cases()] == ["b"]
    assert [case.journey for case in ledger.cases(partner="acme", open_only=False)] == ["a"]
    assert [case.journey for case in ledger.cases(state="new")] == ["b"]
    assert ledger.verify().entries == 4


def test_cases_that_something_is_to_be_done_about_are_told_from_kinds_of_entries_alone(ledger: Ledger) -> None:
    def keyed(journey: str, kind: str, mark: str) -> Entry:
        return Entry(journey, kind, once=f"{kind}/{journey}/{mark}/1")

    def behind(mark: str = "m", **where: str) -> list[str]:
        return ledger.cases_behind("begun", "done", mark=f"/{mark}/", besides={"asked"}, since=soon, **where)

    soon = ledger.now() + timedelta(minutes=1)
    for journey, stream in (("done", "s"), ("half", "s"), ("none", "t"), ("over", "s")):
        ledger.append([Entry(journey, "quarantined", {"partner": "acme", "stream": stream, "case": {"code": "x"}})])
    ledger.append([keyed(journey, "begun", "m") for journey in ("done", "half", "over")])
    ledger.append([keyed(journey, "done", "m") for journey in ("done", "over")])
    ledger.append([Entry("done", "asked"), Entry("over", "rejected", {"case": {"state": "resolved"}})])
    assert behind() == ["half", "none"] and behind(partner="acme", stream="s") == ["half"] and behind(stream="u") == []
    assert behind("n") == ["done", "half", "none"], "nothing was done about them under that mark"
    ledger.append([Entry("done", "commented")])
    assert behind() == ["done", "half", "none"]
    assert [one.journey for one in ledger.in_open_cases("begun", "asked")] == ["done", "done", "half"]
    assert ledger.cases_left("begun", "done", since=soon) == []
    ledger.append([keyed("over", "begun", "n")])
    assert ledger.cases_left("begun", "done", since=soon) == [] and ledger.cases_left(
        "begun", "done", since=ledger.now() - timedelta(1)
    )


def test_bytes_are_needed_until_journey_and_case_are_done(ledger: Ledger) -> None:
    def at(journey: str, stage: Stage | None, **more: object) -> Entry:
        return Entry(journey, "x", {"digest": journey, **more}, stage=stage)

    ledger.append([at("open", Stage.FETCHED), at("left", Stage.LEFT), at("cleared", Stage.CLEARED), at("release", None)])
    ledger.append([at("case", Stage.CLEARED, case={"code": "x"}), at("resolved", Stage.CLEARED, case={"state": "resolved"})])
    assert ledger.open_digests() == {"open", "release", "case"}


def test_ids_of_journeys_sort_by_time() -> None:
    early, late = new_journey(datetime(2026, 1, 1, tzinfo=UTC)), new_journey(datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert early < late
    assert len(early) == 36


def test_a_journey_is_overtaken_by_a_later_one_of_its_stream_that_is_through(ledger: Ledger) -> None:
    here = {"partner": "acme", "stream": "prices"}
    told = [
        ("1", "filed", here),
        ("3", "quarantined", here),
        ("4", "filed", {**here, "stream": "other"}),
        ("5", "duplicate", here),
    ]
    ledger.append([Entry(journey, "arrived", about) for journey, _, about in told])
    ledger.append([Entry(journey, kind, about) for journey, kind, about in told])
    assert ledger.overtaken_by("acme", "prices", "2") == "5"
    assert ledger.overtaken_by("acme", "prices", "5") is None


def test_open_intents_are_found_without_reading_the_record(ledger: Ledger) -> None:
    ledger.append([Entry(f"j{number}", "removing") for number in range(4)])
    ledger.append([Entry("j1", "removed"), Entry("j2", "not-removed"), Entry("j2", "removing")])

    def asked() -> list[str]:
        return ledger.open_intents("removing", ("removed", "not-removed"))

    assert asked() == ["j0", "j3", "j2"]
    assert ledger.open_intents("removing", ("removed",), behind=6) == ["j2"]
    with pytest.raises(ValueError, match="'arrived' is none of the kinds"):
        ledger.open_intents("arrived", ())
    if ledger._db.postgres:
        return  # how a table this small is read there says nothing
    few = _steps(ledger, asked)
    assert few > 10, "they are counted"
    ledger.append([Entry(f"other{number}", kind) for number in range(2000) for kind in ("arrived", "removed")])
    assert asked() == ["j0", "j3", "j2"]
    assert _steps(ledger, asked) < 2 * few, "4,000 more entries of other kinds cost nothing"


def _steps(ledger: Ledger, asked: Callable[[], object]) -> int:
    """How many steps SQLite's machine takes for what is asked."""
    steps = 0

    def one() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watched(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(one, 1)

    event.listen(ledger._db.engine, "checkout", watched)
    try:
        asked()
    finally:
        event.remove(ledger._db.engine, "checkout", watched)
        ledger.close()  # the next call makes connections that nobody watches
    return steps
