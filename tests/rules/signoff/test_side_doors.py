"""What in Prefect makes other code run on a worker, or takes a run out of its wait, is told; what was reviewed is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.rules.side_doors import (
    SET_FOLDER,
    Automation,
    Deployed,
    Started,
    automations,
    deployments,
    overridden,
    pool,
    refusal,
)

FOLDER = "/srv/countersign"
OURS = Deployed("acme-prices", "flows.release.release", "countersign")
THERE = replace(OURS, steps=({SET_FOLDER: {"directory": FOLDER}},), version="1")
TEMPLATE = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "working_dir": "{{ working_dir }}"},
    "variables": {"properties": {"command": {"default": None}, "env": {}, "working_dir": {"default": None}}},
}


@pytest.mark.parametrize(
    ("there", "told"),
    [
        pytest.param(THERE, "", id="as it was deployed"),
        pytest.param(replace(THERE, name="other", pool="elsewhere"), "", id="another pool's is none of ours"),
        pytest.param(replace(THERE, name="other"), "in no reviewed file", id="nobody reviewed it"),
        pytest.param(replace(THERE, entrypoint="own.py:own"), "runs own.py:own", id="another entry point"),
        pytest.param(replace(THERE, job_variables={"command": "x"}), "(command)", id="a command of its own"),
        pytest.param(replace(THERE, steps=()), "something else before", id="no step, so its own path counts"),
        pytest.param(replace(THERE, steps=({SET_FOLDER: {"directory": "/tmp"}},)), "go to /srv", id="another folder"),
        pytest.param(replace(THERE, steps=(*THERE.steps, {"x.run_shell_script": {}})), "something else", id="one step more"),
    ],
)
def test_deployments(there: Deployed, told: str) -> None:
    found = [finding.message for finding in deployments([there], [OURS], FOLDER)]
    assert bool(found) == bool(told) and all(told in message for message in found)


def test_deployments_of_two_flows_may_have_one_name() -> None:
    other = replace(OURS, entrypoint="flows.other.other")
    assert not list(deployments([THERE, replace(THERE, entrypoint=other.entrypoint)], [other, OURS], FOLDER))
    [found] = deployments([replace(THERE, entrypoint="rogue.py:rogue")], [other, OURS], FOLDER)
    assert "runs rogue.py:rogue, not" in found.message


def test_a_run_with_variables_of_its_own_is_told() -> None:
    runs = [Started("1", "usual", {}), Started("2", "odd", {"command": "x", "env": {}})]
    (found,) = overridden(runs)
    assert found.key == "overridden/2" and "(command, env)" in found.message


PLAIN = Started("1", "usual", {})
WHERE: dict[str, Any] = {"folder": FOLDER, "flows": {"flows.release.release"}}


@pytest.mark.parametrize(
    ("run", "deployed", "key"),
    [
        pytest.param(PLAIN, THERE, "", id="as it was deployed"),
        pytest.param(PLAIN, replace(THERE, name="other"), "", id="any flow of ours, and any name"),
        pytest.param(PLAIN, replace(THERE, steps=()), "", id="no step: nothing is fetched"),
        pytest.param(replace(PLAIN, job_variables={"env": {}}), THERE, "overridden/1", id="variables of the run's own"),
        pytest.param(PLAIN, None, "overridden/1", id="no deployment"),
        pytest.param(PLAIN, replace(THERE, entrypoint="own.py:own"), "deployment/1", id="a file"),
        pytest.param(PLAIN, replace(THERE, entrypoint="flows/release.py:release"), "deployment/1", id="a file of ours"),
        pytest.param(PLAIN, replace(THERE, entrypoint="flows.release.Path"), "deployment/1", id="what is no flow"),
        pytest.param(PLAIN, replace(THERE, entrypoint="tests.flows.release.x"), "deployment/1", id="another package"),
        pytest.param(PLAIN, replace(THERE, job_variables={"env": {"A": "2"}}), "deployment/1", id="an environment of its own"),
        pytest.param(PLAIN, replace(THERE, steps=({SET_FOLDER: {"directory": "/tmp"}},)), "deployment/1", id="another folder"),
        pytest.param(PLAIN, replace(THERE, steps=(*THERE.steps, {"x.sh": {}})), "deployment/1", id="one step more"),
        pytest.param(
            PLAIN,
            replace(THERE, steps=({SET_FOLDER: {"directory": FOLDER, "requires": "evil"}},)),
            "deployment/1",
            id="a package to install before the step",
        ),
    ],
)
def test_what_our_worker_does_not_carry_out(run: Started, deployed: Deployed | None, key: str) -> None:
    """Told under the sweep's own keys: once, by whichever comes first."""
    found = refusal(run, deployed, {}, None, **WHERE)
    assert (found.key if found else "") == key
    if key == "deployment/1" and deployed:
        assert [one.key for one in deployments([deployed], [OURS], FOLDER)] == [key]


def test_a_deployment_may_have_the_variables_of_its_file_and_a_pool_none() -> None:
    varied = replace(THERE, job_variables={"env": {"A": "1"}})
    assert refusal(PLAIN, varied, {"env": {"A": "1"}}, None, **WHERE) is None
    assert refusal(PLAIN, THERE, {"env": {"A": "1"}}, None, **WHERE) is not None, "it was taken away"
    for vain in ({"command": "true"}, {"working_dir": "/tmp"}):
        found = refusal(PLAIN, replace(THERE, job_variables=vain), vain, None, **WHERE)
        assert found is not None and f"reviewed or not ({next(iter(vain))})" in found.message, "it would not be carried out"
    edited = pool("countersign", {"job_configuration": {"command": "true"}}, "2")
    assert edited is not None and refusal(PLAIN, THERE, {}, edited, **WHERE) is edited


@pytest.mark.parametrize(
    ("action", "told"),
    [
        pytest.param({"type": "run-deployment", "parameters": {"order": "x"}}, False, id="our own triggers"),
        pytest.param({"type": "send-notification"}, False, id="a notification"),
        pytest.param({"type": "resume-flow-run"}, True, id="it resumes"),
        pytest.param({"type": "change-flow-run-state", "state": "SCHEDULED"}, True, id="it sets a state"),
        pytest.param({"type": "run-deployment", "job_variables": {"command": "x"}}, True, id="it starts another command"),
    ],
)
def test_automations(action: dict[str, Any], told: bool) -> None:
    assert len(list(automations([Automation("a", (action,))]))) == told


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        pytest.param("variables", "command", {"default": "true"}, id="a command unless another is given"),
        pytest.param("variables", "env", {"default": {"PYTHONPATH": "/tmp"}}, id="an environment"),
        pytest.param("job_configuration", "command", "true", id="a command in any case"),
    ],
)
def test_work_pools(part: str, key: str, value: Any) -> None:
    assert pool("countersign", TEMPLATE, "1") is None
    edited: dict[str, Any] = {
        "job_configuration": dict(TEMPLATE["job_configuration"]),
        "variables": {"properties": dict(TEMPLATE["variables"]["properties"])},
    }
    (edited[part]["properties"] if part == "variables" else edited[part])[key] = value
    found = pool("countersign", edited, "2")
    assert found is not None and key in found.message
