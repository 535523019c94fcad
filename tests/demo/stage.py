"""Everything the demo (and the tests of whole flows) needs around the product, started as processes and ended by their ids."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sandbox import sandbox
from tests.servers import free_port, listening

ROOT = Path(__file__).parents[2]
USUAL_PREFECT_PORT = 4200
DELIVERY_PASSWORD = "COUNTERSIGN_ACME_DELIVERY_PASSWORD"


@dataclass
class Stage:
    """Addresses of what is running, and the environment in which our own commands see it."""

    state: Path
    services: Mapping[str, Mapping[str, str]]
    prefect_url: str
    environment: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, str] = field(default_factory=dict)
    """What the phones of the demo's people would hold, by their ids."""
    processes: dict[str, int] = field(default_factory=dict)
    """Process ids of ``sender``, ``server`` and ``worker``."""

    @property
    def catalogue(self) -> Path:
        """Where the partner finds what we release: the folder behind its FTPS server."""
        return Path(self.services["ftps"]["root"]) / "in/catalogue"

    @property
    def drop(self) -> Path:
        """The folder behind the partner's SFTP server, as the partner's own programs see it."""
        return Path(self.services["sftp"]["root"])

    @property
    def notes(self) -> Path:
        """Where the partner finds our notes on its refused price lists."""
        return Path(self.services["ftps"]["root"]) / "in/notes"

    def countersign(self, *arguments: str, check: bool = True, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        """Run our command line as a user would."""
        return subprocess.run(
            [sys.executable, "-m", "deployments.cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            check=check,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            timeout=600,
        )


@contextmanager
def stage(state: Path) -> Iterator[Stage]:
    """Sandbox, profiles that point at it, a Prefect server on SQLite, the deployments, a sender, people, and a worker."""
    (state / "tmp").mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        services = running.enter_context(sandbox(data=state / "sandbox"))
        write_profiles(state / "profiles", services)
        port = USUAL_PREFECT_PORT if not listening(USUAL_PREFECT_PORT) else free_port()
        url = f"http://127.0.0.1:{port}"
        environment = environment_for(state, services, url)
        ours = Stage(state, services, url, environment)
        # This process looks into our ledger too, and Prefect reads its settings when it is first imported.
        os.environ.update({key: value for key, value in environment.items() if key.startswith(("COUNTERSIGN_", "PREFECT_"))})
        ours.catalogue.mkdir(parents=True, exist_ok=True)
        ours.notes.mkdir(parents=True, exist_ok=True)
        ours.seeds.update(enrol(state))
        sender = [sys.executable, "-m", "deployments.cli", "sender"]
        # The sender alone is given what opens the partner's door from our side.
        delivering = {**environment, DELIVERY_PASSWORD: services["ftps"]["delivery_password"]}
        sending = running.enter_context(process("sender", sender, delivering, state / "sender.log"))
        ours.processes["sender"] = sending.pid
        server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        started = running.enter_context(process("prefect server", server, environment, state / "prefect-server.log"))
        ours.processes["server"] = started.pid
        wait_for(f"{url}/api/health", lambda answer: True, started, 300)
        ours.countersign("deploy", "acme", quiet=True)
        wait_for_sender(state / "home/sender.sock", sending, 180)
        # No --limit: with one, Prefect 3.8.8's worker dies when a suspended run is resumed before its process has quite ended
        # ("this borrower is already holding one of this CapacityLimiter's tokens"). A limit belongs on the work pool.
        worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "countersign", "--type", "countersign"]
        started = running.enter_context(process("worker", worker, environment, state / "worker.log"))
        ours.processes["worker"] = started.pid
        wait_for(f"{url}/api/work_pools/countersign", lambda pool: pool["status"] == "READY", started, 300)
        yield ours


def environment_for(state: Path, services: Mapping[str, Mapping[str, str]], url: str) -> dict[str, str]:
    """All state in one folder, the user's own Prefect profile untouched, and nothing that calls the internet."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "COUNTERSIGN_"))}
    return {
        **inherited,
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_PROFILES_PATH": str(state / "prefect" / "profiles.toml"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
        "TMPDIR": str(state / "tmp"),  # Prefect's worker keeps a folder there that another user's demo may own
        "COUNTERSIGN_HOME": str(state / "home"),
        "COUNTERSIGN_PROFILES": str(state / "profiles"),
        "COUNTERSIGN_ACME_PASSWORD": services["sftp"]["password"],
        "COUNTERSIGN_ECM_PASSWORD": services["extended-ecm"]["password"],
        "COUNTERSIGN_FILE360_SECRET": services["file360"]["password"],
        "COUNTERSIGN_ERP_SECRET": services["business"]["client_secret"],
    }


def write_profiles(folder: Path, services: Mapping[str, Mapping[str, str]]) -> None:
    """The committed example files, with this sandbox's addresses and pins in place of the usual ones."""
    folder.mkdir(parents=True, exist_ok=True)
    sftp, ftps = services["sftp"], services["ftps"]
    acme = (ROOT / "deployments/acme.yaml").read_text(encoding="utf-8")
    ours = (
        (r"port: 2222", f"port: {sftp['port']}"),
        (r"SHA256:[A-Za-z0-9+/]{43}", sftp["host_key"]),
        (r"port: 2121", f"port: {ftps['port']}"),
        (r"SHA256(:[0-9A-F]{2}){32}", ftps["certificate"]),
        (r"root: /var/spool/acme-jobs", f"root: {jobs_of(folder.parent)}"),
        (r"quiet: PT30S", "quiet: PT2S"),  # a demo need not wait half a minute for quiet
    )
    for usual, here in ours:
        acme, found = re.subn(usual, here, acme)
        assert found, f"deployments/acme.yaml has no {usual}"
    (folder / "acme.yaml").write_text(acme, encoding="utf-8")
    repositories = (ROOT / "deployments/repositories.yaml").read_text(encoding="utf-8")
    for name in ("extended-ecm", "file360"):
        repositories = re.sub(rf"(kind: {name}\n\s+url:) \S+", rf"\1 {services[name]['url']}", repositories)
    (folder / "repositories.yaml").write_text(repositories, encoding="utf-8")
    (folder / "systems").mkdir(exist_ok=True)
    erp = (ROOT / "deployments/systems/erp.yaml").read_text(encoding="utf-8")
    erp = erp.replace("http://127.0.0.1:8090", services["business"]["url"])
    (folder / "systems/erp.yaml").write_text(erp, encoding="utf-8")
    shutil.copy(ROOT / "deployments/people.yaml", folder)


def jobs_of(state: Path) -> Path:
    """Where another program leaves what it has sent."""
    for name in ("sent", "logs"):
        (state / "jobs" / name).mkdir(parents=True, exist_ok=True)
    return state / "jobs"


def enrol(state: Path) -> dict[str, str]:
    """Give everybody in people.yaml a code generator; their seeds by id. Elsewhere only ``people enrol`` does this, on a phone."""
    from deployments.people import load_people
    from deployments.sender.proofs import new_seed
    from deployments.sender.store import Store

    seeds = {person.id: new_seed() for person in load_people(state / "profiles").people}
    with Store(state / "home/sender") as store:
        for id, seed in seeds.items():
            store.enrol(id, seed)
    return seeds


@contextmanager
def process(name: str, command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the demo, ended by its id; SIGINT of the terminal reaches only the demo itself."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield started
        if started.poll() is not None:
            raise RuntimeError(f"{name} ended early with {started.returncode}; see {log}")
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGINT if name == "worker" else signal.SIGTERM)
            try:
                started.wait(15)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait(10)


def wait_for(url: str, fits: Callable[[Any], bool], process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the API answers, and as wished. A process that ends meanwhile is told at once."""
    limit = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                if fits(json.load(answer)):
                    return
        except (urllib.error.URLError, OSError):
            pass
        if process.poll() is not None:
            raise RuntimeError(f"{url}: the process that should answer ended with {process.returncode}; see its log")
        if time.monotonic() > limit:
            raise RuntimeError(f"{url} was not as wished within {seconds:.0f} s")
        time.sleep(0.2)


def wait_for_sender(socket: Path, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the sender answers on its socket."""
    from blocks.errors import SenderError
    from blocks.sender import Sender

    limit = time.monotonic() + seconds
    while True:
        try:
            with Sender(socket, timeout_seconds=5) as client:
                client.health()
                return
        except SenderError as error:
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"{socket}: the sender did not answer; see its log") from error
        time.sleep(0.2)
