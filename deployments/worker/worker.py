"""The worker type ``countersign``, for ``prefect worker start --type countersign``.

It differs from Prefect's process worker in how a run's process begins, and in what it runs at all: flows of this project, from the
checkout in which it was started. Cancelling, noticing crashes, running what has to be run when the server says so: all that is
Prefect's own, the very parts of which its process worker is made too.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
import anyio.abc
from anyio.abc import Process
from httpx import HTTPError
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle, create_isolated_termination_scope
from prefect.settings import get_current_settings
from prefect.utilities.processutils import sanitize_subprocess_env
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessJobConfiguration, ProcessVariables, ProcessWorkerResult
from pydantic import PrivateAttr

from blocks.errors import ConfigurationError
from deployments.worker.forks import ZYGOTE, Fork, Forks, NoFork
from deployments.worker.zygote import SETTINGS

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, State, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.runner._control_channel import ControlChannel

SILENT = 30.0
"""Seconds until events are asked for anew, after the server has stopped to tell them."""
GRACE = 20.0
"""Seconds that a run has to end by itself when the worker is told to stop."""


class Job(ProcessJobConfiguration):
    """A run's environment, as the process worker makes it; and what was asked for, to be judged before any of it is done."""

    _told: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    async def resolve_for_flow_run(
        cls,
        flow_run: FlowRun,
        *,
        client: PrefectClient,
        work_pool: WorkPool,
        deployment: DeploymentResponse | None = None,
        **about: Any,
    ) -> Self:
        if deployment is None and flow_run.deployment_id:
            deployment = await client.read_deployment(flow_run.deployment_id)
        # Before Prefect mixes one's variables into the other's.
        told = deepcopy(
            {
                "run": {"id": str(flow_run.id), "name": flow_run.name, "job_variables": flow_run.job_variables or {}},
                "deployment": deployment
                and {
                    "name": deployment.name,
                    "entrypoint": deployment.entrypoint or "",
                    "pool": work_pool.name,
                    "job_variables": deployment.job_variables or {},
                    "steps": deployment.pull_steps or [],
                    "version": f"{deployment.id}/{deployment.updated}",
                },
                "pool": {
                    "name": work_pool.name,
                    "template": work_pool.base_job_template,
                    "version": f"{work_pool.id}/{work_pool.updated}",
                },
            }
        )
        job = await super().resolve_for_flow_run(flow_run, client=client, work_pool=work_pool, deployment=deployment, **about)
        job._told = told
        return job


class CountersignWorker(BaseWorker[Job, ProcessVariables, ProcessWorkerResult]):
    """Runs flows of this project, each in a process that is forked with everything imported."""

    type = "countersign"
    job_configuration = Job
    job_configuration_variables = ProcessVariables

    _description = "Run Countersign's flows, each in a process of its own that begins at once. It runs nothing else."
    _display_name = "Countersign"

    zygote = ZYGOTE
    """What runs are forked from."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._looking = asyncio.Lock()
        self._calls = anyio.CancelScope()
        self._called = asyncio.Event()

    async def __aenter__(self) -> Self:
        if not hasattr(os, "pidfd_open"):
            raise ConfigurationError(
                "the worker type 'countersign' needs Linux; use 'prefect worker start --type process' here"
            )
        async with AsyncExitStack() as open_:
            # Before any connection, though the zygote inherits none: it imports while this process asks the server for its pool.
            self._forks = Forks(self.zygote, {**os.environ, **_settings(), **_imports_from(os.environ)})
            open_.push_async_callback(self._forks.close)
            await self._forks.ready()
            await super().__aenter__()
            cast(anyio.abc.TaskGroup, self._runs_task_group).start_soon(self._come_when_called)
            self._open = open_.pop_all()
        return self

    async def __aexit__(self, *how: Any) -> None:
        self._calls.cancel()
        async with self._open:  # closed last: runs end before
            await super().__aexit__(*how)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        async with self._looking:  # one look at a time: the other would see what the first has not yet taken
            return await super().get_and_submit_flow_runs()

    async def _come_when_called(self) -> None:
        """Look as soon as the server tells that a run is due. What is not heard is found by the usual look."""
        with self._calls:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen)
                group.start_soon(self._look_when_called)

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except Exception as error:  # noqa: BLE001 - Prefect raises that very class; and nothing depends on being called
                self._logger.warning("Events are not heard, so runs begin when they are looked for: %s", error)
            await anyio.sleep(SILENT)

    async def _hear(self) -> None:
        while self._work_pool is None:
            await anyio.sleep(1)
        due = EventFilter(
            event=EventNameFilter(name=[f"prefect.flow-run.{state}" for state in ("Scheduled", "Resuming")]),
            any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{self._work_pool.id}"]),
        )
        async with get_events_subscriber(filter=due) as events:
            async for _ in events:
                self._called.set()

    async def _look_when_called(self) -> None:
        """Once for all that was called since the last look."""
        while True:
            await self._called.wait()
            self._called.clear()
            try:
                await self.get_and_submit_flow_runs()
            except HTTPError as error:
                self._logger.info("A look failed, the next comes by itself: %s", error)

    async def run(
        self, flow_run: FlowRun, configuration: Job, task_status: anyio.abc.TaskStatus[int] | None = None
    ) -> ProcessWorkerResult:
        # Not one for all runs: what fails at one would end the others, and after it has lost its line to the server it hears of no
        # cancelling any more.
        async with FlowRunExecutorContext() as runs:
            starter = _Starter(self._forks, configuration, runs.control_channel)
            executor = runs.create_executor(flow_run, starter, propose_submitting=False, hook_runner=_NoHooks())
            executor._start_process = _plainly(executor._start_process)  # type: ignore[method-assign,assignment]
            done: list[FlowRunExecutionResult | None] = []

            async def execute(*, task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED) -> None:
                done.append(await executor.submit(task_status=task_status))

            async with anyio.create_task_group() as group:
                handle = await group.start(execute)
                if task_status is not None:
                    task_status.started(handle.pid)
        (result,) = done
        if result is None or result.status_code is None:
            raise NoFork("the run's process did not start")
        return ProcessWorkerResult(status_code=result.status_code, identifier=str(result.handle.pid))


Starts = Callable[[anyio.abc.TaskStatus[ProcessHandle]], Coroutine[Any, Any, ProcessHandle]]


def _plainly(start: Starts) -> Starts:
    """Its error without the task groups around it, whose own words would be all that the run's state says."""

    async def started(task_status: anyio.abc.TaskStatus[ProcessHandle]) -> ProcessHandle:
        try:
            return await start(task_status)
        except ExceptionGroup as group:
            error: Exception = group
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            raise error from group

    return started


class _Starter:
    """Prefect's way of starting a run's process, which waits for its end; ours forks it."""

    def __init__(self, forks: Forks, job: Job, control: ControlChannel) -> None:
        self._forks, self._job, self._control = forks, job, control

    async def start(
        self, flow_run: FlowRun, task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            environment = self._environment(flow_run)
            fork = await self._forks.begin(environment, self._job._told, quiet=not self._job.stream_output)
        except BaseException:
            self._control.unregister(flow_run.id)
            raise
        task_status.started(ProcessHandle(cast(Process, fork), termination_scope=create_isolated_termination_scope(fork.pid)))
        try:
            await fork.wait()
        finally:
            await _stop(fork)

    def _environment(self, flow_run: FlowRun) -> dict[str, str]:
        """The same that Prefect's process worker gives a run of this project."""
        environment: dict[str, str | None] = {
            **os.environ,
            **_settings(),
            **self._job.env,
            **_imports_from(self._job.env),
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            "PREFECT__FLOW_ENTRYPOINT": (self._job._told["deployment"] or {}).get("entrypoint"),
        }
        port, token = self._control.register(flow_run.id)
        environment |= {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        return sanitize_subprocess_env(environment)


def _settings() -> dict[str, str]:
    """Prefect's, those of a profile among them, as a run's environment has them."""
    return {**SETTINGS, **get_current_settings().to_environment_variables(exclude_unset=True)}


def _imports_from(environment: Mapping[str, str | None]) -> dict[str, str]:
    """For Python's that a run starts: it finds our code, and what the environment names besides."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), environment.get("PYTHONPATH"))))}


async def _stop(fork: Fork) -> None:
    """End a run that is still there, because the worker has to stop: it has a while to tell Prefect so."""
    with anyio.CancelScope(shield=True):
        for number in (signal.SIGTERM, signal.SIGKILL):
            if fork.returncode is None:
                fork.signal(number)
                with anyio.move_on_after(GRACE):
                    await fork.wait()


class _NoHooks:
    """Our flows have no hooks for crashes and cancellations; a guard says so. So the worker need not import them to look."""

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State[Any]) -> None:
        pass

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State[Any]) -> None:
        pass
