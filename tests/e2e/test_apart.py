"""Cases that need servers of their own: Prefect's database and our ledger on PostgreSQL, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect.client.schemas.objects import State

from deployments.sender.store import Step, Store
from flows.reconcile import reconcile
from tests.e2e.test_cases import PRICES, assert_one_of_six_counts, until
from tests.e2e.test_release import assert_named, assert_verifies
from tests.release_world import ROOT, ReleaseWorld, installed
from tests.servers import free_port, running
from tests.servers.openssh import OpenSsh
from tests.servers.postgres import postgres
from tests.servers.prefect import PrefectServer, serve
from tests.worker.checkout import make_pool
from tests.world import HERE

POOL = "apart"


class Restartable:
    """A process that can be killed and started again as it was."""

    def __init__(self, start: Callable[[], AbstractContextManager[Any]]) -> None:
        self._start, self._started = start, ExitStack()
        self.running = self._started.enter_context(start())

    def start(self) -> None:
        self.running = self._started.enter_context(self._start())

    def stop(self) -> None:
        self._started.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9, of all that it started, too."""
    if os.getpgid(process.pid) == process.pid:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(60)


@pytest.fixture(scope="module")
def databases() -> Iterator[Mapping[str, str]]:
    with postgres() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for name in ("prefect", "ledger"):
                connection.execute(f"CREATE DATABASE {name}".encode())
        yield {name: url.replace("/postgres", f"/{name}") for name in ("prefect", "ledger")}


@pytest.fixture(scope="module")
def server(databases: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    """A Prefect server on PostgreSQL."""
    home, port = tmp_path_factory.mktemp("prefect-apart"), free_port()
    database = databases["prefect"].replace("postgresql://", "postgresql+asyncpg://")
    started = Restartable(lambda: serve(home, port=port, database=database, seconds=300))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    openssh: OpenSsh,
    ecm: Mapping[str, Any],
    server: Restartable,
    databases: Mapping[str, str],
) -> Iterator[ReleaseWorld]:
    """An installation on these servers, its ledger on PostgreSQL too."""
    ledger = {"COUNTERSIGN_LEDGER_URL": databases["ledger"]}
    with installed(tmp_path_factory.mktemp("apart"), openssh, ecm, server.running, **ledger) as made:
        yield made


@pytest.fixture
def sender(world: ReleaseWorld) -> Iterator[Restartable]:
    started = Restartable(world.sender)
    yield started
    started.stop()


@contextmanager
def worker(world: ReleaseWorld, prefect: PrefectServer) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that runs releases, each in a process of its own."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "countersign"]
    # Prefect's worker keeps a folder for temporary files there.
    environment = prefect.environment(PREFECT_WORKER_QUERY_SECONDS="1", TMPDIR=str(world.home))
    log = world.home / "worker.log"
    with running(command, log=log, ready=lambda: True, cwd=ROOT, env=environment, start_new_session=True) as process:
        yield process


def test_case_23_of_six_resumes_at_once_one_is_a_vote_on_postgresql(world: ReleaseWorld, sender: Restartable) -> None:
    assert_one_of_six_counts(world)


def test_case_21_all_killed_while_suspended_and_what_is_approved_then_is_sent_once(
    world: ReleaseWorld, server: Restartable, sender: Restartable
) -> None:
    """kill -9 of worker, sender and Prefect's server. The approval comes before there is a worker again: it waits for one."""
    bea, api = world.newcomer(), world.client
    make_pool(api, POOL)
    flow = api.read_deployment(world.deployment).flow_id
    deployed = api.create_deployment(flow, "worked", work_pool_name=POOL, entrypoint="flows.release.release", pull_steps=HERE)
    release = world.order(prices=PRICES, terms=b"no refunds")
    asked = {"partner": "acme", "stream": "prices", "order": release.id, "requester": "rita"}

    def state(wanted: Callable[[State[Any]], bool]) -> State[Any]:
        def reached() -> State[Any] | None:
            now = release.told.state
            assert now is not None and not (now.is_final() and not wanted(now)), now
            return now if wanted(now) else None

        return until(reached, 300)

    with worker(world, server.running) as working:
        release.run = UUID(str(api.create_flow_run_from_deployment(deployed, parameters=asked).id))
        waits = state(lambda now: now.is_paused()).state_details.run_input_keyset
        assert waits is not None
        # Prefect stores the form a moment after the state: killed between the two, the run could not be resumed, which is
        # for the sweep to find.
        until(lambda: api.filter_flow_run_input(release.run, waits["description"], 1, set()) or None)
        kill(working)
    kill(sender.running)
    kill(server.running.process)

    server.start()
    sender.start()
    assert release.told.state is not None and release.told.state.name == "Suspended"
    assert release.received == {}
    assert release.resume(release.answer(bea)) == "ACCEPT"
    with worker(world, server.running):
        assert_named(state(lambda now: now.is_final()), "Delivered")
    stands = release.stands
    assert release.received == {"prices.csv": PRICES, "terms.csv": b"no refunds"}
    assert [release.kinds.count(kind) for kind in ("round", "answered", "sending", "delivered", "certified", "closed")] == [
        1
    ] * 6
    with Store(world.state) as store:
        assert [parcel.step for parcel in store.parcels(release.package.digest)] == [Step.PROVEN] * 2
    assert_verifies(world, release)
    swept = reconcile(patience_seconds=0, return_state=True)
    assert swept.is_completed() and not [entry for entry in release.history if entry.kind == "found"]
    assert_named(release.go(), "Delivered")
    assert release.stands == stands, "sent once: what stood there is what stands there"
