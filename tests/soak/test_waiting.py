"""500 releases that wait for people: they hold no process, an inbox opens at once, and the sweep is done in seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.workers.process import ProcessWorker

from flows.reconcile import reconcile
from flows.release import release as release_flow
from tests.release_world import ROOT, Release, ReleaseWorld
from tests.servers.prefect import PrefectServer
from tests.world import HERE

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3500)]

WAITING = int(os.environ.get("COUNTERSIGN_SOAK_WAITING", "500"))
FEW = 20
"""So many of them wait for one person alone."""
INBOX_SECONDS, SWEEP_SECONDS = 2.0, 10.0


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    """Deployed to a work pool, with a stream that one person alone may sign."""
    shelf = {
        "gather": {"repository": "shelf", "folder": "Outbox/{order}"},
        "evidence": {"repository": "shelf", "folder": "Evidence/{order}"},
    }
    alone = {"stages": [{"name": "release", "groups": ["legal"]}], "proof": "code"}
    release_world.agree(few=release_world.terms(**shelf, signoff=alone))
    client, pool = release_world.client, f"soak-{uuid4().hex[:6]}"
    template = ProcessWorker.get_default_base_job_template()
    client.create_work_pool(WorkPoolCreate(name=pool, type=ProcessWorker.type, base_job_template=template))
    release_world.deployment = client.create_deployment(
        client.create_flow(release_flow), pool, work_pool_name=pool, entrypoint="flows.release.release", pull_steps=HERE
    )
    return release_world


def test_many_releases_wait_without_a_process_and_are_found_at_once(
    world: ReleaseWorld, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    people, lea = [world.newcomer() for _ in range(20)], world.newcomer("legal")
    began = time.monotonic()
    releases = [waiting(world, "few" if number < FEW else "shelf") for number in range(WAITING)]
    print(f"\n{WAITING} releases wait, made in {time.monotonic() - began:.0f} s; load {os.getloadavg()[0]:.1f}")

    for person, expected in ((lea, FEW), (people[0], WAITING - FEW)):
        seconds, runs = measured(lambda person=person: inbox(world, person))  # type: ignore[misc]
        print(f"the inbox of one who may sign {expected}: {seconds:.2f} s")
        assert all(f"awaits:{person}" in run["tags"] for run in runs) and len(runs) == min(expected, 200)
        assert count(world, person) == expected
        assert seconds < INBOX_SECONDS

    seconds, state = measured(lambda: reconcile(return_state=True))  # type: ignore[call-overload]
    print(f"the sweep: {seconds:.2f} s, {state.name}")
    assert state.name == "All in order"
    assert seconds < SWEEP_SECONDS

    with worker(world, prefect_server, tmp_path / "worker.log") as started:
        # It looks for work every second, and finds none of all these.
        time.sleep(5)
        print(f"processes under the worker: {len(children(started.pid))}")
        assert children(started.pid) == []
        chosen = releases[0]
        assert chosen.resume(chosen.answer(lea)) == "ACCEPT"
        until(lambda: chosen.told.state is not None and chosen.told.state.name == "Delivered", 180)
        until(lambda: children(started.pid) == [], 60)
        print(f"processes under the worker after one was signed and delivered: {len(children(started.pid))}")
    assert chosen.received == {"prices.csv": b"0"}
    assert count(world, lea) == FEW - 1


def waiting(world: ReleaseWorld, stream: str) -> Release:
    release = world.order(stream, "shelf", prices=b"0")
    assert release.start() is None
    return release


def measured(act: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes at its best of three, and what came of it: others work on this machine too."""
    took = []
    for _ in range(3):
        began = time.monotonic()
        told = act()
        took.append(time.monotonic() - began)
    return min(took), told


def wanted(person: str) -> Mapping[str, Any]:
    """The filter of the link ``/runs?state=Suspended&tag=awaits:<id>``."""
    return {"flow_runs": {"state": {"name": {"any_": ["Suspended"]}}, "tags": {"all_": [f"awaits:{person}"]}}}


def inbox(world: ReleaseWorld, person: str) -> list[dict[str, Any]]:
    asked = {**wanted(person), "limit": 200, "sort": "START_TIME_DESC"}
    found: list[dict[str, Any]] = world.client.request("POST", "/flow_runs/filter", json=asked).json()
    return found


def count(world: ReleaseWorld, person: str) -> int:
    return int(world.client.request("POST", "/flow_runs/count", json=wanted(person)).json())


@contextmanager
def worker(world: ReleaseWorld, server: PrefectServer, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker of the pool while the block runs."""
    pool = world.client.read_deployment(world.deployment).work_pool_name
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", str(pool), "--type", "process"]
    environment = server.environment(PREFECT_WORKER_QUERY_SECONDS="1")
    with log.open("wb") as output:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        until(lambda: world.client.read_work_pool(str(pool)).status == "READY", 120)
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(60)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(10)


def children(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have, zombies left out."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:  # it has just ended
                continue
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(entry.name))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


def until(holds: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, f"not within {seconds:.0f} s"
        time.sleep(0.3)
