"""A Prefect deployment as it stands in a partner's file, checked more strictly than Prefect does.

Prefect ignores keys it does not know; here a typo is loud. Steps running commands (``build``, ``push``, ``pull``) are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from blocks.values import Terms


class Schedule(Terms):
    """When Prefect starts a deployment by itself (https://docs.prefect.io/v3/concepts/schedules)."""

    cron: str | None = Field(default=None, description="Five fields: '*/5 * * * *'")
    interval: float | None = Field(default=None, gt=0, description="Seconds between two runs")
    rrule: str | None = Field(default=None, description="An iCalendar recurrence rule")
    timezone: str | None = Field(default=None, description="IANA time zone of the schedule")
    anchor_date: str | None = Field(default=None, description="From which an interval counts")
    day_or: bool | None = Field(default=None, description="How cron joins day of month and day of week")
    active: bool = Field(default=True, description="false: known, but not started by itself")
    parameters: Mapping[str, Any] = Field(default_factory=dict, description="Parameters of these runs only")
    slug: str | None = Field(default=None, description="A stable name of this schedule")

    @model_validator(mode="after")
    def _says_when(self) -> Schedule:
        if sum(when is not None for when in (self.cron, self.interval, self.rrule)) != 1:
            raise ValueError("needs exactly one of cron, interval, rrule")
        return self


class Concurrency(Terms):
    """How many runs of a deployment at once."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = Field(default="ENQUEUE", description="What happens to one too many")
    grace_period_seconds: int | None = Field(default=None, description="How long a slot waits for its run to start")


class WorkPool(Terms):
    """Where the runs are carried out."""

    name: str = Field(description="countersign, unless operations decided otherwise")
    work_queue_name: str | None = None
    job_variables: Mapping[str, Any] = Field(default_factory=dict)


class Deployment(Terms):
    """One of Prefect's deployments (https://docs.prefect.io/v3/concepts/deployments)."""

    name: str = Field(description="Shown in Prefect beside the flow's name")
    description: str | None = Field(default=None, description="Shown in Prefect; markdown")
    entrypoint: str = Field(
        description="Module path of the flow: flows.intake.intake",
        # The form with a file (flows/intake.py:intake) would load a second copy of the module.
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
    )
    parameters: Mapping[str, Any] = Field(default_factory=dict, description="Of the flow: partner and stream")
    work_pool: WorkPool
    schedules: tuple[Schedule, ...] = ()
    paused: bool | None = Field(default=None, description="true: none of the schedules starts anything")
    concurrency_limit: int | Concurrency | None = Field(default=None, description="How many runs at once")
    tags: tuple[str, ...] = ()
    triggers: tuple[Mapping[str, Any], ...] = Field(default=(), description="Events that start a run")
    version: str | None = None
    enforce_parameter_schema: bool | None = None
