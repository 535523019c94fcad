"""Workflows, asked for by OpenText's own client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.pyxecm.environment import Pyxecm
from tests.conformance.pyxecm.test_pyxecm import document as document
from tests.conformance.pyxecm.test_pyxecm import folder as folder
from tests.conformance.pyxecm.test_pyxecm import properties


def the_map(otcs: Pyxecm, name: str) -> int:
    found = otcs.get_node_by_volume_and_path(volume_type=141, path=["Process Library", name])
    return int(properties(found)["id"])


def test_maps(otcs: Pyxecm, document: int, folder: int) -> None:
    approval = the_map(otcs, "Document Approval")
    told = otcs.get_workflow_definition(workflow_id=approval)["results"]["definition"]
    assert [task["title"] for task in told["tasks"]] == ["Approver", "Approved", "Rejected"]
    assert otcs.get_workflow_attributes(workflow_id=approval)["Reason"]["type"] == "String"
    offered = otcs.get_document_workflows(node_id=document, parent_id=folder)
    assert approval in {one["DataID"] for one in offered["results"]["data"]}


def test_one_is_started_by_a_draft_and_approved(otcs: Pyxecm, document: int) -> None:
    draft = otcs.create_draft_process(workflow_id=the_map(otcs, "Document Approval"), documents=[document])
    draft_id = draft["results"]["draftprocess_id"]
    assert otcs.get_draft_process(draftprocess_id=draft_id)["data"]["actions"][0]["key"] == "Initiate"
    assert otcs.update_draft_process(draftprocess_id=draft_id, title=f"Approval {draft_id}")
    process = otcs.initiate_draft_process(draftprocess_id=draft_id)["results"]["process_id"]
    told = otcs.get_workflow_status(process_id=process)["results"]
    assert told["wf_details"]["wf_name"] == f"Approval {draft_id}"
    (step,) = told["step_list"]["current"]
    attached = otcs.get_subnodes(parent_node_id=told["attachments"]["attachment_folder_id"])
    assert [one["data"]["properties"]["original_id"] for one in attached["results"]] == [document]

    task = otcs.get_process_task(process_id=process, task_id=step["task_id"])["data"]
    assert [one["key"] for one in task["custom_actions"]] == ["Approve", "Reject"]
    assert otcs.update_process_task(process_id=process, task_id=step["task_id"], custom_action="Approve", comment="fine")
    done = otcs.get_workflow_status(process_id=process)["results"]
    assert [one["task_name"] for one in done["step_list"]["completed"]] == ["Approver", "Approved"]
    listed = otcs.get_workflows_by_kind_and_status(kind="Both", status="completed")
    assert process in {one["data"]["wfstatus"]["process_id"] for one in listed["results"]}
    assert otcs.update_process_task(process_id=process, task_id=step["task_id"], custom_action="Reject") is None


def test_one_without_a_start_step_is_started_at_once(otcs: Pyxecm, document: int) -> None:
    started = otcs.initiate_workflow(workflow_id=the_map(otcs, "Quality Review"), documents=[document])
    assert started["results"]["process_id"]
    assert otcs.initiate_workflow(workflow_id=the_map(otcs, "Document Approval"), documents=[document]) is None


def test_a_node_is_assigned(otcs: Pyxecm, document: int) -> None:
    assert otcs.assign_item_to_user_group(node_id=document, subject="Look", instruction="please", assignees=[1000])


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.txt"
    path.write_bytes(b"ISO 9001")
    return path
