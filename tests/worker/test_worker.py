"""The worker type ``countersign``: each run is a process of its own, forked; what Prefect's process worker does for it, this one does.

A real Prefect server, a real worker, and a checkout with flows that tell of the process they are in.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State
from prefect.states import Cancelling

from blocks.ledger import Ledger
from tasks.sweep import MIRRORS
from tests.e2e.test_cases import until
from tests.servers.prefect import PrefectServer, client_of, resume
from tests.worker.checkout import checkout, deploy, make_pool, worker

POOL = "forked"
LONG = 300.0
"""Seconds within which what must happen happens, also on a busy machine."""


@dataclass
class Works:
    """A worker at work, and what is asked of it."""

    api: SyncPrefectClient
    folder: Path
    process: subprocess.Popen[bytes]
    runs: int = 0

    def begin(self, flow: str, **more: Any) -> Run:
        deployment = deploy(self.api, flow, POOL, self.folder, **more)
        return self.of(deployment, flow)

    def of(self, deployment: UUID, flow: str, **more: Any) -> Run:
        self.runs += 1
        told = self.folder / f"told-{self.runs}"
        parameters = {"path": str(told), **({"again": f"{told}-again"} if flow == "wait" else {})}
        run = self.api.create_flow_run_from_deployment(deployment, parameters=parameters, **more)
        return Run(self.api, run.id, told)

    @property
    def found(self) -> list[str]:
        """What was told of attempts, in words."""
        ledger = Ledger(f"sqlite:///{self.folder}/home/ledger.sqlite")
        return [entry.body["reason"] for entry in ledger.journey(MIRRORS) if entry.kind == "found"]


@dataclass
class Run:
    api: SyncPrefectClient
    id: UUID
    place: Path

    @property
    def state(self) -> State[Any]:
        state = self.api.read_flow_run(self.id).state
        assert state is not None
        return state

    def told(self, place: Path | None = None) -> dict[str, Any]:
        """What the run has written, once it has."""
        place = place or self.place

        def there() -> bool | None:
            ended = self.state.is_final()
            assert place.exists() or not ended, self.state
            return place.exists() or None

        until(there, LONG)
        return dict(json.loads(place.read_text()))

    def ended(self) -> State[Any]:
        return until(lambda: self.state if self.state.is_final() else None, LONG)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture(scope="module")
def works(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    folder = checkout(tmp_path_factory.mktemp("worker") / "checkout")
    with client_of(prefect_server), get_client(sync_client=True) as api:
        make_pool(api, POOL)
        with worker(prefect_server, POOL, folder, TOLD_BY_THE_WORKER="yes") as process:
            yield Works(api, folder, process)


@pytest.fixture(scope="module")
def looked(works: Works) -> list[Run]:
    """Two runs that looked about, and have ended."""
    deployment = deploy(works.api, "look", POOL, works.folder)
    runs = [works.of(deployment, "look") for _ in range(2)]
    assert [run.ended().name for run in runs] == ["Completed"] * 2
    return runs


def test_a_run_is_a_process_of_its_own_with_nothing_of_the_one_it_was_forked_from(works: Works, looked: list[Run]) -> None:
    one, other = (run.told() for run in looked)
    assert one["pid"] != other["pid"] and one["parent"] == other["parent"] != works.process.pid
    assert one["pid"] == one["group"], "a signal to the run reaches what it has started, and nobody else"
    assert not set(one["random"]) & set(other["random"])
    # The zygote has one thread, so no lock can be held there by another; and of its files a run has output and input at most.
    zygote = Path(f"/proc/{one['parent']}")
    assert len(list((zygote / "task").iterdir())) == 1
    held = {str(file.readlink()) for file in (zygote / "fd").iterdir() if int(file.name) > 2}
    assert sum(name.startswith("socket:") for name in held) == 1, "its end of the worker's line"
    found = {*one["files"], *other["files"]}
    assert not {name for name in held if name.startswith(("socket:", "pipe:", "anon_inode:[pidfd]"))} & found


def test_a_run_has_the_environment_that_the_process_worker_would_give_it(works: Works, looked: list[Run]) -> None:
    told = looked[0].told()
    environment = told["environment"]
    assert environment["TOLD_BY_THE_WORKER"] == "yes"
    assert environment["PREFECT__FLOW_RUN_ID"] == str(looked[0].id)
    assert environment["PREFECT__DEPLOYMENT_NAME"] == f"look-{POOL}" and environment["PREFECT__FLOW_NAME"] == "look"
    assert environment["PREFECT__WORKER_NAME"].startswith("CountersignWorker")
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == told["folder"] == str(works.folder)
    assert "OPENBLAS_NUM_THREADS" not in environment, "that is the zygote's own"


def test_what_a_run_logs_and_prints_arrives(works: Works, looked: list[Run]) -> None:
    def logged() -> list[str] | None:
        lines = works.api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[looked[0].id])))
        return [line.message for line in lines if "a word from the probe" in line.message] or None

    assert len(until(logged, LONG)) == 1
    assert (works.folder / f"worker-{POOL}.log").read_text().count("a word on the output") == 2


def test_a_run_that_is_killed_has_crashed(works: Works) -> None:
    run = works.begin("linger")
    os.kill(run.told()["pid"], signal.SIGKILL)
    state = run.ended()
    assert state.is_crashed() and "-9" in str(state.message)


def test_a_run_that_is_cancelled_ends(works: Works) -> None:
    run = works.begin("linger")
    pid = run.told()["pid"]
    works.api.set_flow_run_state(run.id, Cancelling())
    assert run.ended().name == "Cancelled"
    until(lambda: gone(pid) or None, LONG)


def test_a_run_that_was_suspended_goes_on_in_another_process(works: Works) -> None:
    run = works.begin("wait")
    first = run.told()["pid"]
    until(lambda: run.state.is_paused() or None, LONG)
    until(lambda: gone(first) or None, LONG)
    assert resume(works.api, run.id, None) == "ACCEPT"
    assert run.told(Path(f"{run.place}-again"))["pid"] != first
    assert run.ended().name == "Completed"


def test_a_deployments_limit_holds(works: Works) -> None:
    deployment = deploy(works.api, "linger", POOL, works.folder, concurrency_limit=1)
    one = works.of(deployment, "linger")
    pid = one.told()["pid"]
    other = works.of(deployment, "linger")
    until(lambda: other.state.name == "AwaitingConcurrencySlot" or None, LONG)
    works.api.delete_flow_run(other.id)
    os.kill(pid, signal.SIGKILL)
    assert one.ended().is_crashed() and not other.place.exists()


def test_code_that_has_changed_is_what_the_next_run_runs(works: Works, looked: list[Run]) -> None:
    probe = works.folder / "flows/probe.py"
    probe.write_text(probe.read_text().replace("_told(\n        path,", '_told(\n        path,\n        changed="yes",'))
    after = works.begin("look").told()
    assert "changed" not in looked[0].told() and after["changed"] == "yes"


SHELL = {"prefect.deployments.steps.run_shell_script": {"script": "touch {marker}"}}


@pytest.mark.parametrize(
    ("deployed", "given", "reason"),
    [
        pytest.param({}, {"command": "touch {marker}"}, "(command)", id="a command of the run's own"),
        pytest.param({"pull_steps": [SHELL]}, {}, "something else before its flow", id="a deployment's pull step"),
        pytest.param({"entrypoint": "json.tool.main"}, {}, "no flow of this project", id="an entry point elsewhere"),
    ],
)
def test_what_is_no_flow_of_ours_is_not_carried_out_and_told(
    works: Works, tmp_path: Path, deployed: dict[str, Any], given: dict[str, Any], reason: str
) -> None:
    marker = tmp_path / "carried-out"

    def planted(what: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads(json.dumps(what).replace("{marker}", str(marker))))

    deployment = deploy(works.api, "look", POOL, works.folder, **planted(deployed))
    run = works.of(deployment, "look", job_variables=planted(given))
    state = run.ended()
    assert state.is_crashed() and str(state.message).startswith("Not carried out: ") and reason in str(state.message)
    assert not run.place.exists() and not marker.exists()
    assert any(message in str(state.message) for message in works.found)


def test_nothing_is_carried_out_in_a_pool_that_says_what_to_run(works: Works, tmp_path: Path) -> None:
    marker = tmp_path / "carried-out"
    before = works.api.read_work_pool(POOL).base_job_template
    edited = json.loads(json.dumps(before))
    edited["variables"]["properties"]["command"]["default"] = f"touch {marker}"
    works.api.update_work_pool(POOL, WorkPoolUpdate(base_job_template=edited))
    try:

        def refused() -> State[Any] | None:
            """The worker hears of the pool's new template a while later."""
            state = works.begin("look").ended()
            return state if state.is_crashed() else None

        assert "sets command for every run" in str(until(refused, LONG).message)
    finally:
        works.api.update_work_pool(POOL, WorkPoolUpdate(base_job_template=before))
    assert not marker.exists()


def test_a_run_begins_when_the_server_tells_of_it_and_ends_with_a_worker_that_is_told_to_stop(
    works: Works, prefect_server: PrefectServer
) -> None:
    """This worker looks once in an hour; what it did not hear, because the server was busy, is not waited for."""
    make_pool(works.api, "called")
    with worker(prefect_server, "called", works.folder, PREFECT_WORKER_QUERY_SECONDS="3600") as process:
        deployment = deploy(works.api, "linger", "called", works.folder)
        runs = []

        def begun() -> Run | None:
            runs.append(works.of(deployment, "linger"))
            give_up = time.monotonic() + 20
            while time.monotonic() < give_up:
                if found := next((run for run in runs if run.place.exists()), None):
                    return found
                time.sleep(0.2)
            return None

        run = until(begun, LONG)
        told = run.told()
        process.send_signal(signal.SIGINT)
        process.wait(LONG)
    until(lambda: (gone(told["pid"]) and gone(told["parent"])) or None, LONG)
    assert run.ended().is_crashed()
