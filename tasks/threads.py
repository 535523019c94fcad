"""Threads: where the tasks of a flow run beside each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from prefect.client.schemas.objects import RunInput, State
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.states import Pending
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

R = TypeVar("R")


class Threads(ThreadPoolTaskRunner[R]):
    """Prefect's own, but for how it finds out about tasks that have not ended: it asks its server for each that another one waits for,
    which hears of tasks later than we do, and answers after all of them have begun that it knows of none."""

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> PrefectConcurrentFuture[R]:
        begun = super().submit(task, parameters, wait_for, dependencies)
        return _Begun(begun.task_run_id, begun.wrapped_future)


class _Begun(PrefectConcurrentFuture[R]):
    @property
    def state(self) -> State[R]:
        """What is known here."""
        return self._final_state or Pending()
