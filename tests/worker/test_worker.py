"""The worker type ``countersign``: each run is a process of its own, forked; what Prefect's process worker does for it, this one does.

A real Prefect server, a real worker, and a checkout with flows that tell of the process they are in.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, flow_engine
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State
from prefect.settings import (
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.states import Cancelling

from blocks.ledger import Ledger
from deployments.worker.worker import CountersignWorker, _settings
from deployments.worker.zygote import end_without_heartbeat
from tasks.sweep import MIRRORS
from tests.e2e.test_cases import until
from tests.servers.prefect import PrefectServer, client_of, resume
from tests.worker.checkout import checkout, deploy, make_pool, worker
from tests.worker.test_forks import light

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
    """It has ended; whether its parent asks how is another thing, and in containers not every first process does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


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
    assert environment["PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED"] == "false", "the worker has asked for all of them"
    assert not {"OPENBLAS_NUM_THREADS", "JE_ARROW_MALLOC_CONF"} & set(environment), "these are the zygote's own"


def test_what_somebody_has_chosen_of_prefects_settings_is_what_runs_have() -> None:
    with temporary_settings({PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: True}):
        assert _settings()["PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED"].lower() == "true"


def test_what_a_run_logs_and_prints_arrives(works: Works, looked: list[Run]) -> None:
    def logged() -> list[str] | None:
        lines = works.api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[looked[0].id])))
        return [line.message for line in lines if "a word from the probe" in line.message] or None

    assert len(until(logged, LONG)) == 1
    assert (works.folder / f"worker-{POOL}.log").read_text().count("a word on the output") == 2


def test_a_run_does_not_wait_for_its_heartbeat(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def short() -> bool:
        return _beats()

    monkeypatch.setattr(flow_engine, "_send_heartbeats", flow_engine._send_heartbeats)
    end_without_heartbeat()
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        assert short() and _beats(), "its thread still sleeps, and nobody has waited for it"


def _beats() -> bool:
    """A thread tells Prefect that a flow of this process is alive."""
    stacks = [traceback.extract_stack(frame) for frame in sys._current_frames().values()]
    return any(call.name == "heartbeat_loop" for stack in stacks for call in stack)


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


def test_a_deployments_limit_holds(works: Works) -> None:
    deployment = deploy(works.api, "linger", POOL, works.folder, concurrency_limit=1)
    one = works.of(deployment, "linger")
    pid = one.told()["pid"]
    other = works.of(deployment, "linger")
    until(lambda: other.state.name == "AwaitingConcurrencySlot" or None, LONG)
    works.api.delete_flow_run(other.id)
    os.kill(pid, signal.SIGKILL)
    assert one.ended().is_crashed() and not other.place.exists()


def test_new_code_is_what_the_next_run_runs_and_a_killed_zygote_takes_no_run_with_it(works: Works, looked: list[Run]) -> None:
    """A run that waits goes on in another process, of another zygote; the one in which it began to wait was nobody's child by then."""
    waits = works.begin("wait", parameters={"after": str(works.folder / "go-on")})
    began = waits.told()
    probe = works.folder / "flows/probe.py"
    probe.write_text(probe.read_text().replace("_told(\n        path,", '_told(\n        path,\n        changed="yes",'))
    after = works.begin("look").told()
    assert "changed" not in looked[0].told() and after["changed"] == "yes"
    assert began["parent"] == looked[0].told()["parent"] != after["parent"]

    os.kill(began["parent"], signal.SIGKILL)
    until(lambda: gone(began["parent"]) or None, LONG)
    (works.folder / "go-on").touch()
    until(lambda: gone(began["pid"]) or None, LONG)
    assert waits.state.is_paused(), "its end was told by itself, and so it did not crash"
    assert resume(works.api, waits.id, None) == "ACCEPT"
    on = waits.told(Path(f"{waits.place}-again"))
    assert on["pid"] != began["pid"] and on["parent"] == after["parent"]
    assert waits.ended().name == "Completed"


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


def test_a_run_ends_with_a_worker_that_is_told_to_stop(works: Works) -> None:
    run = works.begin("linger")
    told = run.told()
    works.process.send_signal(signal.SIGINT)
    works.process.wait(LONG)
    until(lambda: (gone(told["pid"]) and gone(told["parent"])) or None, LONG)
    assert run.ended().is_crashed()


def test_why_a_run_has_no_process_is_what_its_state_says(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pool(works.api, "none")
    deployment = deploy(works.api, "look", "none", works.folder)
    monkeypatch.setattr(CountersignWorker, "zygote", light("sys.exit(7)"))

    async def story() -> None:
        async with CountersignWorker("none") as called:
            run = works.of(deployment, "look")
            while not run.state.is_final():
                await called.get_and_submit_flow_runs()
                await asyncio.sleep(0.1)
            assert run.state.is_crashed() and "the zygote ended (status 7)" in str(run.state.message)

    asyncio.run(asyncio.wait_for(story(), LONG))


def test_a_run_is_taken_when_the_server_tells_of_it(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker does not look of itself at all; what it did not hear, because the server was busy, is not waited for."""
    make_pool(works.api, "called")
    deployment = deploy(works.api, "look", "called", works.folder)
    monkeypatch.setattr(CountersignWorker, "zygote", light())
    monkeypatch.setenv("status", "0")  # with which that one's forks end

    async def story() -> None:
        async with CountersignWorker("called") as called:
            runs = []
            for _ in range(int(LONG)):
                runs.append(works.of(deployment, "look"))
                await asyncio.sleep(1)
                if any(not run.state.is_scheduled() for run in runs):
                    return
            pytest.fail(f"none of {len(runs)} runs was taken by {called}")

    asyncio.run(story())
