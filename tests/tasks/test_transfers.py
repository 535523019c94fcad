"""Records of other programs' transfers at a dock: sets that change while a run is killed, and what other tasks make of such a stream."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError
from blocks.ledger import Entry, Ledger
from blocks.spool import Spool
from tasks import connections, evidence
from tasks.agreed import load_transfers
from tasks.clean_up import remove_what_has_ended
from tasks.clear_source import clear_source
from tasks.desk import Desk
from tasks.file_away import file_away
from tasks.look import look
from tasks.match import match
from tasks.pick_up import pick_up
from tasks.record_transfers import record_transfers
from tasks.retry import reject
from tasks.rules.transfers import in_sets
from tasks.set_aside import set_aside
from tests.tasks.dock import Dock, _Done

match_module, pick_up_module = (importlib.import_module(f"tasks.{name}") for name in ("match", "pick_up"))
STEPS = tuple(step.fn for step in (pick_up, match, file_away, record_transfers, set_aside, clear_source))
"""Of ``flows/collect.py``, in its order."""
DOCUMENT = b"sku,price\nA-1,9.90\n"
LINE = "2026-11-19 23:10:02 sftp.brightware.example PUT /in/a.csv {size} 226 Transfer complete\n"


def agree(dock: Dock, **target: Any) -> None:
    dock.agree(
        classify=[{"pattern": r"(?P<set>.+)\.csv", "doctype": "transfer"}],
        transfers={
            "log": {"pattern": r"(?P<set>.+)\.log"},
            "acknowledgement": {"pattern": r"(?P<set>.+)\.ack"},
            "line": r"(?P<time>\S+ \S+) (?P<server>\S+) PUT (?P<path>\S+) (?P<size>\d+) (?P<reply>.+)",
            "time_format": "%Y-%m-%d %H:%M:%S",
        },
        target={"repository": "kept", "folder": "Prices", **target},
    )


def leave(dock: Dock, size: int = len(DOCUMENT)) -> None:
    dock.leave("a.csv", DOCUMENT)
    dock.leave("a.log", LINE.format(size=size).encode())


def collect(dock: Dock) -> dict[str, str]:
    """One collection: file -> outcome."""
    agreed = load_transfers("acme", "prices")
    with disable_run_logger():
        readiness = look.fn(agreed, timedelta(seconds=5))
        with Desk(agreed, readiness, in_sets(readiness.ready, agreed.terms)) as desk:
            for consignment in desk:
                for step in STEPS:
                    consignment = step(consignment)
                desk.follow(_Done(consignment))  # type: ignore[arg-type]
        return {row.file: row.outcome for row in desk.rows}


def test_a_clean_up_takes_such_a_stream_like_any_other(dock: Dock) -> None:
    agree(dock, retention={"period": "P1D", "at_end": "remove"}, record_date="20200101")
    leave(dock)
    assert set(collect(dock).values()) == {"filed"}
    [swept] = remove_what_has_ended.fn()
    assert (swept.gone, swept.kept) == (2, ())


def test_one_document_of_a_refused_set_is_not_tried_alone(dock: Dock) -> None:
    agree(dock)
    leave(dock, size=1)
    assert set(collect(dock).values()) == {"quarantined"}
    for case in dock.cases():
        with pytest.raises(ConfigurationError, match="a set is judged as a whole"):
            dock.retry(case.journey)
        reject(case.journey, "sent once more", "ann")
    leave(dock)
    assert set(collect(dock).values()) == {"filed"}
    assert "a.transmission.json" in dock.filed()


class Killed(Exception):
    """The process ended here."""


def killed_before(kind: str, dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection whose process ends just before an entry of that kind is written."""
    append = Ledger.append

    def dying(self: Ledger, entries: Sequence[Entry], *more: Any) -> Any:
        if any(entry.kind == kind for entry in entries):
            raise Killed
        return append(self, entries, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", dying)
        with pytest.raises(Killed):
            collect(dock)


def record(dock: Dock) -> tuple[dict[str, Any], int]:
    """What the set's record says, and how often one was filed."""
    (journey,) = {
        one.journey for one in dock.ledger.search(name="a", limit=1000) if one.journey.startswith("transfer.acme.prices.")
    }
    recorded = [entry for entry in dock.ledger.journey(journey) if entry.kind == "recorded"]
    return json.loads(dock.filed()["a.transmission.json"]), len(recorded)


def test_what_comes_between_two_tries_is_in_the_record_before_it_is_cleared(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(dock)
    leave(dock)
    killed_before("recorded", dock, monkeypatch)
    dock.leave("a.ack", b"OK")
    collect(dock)
    told, versions = record(dock)
    assert [one["name"] for one in told["acknowledgements"]] == ["a.ack"]
    assert [one["path"] for one in told["transmissions"]] == ["/in/a.csv"] and versions == 2
    assert list(dock.out.iterdir()) == []


def test_another_spool_goes_on_between_filed_and_recorded(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    agree(dock)
    leave(dock)
    killed_before("recording", dock, monkeypatch)
    monkeypatch.setattr(connections, "spool", cache(lambda: Spool(dock.home / "another", floor_bytes=0)))
    for module in (match_module, evidence, pick_up_module):
        monkeypatch.setattr(module, "spool", connections.spool)
    assert set(collect(dock).values()) == {"filed"}
    told, versions = record(dock)
    assert [(one["path"], one["size"]) for one in told["transmissions"]] == [("/in/a.csv", len(DOCUMENT))] and versions == 1


def test_a_log_that_is_not_read_to_its_end_is_refused(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not 64 MiB for one comparison of two numbers.
    monkeypatch.setattr(match_module, "MOST_LOG", 1000)
    agree(dock)
    dock.leave("a.csv", DOCUMENT)
    dock.leave("a.log", LINE.format(size=len(DOCUMENT)).encode() + b"x" * 1000)
    collect(dock)
    assert dock.codes() == ["log-too-large"] * 2
