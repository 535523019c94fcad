"""What in Prefect makes other code run on a worker, or takes a run out of its wait, is told; what was reviewed is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.rules.side_doors import SET_FOLDER, Automation, Deployed, Started, automations, deployments, overridden, pool

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
