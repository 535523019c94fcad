"""Workflows: maps, drafts, processes, steps, inboxes."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, T = "pyxecm/test_workflows.py::", "repositories/test_workflows.py::"
DEFINITION, OFFERED, START, LOOK, STATUS, ACTIONS, COMPLETE, SET, ASSIGNMENTS, ASSIGN = (
    f"otcs_workflows.Workflows.{verb}"
    for verb in (
        "definition",
        "offered",
        "start",
        "look",
        "status",
        "actions",
        "complete",
        "set",
        "assignments",
        "assign",
    )
)
MAPS, MAPS_P = T + "test_maps_tell_their_steps_and_are_offered_for_documents", P + "test_maps"
FOLLOWED, DRAFTED = T + "test_one_is_started_followed_and_answered", P + "test_one_is_started_by_a_draft_and_approved"
STOPPED = T + "test_one_is_suspended_resumed_and_stopped"
AT_ONCE = P + "test_one_without_a_start_step_is_started_at_once"
TASK = T + "test_a_task_about_a_document_is_put_into_inboxes"
STEP = "v2/processes/{p}/subprocesses/{s}/tasks/{t}"

ROWS = (
    Row(
        "GET v2/workflows/{map}/definition",
        (DEFINITION,),
        ("get_workflow_definition", "get_workflow_attributes"),
        (MAPS, MAPS_P),
    ),
    Row("GET v2/docworkflows", (OFFERED,), ("get_document_workflows",), (MAPS, MAPS_P)),
    Row("POST v2/draftprocesses", (START,), ("create_draft_process",), (FOLLOWED, DRAFTED)),
    Row("GET v1/forms/draftprocesses/update", (), ("get_draft_process",), (DRAFTED,), "we fill in only the title"),
    Row("PUT v2/draftprocesses/{id}", (START,), ("update_draft_process", "initiate_draft_process"), (FOLLOWED, DRAFTED)),
    Row(
        "POST v2/draftprocesses/startwf",
        (START,),
        ("initiate_workflow",),
        (FOLLOWED, AT_ONCE),
    ),
    Row("GET v2/workflows/status/processes/{p}", (STATUS,), ("get_workflow_status",), (FOLLOWED, DRAFTED)),
    Row("GET v2/workflows/status", (LOOK,), ("get_workflows_by_kind_and_status",), (FOLLOWED, DRAFTED)),
    Row("GET v1/forms/processes/tasks/update", (ACTIONS,), ("get_process_task",), (FOLLOWED, DRAFTED)),
    Row(f"PUT {STEP}", (COMPLETE,), ("update_process_task",), (FOLLOWED, DRAFTED)),
    Row("PUT v2/processes/{p}/status", (SET,), (), (STOPPED,), "OpenText's client has no method for it"),
    Row("GET v2/members/assignments", (ASSIGNMENTS,), (), (FOLLOWED, TASK), "OpenText's client has no method for it"),
    Row("POST v2/nodes/{id}/xgovassignments", (ASSIGN,), ("assign_item_to_user_group",), (TASK, P + "test_a_node_is_assigned")),
)
