"""Records of other programs' transfers at a dock: sets that change while a run is killed, and what other tasks make of such a stream."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError
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
