"""What was done about sign-offs beforehand stands in the ledger and was told, each once, whenever the sender or the sweep was away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from blocks.ledger import Entry
from blocks.outbound import DeedKind, StandingSignoff
from blocks.values import Stage
from deployments.sender.store import SignedBeforehand, Store
from tasks import carry_standing as carrying
from tasks.carry_standing import CARRIED, carry_standing
from tests.sender.thread import sender_thread
from tests.tasks.dock import Dock, dock_at

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ANN = StandingSignoff(
    partner="acme", stream="routine", profile="1" * 64, terms="2" * 64, approver="ann", until=NOW + timedelta(days=7), time=NOW
)


@pytest.fixture
def dock(tmp_path: Path) -> Iterator[Dock]:
    with dock_at(tmp_path / "home") as made:
        yield made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    monkeypatch.setattr(
        carrying, "emit_event", lambda **event: heard.append(event)
    )  # Prefect's: without its server nobody would
    return heard


def carry() -> int:
    with disable_run_logger():
        return carry_standing.fn()


def test_each_deed_is_carried_over_once(dock: Dock, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    socket = Path(tempfile.mkdtemp()) / "s"  # a socket's path must be short
    monkeypatch.setenv("COUNTERSIGN_SENDER_SOCKET", str(socket))
    assert carry() == 0, "the sender does not answer: the next sweep comes"
    state = dock.home / "sender"
    with Store(state) as store, store.bench() as bench:
        bench.sign_beforehand(SignedBeforehand(ANN, "ssh-ed25519 AAAA", "U1NI"), NOW)
        bench.sign_beforehand(SignedBeforehand(ANN, "ssh-ed25519 AAAA", "U1NI"), NOW)  # handed in once more
        for minutes in (1, 2, 70):
            bench.note(DeedKind.REFUSED, "acme", "routine", "bea", {"code": "proof"}, NOW + timedelta(minutes=minutes))
    with sender_thread(socket, state, profiles=dock.profiles, spool=dock.home / "spool"):
        assert carry() == 3 and carry() == 0
        kinds = ["standing-signed", "standing-refused", "standing-refused"]
        with Store(state) as store, store.bench() as bench:
            bench.note(DeedKind.REVOKED, "acme", "routine", "ann", {"standing": ANN.id, "by": "olga"}, NOW)
        assert carry() == 1
        book = dock.ledger.journey("standing.acme.routine")
        assert [entry.kind for entry in book] == [*kinds, "standing-revoked"]
        with Store(state) as store:
            first = store.deeds("", 2)
            assert [deed.facts for deed in (*first, *store.deeds(first[-1].id, 2))] == [
                deed.facts for deed in store.deeds("", 9)
            ]
        # As when the sender came from a backup, and does not know its last deed any more: nothing is told or written twice.
        dock.ledger.append([Entry(CARRIED, "carried", {"deed": "f" * 32}, stage=Stage.CLEARED)])
        assert carry() == 0
        assert dock.ledger.journey("standing.acme.routine") == book
    assert book[0].body["signed"] == ANN.facts and book[0].body["signature"] == "U1NI" and book[0].body["approver"] == "ann"
    assert book[3].body["by"] == "olga" and book[3].body["standing"] == ANN.id
    assert [event["event"] for event in told] == [f"countersign.signoff.{entry.kind}" for entry in book]
    assert len({event["id"] for event in told}) == 4 and "signature" not in str(told)
    assert [one.journey for one in dock.ledger.search(partner="acme", stream="routine")] == ["standing.acme.routine"]
    dock.ledger.verify()
