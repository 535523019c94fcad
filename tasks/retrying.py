"""When Prefect should try a task again, and when a person is needed instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prefect import task as prefect_task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from blocks.errors import CountersignError
from blocks.settings import settings

R = TypeVar("R")

RETRIES = 3
"""So often a task is tried again within its run."""
NO_RESULTS = Path(os.devnull)
"""For ``result_storage`` of a flow that keeps none: else each of its runs asks Prefect's server three times where results are kept."""


async def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State) -> bool:
    """True if the error itself says that the same call may succeed later."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, CountersignError) and error.worth_retrying


def task(task_run_name: str) -> Callable[[Callable[..., R]], Task[..., R]]:
    """A Prefect task as we write them: retries with back-off and jitter where the error is worth it, and nothing cached.

    Correctness never rests on Prefect's cached results: a task that runs again reads the ledger.
    """

    def decorate(verb: Callable[..., R]) -> Task[..., R]:
        return prefect_task(
            task_run_name=task_run_name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=RETRIES,
            retry_delay_seconds=exponential_backoff(settings().retry_seconds),
            retry_jitter_factor=0.5,
            retry_condition_fn=worth_retrying,
        )(verb)

    return decorate
