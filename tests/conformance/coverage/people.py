"""Permissions, members, search, the audit trail, shares."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

X, OURS = "pyxecm/test_people.py::", "repositories/test_people.py::"
PAT = OURS + "test_a_user_is_made_found_changed_and_removed"
GROUPS = OURS + "test_groups_hold_users_and_groups"
REACH = OURS + "test_a_grant_reaches_as_far_as_asked"
EFFECTIVE = OURS + "test_effective_rights_are_all_lines_together"
HANDS = OURS + "test_a_node_changes_hands"
USERS, GROUPED = X + "test_users_are_listed_found_and_changed", X + "test_groups_are_listed_and_hold_members"
REACHED = X + "test_permissions_reach_as_far_as_asked"


def people(*verbs: str) -> tuple[str, ...]:
    return tuple(f"otcs_people.People.{verb}" for verb in verbs)


ROWS = (
    Row(
        "GET v2/members",
        people("users", "groups", "account"),
        ("get_users", "get_users_iterator", "search_user", "get_groups", "get_groups_iterator"),
        (USERS, GROUPED, OURS + "test_more_users_and_groups_than_one_page", PAT),
    ),
    Row("GET v2/members/{id}", people("get"), ("get_member",), (USERS, PAT)),
    Row("POST v2/members", people("create_user", "create_group"), ("add_user", "add_group"), (USERS, GROUPED, PAT)),
    Row("PUT v2/members/{id}", people("change"), ("update_user",), (USERS, PAT)),
    Row("DELETE v2/members/{id}", people("remove"), (), (PAT,), "it has no method for it"),
    Row(
        "GET v2/members/{id}/members",
        people("members"),
        ("get_group_members", "get_group_members_iterator"),
        (GROUPED, GROUPS),
    ),
    Row("POST v2/members/{id}/members", people("join"), ("add_group_member",), (GROUPED, GROUPS)),
    Row("DELETE v2/members/{id}/members/{member}", people("leave"), (), (GROUPS,), "it has no method for it"),
    Row("GET v2/members/{id}/memberof", people("member_of"), ("get_group_memberof",), (GROUPED, GROUPS)),
    Row("GET v2/nodes/{id}/permissions", people("lines"), (), (HANDS,), "it asks for what an assignee may do in the end"),
    Row(
        "POST v2/nodes/{id}/permissions/custom",
        people("grant"),
        ("assign_permission",),
        (REACHED, REACH, OURS + "test_below_a_document_there_is_nothing"),
    ),
    Row("POST v2/nodes/{id}/permissions/custom/bulk", people("grant_many"), (), (EFFECTIVE,), "it has no method for it"),
    Row(
        "PUT v2/nodes/{id}/permissions/custom/{right_id}",
        people("grant"),
        (),
        (EFFECTIVE,),
        "it sends the same as for a new line",
    ),
    Row("DELETE v2/nodes/{id}/permissions/custom/{right_id}", people("revoke"), ("delete_permission",), (REACHED, REACH)),
    Row(
        "PUT v2/nodes/{id}/permissions/{owner|group|public}",
        people("set_line"),
        ("assign_permission",),
        (REACHED, HANDS, OURS + "test_what_is_new_inherits_from_its_folder"),
    ),
    Row(
        "DELETE v2/nodes/{id}/permissions/{owner|group|public}", people("revoke"), ("delete_permission",), (REACHED, EFFECTIVE)
    ),
    Row("GET v2/nodes/{id}/permissions/effective/{right_id}", people("effective"), ("get_permission",), (REACHED, EFFECTIVE)),
    Row("POST v2/nodes/permissions/check", people("visible"), ("check_user_node_permissions",), (REACHED, EFFECTIVE)),
    Row(
        "POST v2/ai/nodes/permissions/check",
        people("visible"),
        ("check_user_node_permissions",),
        ("pyxecm/test_pyxecm.py::test_permissions", EFFECTIVE),
    ),
    Row(
        "POST v2/search",
        ("otcs_search.SearchIndex.find", "otcs_search.SearchIndex.facets", "otcs_search.SearchIndex.page"),
        ("search", "search_iterator"),
        (
            X + "test_search_pages_past_the_end_and_refuses_nonsense",
            OURS + "test_hits_come_page_by_page",
            OURS + "test_facets_count_everything_that_was_found",
            OURS + "test_what_is_no_query_is_refused",
        ),
    ),
    Row(
        "GET v2/nodes/{id}/audit",
        ("otcs_audit.AuditTrail.events", "otcs_audit.AuditTrail.kinds", "extended_ecm.ExtendedEcmSession.history"),
        ("get_node_audit",),
        (
            X + "test_the_audit_trail_is_filtered_and_told_page_by_page",
            OURS + "test_the_trail_is_told_page_by_page_and_filtered",
        ),
    ),
    Row(
        "POST v2/shares",
        ("deployments.sender.sharing.Shares.share",),
        (),
        ("../sender/test_sharing.py::test_the_sender_shares_until_a_day_and_stops",),
        "it has no method for it",
    ),
    Row(
        "DELETE v2/shares/{id}",
        ("deployments.sender.sharing.Shares.stop",),
        (),
        ("../sender/test_sharing.py::test_the_sender_shares_until_a_day_and_stops",),
        "it has no method for it",
    ),
)
