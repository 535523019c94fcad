"""Good rows go on, once, whatever breaks off and in how many steps a file is corrected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from blocks.chain import Link
from blocks.errors import ConfigurationError
from blocks.ledger import Entry
from blocks.profile import load_partner
from blocks.seals import SealKey
from blocks.settings import settings
from blocks.values import Stage
from deployments.checking import sound_file
from tasks import connections, let_go_on
from tasks.agreed import load_stream
from tasks.clean_up import family_of, purge_quarantine, remove_what_has_ended, tell_holds
from tasks.consignment import Consignment
from tasks.correct import correctable
from tasks.export_evidence import chosen, export, meant
from tasks.holds import Gate, apply_hold, holds_there, lift_hold
from tasks.retry import reject
from tasks.rules.bundle import Step, Story
from tasks.verify_evidence import verify_evidence
from tests.ledger.clock import Clock
from tests.sender.thread import sender_thread
from tests.tasks.dock import Dock

HEADER = "sku,description,currency,price,valid_from"


def prices(*told: str) -> bytes:
    """Articles A0, A1, ... at these prices."""
    rows = [f"A{number},,EUR,{price},2026-12-01" for number, price in enumerate(told)]
    return "\n".join([HEADER, *rows, ""]).encode()


@contextmanager
def good_rows_go_on(dock: Dock) -> Iterator[Dock]:
    """Where a stream lets good rows go on, and tells its partner of the others."""
    (dock.home / "partner" / "in" / "notes").mkdir(parents=True)
    dock.agree(rows="good-rows", notes={"folder": "/in/notes", "formats": ["html"]})
    with sender_thread(settings().sender_socket, dock.home / "state", profiles=dock.profiles, spool=settings().spool):
        yield dock


@pytest.fixture
def dock(dock: Dock) -> Iterator[Dock]:
    with good_rows_go_on(dock):
        yield dock


def filed(dock: Dock) -> list[str]:
    """Every row that the repository holds, in all documents."""
    return sorted(row for content in dock.filed().values() for row in content.decode().splitlines() if row != HEADER)


def good(*told: str) -> list[str]:
    return sorted(prices(*told).decode().splitlines()[1:])


def test_a_file_that_is_corrected_in_two_steps_is_filed_row_by_row(dock: Dock) -> None:
    dock.leave("p.csv", prices("1.00", "x", "y", "4.00"))
    assert dock.run() == {"p.csv": "quarantined"}
    assert filed(dock) == [row for row in good("1.00", "2", "3", "4.00") if row[1] in "03"]
    [page] = (dock.home / "partner" / "in" / "notes").iterdir()
    assert "All others were." in page.read_text()
    dock.leave("p.csv", prices("1.00", "2.00", "z", "4.00"))
    assert dock.run() == {"p.csv": "quarantined"}
    assert len(dock.cases()) == 2
    dock.leave("p.csv", prices("1.00", "2.00", "3.00", "4.00"))
    assert dock.run() == {"p.csv": "duplicate"}
    assert filed(dock) == good("1.00", "2.00", "3.00", "4.00")
    assert dock.cases() == []


def test_a_file_whose_good_rows_were_filed_has_no_receipt_that_says_it_was_rejected(dock: Dock) -> None:
    receipts = dock.home / "partner" / "in" / "receipts"
    receipts.mkdir()
    dock.agree(rows="good-rows", notes={"folder": "/in/notes"}, receipts={"folder": "/in/receipts"})
    dock.leave("p.csv", prices("1.00", "x"))
    assert dock.run() == {"p.csv": "quarantined"}
    assert [path.name.rsplit(".", 2)[1] for path in receipts.iterdir()] == ["received"]
    dock.leave("p.csv", prices("1.00", "2.00"))
    dock.run()
    assert sorted(path.name.rsplit(".", 2)[1] for path in receipts.iterdir()) == ["accepted", "received", "received"]


def test_a_person_puts_right_what_was_not_filed_in_part_whatever_is_agreed_by_now(dock: Dock) -> None:
    def uncorrectable(number: int) -> str:
        return correctable(load_stream("acme", "prices"), dock.ledger.journey(dock.journeys("p.csv")[number]))

    dock.agree()
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    assert uncorrectable(0) == ""
    dock.agree(rows="good-rows", notes={"folder": "/in/notes", "formats": ["html"]})
    assert uncorrectable(0) == "", "none of its rows is filed"
    dock.leave("p.csv", prices("1.00", "y"))
    dock.run()
    assert filed(dock) == good("1.00")
    assert "once more" in uncorrectable(0), "what is filed of the later one is in it too"
    dock.agree()
    assert all("once more" in uncorrectable(number) for number in (0, 1))
    for journey in dock.journeys("p.csv"):
        reject(journey, "given up", "ann")
    dock.leave("p.csv", prices("1.00", "z"))
    dock.run()
    assert uncorrectable(2) == "", "it is a new one"


def test_a_correction_that_was_held_as_a_whole_is_corrected_too(dock: Dock) -> None:
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    dock.leave("p.csv", prices("1.00", "2.00") + b"A9,,EUR\n")
    assert dock.run() == {"p.csv": "quarantined"}
    assert filed(dock) == good("1.00")
    dock.leave("p.csv", prices("1.00", "2.00"))
    dock.run()
    assert filed(dock) == good("1.00", "2.00")
    assert dock.cases() == []


def test_a_correction_that_brings_the_missing_rows_alone_is_one_too(dock: Dock) -> None:
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    dock.leave("p.csv", f"{HEADER}\nA1,,EUR,2.00,2026-12-01\n".encode())
    dock.run()
    assert filed(dock) == good("1.00", "2.00")
    assert dock.cases() == []


@pytest.mark.parametrize(
    ("bad", "next_day"),
    [
        pytest.param(b"A1,,EUR,x,2026-12-01", "B7,,EUR,7.00,2026-12-01", id="tomorrow's file has the same name"),
        pytest.param(b"A1,,EUR,2.00,soon", "A1,,EUR,2.00,2026-12-01", id="what names the row was wrong itself"),
    ],
)
def test_a_case_stays_open_until_all_rows_that_were_held_have_come(dock: Dock, bad: bytes, next_day: str) -> None:
    dock.leave("p.csv", prices("1.00") + bad + b"\n")
    assert dock.run() == {"p.csv": "quarantined"}
    dock.leave("p.csv", f"{HEADER}\n{next_day}\n".encode())
    assert dock.run() == {"p.csv": "duplicate"}
    assert filed(dock) == sorted([*good("1.00"), next_day])
    assert [case.journey for case in dock.cases()] == dock.journeys("p.csv")[:1]


def test_what_came_in_tomorrow_s_file_is_not_filed_twice_while_the_case_is_open(dock: Dock) -> None:
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    dock.leave("p.csv", f"{HEADER}\nB7,,EUR,7.00,2026-12-01\n".encode())
    dock.run()
    assert purge_quarantine.fn(timedelta(seconds=-1)).gone == 0, "the open case needs to know what was in it"
    dock.leave("p.csv", prices("1.00", "2.00") + b"B7,,EUR,7.00,2026-12-01\n")
    assert dock.run() == {"p.csv": "duplicate"}
    assert filed(dock) == [*good("1.00", "2.00"), "B7,,EUR,7.00,2026-12-01"]
    assert dock.cases() == []
    assert purge_quarantine.fn(timedelta(seconds=-1)).gone == 3


def tomorrow(*told: str) -> bytes:
    """Articles B0, B1, ... at these prices, without a header."""
    return b"".join(f"B{number},,EUR,{price},2026-12-01\n".encode() for number, price in enumerate(told))


@pytest.mark.parametrize("by", ["its partner", "a person"])
def test_what_came_in_a_file_is_not_filed_twice_after_its_own_case_was_closed(dock: Dock, by: str) -> None:
    header = f"{HEADER}\n".encode()
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    dock.leave("p.csv", header + tomorrow("7.00", "x"))
    dock.run()
    first, second = dock.journeys("p.csv")
    if by == "a person":
        with disable_run_logger():
            reject(second, "we have it from them by letter", "ann")
    else:
        dock.leave("p.csv", header + b"B1,,EUR,8.00,2026-12-01\n")
        dock.run()
    assert [case.journey for case in dock.cases()] == [first]
    assert purge_quarantine.fn(timedelta(seconds=-1)).gone == 0, "the open case needs to know what was in it"
    dock.leave("p.csv", prices("1.00", "2.00") + tomorrow("7.00", "8.00"))
    assert dock.run() == {"p.csv": "duplicate"}
    assert filed(dock) == [*good("1.00", "2.00"), *tomorrow("7.00", "8.00").decode().splitlines()]
    assert dock.cases() == []


def test_what_a_file_brought_is_kept_until_the_cases_that_it_was_compared_for_are_over_so_long(
    dock: Dock, clock: Clock
) -> None:
    for content in (prices("1.00", "x"), f"{HEADER}\n".encode() + tomorrow("7.00"), prices("1.00", "2.00")):
        dock.leave("p.csv", content)
        dock.run()
    [case] = dock.ledger.cases(open_only=False)
    for since, gone in ((timedelta(hours=-1), 0), (timedelta(hours=1), 3)):
        clock.ahead = case.changed + timedelta(days=90) + since - datetime.now(UTC)
        assert purge_quarantine.fn(timedelta(days=90)).gone == gone


def test_a_row_that_changes_what_was_filed_is_held_and_the_others_go_on(dock: Dock) -> None:
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    dock.leave("p.csv", prices("9.00", "2.00"))
    assert dock.run() == {"p.csv": "quarantined"}
    assert filed(dock) == good("1.00", "2.00")
    assert "already-filed" in dock.codes()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(prices("1.00", "x") + b"A0,,EUR,1.00,2026-12-01\n", id="a row that is there twice"),
        pytest.param(prices("1.00", "x") + b"A9,,EUR\n", id="a row without all its fields"),
        pytest.param(prices("x", "y"), id="no good row at all"),
        pytest.param(prices("1.00", *["x"] * 101), id="so many bad rows that not all are known"),
    ],
)
def test_what_is_more_than_single_bad_rows_is_held_as_a_whole(dock: Dock, content: bytes) -> None:
    dock.leave("p.csv", content)
    assert dock.run() == {"p.csv": "quarantined"}
    assert not list((dock.home / "kept").rglob("*.csv"))
    [page] = (dock.home / "partner" / "in" / "notes").iterdir()
    assert "Nothing of it was used." in page.read_text()


@pytest.mark.parametrize("corrected", [False, True], ids=["of the first file", "of the corrected one"])
def test_a_crash_at_any_moment_files_nothing_twice(dock: Dock, corrected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One crash behind the other: before the part is written down, and before each step behind."""

    def crash(at: str, name: str, _: Any) -> None:
        if name == at:
            raise KeyboardInterrupt

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    dock.leave("p.csv", prices("1.00", "x"))
    if corrected:
        dock.run()
        dock.leave("p.csv", prices("1.00", "2.00"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # A kill just there: the part is filed and not yet written down.
        patch.setattr(let_go_on, "Steps", killed)
        dock.run()
    for step in ("file_away", "set_aside", "resolve", "clear_source"):
        with pytest.raises(KeyboardInterrupt):
            dock.run(before=partial(crash, step))
    dock.run()
    assert filed(dock) == (good("1.00", "2.00") if corrected else good("1.00"))
    assert len(dock.cases()) == (0 if corrected else 1)


def test_a_person_who_has_the_file_tried_again_brings_what_was_missing(dock: Dock) -> None:
    """The rule was wrong, not the file."""
    dock.leave("p.csv", prices("1", '"2,00"'))
    dock.run()
    assert filed(dock) == good("1")
    [case] = dock.cases()
    dock.retry(case.journey)
    assert filed(dock) == good("1"), "still wrong: nothing new, nothing twice"
    assert len(dock.cases()) == 1
    told = connections.quarantine().about(case.journey)
    dock.agree(rows="good-rows", notes=NOTES, decimal=",")
    dock.retry(case.journey)
    assert filed(dock) == good("1", '"2,00"')
    assert dock.cases() == []
    now = connections.quarantine().about(case.journey)
    assert told is not None and now is not None
    assert now["corrects"] == [case.journey]
    assert now["findings"] == told["findings"], "why it was refused is still told"


@pytest.mark.parametrize("refused", [False, True], ids=["first", "after another file that was refused"])
def test_the_corrected_bytes_once_more_are_a_duplicate_when_the_case_is_closed(dock: Dock, refused: bool) -> None:
    corrected = prices("1.00", "2.00", "3.00")
    if refused:
        case = {"case": {"code": "access", "state": "new"}}
        key = f"content/acme/prices/kept/{sha256(corrected).hexdigest()}"
        dock.ledger.append([Entry("0", "filing", {"round": 0}, once=key), Entry("0", "quarantined", case)])
    _, through = in_two_parts(dock)
    assert [case.journey for case in dock.cases()] == (["0"] if refused else [])
    dock.leave("p.csv", corrected)
    assert dock.run() == {"p.csv": "duplicate"}
    assert filed(dock) == good("1.00", "2.00", "3.00")
    assert [entry.body["duplicate_of"] for entry in dock.history("p.csv") if entry.kind == "duplicate"] == [through]


# --------------------------------------------------------------------------------------------- how long the parts are kept


ENDED = {"record_date": "2001-01-01", "retention": {"period": "P1Y", "at_end": "remove"}}
NOTES = {"folder": "/in/notes", "formats": ["html"]}


def agree(dock: Dock, **target: Any) -> None:
    dock.agree(rows="good-rows", notes=NOTES, target={"repository": "kept", "folder": "Prices", **ENDED, **target})


def in_two_parts(dock: Dock) -> tuple[str, str]:
    """A table with a bad row, and the corrected one."""
    for told in (("1.00", "x", "3.00"), ("1.00", "2.00", "3.00")):
        dock.leave("p.csv", prices(*told))
        dock.run()
    first, corrected = dock.journeys("p.csv")
    return first, corrected


@pytest.mark.parametrize("which", [0, 1, "the same bytes as the corrected one"])
def test_a_hold_on_a_table_keeps_the_parts_in_which_its_rows_are(
    dock: Dock, which: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(dock)
    journeys = in_two_parts(dock)
    first, corrected = journeys
    held = journeys[which] if isinstance(which, int) else "again"
    if held == "again":
        about = {"partner": "acme", "stream": "prices", "duplicate_of": corrected}
        dock.ledger.append([Entry(held, "duplicate", about, stage=Stage.CLEARED)])
    with monkeypatch.context() as patch:  # in force here at once, before the repository is told
        patch.setattr("tasks.holds.tell_hold", lambda hold: [])
        apply_hold(held, "Miller", "letter", "ann")
    assert Gate().bars([held, f"{first}.rows0"]).keys() == {held, f"{first}.rows0"}
    remove_what_has_ended.fn()
    assert len(dock.filed()) == 2
    assert tell_holds.fn().kept == ()
    told = holds_there(held)
    assert (len(told), all(told.values())) == (1 if which == 0 else 2, True)
    lift_hold(held, "miller", "settled", "ann")
    remove_what_has_ended.fn()
    assert dock.filed() == {}
    dock.ledger.verify()


def test_the_corrected_file_s_own_bytes_are_kept_until_retention_and_holds_let_them_go(dock: Dock, tmp_path: Path) -> None:
    through = in_two_parts(dock)[1]
    dock.leave("p.csv", prices("1.00", "2.00", "3.00"))
    dock.run()
    again = dock.journeys("p.csv")[-1]
    bytes_kept = connections.quarantine().content
    kept = bytes_kept(through)
    assert kept is not None
    assert kept.read_bytes() == prices("1.00", "2.00", "3.00")
    connections.spool().path(sha256(kept.read_bytes()).hexdigest()).unlink()  # as each night's clean-up does
    for number, journey in enumerate((through, again)):
        assert export([journey], tmp_path / str(number), with_bytes=True, by="anna").lacking == []
    apply_hold(through, "Miller", "letter", "ann")
    assert purge_quarantine.fn(timedelta(days=1)).gone == 0, "too early"
    assert through in dict(purge_quarantine.fn(timedelta(seconds=-1)).kept)
    lift_hold(through, "Miller", "settled", "ann")
    purge_quarantine.fn(timedelta(seconds=-1))
    assert bytes_kept(through) is None
    dock.ledger.verify()


def test_a_part_is_kept_as_long_as_the_corrected_table_must_be(dock: Dock) -> None:
    agree(dock)
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    [first] = dock.journeys("p.csv")
    agree(dock, record_date="2900-01-01")
    dock.leave("p.csv", prices("1.00", "2.00"))
    dock.run()
    agree(dock)
    corrected = dock.journeys("p.csv")[-1]
    assert corrected in family_of(f"{first}.rows0")
    [(journey, reason)] = [one for swept in remove_what_has_ended.fn() for one in swept.kept]
    assert (journey, corrected in reason, "must be kept longer" in reason) == (f"{first}.rows0", True, True)
    assert filed(dock) == good("1.00", "2.00")


def test_the_corrected_original_stays_while_an_earlier_part_is_being_removed(dock: Dock) -> None:
    agree(dock)
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    part = f"{dock.journeys('p.csv')[0]}.rows0"
    original = dock.leave("p.csv", prices("1.00", "2.00"))

    def begun(step: str, _: Consignment) -> None:
        if step == "clear_source":
            connections.ledger().append([Entry(part, "removing")])

    dock.run(before=begun)
    assert original.exists()
    dock.ledger.append([Entry(part, "not-removed")])
    dock.run()
    assert not original.exists()


def test_without_a_bad_row_a_file_is_filed_as_it_is(dock: Dock) -> None:
    dock.leave("p.csv", prices("1.00"))
    assert dock.run() == {"p.csv": "filed"}
    assert dock.filed() == {"p.csv": prices("1.00")}


def test_while_nobody_can_tell_what_was_filed_nothing_goes_on(dock: Dock) -> None:
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    (settings().quarantine / dock.journeys("p.csv")[0] / "content").unlink()
    dock.leave("p.csv", prices("1.00", "2.00"))
    assert dock.run() == {"p.csv": "quarantined"}
    assert filed(dock) == good("1.00")
    assert "parts-unknown" in dock.codes()


@pytest.mark.parametrize("why", ["it is too large now", "good rows are not agreed on any more"])
def test_a_corrected_file_that_is_not_read_by_its_rows_waits_for_a_person(
    dock: Dock, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.leave("p.csv", prices("1.00", "x"))
    dock.run()
    corrected = prices("1.00", "2.00")
    if why == "it is too large now":
        # Not 32 MiB for one comparison of two numbers.
        monkeypatch.setattr(let_go_on, "LARGEST_BYTES", len(corrected) - 1)
    else:
        dock.agree(notes=NOTES)
    dock.leave("p.csv", corrected)
    assert dock.run() == {"p.csv": "quarantined"}
    assert filed(dock) == good("1.00")
    first, second = dock.cases()
    assert second.code == "parts-unknown"
    with disable_run_logger():
        reject(first.journey, "compared", "ann")
    dock.retry(second.journey)
    assert dock.cases() == []
    assert dock.filed()["p.csv"] == corrected


ONE_NAME = {"repository": "kept", "folder": "P", "name": "p.csv"}


@pytest.mark.parametrize("terms", [{"notes": None}, {"sequence": "latest"}, {"target": ONE_NAME}, {"reduce_after": "P730D"}])
def test_good_rows_go_on_only_where_what_is_missing_can_come_and_be_kept(dock: Dock, terms: dict[str, Any]) -> None:
    dock.agree(**{"rows": "good-rows", "notes": {"folder": "/in/notes"}, **terms})
    with pytest.raises(ConfigurationError, match="good-rows"):
        load_partner("acme", dock.profiles)


def test_a_document_type_whose_rows_mean_nothing_alone_is_told_before_it_is_used(dock: Dock) -> None:
    rows = {"rows": "good-rows", "notes": {"folder": "/in/notes"}}
    dock.agree(**rows, classify=[{"pattern": ".*", "doctype": "statement"}])
    with pytest.raises(ConfigurationError, match="told only together"):
        sound_file("acme", dock.profiles)


def test_evidence_holds_the_rows_that_went_on(dock: Dock, tmp_path: Path) -> None:
    first = prices("1.00", "x", "3.00")
    dock.leave("p.csv", first)
    dock.run()
    dock.leave("p.csv", prices("1.00", "2.00", "3.00"))
    dock.run()
    one, other = dock.journeys("p.csv")
    key = SealKey.open(dock.home / "state" / "seal.pem")  # there is a sender
    ledger = connections.ledger()
    assert meant(f"{one}.rows0") == [one] and meant(f"{other}.rows0") == [other]

    def checks(bundle: Path) -> list[str]:
        return [check.name for check in verify_evidence(bundle, {key.id: key.public}, lambda claim: False) if not check.passed]

    for number, journeys in enumerate(([one], chosen("acme")), 1):
        bundle = tmp_path / str(number)
        assert export(journeys, bundle, with_bytes=True, by="anna").lacking == []
        assert checks(bundle) == []
        rows = ledger.journey(f"{one}.rows0")
        lines = (bundle / "journeys" / f"{one}.jsonl").read_text()
        assert all(entry.hash in lines for entry in rows) and f"{one}.rows0" in (bundle / "index.html").read_text()
        contents = {path.read_bytes() for path in (bundle / "documents").iterdir()}
        assert {first, *(list(dock.filed().values()) if number == 2 else [])} <= contents
        assert len(contents) == 2 * number
    links = [Link.parse(line) for line in lines.splitlines()]
    steps = [Step.parse(link.facts, link.hash, link.seq) for link in links]
    assert list(Story(one, steps).faults()) == []
    assert f"see {one}.rows0" in next(Story(one, [step for step in steps if step.journey == one]).faults())
