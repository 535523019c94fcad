"""A real Prefect server for tests: on a free loopback port, with SQLite in a folder of its own or the database that it is told.

A test module that needs it imports the fixture (``from tests.servers.prefect import prefect_server  # noqa: F401``), or
``tests/conftest.py`` does so for all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import prefect
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import SetStateStatus
from prefect.events import Event
from prefect.events.clients import AssertingPassthroughEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from tests.servers import free_port, running

MIGRATED = Path(__file__).parents[2] / ".servers" / f"prefect-{prefect.__version__}.db"
"""An empty database of this version's server: making one takes as long as the rest of a start, copying it nothing."""
NOBODY = Path(__file__).with_name("nobody.pem")
"""An authority whose key nobody has: for clients that need one to trust, and talk to loopback only."""


@dataclass(frozen=True)
class PrefectServer:
    """A server that is up."""

    url: str
    """Of the API: ``http://127.0.0.1:PORT/api``."""
    env: Mapping[str, str]
    """What a process needs to talk to it, and to keep away from the user's own Prefect profile and from the internet."""
    process: subprocess.Popen[bytes]

    def environment(self, **more: str) -> dict[str, str]:
        """A whole environment for a subprocess: this process's, without any Prefect setting of its own."""
        return {**_foreign(), **self.env, **more}


def _foreign() -> dict[str, str]:
    """What this process's environment holds that is not Prefect's."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}


@contextmanager
def client_of(server: PrefectServer) -> Iterator[None]:
    """While the block runs, this process talks to that server; what it has emitted until the end of the block is there then.

    Prefect sends events in a thread, and to the server that was talked to when the first was emitted: the events of tests with
    another server would go there, or, since it has ended, be lost one by one after many tries.
    """
    spoken: dict[Any, Any] = {PREFECT_API_URL: server.url, PREFECT_LOGGING_TO_API_ENABLED: False}
    spoken[PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None  # at the end of a run its heartbeat is waited for, up to a second
    with temporary_settings(spoken):
        try:
            yield
        finally:
            EventsWorker.drain_all(timeout=60, at_exit=False)


@contextmanager
def overheard() -> Iterator[Callable[[], list[Event]]]:
    """What this process tells the Prefect server that it talks to, while the block runs, of events of ours: it gets there all the same.

    What it yields answers with those that were sent until then.
    """
    AssertingPassthroughEventsClient.reset()
    EventsWorker.set_client_override(AssertingPassthroughEventsClient)

    def told() -> list[Event]:
        EventsWorker.instance().wait_until_empty()
        every = [event for client in AssertingPassthroughEventsClient.all for event in getattr(client, "events", ())]
        return [event for event in every if event.event.startswith("countersign.")]

    try:
        yield told
    finally:
        EventsWorker.instance().drain()  # its client would be known to no later block
        EventsWorker.set_client_override(None)


def resume(client: SyncPrefectClient, run: UUID, answer: Mapping[str, Any] | None) -> str:
    """Post the form of a waiting run, as both UIs do; what Prefect says: ACCEPT, REJECT, ABORT."""
    began = datetime.now(UTC)
    status = client.resume_flow_run(run, run_input=dict(answer) if answer is not None else None).status
    if status is not SetStateStatus.ABORT:
        return str(status.value)
    # Prefect's client asks again after a 503, and SQLite may have taken the first one: then the second finds no form.
    taken = any(state.name == "Resuming" and state.timestamp >= began for state in client.read_flow_run_states(run))
    return "ACCEPT" if taken else "ABORT"


@contextmanager
def serve(home: Path, *, seconds: float = 300.0, port: int = 0, database: str = "", **settings: str) -> Iterator[PrefectServer]:
    """Run a Prefect server while the block runs. Its logs, profile and (unless told otherwise) database stay in ``home``.

    ``settings`` are more of Prefect's, by the names of their environment variables.

    It goes on where one that was killed stopped, if ``home``, ``port`` and ``database`` (an SQLAlchemy URL) are the same.
    """
    home.mkdir(parents=True, exist_ok=True)
    if not database and not (home / "prefect.db").exists():
        shutil.copyfile(_migrated(), home / "prefect.db")
    port = port or free_port(14_000, 14_999)  # pyproject.toml tells by these whose connection is left open
    url = f"http://127.0.0.1:{port}/api"
    env = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_API_SSL_CERT_FILE": str(NOBODY),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        **settings,
        **({"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}),
    }
    # While it starts, the server must not find itself configured as its own client.
    started_with = {key: value for key, value in {**_foreign(), **env}.items() if key != "PREFECT_API_URL"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, log=home / "server.log", ready=lambda: _healthy(url), seconds=seconds, env=started_with) as process:
        yield PrefectServer(url, env, process)


UNUSED = (
    "TASK_RUN_RECORDER",
    "EVENT_PERSISTER",
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "REPOSSESSOR",
)
"""Services of Prefect whose work nothing of ours looks at. The first two are a good part of what a run costs its server (events are
``overheard``), the others much of what it costs to have one that idles."""


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """One server for all tests of the session. It keeps no runs of tasks and no events, and does not tidy up."""
    without = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in UNUSED}
    with serve(tmp_path_factory.mktemp("prefect"), **without) as server:
        yield server


def _migrated() -> Path:
    """Made by Prefect itself, by whichever of several test processes comes first; the others wait for it."""
    MIGRATED.parent.mkdir(exist_ok=True)
    with MIGRATED.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not MIGRATED.exists():
            growing = MIGRATED.with_suffix(".growing")
            growing.unlink(missing_ok=True)
            own = {
                "PREFECT_HOME": str(MIGRATED.parent),
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{growing}",
            }
            command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "database", "upgrade", "-y"]
            subprocess.run(command, env={**_foreign(), **own}, check=True, stdout=subprocess.DEVNULL, timeout=300)
            growing.rename(MIGRATED)
    return MIGRATED


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
