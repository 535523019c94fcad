"""Side doors: look in Prefect for what nobody reviewed. It tells; it removes nothing, for that is for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from blocks.errors import ConfigurationError
from blocks.profile import load_file, partners
from blocks.settings import settings
from tasks.connections import ledger
from tasks.retrying import task
from tasks.rules import side_doors
from tasks.rules.reconcile import Finding
from tasks.rules.side_doors import Automation, Deployed, Started
from tasks.rules.signing import answer_hash

_PAGE = 200
_MOST_RUNS = 5000
_RUNS_OF = timedelta(hours=2)
"""A sweep comes every minute; the longer this is, the longer it takes."""


@task(task_run_name="look for side doors")
def look_for_side_doors(look_back: timedelta) -> list[Finding]:
    """Deployments, runs, automations and work pools by which other code than ours reaches a worker, or a run leaves its wait."""
    try:
        reviewed = reviewed_deployments()
    except ConfigurationError as error:
        return [Finding("files", f"files/{answer_hash(str(error))}", str(error))]
    pools = sorted({one.pool for one in reviewed})
    with get_client(sync_client=True) as client:
        return [
            *side_doors.deployments(_deployed(client), reviewed, str(Path.cwd())),
            *side_doors.overridden(_started(client, pools, min(look_back, _RUNS_OF))),
            *side_doors.automations(_automations(client)),
            *_pools(client, pools),
        ]


def as_reviewed(there: Iterable[DeploymentResponse]) -> list[DeploymentResponse]:
    """Without those that somebody put there, or changed: what they start is not ours. None if the files are not in order."""
    try:
        reviewed = reviewed_deployments()
    except ConfigurationError:
        return []
    return [one for one in there if not list(side_doors.deployments([_as_deployed(one)], reviewed, str(Path.cwd())))]


def reviewed_deployments() -> list[Deployed]:
    """Every deployment of the project's file and of the partners'. Raises ``ConfigurationError``."""
    try:
        project = yaml.safe_load(Path("prefect.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{Path.cwd()}: no prefect.yaml can be read here, so the sweep cannot tell our deployments from others; it runs in the "
            "project's folder"
        ) from error
    found = [_wanted(one) for one in project.get("deployments") or ()]
    for name in partners(settings().profiles):
        found += [_wanted(one.model_dump()) for one in load_file(name, settings().profiles).deployments]
    return found


def _wanted(stanza: Any) -> Deployed:
    place = stanza.get("work_pool") or {}
    return Deployed(stanza["name"], stanza["entrypoint"], place.get("name", ""), place.get("job_variables") or {})


def _deployed(client: SyncPrefectClient) -> Iterator[Deployed]:
    offset = 0
    while page := client.read_deployments(limit=_PAGE, offset=offset):
        offset += len(page)
        yield from map(_as_deployed, page)


def _as_deployed(one: DeploymentResponse) -> Deployed:
    return Deployed(
        name=one.name,
        entrypoint=one.entrypoint or "",
        pool=one.work_pool_name or "",
        job_variables=one.job_variables or {},
        steps=tuple(one.pull_steps or ()),
        version=f"{one.id}/{one.updated}",
    )


def _started(client: SyncPrefectClient, pools: list[str], window: timedelta) -> Iterator[Started]:
    """Runs that were due lately. One that says that it was due long ago is not among them; what it did at the sender is told there."""
    due = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=ledger().now() - window))
    ours = WorkPoolFilter(name=WorkPoolFilterName(any_=pools))
    offset = 0
    while offset < _MOST_RUNS and (
        page := client.read_flow_runs(flow_run_filter=due, work_pool_filter=ours, limit=_PAGE, offset=offset)
    ):
        offset += len(page)
        yield from (Started(str(run.id), run.name, run.job_variables or {}) for run in page)


def _automations(client: SyncPrefectClient) -> Iterator[Automation]:
    for one in client.read_automations():
        every = [*one.actions, *one.actions_on_trigger, *one.actions_on_resolve]
        actions = tuple(action.model_dump(mode="json") for action in every)
        yield Automation(one.name, actions, f"{one.id}/{answer_hash([list(actions)])}")


def _pools(client: SyncPrefectClient, names: list[str]) -> Iterator[Finding]:
    for name in names:
        try:
            there = client.read_work_pool(name)
        except ObjectNotFound:
            continue
        if found := side_doors.pool(name, there.base_job_template, f"{UUID(str(there.id))}/{there.updated}"):
            yield found
