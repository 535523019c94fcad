"""Business workspaces."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, T = "pyxecm/test_workspaces.py::", "repositories/test_workspaces.py::"
ENSURE, GET, LOOK, BIND, UNBIND, FIND, ROLES, ADD, REMOVE, RELATED, RELATE, UNRELATE, TYPES, SYSTEMS = (
    f"otcs_workspaces.Workspaces.{verb}"
    for verb in (
        "ensure",
        "get",
        "look",
        "bind",
        "unbind",
        "find",
        "roles",
        "add_member",
        "remove_member",
        "related",
        "relate",
        "unrelate",
        "types",
        "systems",
    )
)
MADE, CHANGED = T + "test_without_roles_one_call_makes_it_with_its_reference", T + "test_references_can_be_changed_and_removed"
REFERENCED, BY_REFERENCE = (
    P + "test_references_are_set_and_removed",
    P + "test_one_is_made_from_a_template_with_a_reference_and_found_by_it",
)
TYPED, ROLED, RELATED_BOTH = (
    T + "test_types_templates_and_systems_are_told",
    T + "test_what_people_changed_later_stays_changed",
    T + "test_workspaces_are_related_both_ways",
)
OPENED, IN_ROLES, PAGED, RELATED_P = (
    T + "test_a_role_opens_the_workspace_for_its_members",
    P + "test_roles_and_members",
    P + "test_lists_are_narrowed_and_paged",
    P + "test_related_workspaces",
)
KNOWS_TYPES = P + "test_types"
ONE = "v2/businessworkspaces/{id}"

ROWS = (
    Row("GET v2/businessworkspacetypes", (TYPES,), ("get_workspace_types", "get_workspace_templates"), (TYPED, KNOWS_TYPES)),
    Row(
        "GET v1/businessworkspacetypes/{id}", (), ("get_workspace_type",), (KNOWS_TYPES,), "the v2 call tells all types at once"
    ),
    Row("GET v2/forms/businessworkspaces/create", (), ("get_workspace_create_form",), (KNOWS_TYPES,), "people fill in forms"),
    Row("POST v2/businessworkspaces", (ENSURE,), ("create_workspace",), (MADE, BY_REFERENCE)),
    Row(f"GET {ONE}", (GET,), ("get_workspace", "get_workspace_references"), (MADE, BY_REFERENCE)),
    Row(
        "GET v2/businessworkspaces",
        (LOOK,),
        ("get_workspace_instances", "get_workspace_by_type_and_name"),
        (T + "test_lists_go_through_all_pages_and_can_be_narrowed", PAGED),
    ),
    Row(f"PUT {ONE}/workspacereferences", (BIND,), ("set_workspace_reference",), (CHANGED, REFERENCED)),
    Row(f"DELETE {ONE}/workspacereferences", (UNBIND,), ("delete_workspace_reference",), (CHANGED, REFERENCED)),
    Row(
        "GET v2/externalsystems/{sys}/botypes/{type}/boids/{id}",
        (FIND,),
        ("get_workspace_by_business_object",),
        (CHANGED, BY_REFERENCE),
    ),
    Row(f"GET {ONE}/roles", (ROLES,), ("get_workspace_roles",), (ROLED, IN_ROLES)),
    Row(
        f"PUT {ONE}/roles/{{r}}",
        (),
        ("assign_workspace_permissions",),
        (IN_ROLES,),
        "what a role may do is the template's business",
    ),
    Row(f"GET {ONE}/roles/{{r}}/members", (ROLES,), ("get_workspace_members",), (ROLED, IN_ROLES)),
    Row(f"POST {ONE}/roles/{{r}}/members", (ADD,), ("add_workspace_member",), (OPENED, IN_ROLES)),
    Row(f"DELETE {ONE}/roles/{{r}}/members/{{m}}", (REMOVE,), ("remove_workspace_member",), (ROLED, IN_ROLES)),
    Row(f"GET {ONE}/relateditems", (RELATED,), ("get_workspace_relationships",), (RELATED_BOTH, RELATED_P)),
    Row(f"POST {ONE}/relateditems", (RELATE,), ("create_workspace_relationship",), (RELATED_BOTH, RELATED_P)),
    Row(f"DELETE {ONE}/relateditems/{{rel}}", (UNRELATE,), ("delete_workspace_relationship",), (RELATED_BOTH, RELATED_P)),
    Row("GET v2/externalsystems", (SYSTEMS,), ("get_external_system_connection",), (TYPED, P + "test_external_systems")),
    Row(
        "POST v2/externalsystems",
        (),
        ("add_external_system_connection",),
        (P + "test_external_systems",),
        "an administrator connects systems",
    ),
    Row(
        "GET v2/businessworkspaces/{id}/roles/{role}",
        (),
        (),
        ("pyxecm/test_wire_rest.py::test_one_role_of_a_workspace",),
        "both list all roles at once",
    ),
    Row(
        "GET v2/externalsystems/{name}/config",
        (),
        ("get_external_system_connection",),
        ("pyxecm/test_wire_rest.py::test_an_external_system_is_described",),
        "we list them by name",
    ),
)
