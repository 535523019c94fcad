"""The clean-up removes what need not be kept any longer: whole documents, and only those of which everything is ours and over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from hashlib import sha256

import pytest
import yaml

from blocks.errors import DocumentMissing, RepositoryError, RepositoryUnreachable
from blocks.ledger import Entry
from blocks.repositories.folder import FolderSession
from blocks.values import Filed, Filing, NotFiled
from tasks import clean_up, connections, incidents
from tasks.clean_up import Swept, purge_quarantine, remove_what_has_ended
from tasks.consignment import Consignment
from tasks.holds import Bar, Gate
from tasks.rules import holding
from tests.tasks.dock import Dock, price_list

NAMING = r"[a-z]*-(?P<date>[\d-]+)\.csv"
OLD, OLDER, LONG = "prices-2002-01-01.csv", "prices-2001-01-01.csv", "prices-2900-01-01.csv"


@pytest.fixture
def ending(dock: Dock) -> Dock:
    """A dock whose documents are kept for a year from the date in their names, and are removed then."""
    agree(dock)
    return dock


def agree(dock: Dock, **target: object) -> None:
    kept = {"record_date": "{date}", "retention": {"period": "P1Y", "at_end": "remove"}}
    dock.agree(naming=NAMING, target={"repository": "kept", "folder": "Prices", **kept, **target})


def sweep() -> Swept:
    [swept] = remove_what_has_ended.fn()
    return swept


def test_bytes_that_come_again_after_their_removal_are_filed_again(ending: Dock) -> None:
    for name in (OLDER, OLD, LONG):
        ending.leave(name, price_list())
        assert ending.run() == {name: "filed"}
        assert list(ending.filed()) == [name]
        assert sweep().gone == (0 if name == LONG else 1)
    assert list(ending.filed()) == [LONG]


def test_bytes_whose_removal_is_under_way_are_neither_filed_nor_duplicates(ending: Dock) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    [first] = ending.journeys(OLD)
    ending.ledger.append([Entry(first, "removing")])
    original = ending.leave(LONG, price_list())
    ending.run()
    assert ("filed" in ending.kinds(LONG), "duplicate" in ending.kinds(LONG), original.exists()) == (False, False, True)
    ending.ledger.append([Entry(first, "not-removed")])
    ending.run()
    assert (ending.kinds(LONG)[-1], original.exists()) == ("cleared", False)
    assert "duplicate" in ending.kinds(LONG)


@pytest.mark.parametrize("done", [False, True])
def test_what_was_being_filed_when_a_run_broke_off_is_kept_as_was_intended_then(
    ending: Dock, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """The repository has it already, or not yet; either way the profile has changed by the time that the next run goes on."""
    original = FolderSession.file

    def broken(session: FolderSession, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        if done:
            list(original(session, filings))
        raise RepositoryUnreachable("the network went away")
        yield

    ending.leave(LONG, price_list())
    with monkeypatch.context() as patch:
        patch.setattr(FolderSession, "file", broken)
        with pytest.raises(RepositoryUnreachable):
            ending.run()
    agree(ending, records_class="Other", retention={"period": "P7Y", "schedule": "FIN-10"})
    assert ending.run() == {LONG: "filed"}
    [filed] = [entry.body for entry in ending.history(LONG) if entry.kind == "filed"]
    [record] = (ending.home / "kept").rglob("record.json")
    for told in (filed, json.loads(record.read_text())):
        assert [told["record_date"], told["keep_until"]] == ["2900-01-01", "2901-01-01"]
        assert (told.get("records_class"), told.get("schedule")) == (None, None)


# --------------------------------------------------------------------------------------------- what must stay


def test_a_version_that_is_not_ours_keeps_the_document(ending: Dock) -> None:
    agree(ending, name="prices.csv")
    (ending.home / "kept" / "Prices").mkdir()
    (ending.home / "kept" / "Prices" / "prices.csv").write_bytes(b"by hand")
    ending.leave(OLD, price_list())
    ending.run()
    [(_, reason)] = sweep().kept
    assert "1 of its 2 versions are not ours" in reason
    assert ending.kinds(OLD)[-1] == "cleared"
    assert ending.filed() == {"prices.csv": price_list()}


def test_what_keeps_a_document_is_asked_once_and_not_for_each_of_its_versions(
    ending: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(ending, name="one.csv", collision="new version")
    for n, name in enumerate((OLDER, OLD, LONG)):
        ending.leave(name, price_list(first=10 * n))
        ending.run()
    asked: list[str] = []
    # Counted, not replaced: how often it is asked is seen in no result.
    monkeypatch.setattr(clean_up, "family_of", lambda one, ask=clean_up.family_of: asked.append(one) or ask(one))
    swept, [last] = sweep(), ending.journeys(LONG)
    reason = f"it is one document with journey {last}, which must be kept longer"
    assert (swept.gone, dict(swept.kept)) == (0, dict.fromkeys(ending.journeys(OLDER) + ending.journeys(OLD), reason))
    assert len(asked) == 1
    assert sweep() == swept, "the next clean-up asks again"
    assert len(asked) == 2


@pytest.mark.parametrize("shared", ["as the same bytes", "as versions"])
def test_a_hold_on_one_journey_keeps_the_document_that_it_shares(ending: Dock, shared: str) -> None:
    agree(ending, name="prices.csv")
    ending.leave(OLDER, price_list())
    ending.run()
    ending.leave(OLD, price_list(first=1 if shared == "as the same bytes" else 50))
    ending.run()
    [later] = ending.journeys(OLD)
    for held in (later, *ending.journeys(OLDER)):
        # As it is in force here at once, before the repository is told.
        ending.ledger.append([Entry(holding.REGISTER, holding.APPLIED, {"journey": held, "hold": "Case"})])
        assert {reason for _, reason in sweep().kept} == {"on hold: Case"}
        ending.ledger.append([Entry(holding.REGISTER, holding.LIFTED, {"journey": held, "hold": "Case"})])
    assert list(ending.filed()) == ["prices.csv"]
    assert sweep().kept == ()
    assert ending.filed() == {}
    # Both are over now, and nothing of either is barred for ever.
    assert [ending.kinds(name)[-1] for name in (OLDER, OLD)] == ["removed", "removed"]
    assert Gate().bars([later, *ending.journeys(OLDER)]) == {}
    assert sweep() == Swept("documents of acme/prices")
    ending.ledger.verify()


# --------------------------------------------------------------------------------------------- while somebody else works


def during(dock: Dock, monkeypatch: pytest.MonkeyPatch, nth: int, act: Callable[[], object]) -> None:
    """Something happens while a clean-up asks for holds the n-th time."""
    asked = iter(range(1, 100))

    class Slow(Gate):
        def bars(self, journeys: Iterable[str]) -> dict[str, Bar]:
            found = super().bars(journeys)
            if next(asked) == nth:
                act()
            return found

    # Nothing else happens exactly between two questions of one clean-up.
    monkeypatch.setattr(clean_up, "Gate", Slow)


def test_the_same_bytes_that_come_before_the_intent_keep_the_document(ending: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    again = ending.leave(LONG, price_list())
    during(ending, monkeypatch, 1, ending.run)
    [(_, reason)] = sweep().kept
    assert "came just now" in reason
    assert (again.exists(), list(ending.filed())) == (False, [OLD])
    assert ending.kinds(OLD)[-2:] == ["removing", "not-removed"]


def test_the_same_bytes_that_come_after_the_intent_wait_and_are_filed(ending: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    again = ending.leave(LONG, price_list())
    during(ending, monkeypatch, 2, ending.run)
    assert (sweep().gone, again.exists(), ending.filed()) == (1, True, {})
    ending.run()
    assert (again.exists(), list(ending.filed())) == (False, [LONG])


@pytest.mark.parametrize("shared", ["as the same bytes", "as versions"])
def test_the_original_stays_when_its_document_is_removed_in_between(ending: Dock, shared: str) -> None:
    agree(ending, name="prices.csv")
    ending.leave(OLD, price_list())
    ending.run()
    [first] = ending.journeys(OLD)
    again = ending.leave(LONG, price_list(first=1 if shared == "as the same bytes" else 50))
    place = {"repository": "anywhere", "repository_id": "Prices/prices.csv"}

    def begun(step: str, _: Consignment) -> None:
        if step == "clear_source":
            ending.ledger.append([Entry(first, "removing", place)])

    def done(step: str, _: Consignment) -> None:
        if step == "clear_source":
            ending.ledger.append([Entry(first, "removed", place)])

    ending.run(before=begun)
    assert (again.exists(), ending.cases()) == (True, [])
    ending.run(before=done)
    assert (again.exists(), ending.codes()) == (True, ["removed-meanwhile"])


def test_a_case_that_is_opened_again_keeps_its_bytes(ending: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.retry import reject

    ending.leave("unnamed.csv", price_list())
    ending.run()
    [journey] = ending.journeys("unnamed.csv")
    reject(journey, "not wanted", by="ops")
    quarantined = {"case": {"state": "new", "code": "name", "reason": "again"}}
    during(ending, monkeypatch, 1, lambda: ending.ledger.append([Entry(journey, "quarantined", quarantined)]))
    assert purge_quarantine.fn(timedelta(seconds=-1)).gone == 0
    assert connections.quarantine().content(journey) is not None
    ending.ledger.append([Entry(journey, "rejected", {"case": {"state": "resolved"}})])
    hold = {"journey": journey, "hold": "Case"}
    during(ending, monkeypatch, 1, lambda: ending.ledger.append([Entry(holding.REGISTER, holding.APPLIED, hold)]))
    assert purge_quarantine.fn(timedelta(seconds=-1)).kept == ((journey, "on hold: Case"),)
    ending.ledger.append([Entry(holding.REGISTER, holding.LIFTED, hold)])
    assert purge_quarantine.fn(timedelta(seconds=-1)).gone == 1
    assert connections.quarantine().content(journey) is None


# --------------------------------------------------------------------------------------------- what breaks


def test_a_case_whose_lease_ran_out_keeps_its_bytes_and_ends_nobody_else_s_purge(
    ending: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.retry import reject

    names = [f"unnamed{number}.csv" for number in range(3)]
    for number, name in enumerate(names):
        ending.leave(name, price_list(first=50 * number))
    ending.run()
    journeys = [ending.journeys(name)[-1] for name in names]
    for journey in journeys:
        reject(journey, "not wanted", by="ops")

    def stalled(journey: str, *_: object) -> bool:
        if journey == journeys[1]:  # as if so long had passed that another process has it now
            with ending.ledger._db.write() as connection:
                connection.exec_driver_sql("UPDATE lease SET fence = fence + 1")
        return True

    # A worker that stands still between two documents, for longer than its lease.
    monkeypatch.setattr(clean_up, "_rests", stalled)
    swept = purge_quarantine.fn(timedelta(seconds=-1))
    assert (swept.gone, [journey for journey, _ in swept.kept]) == (2, [journeys[1]])
    assert [connections.quarantine().content(journey) is None for journey in journeys] == [True, False, True]


@pytest.mark.parametrize("done", [False, True])
def test_a_removal_that_broke_off_is_completed(ending: Dock, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    broken_off(ending, monkeypatch, done=done)
    assert (sweep().gone, ending.filed()) == (1, {})
    assert ending.kinds(OLD)[-2:] == ["removing", "removed"]


def broken_off(dock: Dock, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> None:
    """A clean-up that began with the removal of what it has, and does not know what came of it."""
    original = FolderSession.remove

    def broken(session: FolderSession, id: str, made_by: Sequence[str | None] | None = None) -> None:
        if done:
            original(session, id, made_by)
        raise RepositoryUnreachable("the network went away")

    with monkeypatch.context() as patch:
        patch.setattr(FolderSession, "remove", broken)
        assert "went away" in sweep().kept[0][1]
    assert dock.kinds(OLD)[-1] == "removing"


@pytest.mark.parametrize(
    ("now", "done"),
    [
        ("kept at the end", False),
        ("kept at the end", True),
        ("kept longer", True),
        ("no such stream", False),
        ("no such partner", True),
        ("filed elsewhere", False),
    ],
)
def test_a_removal_that_broke_off_and_is_wanted_no_more_ends(
    ending: Dock, monkeypatch: pytest.MonkeyPatch, now: str, done: bool
) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    broken_off(ending, monkeypatch, done=done)
    match now:
        case "kept at the end":
            agree(ending, retention={"period": "P1Y", "at_end": "keep"})
        case "kept longer":
            agree(ending, retention={"period": "P200Y", "at_end": "remove"})
        case "no such stream":
            ending.agree(streams={"other": {}})
        case "no such partner":
            (ending.profiles / "acme.yaml").unlink()
        case "filed elsewhere":
            agree(ending, repository="new")
            repositories = yaml.safe_load((ending.profiles / "repositories.yaml").read_text())
            (ending.home / "new").mkdir()
            repositories["repositories"]["new"] = {"kind": "folder", "path": str(ending.home / "new")}
            (ending.profiles / "repositories.yaml").write_text(yaml.safe_dump(repositories))
    kept = ending.home / "kept"
    kept.rename(away := ending.home / "away")  # nothing can be told of it yet
    assert {journey for one in remove_what_has_ended.fn() for journey, _ in one.kept} == set(ending.journeys(OLD))
    assert ending.kinds(OLD)[-1] == "removing"
    away.rename(kept)
    remove_what_has_ended.fn()
    assert ending.kinds(OLD)[-1] == ("removed" if done else "not-removed")
    assert (kept / "Prices" / OLD).exists() is not done
    entries = len(ending.history(OLD))
    remove_what_has_ended.fn()
    assert len(ending.history(OLD)) == entries, "it has ended"


@pytest.mark.parametrize("wanted", [True, False], ids=["still to go", "kept after all"])
def test_bytes_of_a_document_that_is_not_shown_after_its_removal_broke_off_stay_until_a_person_has_looked(
    ending: Dock, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """It may stand there still, hidden from us and on hold."""
    for name in (OLD, OLDER):  # one document
        ending.leave(name, price_list())
        ending.run()
    broken_off(ending, monkeypatch, done=False)
    [journey], [same] = ending.journeys(OLD), ending.journeys(OLDER)
    family = [journey, same]

    def hidden(*_: object) -> None:
        raise DocumentMissing("not visible")

    with monkeypatch.context() as patch:
        for look in ("filed_by", "holds", "let_stand"):
            patch.setattr(FolderSession, look, hidden)
        patch.setattr(FolderSession, "was_removed", lambda *_: False)
        if wanted:
            swept = sweep()
        else:
            agree(ending, retention={"period": "P1Y", "at_end": "keep"})
            [swept] = remove_what_has_ended.fn()
        assert swept.gone == 0
        assert [(one, "may be hidden from us" in reason) for one, reason in swept.kept] == [(journey, True)]
        assert ending.codes() == ["removal-unknown"], "a person is asked"
        assert "cannot be asked for holds" in Gate().bars([journey])[journey].reason
        digest = sha256(price_list()).hexdigest()
        assert Gate().kept_digests([digest]) == {digest}
        entries = len(ending.history(OLD))
        remove_what_has_ended.fn()
        assert len(ending.history(OLD)) == entries, "asked once"
        assert incidents.close(journey, "it is gone", by="ops") == "removal-unknown"
        assert (ending.codes(), Gate().bars(family), Gate().kept_digests([digest])) == ([], {}, set())
    ending.ledger.verify()


def test_a_removal_that_broke_off_is_not_judged_by_a_profile_that_cannot_be_read(
    ending: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    broken_off(ending, monkeypatch, done=False)
    (ending.profiles / "acme.yaml").write_text("partner: {}\n")
    assert ending.journeys(OLD)[0] in [journey for one in remove_what_has_ended.fn() for journey, _ in one.kept]
    assert ending.kinds(OLD)[-1] == "removing"


def test_a_version_that_comes_after_the_last_look_keeps_its_document(ending: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository is asked to remove what we have looked at, and sees itself that something else stands there by then."""
    agree(ending, name="prices.csv")
    ending.leave(OLD, price_list())
    ending.run()
    original = FolderSession.remove

    def late(session: FolderSession, id: str, made_by: Sequence[str | None] | None = None) -> None:
        content = price_list(first=70)
        path = ending.home / "theirs.csv"
        path.write_bytes(content)
        digest = sha256(content).hexdigest()
        filing = Filing("somebody else", "prices.csv", ("Prices",), path, digest, len(content), "text/csv")
        assert [answer.version for answer in session.file([filing]) if isinstance(answer, Filed)] == [2]
        original(session, id, made_by)

    with monkeypatch.context() as patch:
        patch.setattr(FolderSession, "remove", late)
        [(_, reason)] = sweep().kept
    assert "another version has come" in reason
    assert ending.filed() == {"prices.csv": price_list(first=70)}
    assert ending.kinds(OLD)[-2:] == ["removing", "not-removed"]


def test_a_refused_removal_is_tried_again_after_a_week_and_told_every_night(
    ending: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate((OLDER, OLD)):
        ending.leave(name, price_list(first=50 * number))
        ending.run()
    original = FolderSession.remove

    def refused(session: FolderSession, id: str, made_by: Sequence[str | None]) -> None:
        if id.endswith(OLDER):
            raise RepositoryError("reserved by somebody")
        original(session, id, made_by)

    monkeypatch.setattr(FolderSession, "remove", refused)
    for gone in (1, 0):
        swept = sweep()
        assert (swept.gone, [reason for _, reason in swept.kept]) == (gone, ["could not be removed: reserved by somebody"])
    assert ending.kinds(OLDER)[-3:] == ["cleared", "removing", "not-removed"]
    monkeypatch.setattr(FolderSession, "remove", original)
    monkeypatch.setattr(clean_up, "AGAIN", timedelta(0))
    assert (sweep().gone, ending.filed()) == (1, {})


def test_pages_of_journeys_are_looked_through_oldest_first(ending: Dock) -> None:
    ledger = ending.ledger
    names = [f"prices-200{number}-01-01.csv" for number in range(3)]
    for number, name in enumerate(names):
        ending.leave(name, price_list(first=10 * number + 1))
    ending.run()
    journeys = sorted(one for name in names for one in ending.journeys(name))
    assert ledger.over("acme", "prices", without="removed") == journeys
    assert ledger.over("acme", "prices", without="removed", limit=2) == journeys[:2]
    assert ledger.over("acme", "prices", without="removed", after=journeys[1]) == journeys[2:]
    assert ledger.over("acme", "other", without="removed") == []
    assert sweep().gone == 3
    assert ledger.over("acme", "prices", without="removed") == []


def test_a_profile_that_cannot_be_read_and_a_period_without_end_stop_nothing_else(ending: Dock) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    (ending.profiles / "aaa.yaml").write_text("partner: {}\n")
    ending.agree(
        streams={
            "endless": {"target": {"repository": "kept", "folder": "In", "retention": {"period": "P1Y", "at_end": "remove"}}},
            "prices": yaml.safe_load((ending.profiles / "acme.yaml").read_text())["partner"]["streams"]["prices"],
        }
    )
    swept = {one.what: one for one in remove_what_has_ended.fn()}
    assert [journey for journey, _ in swept["documents of aaa"].kept] == ["aaa"]
    assert (swept["documents of acme/prices"].gone, ending.filed()) == (1, {})
    (ending.profiles / "aaa.yaml").unlink()
    agree(ending)
    ending.leave("prices-9500-01-01.csv", price_list(first=9))
    ending.run()
    agree(ending, retention={"period": "P999Y", "at_end": "remove"})
    assert sweep() == Swept("documents of acme/prices")
    assert list(ending.filed()) == ["prices-9500-01-01.csv"]
