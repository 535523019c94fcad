"""Side doors: what in Prefect makes other code run as the workers' user, or moves runs on, and stands in no reviewed file.

None of it sends anything: workers hold no outbound credential, no proof secret and no seal key. But somebody was there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.values import shown
from tasks.rules.reconcile import Finding

MOVES_RUNS = frozenset({"resume-flow-run", "change-flow-run-state"})
"""Actions of automations that take a run out of its wait."""

SET_FOLDER = "prefect.deployments.steps.set_working_directory"
"""The one step that 'countersign deploy' has Prefect take before a flow begins."""

_DECIDE_WHAT_RUNS = ("command", "env", "working_dir")
_NOT_CARRIED_OUT = ("command", "working_dir")


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment."""

    name: str
    entrypoint: str
    pool: str
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    """What is done before the flow begins, as Prefect keeps it."""
    version: str = ""
    """Changes with every edit."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run, and what it was given instead of what its pool and deployment say."""

    id: str
    name: str
    job_variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Automation:
    """What the Prefect server does by itself."""

    name: str
    actions: tuple[Mapping[str, Any], ...]
    version: str = ""


def deployments(there: Iterable[Deployed], reviewed: Collection[Deployed], folder: str) -> Iterator[Finding]:
    """Deployments on our work pools that are not as the reviewed files have them. ``folder`` is the project's."""
    pools = {one.pool for one in reviewed}
    for one in there:
        if one.pool in pools and (problem := _unlike(one, _meant(one, reviewed), folder)):
            yield Finding(
                "deployment",
                f"deployment/{one.version}",
                f"the deployment {shown(one.name[:80])} {problem}: what it starts runs as the workers' user. Whoever made it reaches the "
                "Prefect API. Remove it, or run 'countersign deploy'",
            )


def _meant(there: Deployed, reviewed: Collection[Deployed]) -> Deployed | None:
    """The reviewed one of that name; of several, which are of different flows, the one of the same entrypoint."""
    named = [one for one in reviewed if one.name == there.name]
    return next((one for one in named if one.entrypoint == there.entrypoint), named[0] if named else None)


def _unlike(there: Deployed, ours: Deployed | None, folder: str) -> str:
    if ours is None:
        return f"is in no reviewed file ({shown(there.entrypoint[:80])})"
    if there.entrypoint != ours.entrypoint:
        return f"runs {shown(there.entrypoint[:80])}, not {ours.entrypoint}"
    if dict(there.job_variables) != dict(ours.job_variables):
        return f"has other job variables than its file ({_names(there.job_variables)})"
    if list(there.steps) != _steps(folder):
        return f"does something else before its flow than to go to {folder}"
    return ""


def _steps(folder: str) -> list[dict[str, Any]]:
    return [{SET_FOLDER: {"directory": folder}}]


def overridden(runs: Iterable[Started]) -> Iterator[Finding]:
    """Runs that bring variables of their own for the process in which they run, its command among them."""
    for run in runs:
        if run.job_variables:
            yield Finding(
                "overridden",
                f"overridden/{run.id}",
                f"the run {shown(run.name[:80])} was created with job variables of its own ({_names(run.job_variables)}): by those, "
                "anything can be run as the workers' user. Nothing of ours does that",
            )


def refusal(
    run: Started,
    deployed: Deployed | None,
    reviewed: Mapping[str, Any],
    pool: Finding | None,
    *,
    folder: str,
    flows: Collection[str],
) -> Finding | None:
    """Why our own worker does not carry out a run, as a finding; None if it does.

    Args:
        reviewed: The job variables that the reviewed files give the deployment.
        pool: What is found in the run's work pool.
        folder: The project's, in which the worker runs.
        flows: The entry points of our flows, as deployments name them.
    """
    if own := next(overridden([run]), None):
        return own
    if deployed is None:
        message = f"the run {shown(run.name[:80])} belongs to no deployment, so it is no flow of ours. Nothing of ours starts such a run"
        return Finding("overridden", f"overridden/{run.id}", message)
    if problem := _not_ours(deployed, reviewed, folder, flows):
        message = (
            f"the deployment {shown(deployed.name[:80])} {problem}. Whoever made it reaches the Prefect API. Remove it, or run "
            "'countersign deploy'"
        )
        return Finding("deployment", f"deployment/{deployed.version}", message)
    return pool


def _not_ours(there: Deployed, reviewed: Mapping[str, Any], folder: str, flows: Collection[str]) -> str:
    if there.entrypoint not in flows:
        return f"runs {shown(there.entrypoint[:80])}, which is no flow of this project"
    if vain := {name: value for name, value in there.job_variables.items() if name in _NOT_CARRIED_OUT}:
        return f"sets what a worker of this type does not carry out, reviewed or not ({_names(vain)})"
    if dict(there.job_variables) != dict(reviewed):
        return f"has other job variables than its file ({_names(there.job_variables)})"
    if there.steps and list(there.steps) != _steps(folder):
        return f"does something else before its flow than to go to {folder}"
    return ""


def automations(there: Iterable[Automation]) -> Iterator[Finding]:
    """Automations that take runs out of their waits, or start runs with variables of their own."""
    for one in there:
        kinds = {str(action.get("type")) for action in one.actions}
        own = any(action.get("job_variables") for action in one.actions)
        if (moves := sorted(kinds & MOVES_RUNS)) or own:
            what = f"does {', '.join(moves)}" if moves else "starts runs with job variables of its own"
            yield Finding(
                "automation",
                f"automation/{one.version}",
                f"the automation {shown(one.name[:80])} {what}: a run that leaves its wait so sends nothing and asks again. Nothing "
                "of ours does that; remove it",
            )


def pool(name: str, template: Mapping[str, Any], version: str) -> Finding | None:
    """A work pool that decides itself what its runs carry out."""
    configuration = template.get("job_configuration") or {}
    variables = (template.get("variables") or {}).get("properties") or {}
    own = [
        key
        for key in _DECIDE_WHAT_RUNS
        if configuration.get(key, f"{{{{ {key} }}}}") != f"{{{{ {key} }}}}" or (variables.get(key) or {}).get("default")
    ]
    if not own:
        return None
    return Finding(
        "work-pool",
        f"work-pool/{version}",
        f"the work pool {shown(name[:80])} sets {', '.join(own)} for every run; if operations did not do that, somebody runs own code "
        "as the workers' user",
    )


def _names(variables: Mapping[str, Any]) -> str:
    return ", ".join(shown(str(name)[:40]) for name in sorted(variables)[:5])
