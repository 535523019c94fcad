"""Categories and their values, classifications."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, W, E = "pyxecm/test_pyxecm.py::", "pyxecm/test_wire.py::", "repositories/test_extended_ecm.py::"
FILE, GET = (f"extended_ecm.ExtendedEcmSession.{verb}" for verb in ("file", "get"))
Q, C, CATEGORIES = "pyxecm/test_nodes.py::", "repositories/test_categories.py::", "otcs_categories.Categories."
FILED = E + "test_values_class_and_access_are_set_exactly"
VERSION = E + "test_a_new_version_brings_its_own_values_class_and_access"

ROWS = (
    Row(
        "GET v2/nodes/{id}/categories",
        (GET, CATEGORIES + "values"),
        ("get_node_categories", "get_node_category_ids"),
        (
            P + "test_values_come_with_an_upload",
            Q + "test_categories_are_handed_down",
            FILED,
            C + "test_values_several_values_and_rows",
        ),
    ),
    Row(
        "GET v2/nodes/{id}/categories/{cat}",
        (),
        ("get_category_value",),
        (P + "test_rows_of_a_set",),
        "we read all categories of a node at once",
    ),
    Row(
        "POST v2/nodes/{id}/categories",
        (FILE, CATEGORIES + "change"),
        ("assign_category",),
        (P + "test_a_category_comes_with_its_definition", VERSION, C + "test_values_several_values_and_rows"),
    ),
    Row(
        "PUT v2/nodes/{id}/categories/{cat}",
        (FILE, CATEGORIES + "change", CATEGORIES + "drop_row"),
        ("set_category_value",),
        (
            P + "test_a_value_is_kept",
            VERSION,
            C + "test_values_several_values_and_rows",
            C + "test_what_somebody_changed_meanwhile_is_not_overwritten",
        ),
    ),
    Row(
        "DELETE v2/nodes/{id}/categories/{cat}",
        (FILE, CATEGORIES + "drop"),
        (),
        (
            W + "test_no_success_is_empty",
            E + "test_a_late_refusal_takes_the_document_back",
            C + "test_values_several_values_and_rows",
        ),
        "it has no method for it",
    ),
    *(
        Row(
            f"{method} v2/nodes/{{id}}/categories/{{cat}}/inheritance",
            (CATEGORIES + "inherit",),
            ("set_category_inheritance",),
            (Q + "test_categories_are_handed_down", C + "test_what_a_folder_hands_down"),
        )
        for method in ("POST", "DELETE")
    ),
    Row(
        "POST v2/nodes/{id}/categories/apply",
        (CATEGORIES + "apply_below",),
        ("assign_category",),
        (Q + "test_categories_are_handed_down", C + "test_what_a_folder_hands_down"),
    ),
    Row(
        "GET v1/forms/nodes/categories/create",
        ("otcs_names.Names.category",),
        (),
        (FILED,),
        "it asks for the form of a category that is there",
    ),
    Row(
        "GET v1/forms/nodes/categories/update",
        (CATEGORIES + "change",),
        ("get_node_category_form",),
        (P + "test_the_category_form", C + "test_what_somebody_changed_meanwhile_is_not_overwritten"),
    ),
    Row(
        "GET v1/nodes/{id}/classifications",
        (CATEGORIES + "classifications",),
        ("get_node_classifications",),
        (P + "test_classifications", C + "test_classifications"),
    ),
    Row(
        "POST v1/nodes/{id}/classifications",
        (CATEGORIES + "classify",),
        ("assign_classifications",),
        (P + "test_classifications", C + "test_classifications"),
    ),
    Row(
        "GET v1/forms/nodes/properties/specific",
        (),
        (),
        ("pyxecm/test_wire.py::test_a_category_tells_its_definition",),
        "the form for adding a category tells the same",
    ),
)
