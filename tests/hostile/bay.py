"""A bay: one partner on a sandbox server that may misbehave, and an installation of ours that takes in and delivers there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import State

from blocks.endpoints.base import Endpoint
from blocks.ledger import Case, Ledger, Recorded
from blocks.profile import load_partner, load_repositories
from blocks.settings import settings
from blocks.spool import Spool
from deployments.sender.delivery import Freight, deliver, withdraw
from deployments.sender.store import Parcel, Store
from tasks import connections
from tests.conformance.endpoints.checks import Ground
from tests.conformance.endpoints.rogues import PASSWORD
from tests.sandbox.ftp import FtpSandbox
from tests.sandbox.sftp import SftpSandbox
from tests.servers.prefect import PrefectServer, client_of

Server: TypeAlias = SftpSandbox | FtpSandbox


def agreed_endpoint(server: Server, **fields: Any) -> dict[str, Any]:
    """What a profile says about a server."""
    agreed: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "username": "partner",
        "password": "env:PARTNER_PASSWORD",
        "timeout_seconds": 60,
    }
    if isinstance(server, SftpSandbox):
        agreed |= {"protocol": "sftp", "host_keys": [server.fingerprint]}
    elif server.certificate is None:
        agreed |= {"protocol": "ftp", "unprotected": "accepted"}
    else:
        agreed |= {"protocol": "ftps", "ca_file": str(server.certificate.authority)}
        if "certificates" in fields:
            del agreed["ca_file"]
    return {name: value for name, value in (agreed | fields).items() if value is not None}


# --------------------------------------------------------------------------------------------- what comes in


@dataclass
class Bay:
    """An installation with one partner (``acme``) and one stream (``prices``), filing into a folder."""

    home: Path
    server: Server
    out: Path
    """Where the partner leaves files for us."""

    @property
    def profiles(self) -> Path:
        return self.home / "profiles"

    def agree(self, *, zone: str = "UTC", at: dict[str, Any] | None = None, **terms: Any) -> None:
        """Write the reviewed files: ``at`` changes the endpoint, ``terms`` the stream."""
        self.profiles.mkdir(parents=True, exist_ok=True)
        (self.home / "kept").mkdir(exist_ok=True)
        stream = {
            "endpoint": "drop",
            "folder": f"/{self.out.relative_to(self.server.root)}",
            "settle": {"quiet": "PT0S"},
            "classify": [{"pattern": r".*\.csv", "doctype": "price-list"}],
            "target": {"repository": "kept", "folder": "Prices"},
            "owner": "prices@example.com",
            **terms,
        }
        drop = agreed_endpoint(self.server, **(at or {}))
        partner = {
            "name": "acme",
            "title": "ACME",
            "timezone": zone,
            "endpoints": {"drop": drop},
            "streams": {"prices": stream},
        }
        (self.profiles / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))
        kept = {"kept": {"kind": "folder", "path": str(self.home / "kept")}}
        (self.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": kept}))

    def leave(self, name: str, content: bytes, modified: float | None = None) -> Path:
        """The partner puts a file into its folder, whole."""
        path = self.out / name
        path.write_bytes(content)
        if modified is not None:
            os.utime(path, (modified, modified))
        return path

    def run(self, patience_seconds: float = 5) -> State:
        """One intake; its final state, also when it failed."""
        from flows.intake import intake

        return intake("acme", "prices", return_state=True, patience_seconds=patience_seconds)  # type: ignore[no-any-return]

    @property
    def ledger(self) -> Ledger:
        return connections.ledger()

    def histories(self) -> dict[str, list[Recorded]]:
        """Every file's journey with its entries, oldest first."""
        found = self.ledger.journeys([one.journey for one in self.ledger.search(limit=1000)])
        return {journey: entries for journey, entries in sorted(found.items()) if "." not in journey}

    def kinds(self) -> list[list[str]]:
        return [[entry.kind for entry in entries] for entries in self.histories().values()]

    def cases(self, *, everything: bool = False) -> list[Case]:
        return self.ledger.cases(open_only=not everything)

    def codes(self, *, everything: bool = False) -> list[str | None]:
        return [case.code for case in self.cases(everything=everything)]

    def filed(self) -> dict[str, list[bytes]]:
        """Everything the repository keeps: name -> the bytes of each version."""
        contents: dict[str, list[bytes]] = {}
        from blocks.errors import DocumentMissing

        spool = Spool(self.home / "read-back", floor_bytes=0)
        with load_repositories(self.profiles)["kept"].session() as session:
            try:
                found = list(session.look(("Prices",)))
            except DocumentMissing:
                return {}
            for kept in found:
                for version in range(1, kept.version + 1):
                    with spool.batch() as batch:
                        done = session.fetch(kept.id, version, batch)
                    contents.setdefault(kept.name, []).append(spool.path(done.digest).read_bytes())
        return contents


@contextmanager
def bay_at(home: Path, server: Server, prefect: PrefectServer) -> Iterator[Bay]:
    """A bay of a test's own, at a server that others use too."""
    out = server.root / f"bay-{uuid4().hex[:8]}"
    out.mkdir()
    made = Bay(home, server, out)
    environment = {
        "COUNTERSIGN_HOME": str(home),
        "COUNTERSIGN_PROFILES": str(made.profiles),
        "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
        "PARTNER_PASSWORD": PASSWORD,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        _forget()
        made.agree()
        try:
            with client_of(prefect):
                yield made
        finally:
            connections.hang_up()
            connections.ledger().close()
            _forget()


def _forget() -> None:
    for cached in (settings, connections.ledger, connections.spool, connections.quarantine):
        cached.cache_clear()


# --------------------------------------------------------------------------------------------- what goes out


@dataclass
class Crate:
    """Files on their way to one destination, as the sender brings them, without the sender's process."""

    ground: Ground
    state: Path
    freight: Freight

    def send(self) -> list[Parcel]:
        """One visit."""
        with Store(self.state) as store:
            return deliver(self.freight, store, Spool(self.state / "scratch", floor_bytes=0))

    def withdraw(self) -> list[bytes]:
        with Store(self.state) as store:
            return withdraw(self.freight, store, Spool(self.state / "scratch", floor_bytes=0))

    @property
    def parcels(self) -> list[Parcel]:
        with Store(self.state) as store:
            return store.parcels(self.freight.package)

    def received(self) -> dict[str, bytes]:
        """What stands at the partner, temporary names included."""
        return {path.name: path.read_bytes() for path in self.ground.place.iterdir()}


def crate(ground: Ground, state: Path, *, last: int = 0, **contents: bytes) -> Crate:
    """Files ``<name>.csv`` for the ground's folder; the ``last`` ones are done files."""
    files = [ground.outgoing(f"{name}.csv".encode(), content) for name, content in contents.items()]
    package = hashlib.sha256(uuid4().bytes).hexdigest()
    return Crate(
        ground, state, Freight(package, "d", ground.endpoint, ground.folder, frozenset(), files, [f.name for f in files], last)
    )


def at(freight: Crate, **changes: Any) -> Crate:
    """The same files under other terms."""
    return replace(freight, freight=replace(freight.freight, **changes))


def agreed_with(bay: Bay) -> Endpoint:
    """The endpoint as the bay's profile says it."""
    return load_partner("acme", bay.profiles).endpoints["drop"]
