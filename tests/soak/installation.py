"""An installation of ours as it stands in production: Prefect server, worker and sender are processes that a supervisor starts again
whenever they are gone. The partner's SSH server and the repository belong to others, and stay.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from blocks.errors import SenderError
from blocks.ledger import Ledger
from blocks.profile import load_repositories
from blocks.repositories.base import RepositorySession
from blocks.sender import Sender
from deployments.sender.proofs import new_seed
from deployments.sender.store import Store
from tests.servers import free_port
from tests.servers.openssh import OpenSsh

ROOT = Path(__file__).parents[2]
PARTNER = "acme"
ONE, PAIR = "one", "pair"
"""The streams: one person signs, or two of them."""


@dataclass
class Service:
    """A process that is started again whenever it is gone."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    answers: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def tend(self) -> None:
        if self.process is None or self.process.poll() is not None:
            with self.log.open("ab") as output:
                self.process = subprocess.Popen(
                    self.command,
                    cwd=ROOT,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self.starts += 1

    @property
    def up(self) -> bool:
        return self.process is not None and self.process.poll() is None and self.answers()

    def kill(self) -> bool:
        """SIGKILL to the process alone; whether there was one."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.process.kill()
        return True


@dataclass
class Installation:
    """Our processes, our files, and the API as callers see it."""

    home: Path
    environment: dict[str, str]
    url: str
    people: tuple[str, ...]
    seeds: Mapping[str, str]
    services: dict[str, Service] = field(default_factory=dict)
    faults: list[BaseException] = field(default_factory=list)
    """What ended one of our own threads: the campaign is worth nothing then."""
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = httpx.Client(base_url=self.url, timeout=20)
        self.ledger = Ledger(f"sqlite:///{self.home / 'ledger.sqlite'}", timeout_seconds=60)

    @property
    def socket(self) -> Path:
        return self.home / "s"

    def store(self) -> Store:
        """The sender's own state."""
        return Store(self.home / "sender")

    @contextmanager
    def repository(self) -> Iterator[RepositorySession]:
        with load_repositories(self.home / "profiles")["ecm"].session() as session:
            yield session

    # ---------------------------------------------------------------------------------------- threads of our own

    def repeat(self, act: Callable[[], None], every_seconds: float) -> None:
        """Do something again and again until all is over."""

        def loop() -> None:
            try:
                while not self._over.wait(every_seconds):
                    act()
            except BaseException as error:  # noqa: BLE001 - told by the campaign, which must not pass then
                self.faults.append(error)

        self._threads.append(threading.Thread(target=loop, daemon=True))
        self._threads[-1].start()

    def tend(self) -> None:
        for service in self.services.values():
            service.tend()

    # ---------------------------------------------------------------------------------------- the API

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = 240) -> Any:
        """As a careful caller does: again, until the server is there and its database is free."""
        until = time.monotonic() + seconds
        while True:
            with suppress(httpx.TransportError):
                answer = self._client.request(method, path, json=body)
                if answer.status_code < 500:
                    return answer.raise_for_status().json() if answer.content else None
            if time.monotonic() > until:
                raise RuntimeError(f"{method} {path}: no answer within {seconds:.0f} s")
            time.sleep(0.3)

    def ask_once(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """As a browser does; None if nothing came of it, or nobody knows."""
        with suppress(httpx.HTTPError):
            return self._client.request(method, path, json=body).raise_for_status().json()
        return None

    def countersign(self, *arguments: str) -> bool:
        """A command, as operators type it; whether it worked."""
        command = [sys.executable, "-m", "deployments.cli", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, timeout=300).returncode == 0

    # ---------------------------------------------------------------------------------------- processes

    @property
    def running(self) -> list[int]:
        """The processes in which flow runs are."""
        return [pid for pid, environment in self._ours() if "PREFECT__FLOW_RUN_ID" in environment]

    def _ours(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Every process that was started for this installation, whoever its parent is now, and its environment."""
        own = ("COUNTERSIGN_HOME", str(self.home))
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):  # it is just ending, or another user's
                    told = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                    environment = dict(one.partition("=")[::2] for one in told)
                    if environment.get(own[0]) == own[1]:
                        yield int(entry.name), environment

    def end(self) -> None:
        """End everything that was started for us, by its id, and wait for it."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)  # or the supervisor would start again what is ended here
        started = [service.process for service in self.services.values() if service.process is not None]
        self.services.clear()
        until = time.monotonic() + 20
        while left := [pid for pid, _ in self._ours()]:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if time.monotonic() > until - 10 else signal.SIGTERM)
            if time.monotonic() > until:
                raise RuntimeError(f"these processes do not end: {left}")
            time.sleep(0.3)
        for process in started:
            process.wait(10)
        self._client.close()
        self.ledger.close()


@contextmanager
def installation(home: Path, openssh: OpenSsh, ecm: Mapping[str, Any], folders: Mapping[str, Path]) -> Iterator[Installation]:
    """Everything up, deployed and enrolled. ``folders`` are the partner's, by the name of the endpoint that leads there."""
    for folder in (home / "tmp", home / "profiles"):
        folder.mkdir(parents=True)
    people = tuple(f"p{number:02d}" for number in range(1, 41))
    _agree(home / "profiles", openssh, ecm, folders, people)
    url = f"http://127.0.0.1:{free_port()}/api"
    made = Installation(home, _environment(home, url, ecm), url, people, {person: new_seed() for person in people})
    made.ledger.migrate()
    with made.store() as store:
        for person, seed in made.seeds.items():
            store.enrol(person, seed)
    made.services.update(_services(made))
    os.environ["ECM_PASSWORD"] = str(ecm["password"])  # those around it use the same repository
    try:
        for name in ("prefect", "sender"):
            made.services[name].tend()
        _wait(lambda: made.services["prefect"].up and made.services["sender"].up, 180)
        if not made.countersign("deploy", PARTNER):
            raise RuntimeError("it could not be deployed")
        made.repeat(made.tend, 0.1)
        _wait(lambda: made.services["worker"].process is not None, 30)
        yield made
    finally:
        made.end()


def _environment(home: Path, url: str, ecm: Mapping[str, Any]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "COUNTERSIGN_"))}
    return {
        **inherited,
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Beyond a restart of the server, so that the slot of a killed sweep is given to the next one.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "TMPDIR": str(home / "tmp"),
        "COUNTERSIGN_HOME": str(home),
        "COUNTERSIGN_PROFILES": str(home / "profiles"),
        "COUNTERSIGN_SENDER_SOCKET": str(home / "s"),
        "COUNTERSIGN_SENDER_STATE": str(home / "sender"),
        "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
        # Shorter than in production, so that a campaign sees more; not so short that a busy machine loses its leases.
        "COUNTERSIGN_RETRY_SECONDS": "3",
        "COUNTERSIGN_LEASE_SECONDS": "15",
        "ECM_PASSWORD": str(ecm["password"]),
    }


def _services(made: Installation) -> dict[str, Service]:
    python, logs, port = sys.executable, made.home, made.url.split(":")[2].split("/")[0]
    # While it starts, the server must not find itself configured as its own client.
    alone = {key: value for key, value in made.environment.items() if key != "PREFECT_API_URL"}
    serve = [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    # No --limit: with one, Prefect 3.8.8's worker dies by itself.
    work = [python, "-m", "prefect", "worker", "start", "--pool", "countersign", "--type", "process"]
    return {
        "prefect": Service("prefect", serve, alone, logs / "prefect.log", lambda: _healthy(made.url)),
        "sender": Service(
            "sender", [python, "-m", "deployments.cli", "sender"], made.environment, logs / "sender.log", lambda: _judges(made)
        ),
        "worker": Service("worker", work, made.environment, logs / "worker.log", lambda: True),
    }


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _judges(made: Installation) -> bool:
    try:
        with Sender(made.socket, timeout_seconds=2) as client:
            client.health()
    except SenderError:
        return False
    return True


def _wait(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"not ready within {seconds:.0f} s; see the logs")
        time.sleep(0.2)


def _agree(
    profiles: Path, openssh: OpenSsh, ecm: Mapping[str, Any], folders: Mapping[str, Path], people: Sequence[str]
) -> None:
    server = {"protocol": "sftp", "host": openssh.host, "port": openssh.port, "username": openssh.username}
    server |= {"private_key": f"file:{openssh.private_key}", "host_keys": [openssh.fingerprint], "timeout_seconds": 20}
    files = {"name": "{order}.{name}", "manifest": "{order}.manifest", "done_file": "{order}.done"}
    stream = {
        "direction": "outbound",
        "gather": {"repository": "ecm", "folder": "Soak/Outbox/{order}"},
        "destinations": [{"endpoint": name, "folder": str(folder), **files} for name, folder in folders.items()],
        "freshness": "latest",
        "evidence": {"repository": "ecm", "folder": "Soak/Evidence/{order}"},
    }

    def signed(quorum: int) -> dict[str, Any]:
        return {**stream, "signoff": {"proof": "code", "stages": [{"name": "release", "groups": ["staff"], "quorum": quorum}]}}

    partner = {
        "name": PARTNER,
        "title": "ACME",
        "endpoints": {name: dict(server) for name in folders},
        "streams": {ONE: signed(1), PAIR: signed(2)},
    }
    deployments = [
        {
            "name": f"{PARTNER}-{name}",
            "entrypoint": "flows.release.release",
            "parameters": {"partner": PARTNER, "stream": name},
            "work_pool": {"name": "countersign"},
        }
        for name in (ONE, PAIR)
    ]
    (profiles / f"{PARTNER}.yaml").write_text(yaml.safe_dump({"partner": partner, "deployments": deployments}))
    ecm_terms = {"kind": "extended-ecm", "url": ecm["url"], "username": ecm["user"], "password": "env:ECM_PASSWORD"}
    (profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"ecm": {**ecm_terms, "timeout_seconds": 30}}}))
    staff = [{"id": id, "name": id.upper(), "mail": f"{id}@example.com", "groups": ["staff"]} for id in people]
    rita = {"id": "rita", "name": "Rita", "mail": "rita@example.com"}
    (profiles / "people.yaml").write_text(yaml.safe_dump({"people": [rita, *staff]}))
