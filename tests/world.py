"""A world for tests of whole journeys: a partner on a real OpenSSH server, Extended ECM's sandbox, a real Prefect server,
and an installation of ours in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from blocks.ledger import Ledger, Recorded
from blocks.profile import load_repositories
from blocks.repositories.base import RepositorySession
from blocks.settings import settings
from tasks import connections
from tests.sandbox import sandbox
from tests.servers.openssh import OpenSsh
from tests.servers.prefect import PrefectServer, client_of

ROOT = Path(__file__).parents[1]
HERE: list[dict[str, Any]] = [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
"""Pull steps as ``prefect deploy`` makes them; without any, a worker copies the whole checkout for each run."""
ONE_LOOK = -60
"""Seconds of patience of a run that looks once. With 0 it looks again if the file's time is up, as it is where a look is slow."""
COLUMNS = "sku,description,currency,price,valid_from"


def price_list(rows: int = 3, first: int = 1) -> bytes:
    """A good price list; another ``first`` gives other bytes."""
    lines = [f"{number:08d},Bolt M{number},EUR,{number}.50,2026-12-01" for number in range(first, first + rows)]
    return "\n".join([COLUMNS, *lines, ""]).encode()


def over_ftp(host: str, port: int, password: Path) -> dict[str, Any]:
    """An endpoint's terms: the account ``partner`` of an FTP server that protects nothing, its password in a file."""
    agreed = {"protocol": "ftp", "unprotected": "accepted", "host": host, "port": port, "username": "partner"}
    return agreed | {"password": f"file:{password}", "timeout_seconds": 60}


@contextmanager
def review_deployed(client: SyncPrefectClient, **more: Any) -> Iterator[None]:
    """The deployment of the flow that asks about cases, as 'countersign deploy' makes it, while the block runs; there is no worker."""
    from flows.review import review

    try:
        client.read_work_pool("countersign")
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name="countersign", type="process", base_job_template=template))
    ours = {"entrypoint": "flows.review.review", "work_pool_name": "countersign", "pull_steps": HERE}
    deployment = client.create_deployment(client.create_flow(review), "case", **ours, **more)
    try:
        yield
    finally:
        client.delete_deployment(deployment)


@dataclass
class World:
    """One partner (``acme``) with one stream (``price-lists``), unless a test says otherwise."""

    home: Path
    remote: Path
    """The partner's folder on the OpenSSH server."""
    server: OpenSsh
    services: Mapping[str, Any]
    prefect: PrefectServer
    environment: dict[str, str] = field(default_factory=dict)
    stream: str = "price-lists"

    @property
    def profiles(self) -> Path:
        return self.home / "profiles"

    @property
    def out(self) -> Path:
        """Where the partner leaves files for us."""
        return self.remote / "out"

    def agree(
        self,
        *,
        host_keys: Sequence[str] | None = None,
        endpoint: Mapping[str, Any] | None = None,
        streams: Mapping[str, Mapping[str, Any]] | None = None,
        **terms: Any,
    ) -> None:
        """Write the reviewed files. ``terms`` change the one stream; ``streams`` replaces it by several, ``endpoint`` the server."""
        self.profiles.mkdir(parents=True, exist_ok=True)
        one = {self.stream: self.terms(**terms)}
        partner = {
            "name": "acme",
            "title": "ACME",
            "endpoints": {
                "drop": endpoint
                or {
                    "protocol": "sftp",
                    "host": self.server.host,
                    "port": self.server.port,
                    "username": self.server.username,
                    "private_key": f"file:{self.server.private_key}",
                    "host_keys": list(host_keys or [self.server.fingerprint]),
                    "timeout_seconds": 60,
                }
            },
            "streams": {name: self.terms(**changes) for name, changes in streams.items()} if streams else one,
        }
        (self.profiles / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))
        (self.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"ecm": reached(self.services)}}))

    def terms(self, **changes: Any) -> dict[str, Any]:
        return {
            "endpoint": "drop",
            "folder": str(self.out),
            "settle": {"quiet": "PT0S"},
            "classify": [{"pattern": r".*\.csv", "doctype": "price-list"}],
            "target": {
                "repository": "ecm",
                "folder": f"Tests/{self.remote.name}",
                "categories": {"Partner Document": {"Partner ID": "{partner}", "SHA-256": "{digest}"}},
            },
            **changes,
        }

    def leave(self, name: str | bytes, content: bytes, modified: float | None = None) -> Path:
        """The partner puts a file into its folder, whole."""
        path = Path(os.fsdecode(os.fsencode(self.out) + b"/" + (name if isinstance(name, bytes) else name.encode())))
        path.write_bytes(content)
        if modified is not None:
            os.utime(path, (modified, modified))
        return path

    def run(self, stream: str | None = None, **parameters: Any) -> State:
        """One intake in this process, through Prefect; its final state, also when it failed."""
        from flows.intake import intake

        return intake("acme", stream or self.stream, return_state=True, **{"patience_seconds": 5, **parameters})

    def run_apart(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """One intake in a process of its own, which may be killed: ``python -m tests.driver`` with these arguments."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.driver", "acme", self.stream, *arguments],
            cwd=ROOT,
            env={**self.prefect.environment(**self.environment), **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @property
    def ledger(self) -> Ledger:
        return connections.ledger()

    def journeys(self) -> dict[str, list[Recorded]]:
        """Every journey of a file with its entries."""
        ids = [summary.journey for summary in self.ledger.search(limit=10_000)]
        return self.ledger.journeys([id for id in ids if not id.startswith(("personality.", "endpoint.", "expected."))])

    def kinds(self) -> list[list[str]]:
        """The steps of every journey, in order."""
        return [[entry.kind for entry in entries] for entries in self.journeys().values()]

    @contextmanager
    def repository(self) -> Iterator[RepositorySession]:
        with load_repositories(self.profiles)["ecm"].session() as session:
            yield session

    def filed(self) -> dict[str, bytes]:
        """Everything the repository holds for this world: name -> bytes of the newest version."""
        contents: dict[str, bytes] = {}
        with self.repository() as session, ExitStack() as stack:
            from blocks.errors import DocumentMissing
            from blocks.spool import Spool

            spool = Spool(self.home / "read-back", floor_bytes=0)
            try:
                found = list(session.look(("Tests", self.remote.name)))
            except DocumentMissing:
                return {}
            for kept in found:
                with spool.batch() as batch:
                    done = session.fetch(kept.id, None, batch)
                contents[kept.name] = spool.path(done.digest).read_bytes()
            stack.close()
        return contents

    def versions(self) -> dict[str, int]:
        """Name -> newest version of everything filed for this world."""
        with self.repository() as session:
            return {kept.name: kept.version for kept in session.look(("Tests", self.remote.name))}

    def faults(self, **faults: Any) -> None:
        """Tell the repository's stand-in to misbehave: ``lost_answer=1``."""
        origin = "/".join(self.services["url"].split("/")[:3])
        body = json.dumps({name.replace("_", "-"): value for name, value in faults.items()}).encode()
        request = urllib.request.Request(f"{origin}/_faults", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()


def reached(service: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of the repository that a sandbox told about itself."""
    account = {"extended-ecm": ("username", "password"), "file360": ("client_id", "client_secret")}[service["service"]]
    told = {"kind": service["service"], "url": service["url"], account[0]: service["user"], account[1]: "env:ECM_PASSWORD"}
    return {**told, "timeout_seconds": 60}


@contextmanager
def file360(folder: Path) -> Iterator[Mapping[str, Any]]:
    """File 360 in this process. A module whose fixture ``ecm`` is this has it for its repository, still called ``ecm``."""
    from tests.sandbox.file360 import File360Sandbox

    service = File360Sandbox(folder).start()
    try:
        yield service.described()
    finally:
        service.stop()


@pytest.fixture(scope="session")
def ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """One Extended ECM sandbox for the whole run."""
    folder = tmp_path_factory.mktemp("ecm")
    with sandbox("extended-ecm", data=folder) as services:
        yield {**services["extended-ecm"], "data": folder}


@pytest.fixture
def world(
    tmp_path: Path, openssh: OpenSsh, ecm: Mapping[str, Any], prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A fresh installation and a fresh partner's folder, on the servers of the run."""
    remote = openssh.root / f"world-{uuid4().hex[:8]}"
    (remote / "out").mkdir(parents=True)
    made = World(tmp_path / "home", remote, openssh, ecm, prefect_server)
    made.environment = {
        "COUNTERSIGN_HOME": str(made.home),
        "COUNTERSIGN_PROFILES": str(made.profiles),
        "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
        "COUNTERSIGN_RETRY_SECONDS": "0.2",
        "ECM_PASSWORD": str(ecm["password"]),
    }
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    _forget()
    made.agree()
    try:
        with client_of(prefect_server):
            yield made
    finally:
        connections.hang_up()
        connections.ledger().close()
        _forget()


def _forget() -> None:
    for cached in (settings, connections.ledger, connections.spool, connections.quarantine):
        cached.cache_clear()
