"""The partner is told what to mend: once, in time, and nothing waits for it but the original."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.settings import settings
from blocks.values import ReceiptFormat, ReceiptState, RemoteFile
from deployments.sender.store import Store
from tasks.compare_sender import _telling
from tasks.rules.receipt import Receipt, written
from tests.sender.thread import sender_thread
from tests.tasks.dock import Dock, price_list

BAD = b"sku,description,currency,price,valid_from\nA,,EUR,one,2026-12-01\n"


@pytest.fixture
def dock(dock: Dock) -> Dock:
    (dock.home / "partner" / "in" / "notes").mkdir(parents=True)
    dock.agree(notes={"folder": "/in/notes", "formats": ["html"]})
    return dock


def sender(dock: Dock) -> AbstractContextManager[None]:
    return sender_thread(settings().sender_socket, dock.home / "state", profiles=dock.profiles, spool=settings().spool)


def notes(dock: Dock) -> list[str]:
    return sorted(path.read_text() for path in (dock.home / "partner" / "in" / "notes").iterdir())


def test_a_refused_file_is_told_about_before_its_original_goes(dock: Dock) -> None:
    dock.leave("prices.csv", BAD)
    dock.leave("good.csv", price_list())
    with sender(dock):
        assert dock.run() == {"prices.csv": "quarantined", "good.csv": "filed"}
        assert dock.run() == {}
    [note] = notes(dock)
    assert "<code>one</code>" in note
    assert not list(dock.out.iterdir())
    kinds = dock.kinds("prices.csv")
    assert kinds.index("quarantined") < kinds.index("telling") < kinds.index("told") < kinds.index("cleared")
    assert "told" not in dock.kinds("good.csv")
    assert dock.events("untold") == []


def test_while_the_sender_is_away_the_intake_goes_on_and_the_original_stays(dock: Dock) -> None:
    bad, good = dock.leave("prices.csv", BAD), dock.leave("good.csv", price_list())
    dock.leave("other.csv", BAD.replace(b"one", b"two"))
    assert dock.run() == {"prices.csv": "quarantined", "other.csv": "quarantined", "good.csv": "filed"}
    assert bad.exists() and not good.exists()
    assert len(dock.events("untold")) == 1, "whoever is away is asked once in a consignment"
    with sender(dock):
        dock.run()
    assert len(notes(dock)) == 2
    assert not list(dock.out.iterdir())
    assert [len(dock.ledger.cases()), dock.kinds("prices.csv").count("quarantined")] == [2, 1]


def test_whoever_is_away_is_asked_once_in_a_run_and_again_in_the_next(dock: Dock) -> None:
    dock.agree(notes={"folder": "/in/notes", "formats": ["html"]}, limits={"consignment_files": 1})
    dock.leave("prices.csv", BAD)
    dock.leave("other.csv", BAD.replace(b"one", b"two"))
    dock.run()
    assert len(dock.events("untold")) == 1, "and each file came in a consignment of its own"
    with sender(dock):
        dock.run()
    assert len(notes(dock)) == 2 and not list(dock.out.iterdir())


def test_while_the_partner_does_not_take_notes_the_original_stays(dock: Dock) -> None:
    folder = dock.home / "partner" / "in" / "notes"
    folder.rmdir()
    bad = dock.leave("prices.csv", BAD)
    with sender(dock):
        dock.run()
        assert bad.exists() and "in/notes" in dock.events("untold")[0]["reason"]
        folder.mkdir()
        dock.run()
    assert len(notes(dock)) == 1
    assert not bad.exists()


def test_a_crash_before_the_ledger_knows_tells_nobody_twice(dock: Dock) -> None:
    dock.leave("prices.csv", BAD)

    def crash(step: str, _: object) -> None:
        if step == "resolve":
            raise KeyboardInterrupt

    with sender(dock):
        with pytest.raises(KeyboardInterrupt):
            dock.run(before=crash)
        [path] = (dock.home / "partner" / "in" / "notes").iterdir()
        path.unlink()  # the partner collects
        dock.run()
    assert notes(dock) == []
    assert dock.kinds("prices.csv").count("told") == 1


def test_a_note_that_is_in_the_way_of_nothing_but_itself_is_given_up(dock: Dock) -> None:
    """A name that is taken: nothing is overwritten, a person hears of it, and the intake is done with it."""
    taken = dock.home / "partner" / "in" / "notes" / f"prices.csv.{hashlib.sha256(BAD).hexdigest()[:8]}.note.html"
    taken.write_text("theirs")
    bad = dock.leave("prices.csv", BAD)
    with sender(dock):
        dock.run()
    assert notes(dock) == ["theirs"] and not bad.exists()
    assert "not told" in dock.kinds("prices.csv") and "taken" in dock.events("untold")[0]["reason"]
    with Store(dock.home / "state") as store:
        record = store.record(datetime.now(UTC) - timedelta(hours=1))
    assert len(record.refused) == 1
    strange = replace(record, refused=(*record.refused, replace(record.refused[0], about="0" * 64)))
    assert _telling(strange) == {record.refused[0].about}, "the sweep knows that we asked, and only of that"


def test_what_the_partner_cannot_mend_is_not_told(dock: Dock) -> None:
    target = {"repository": "kept", "folder": "Prices/{project}"}
    dock.agree(target=target, triage=["project"], notes={"folder": "/in/notes"})
    dock.leave("prices.csv", price_list())
    assert dock.run() == {"prices.csv": "quarantined"}, "and no sender is asked"
    assert "telling" not in dock.kinds("prices.csv")


def test_the_corrected_file_closes_the_case_and_only_that(dock: Dock) -> None:
    dock.leave("prices.csv", BAD)
    dock.leave("other.csv", BAD.replace(b"one", b"two"))
    with sender(dock):
        dock.run()
        assert len(dock.cases()) == 2
        dock.leave("prices.csv", price_list())
        assert dock.run() == {"prices.csv": "filed"}
    [case] = dock.cases()
    assert case.name == "other.csv"
    first, second = dock.journeys("prices.csv")
    assert dock.ledger.journey(first)[-1].body["by"] == second


def test_the_same_bytes_as_long_ago_correct_nothing(dock: Dock) -> None:
    dock.leave("prices.csv", price_list())
    with sender(dock):
        assert dock.run() == {"prices.csv": "filed"}
        dock.leave("prices.csv", BAD)
        assert dock.run() == {"prices.csv": "quarantined"}
        dock.leave("prices.csv", price_list())
        assert dock.run() == {"prices.csv": "duplicate"}
    assert [case.journey for case in dock.cases()] == dock.journeys("prices.csv")[1:2], "nothing of it was filed"


def test_where_nobody_was_told_the_same_name_is_no_correction(dock: Dock) -> None:
    dock.agree()
    dock.leave("prices.csv", BAD)
    dock.run()
    dock.agree(notes={"folder": "/in/notes"})
    dock.leave("prices.csv", price_list())
    assert dock.run() == {"prices.csv": "filed"}
    assert [case.name for case in dock.cases()] == ["prices.csv"]


# --------------------------------------------------------------------------------------------- receipts


@pytest.fixture
def receipts(dock: Dock) -> Path:
    """Where the partner finds them."""
    dock.agree(receipts={"folder": "/in/receipts"})
    folder = dock.home / "partner" / "in" / "receipts"
    folder.mkdir()
    return folder


def told(receipts: Path) -> list[tuple[str, str]]:
    """File and state of every receipt."""
    found = [json.loads(path.read_text()) for path in receipts.iterdir()]
    return sorted((receipt["file"], receipt["state"]) for receipt in found)


def test_each_file_gets_one_receipt_in_each_state(dock: Dock, receipts: Path) -> None:
    dock.leave("good.csv", price_list())
    dock.leave("same.csv", price_list())
    dock.leave("bad.csv", BAD)
    with sender(dock):
        dock.run()
        dock.run()
    expected = [("bad.csv", "received"), ("bad.csv", "rejected"), ("good.csv", "accepted"), ("good.csv", "received")]
    assert told(receipts) == [*expected, ("same.csv", "accepted"), ("same.csv", "received")]
    [path] = receipts.glob("good.csv.*.accepted.json")
    receipt = json.loads(path.read_text())
    good = price_list()
    assert (receipt["size"], receipt["sha256"]) == (len(good), hashlib.sha256(good).hexdigest())
    assert receipt["partner"] == "acme" and receipt["stream"] == "prices" and receipt["at"] > receipt["left"]
    kinds = dock.kinds("good.csv")
    assert kinds.count("receipt") == 2 and kinds.index("filed") < kinds.index("receipt") < kinds.index("cleared")
    assert not list(dock.out.iterdir())


def test_what_comes_again_is_receipted_again(dock: Dock, receipts: Path) -> None:
    with sender(dock):
        dock.leave("good.csv", price_list())
        dock.run()
        os.utime(dock.leave("good.csv", price_list()), (1, 1))
        dock.run()
    assert told(receipts).count(("good.csv", "accepted")) == 2


def test_while_no_receipt_can_be_left_files_are_filed_and_their_originals_stay(dock: Dock, receipts: Path) -> None:
    good = dock.leave("good.csv", price_list())
    assert dock.run() == {"good.csv": "filed"}
    assert good.exists() and len(dock.events("untold")) == 1
    with sender(dock):
        receipts.rmdir()
        dock.run()
        assert good.exists()
        receipts.mkdir()
        dock.run()
    assert told(receipts) == [("good.csv", "accepted"), ("good.csv", "received")] and not good.exists()
    assert dock.kinds("good.csv").count("filed") == 1


def test_what_a_person_lets_through_later_is_accepted_though_its_original_is_gone(dock: Dock, receipts: Path) -> None:
    dock.agree(receipts={"folder": "/in/receipts", "states": ["accepted", "rejected"]}, naming=r"good\.csv")
    bad = dock.leave("other.csv", price_list())
    with sender(dock):
        dock.run()
        assert told(receipts) == [("other.csv", "rejected")] and not bad.exists()
        dock.agree(receipts={"folder": "/in/receipts", "states": ["accepted", "rejected"]})
        dock.retry(dock.journeys("other.csv")[-1])
    assert told(receipts) == [("other.csv", "accepted"), ("other.csv", "rejected")]


def test_receipts_as_tables(dock: Dock, receipts: Path) -> None:
    dock.agree(receipts={"folder": "/in/receipts", "states": ["accepted"], "formats": ["csv"]})
    dock.leave("=1+1.csv", price_list())
    with sender(dock):
        dock.run()
    [path] = receipts.iterdir()
    header, row = path.read_text().splitlines()
    assert header.startswith("kind,version,state,") and ",accepted,acme,prices,'=1+1.csv," in row


def test_the_exact_name_in_a_receipt_has_no_quote_before_it() -> None:
    """In base 64 these bytes begin with a plus."""
    name = b"\xfb\xe0.csv"
    receipt = Receipt(ReceiptState.ACCEPTED, "acme", "prices", RemoteFile("/out", name, 1, None), None, datetime.now(UTC))
    [row] = csv.DictReader(io.StringIO(written(receipt, ReceiptFormat.CSV).decode(), newline=""))
    assert bytes.fromhex(row["file_hex"]) == name


def test_a_crash_before_the_ledger_knows_leaves_one_receipt(dock: Dock, receipts: Path) -> None:
    dock.leave("good.csv", price_list())

    def crash(step: str, _: object) -> None:
        if step == "resolve":
            raise KeyboardInterrupt

    with sender(dock):
        with pytest.raises(KeyboardInterrupt):
            dock.run(before=crash)
        dock.ledger.journey(dock.journeys("good.csv")[0])
        dock.run()
    assert told(receipts) == [("good.csv", "accepted"), ("good.csv", "received")]
