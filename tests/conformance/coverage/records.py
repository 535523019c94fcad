"""Records management: records, schedules, holds."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, C = "pyxecm/test_records.py::", "repositories/test_records.py::"
VERBS = "otcs_records.Records."
DECLARED = C + "test_a_record_is_declared_changed_and_let_go"
FINAL = C + "test_a_schedule_is_given_and_records_made_final"
SCHEDULE = C + "test_a_schedule_is_made_with_its_stages"
HOLD = C + "test_a_hold_is_made_applied_listed_lifted_and_removed"
NONE = "it has no method for it"

ROWS = (
    Row(
        "GET v1/nodes/{id}/rmclassifications",
        (VERBS + "get",),
        ("get_node_records_details",),
        (P + "test_a_record_and_its_token", DECLARED),
    ),
    Row(
        "POST v1/nodes/{id}/rmclassifications",
        (VERBS + "declare", "extended_ecm.ExtendedEcmSession.file"),
        ("assign_rm_classification",),
        (P + "test_a_record_and_its_token", DECLARED, C + "test_a_filing_brings_date_and_schedule_or_is_taken_back"),
    ),
    Row(
        "PUT v1/nodes/{id}/rmclassifications",
        (VERBS + "change",),
        ("set_node_records_details",),
        (P + "test_a_record_and_its_token", DECLARED, C + "test_who_saw_an_older_state_changes_nothing"),
    ),
    Row("DELETE v1/nodes/{id}/rmclassifications/{class}", (VERBS + "undeclare",), (), (DECLARED,), NONE),
    Row("POST v1/nodes/{id}/rmclassifications/{class}/rsis", (VERBS + "assign_schedule",), (), (FINAL,), NONE),
    Row("PUT v1/rmclassifications/finalizerecords", (VERBS + "finalize",), (), (FINAL,), NONE),
    Row(
        "POST v2/rsischedules",
        (VERBS + "create_schedule",),
        ("create_records_management_rsi",),
        (P + "test_schedules", SCHEDULE),
    ),
    Row(
        "POST v2/rsischedules/{rsi}/stages",
        (VERBS + "add_stage",),
        ("create_records_management_rsi_schedule",),
        (P + "test_schedules", SCHEDULE),
    ),
    Row("PUT v2/rsischedules/{id}/approve/{stage}", (VERBS + "approve_stage",), (), (SCHEDULE,), NONE),
    Row("GET v2/rsis", (VERBS + "schedules",), ("get_records_management_rsis",), (P + "test_schedules", SCHEDULE)),
    Row("POST v1/rsis", (VERBS + "find_schedules",), ("search_records_management_rsis",), (P + "test_schedules", SCHEDULE)),
    Row(
        "GET v2/recordsmanagement/rmcodes",
        (VERBS + "codes",),
        ("get_records_management_codes",),
        (P + "test_schedules", SCHEDULE),
    ),
    Row("POST v1/holds", (VERBS + "create_hold",), ("create_records_management_hold",), (P + "test_holds", HOLD)),
    Row("GET v2/holds", (VERBS + "hold",), ("get_records_management_holds",), (P + "test_holds", HOLD)),
    Row("GET v2/hold", (), ("get_hold_by_name",), (P + "test_holds",), "the list tells all of them"),
    Row("DELETE v2/hold", (VERBS + "remove_hold",), (), (HOLD,), NONE),
    Row(
        "GET v1/nodes/{id}/holds",
        (VERBS + "of", "extended_ecm.ExtendedEcmSession.holds"),
        (),
        (HOLD, C + "test_a_hold_on_a_folder_holds_what_is_in_it"),
        NONE,
    ),
    Row("POST v1/nodes/{id}/holds", (VERBS + "apply",), ("assign_hold",), (P + "test_holds", HOLD)),
    Row("DELETE v1/nodes/{id}/holds/{hold}", (VERBS + "lift",), (), (HOLD,), NONE),
    Row("POST v1/rmclassifications/applyhold", (VERBS + "apply_many",), (), (HOLD,), NONE),
    Row("POST v1/rmclassifications/removehold", (VERBS + "lift_many",), (), (HOLD,), NONE),
    Row(
        "GET v2/holditems/{hold}",
        (),
        (),
        ("pyxecm/test_wire_rest.py::test_items_of_a_hold_begin_with_the_first_page",),
        "the same with the first page's number",
    ),
    Row("GET v2/holditems/{hold}/{page}", (VERBS + "items",), (), (HOLD, C + "test_many_items_come_page_by_page"), NONE),
)
