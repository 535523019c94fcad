"""Categories and their values, classifications."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, W, E = "pyxecm/test_pyxecm.py::", "pyxecm/test_wire.py::", "repositories/test_extended_ecm.py::"
FILE, GET = (f"extended_ecm.ExtendedEcmSession.{verb}" for verb in ("file", "get"))
FILED = E + "test_values_class_and_access_are_set_exactly"
VERSION = E + "test_a_new_version_brings_its_own_values_class_and_access"

ROWS = (
    Row("GET v2/nodes/{id}/categories", (GET,), ("get_node_categories",), (P + "test_values_come_with_an_upload", FILED)),
    Row(
        "GET v2/nodes/{id}/categories/{cat}",
        (),
        ("get_category_value",),
        (P + "test_rows_of_a_set",),
        "we read all categories of a node at once",
    ),
    Row(
        "POST v2/nodes/{id}/categories",
        (FILE,),
        ("assign_category",),
        (P + "test_a_category_comes_with_its_definition", VERSION),
    ),
    Row("PUT v2/nodes/{id}/categories/{cat}", (FILE,), ("set_category_value",), (P + "test_a_value_is_kept", VERSION)),
    Row(
        "DELETE v2/nodes/{id}/categories/{cat}",
        (FILE,),
        (),
        (W + "test_no_success_is_empty", E + "test_a_late_refusal_takes_the_document_back"),
        "it has no method for it",
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
        (),
        ("get_node_category_form",),
        (P + "test_the_category_form",),
        "the form for adding it tells the same",
    ),
    Row("GET v1/nodes/{id}/classifications", (), ("get_node_classifications",), (P + "test_classifications",), "see below"),
    Row("POST v1/nodes/{id}/classifications", (), ("assign_classifications",), (P + "test_classifications",), "see below"),
)
