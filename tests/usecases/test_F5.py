"""F5 Draft to catalogue release: pricing, then content, agree to a catalogue that was checked; the distributor never sees half of it.

File 360 is the repository of this use case. It has no approval state that we know of: the checks and the sign-offs are ours. The weekly
schedule is the deployment's, and an order by hand stands in for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from tests.release_world import Release, ReleaseWorld
from tests.sandbox.ftp import FtpSandbox
from tests.servers.mail import Mailbox, mail_server
from tests.world import file360, over_ftp, price_list

NAME = "catalogue.csv"
ROWS = 4000
OLD, NEW = price_list(rows=ROWS), price_list(rows=ROWS, first=5)
BAD = NEW.replace(b",21.50,", b",-21.50,")
"""A negative price in one row."""
BAD_ROW = "18"
"""Of a spreadsheet, in which the header is row 1."""


@dataclass
class Distributor:
    """D: its FTP server, on which last week's catalogue stands, and a program of theirs that reads the catalogue all the time."""

    server: FtpSandbox
    seen: set[bytes] = field(default_factory=set)
    """Every content that the program has ever found under the catalogue's name."""
    gone: int = 0
    """How often it found none."""

    @property
    def catalogue(self) -> Path:
        return self.server.root / "in" / NAME

    def watch(self, over: threading.Event) -> None:
        while not over.wait(0.002):
            try:
                self.seen.add(self.catalogue.read_bytes())
            except FileNotFoundError:
                self.gone += 1

    def wait_for(self, content: bytes) -> None:
        """Until the program has found this, so that what it never found was looked for."""
        over = time.monotonic() + 300
        while content not in self.seen:
            assert time.monotonic() < over, "the program does not see it"
            time.sleep(0.01)


@pytest.fixture(scope="module")
def ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """File 360 is this use case's repository."""
    with file360(tmp_path_factory.mktemp("file360")) as service:
        yield service


@pytest.fixture
def distributor(release_world: ReleaseWorld, tmp_path: Path) -> Iterator[Distributor]:
    (tmp_path / "password").write_text("not a secret")
    with FtpSandbox(tmp_path / "distributor", users={"partner": "not a secret"}) as server:
        (server.root / "in").mkdir()
        (server.root / "in" / NAME).write_bytes(OLD)
        endpoint = over_ftp(server.host, server.port, tmp_path / "password")
        stages = [{"name": "pricing", "groups": ["pricing"]}, {"name": "content", "groups": ["content"]}]
        catalogue = release_world.terms(
            gather={"repository": "ecm", "folder": "Outbox/{order}"},
            classify=[{"pattern": r"catalogue\.csv", "doctype": "price-list"}],
            destinations=[{"endpoint": "distributor", "folder": "/in", "exists": "replace"}],
            signoff={"stages": stages, "proof": "code"},
            evidence={"repository": "ecm", "folder": "Evidence/{order}"},
        )
        release_world.agree(endpoints={"distributor": endpoint}, catalogue=catalogue)
        yield Distributor(server)


@pytest.fixture
def box(release_world: ReleaseWorld) -> Iterator[Mailbox]:
    """Where our people are told."""
    with mail_server() as box:
        server = {"host": "127.0.0.1", "port": box.port, "security": "none", "sender": "countersign@example.com"}
        told = release_world.profiles / "notify.yaml"
        told.write_text(yaml.safe_dump({"mail": server}))
        yield box
        told.unlink()


def page(world: ReleaseWorld, release: Release) -> str:
    """What the page of an order that was stopped shows."""
    key = ArtifactFilter(key=ArtifactFilterKey(any_=[f"stopped-{release.history[0].journey}"]))
    asked: Any = {"artifacts": key.model_dump(mode="json"), "limit": 1, "sort": "CREATED_DESC"}
    (found,) = world.client.request("POST", "/artifacts/filter", json=asked).json()
    return str(found["data"])


def test_a_checked_catalogue_goes_when_pricing_and_then_content_agree_and_is_never_seen_half(
    release_world: ReleaseWorld, distributor: Distributor, box: Mailbox
) -> None:
    pia, carl = release_world.newcomer("pricing"), release_world.newcomer("content")
    release = release_world.order("catalogue")
    release_world.keep(release.id, NAME, BAD)

    for _ in range(2):  # starting it again is no way around
        state = release.start() if release.run is None else release.go()
        assert state is not None and state.name == "Stopped by checks, 1 wrong", state
        assert "frozen" not in release.kinds and "round" not in release.kinds, "nobody can sign what is wrong"
    assert release.resume({"decision": "approve"}) != "ACCEPT"
    shown = page(release_world, release)
    assert f"| `{NAME}` | {BAD_ROW} | `price` | `-21.50` |" in shown, shown
    assert box.receivers == [], "whose sign-off would be in vain is not asked for it"

    release_world.keep(release.id, NAME, NEW)
    assert release.go() is None, "corrected, checked anew, and asked about"
    assert "nothing found" in release.form
    assert f"**Stopped before, and corrected since**: `{NAME}` row {BAD_ROW}" in release.form, release.form
    assert f"awaits:{pia}" in release.told.tags and f"awaits:{carl}" not in release.told.tags
    assert box.receivers == [f"{pia}@example.com"], "whose turn it is not yet is not told yet"
    assert release.resume(release.answer(carl)) == "REJECT"
    assert release.sign(pia) is None
    assert f"awaits:{carl}" in release.told.tags and distributor.catalogue.read_bytes() == OLD
    assert box.receivers[1:] == [f"{carl}@example.com"]

    over = threading.Event()
    program = threading.Thread(target=distributor.watch, args=(over,))
    program.start()
    try:
        distributor.wait_for(OLD)
        distributor.server.faults["drop-after"] = len(NEW) // 2  # each connection is cut in the middle of the file
        state = release.sign(carl)
        assert state is None or state.name != "Delivered", state
        assert distributor.catalogue.read_bytes() == OLD and distributor.seen <= {OLD}
        distributor.server.faults.clear()
        state = release.go()
        assert state is not None and state.name == "Delivered", state
        assert distributor.catalogue.read_bytes() == NEW
        distributor.wait_for(NEW)
    finally:
        over.set()
        program.join()
    assert distributor.seen == {OLD, NEW} and distributor.gone == 0
    assert [path.name for path in distributor.catalogue.parent.iterdir()] == [NAME], "nothing of ours is left beside it"
    assert len(box.receivers) == 2, "nobody is told twice"
