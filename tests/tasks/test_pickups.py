"""What a partner that acknowledges nothing has taken is written down as taken, and what it leaves standing is told."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from blocks.ledger import CaseState
from blocks.outbound import Matter, PackageFile, PeopleFile, canonical, sha256
from blocks.profile import load_partner
from blocks.sender import Sender, destination_of
from blocks.settings import settings
from blocks.spool import Spool
from blocks.values import Outgoing
from deployments.cli import app
from deployments.sender.delivery import Freight, deliver
from deployments.sender.dispatch import delivered
from deployments.sender.store import Store
from tasks.acknowledge import add_acknowledgements
from tasks.await_answer import await_answer
from tasks.order import Order, load_release
from tasks.rules.transmission import Kept, transmission
from tasks.verify_evidence import verify_evidence
from tests.rules.signoff.world import package
from tests.sender.thread import sender_thread
from tests.tasks.dock import Dock
from tests.tasks.test_await_answer import ORDER, agree, standing, write

NAMES = ("a.csv", "b.csv")


@pytest.fixture
def order(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Order]:
    """Two documents stand at a partner that acknowledges nothing, and a sender answers that has brought them there."""
    agree(dock, acknowledged_by=None, picked_up_within="PT0.001S")
    (dock.home / "partner" / "in").mkdir()
    endpoint = load_partner("acme", dock.profiles).endpoints["drop"]
    contents = {name: name.encode() for name in NAMES}
    files = [
        PackageFile(name.encode(), len(content), hashlib.sha256(content).hexdigest(), f"id-{name}", 1)
        for name, content in contents.items()
    ]
    made = replace(
        package(*files, destinations=(destination_of(endpoint, "/in"),)), stream="letters", order="o-1", journey=ORDER
    )
    sources = [dock.home / name for name in NAMES]
    for source, content in zip(sources, contents.values(), strict=True):
        source.write_bytes(content)
    freight = Freight(
        package=made.digest,
        destination=canonical(made.destinations[0].facts),
        endpoint=endpoint,
        folder="/in",
        pins=frozenset(),
        files=[Outgoing(path, file.name, file.size, file.sha256) for path, file in zip(sources, files, strict=True)],
        sources=[file.name for file in files],
    )
    with Store(dock.home / "sender") as store:
        deliver(freight, store, Spool(dock.home / "scratch", floor_bytes=0))
        sent = [delivered(parcel, 0) for parcel in store.parcels(made.digest)]
    record = transmission(
        Matter(made, "", None),
        PeopleFile(people=()),
        (),
        sent,
        title="ACME",
        source="kept",
        copies={},
        certificate="",
        certificate_at=Kept("kept", "1", 1),
        awaited=True,
        made=datetime.now(UTC),
    )
    write(dock, "ordered", order="o-1", requester="")
    write(dock, "frozen", package=made.text, editors=[], policies={})
    write(dock, "recording", text=record)
    write(dock, "recorded", record=sha256(record))
    found = Order(load_release("acme", "letters"), "o-1", ORDER, "", None)
    await_answer(found)
    socket = Path(tempfile.mkdtemp()) / "s"  # a socket's path must be short
    monkeypatch.setenv("COUNTERSIGN_SENDER_SOCKET", str(socket))
    settings.cache_clear()
    with sender_thread(
        socket, dock.home / "sender", profiles=dock.profiles, spool=dock.home / "spool", apart=timedelta(microseconds=1)
    ):
        yield found


def test_what_is_gone_is_picked_up_and_what_stands_is_told(dock: Dock, order: Order) -> None:
    def sweep() -> list[str]:
        with disable_run_logger():
            return [found.code for found in add_acknowledgements.fn()]

    assert sweep() == ["not-acknowledged"]
    (case,) = dock.ledger.cases()
    assert "seen to be picked up" in str(case.reason)
    place = dock.home / "partner" / "in"
    for name, state, then in zip(NAMES, ("TO_ACK", "ACKED"), (CaseState.NEW, CaseState.RESOLVED), strict=True):
        (place / name).unlink()
        before = dock.ledger.journey(ORDER)
        assert sweep() == [] and dock.ledger.journey(ORDER) == before, "seen gone once"
        (kept := dock.home / "kept").rename(dock.home / "away")
        assert sweep() == ["acknowledgement"] and standing(dock)[0][1] is CaseState.NEW, "its record cannot be filed now"
        (dock.home / "away").rename(kept)
        assert sweep() == [] and last(dock, "recorded")["state"] == state and standing(dock)[0][1] is then
    told = [entry.body["said"] for entry in dock.ledger.journey(ORDER) if entry.kind == "acknowledged"]
    assert [one["document"] for one in told] == list(NAMES)
    assert all(one["picked_up"].startswith("seen gone at ") and "received" not in one for one in told)
    before = dock.ledger.journey(ORDER)
    assert sweep() == [] and dock.ledger.journey(ORDER) == before, "it is over"
    assert_evidence_tells_it(dock)


def assert_evidence_tells_it(dock: Dock) -> None:
    """Offline, and as what it is: seen by us, not said by the partner. One byte that is changed in it is named."""
    bundle = dock.home / "evidence"
    done = CliRunner().invoke(app, ["evidence", "export", ORDER, "--to", str(bundle)])
    assert done.exit_code == 0, done.output
    with Sender(settings().sender_socket) as client:
        health = client.health()

    def failed() -> set[str]:
        found = list(verify_evidence(bundle, {health.key: health.public}, lambda claim: False))
        assert found, "there is always something that was looked at"
        return {check.name for check in found if not check.passed}

    assert failed() == set()
    page = (bundle / "index.html").read_text()
    assert page.count("Picked up") == len(NAMES) == page.count("the partner itself said nothing")
    (record,) = (bundle / "orders" / ORDER).iterdir()
    for path in (record, bundle / "journeys" / f"{ORDER}.jsonl", bundle / "index.html"):
        whole = path.read_bytes()
        at = whole.rindex(b"seen gone at ") + len("seen gone at ")
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert failed() == {path.relative_to(bundle).as_posix()}
        path.write_bytes(whole)


def last(dock: Dock, kind: str) -> Mapping[str, Any]:
    return [entry.body for entry in dock.ledger.journey(ORDER) if entry.kind == kind][-1]
