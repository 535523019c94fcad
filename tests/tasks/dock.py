"""A dock: one partner's folder and one repository folder on this machine, and the steps of an intake called one by one.

No server and no run of Prefect: what the steps do to ledger, spool and source is the same, and costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.logging import disable_run_logger

from blocks.ledger import Case, Ledger, Recorded
from blocks.settings import settings
from tasks import connections, report
from tasks.agreed import load_stream
from tasks.case_record import keep_case_records
from tasks.check import check
from tasks.clear_source import clear_source
from tasks.consignment import Consignment, Row
from tasks.desk import Desk
from tasks.file_away import file_away
from tasks.let_go_on import let_go_on
from tasks.look import look
from tasks.pick_up import pick_up
from tasks.resolve import resolve
from tasks.rules.settle import Readiness
from tasks.set_aside import set_aside
from tasks.tell_partner import tell_partner
from tests.world import price_list

__all__ = ["Dock", "dock_at", "price_list"]

STEPS: tuple[Callable[[Consignment], Consignment], ...] = (
    pick_up.fn, check.fn, let_go_on, file_away.fn, set_aside.fn, tell_partner.fn, resolve, clear_source.fn
)  # fmt: skip
"""Of ``flows/intake.py``, in its order; each by itself, where a task there has several."""


@dataclass
class _Done:
    """What the desk waits for, when it is there already."""

    value: Consignment

    def result(self) -> Consignment:
        return self.value

    def wait(self) -> None:
        """Nothing is under way."""


@dataclass
class Dock:
    """One partner (``acme``) with one stream (``prices``), unless a test says otherwise."""

    home: Path
    told: list[dict[str, Any]] = field(default_factory=list)
    """Events, as programs hear them; with the id of those that were given one."""

    @property
    def out(self) -> Path:
        """Where the partner leaves files for us."""
        return self.home / "partner" / "out"

    @property
    def profiles(self) -> Path:
        return self.home / "profiles"

    def agree(
        self,
        *,
        streams: dict[str, dict[str, Any]] | None = None,
        more: dict[str, dict[str, Any]] | None = None,
        zone: str = "UTC",
        endpoint: dict[str, Any] | None = None,
        **terms: Any,
    ) -> None:
        """Write the reviewed files: ``terms`` change the one stream, ``streams`` replaces it by several, ``more`` stand as they are.

        ``endpoint``: a server instead of the folder.
        """
        every = {name: self.terms(**changes) for name, changes in (streams or {"prices": terms}).items()} | (more or {})
        partner = {
            "name": "acme",
            "title": "ACME",
            "timezone": zone,
            "endpoints": {"drop": endpoint or {"protocol": "folder", "root": str(self.home / "partner")}},
            "streams": every,
        }
        (self.profiles / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))
        kept = {"kept": {"kind": "folder", "path": str(self.home / "kept")}}
        (self.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": kept}))

    def terms(self, **changes: Any) -> dict[str, Any]:
        return {
            "endpoint": "drop",
            "folder": "/out",
            "settle": {"quiet": "PT0S"},
            "classify": [{"pattern": r".*\.csv", "doctype": "price-list"}],
            "target": {"repository": "kept", "folder": "Prices"},
            "owner": "prices@example.com",
            **changes,
        }

    def leave(self, name: str, content: bytes = b"") -> Path:
        """The partner puts a file into its folder."""
        (self.out / name).write_bytes(content)
        return self.out / name

    def look(self, stream: str = "prices", patience: timedelta = timedelta(seconds=5)) -> Readiness:
        with disable_run_logger():
            return look.fn(load_stream("acme", stream), patience)

    def run(
        self,
        stream: str = "prices",
        *,
        patience: timedelta = timedelta(seconds=5),
        before: Callable[[str, Consignment], None] = lambda step, consignment: None,
    ) -> dict[str, str]:
        """One intake: file -> outcome. ``before`` is called with each step's name, and may act at the partner or raise."""
        agreed, readiness = load_stream("acme", stream), self.look(stream, patience)
        with disable_run_logger():
            with Desk(agreed, readiness) as desk:
                for consignment in desk:
                    for step in STEPS:
                        before(step.__name__, consignment)
                        consignment = step(consignment)
                    desk.follow(_Done(consignment))  # type: ignore[arg-type]
            keep_case_records.fn("acme", stream)
            return {row.file: row.outcome for row in desk.rows}

    def retry(
        self,
        journey: str,
        comment: str = "mended",
        by: str = "ann",
        release: bool = False,
        facts: dict[str, str] | None = None,
    ) -> list[Row]:
        """What ``flows.review.retry`` does, with the rows of what it takes up besides."""
        from tasks.in_sets import waiting_for
        from tasks.retry import reopened

        with disable_run_logger(), reopened(journey, comment, by, release, facts) as consignment:
            for step in STEPS:
                consignment = step(consignment)
        return [*consignment.rows(), *(row for asked in waiting_for(consignment) for row in self.retry(**asked))]

    @property
    def ledger(self) -> Ledger:
        return connections.ledger()

    def journeys(self, name: str) -> list[str]:
        """Journeys of files of exactly this name, oldest first."""
        return sorted(
            one.journey for one in self.ledger.search(name=name, limit=1000) if one.name == name and "." not in one.journey
        )

    def history(self, name: str) -> list[Recorded]:
        """The entries of the newest journey of that name."""
        return self.ledger.journey(self.journeys(name)[-1])

    def kinds(self, name: str) -> list[str]:
        return [entry.kind for entry in self.history(name)]

    def cases(self, code: str | None = None) -> list[Case]:
        """Those that are open."""
        return [case for case in self.ledger.cases() if code in (None, case.code)]

    def codes(self) -> list[str | None]:
        return [case.code for case in self.cases()]

    def filed(self) -> dict[str, bytes]:
        """Name -> bytes of the newest version of all that the repository keeps."""
        from blocks.profile import load_repositories
        from blocks.spool import Spool

        spool, found = Spool(self.home / "read-back", floor_bytes=0), {}
        with load_repositories(self.profiles)["kept"].session() as session:
            for kept in session.look(("Prices",)):
                with spool.batch() as batch:
                    done = session.fetch(kept.id, None, batch)
                found[kept.name] = spool.path(done.digest).read_bytes()
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [payload for payload in self.told if payload["event"] == f"countersign.intake.{kind}"]


@contextmanager
def dock_at(home: Path) -> Iterator[Dock]:
    """A dock of a test's own."""
    dock = Dock(home)
    for folder in (dock.out, dock.profiles, home / "kept"):
        folder.mkdir(parents=True)
    environment = {
        "COUNTERSIGN_HOME": str(home),
        "COUNTERSIGN_PROFILES": str(dock.profiles),
        "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
        "COUNTERSIGN_LEASE_SECONDS": "60",
    }

    def heard(event: str, payload: dict[str, Any], id: UUID | None = None, **_: Any) -> None:
        dock.told.append({"event": event, **payload, **({"id": id} if id else {})})

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(report, "emit_event", heard)  # Prefect's: without its server nobody would hear them
        _forget()
        dock.agree()
        try:
            yield dock
        finally:
            connections.hang_up()
            connections.ledger().close()
            _forget()


def _forget() -> None:
    for cached in (settings, connections.ledger, connections.spool, connections.quarantine):
        cached.cache_clear()
