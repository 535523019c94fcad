"""Jobs: which of the runs that Prefect hands out are a flow of this project, and nothing besides. A fork judges before it is one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from blocks.errors import ConfigurationError
from tasks.rules import side_doors
from tasks.rules.reconcile import Finding
from tasks.rules.side_doors import Deployed, Started


def refusal(job: Mapping[str, Any]) -> Finding | None:
    """Why a run must not be carried out; None if it may. ``job`` is what the worker was told of the run, its deployment and its pool."""
    run, deployment, pool = Started(**job["run"]), job["deployment"], job["pool"]
    deployed = Deployed(**{**deployment, "steps": tuple(deployment["steps"])}) if deployment else None
    found = side_doors.pool(**pool)
    return side_doors.refusal(run, deployed, _reviewed(deployed), found, folder=str(Path.cwd()), flows=_flows())


def _flows() -> set[str]:
    """Entry points that are flows: Prefect would take any function for one."""
    from prefect import Flow

    modules = [name for name in sys.modules if name.startswith("flows.")]
    return {f"{name}.{own}" for name in modules for own, one in vars(sys.modules[name]).items() if isinstance(one, Flow)}


def _reviewed(deployed: Deployed | None) -> Mapping[str, Any]:
    """The job variables that our files give a deployment.

    While the files are not in order, those without variables are taken as they are: one partner's typo stops no other's runs.
    """
    if deployed is None:
        return {}
    try:
        return _of_files().get((deployed.name, deployed.entrypoint), {})
    except ConfigurationError:
        if deployed.job_variables:
            raise
        return {}


@cache
def _of_files() -> dict[tuple[str, str], Mapping[str, Any]]:
    """Job variables by name and entry point of a deployment. Raises ``ConfigurationError``."""
    from tasks.side_doors import reviewed_deployments

    return {(one.name, one.entrypoint): one.job_variables for one in reviewed_deployments()}


def warm() -> None:
    """Read the files once for all runs: it takes half as long as a run until its flow's first line."""
    with suppress(ConfigurationError):  # each run reads them again, and says so where it must know
        _of_files()


def refuse(run: UUID, finding: Finding) -> None:
    """Tell the attempt, once, where the sweep tells what it finds; and end the run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
    from prefect.logging.loggers import flow_run_logger
    from prefect.states import Crashed

    from tasks.sweep import tell_at_once

    tell_at_once(finding)
    message = f"Not carried out: {finding.message}"
    with get_client(sync_client=True) as client:
        flow_run_logger(client.read_flow_run(run)).error(message)
        answer: OrchestrationResult[Any] = client.set_flow_run_state(run, Crashed(message=message))
    if answer.status is not SetStateStatus.ACCEPT:
        sys.exit(f"{message} (the run's state could not be set: {answer.status.value})")
