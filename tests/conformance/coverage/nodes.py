"""Signing in, nodes, versions, content."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, W, E = "pyxecm/test_pyxecm.py::", "pyxecm/test_wire.py::", "repositories/test_extended_ecm.py::"
FILE, GET, LOOK, FETCH = (f"extended_ecm.ExtendedEcmSession.{verb}" for verb in ("file", "get", "look", "fetch"))
FILED = E + "test_values_class_and_access_are_set_exactly"

ROWS = (
    Row("GET v1/ping", (), ("is_ready",), (P + "test_signs_in_and_asks_who_it_is",), "a sign-in tells as much"),
    Row(
        "POST v1/auth",
        ("otcs_wire.Wire.sign_in",),
        ("authenticate",),
        (P + "test_wrong_password_is_refused", E + "test_one_sign_in_serves_all_threads"),
    ),
    Row(
        "GET v1/auth",
        ("otcs_names.Names.myself",),
        ("get_current_user",),
        (P + "test_signs_in_and_asks_who_it_is", E + "test_an_account_without_privileges_keeps_its_promises"),
    ),
    Row(
        "DELETE v1/auth",
        ("otcs_wire.Wire.close",),
        (),
        (W + "test_signing_out_ends_the_whole_session",),
        "it lets its ticket run out",
    ),
    Row(
        "GET v1/serverinfo",
        (),
        ("get_server_info", "get_server_version", "get_system_default_metadata_language"),
        (P + "test_signs_in_and_asks_who_it_is",),
        "nothing in it decides anything for us",
    ),
    Row("GET v2/volumes", (), ("get_volumes",), (P + "test_volumes",), "each is asked for by its type"),
    Row("GET v2/volumes/{type}", ("otcs_names.Names.volume",), ("get_volume",), (P + "test_volumes", FILED)),
    Row(
        "POST v2/nodes",
        (FILE,),
        ("create_item", "upload_file_to_parent"),
        (P + "test_creates_a_folder_once", P + "test_uploads_and_finds_by_name", FILED),
    ),
    Row("POST v1/nodes", (), (), (W + "test_a_taken_name",), "both use the second version of the interface"),
    Row("GET v2/nodes/{id}", (GET,), ("get_node",), (P + "test_creates_a_folder_once", FILED)),
    Row("GET v1/nodes/{id}", (), (), (W + "test_dates",), "both use the second version of the interface"),
    Row(
        "POST v2/nodes/list",
        (),
        ("get_nodes",),
        (P + "test_several_nodes_at_once",),
        "a listing tells us all of a folder at once",
    ),
    Row(
        "GET v2/nodes/{id}/nodes",
        (LOOK, "otcs_names.Names.child"),
        ("get_subnodes", "get_subnodes_iterator", "get_node_by_parent_and_name"),
        (
            P + "test_uploads_and_finds_by_name",
            P + "test_iterates_over_several_pages",
            E + "test_many_lost_answers_double_nothing",
        ),
    ),
    Row(
        "POST v1/validation/nodes/names",
        (FILE,),
        ("check_node_name",),
        (P + "test_uploads_and_finds_by_name", E + "test_a_plain_filing_is_one_call"),
    ),
    Row("PUT v2/nodes/{id}", (), ("rename_node",), (P + "test_renames_and_moves",), "see below"),
    Row(
        "DELETE v2/nodes/{id}",
        (FILE,),
        ("delete_node",),
        (P + "test_deletes", E + "test_a_late_refusal_takes_the_document_back"),
    ),
    Row("GET v1/nodes/{id}/ancestors", (), ("get_node_ancestors",), (P + "test_ancestors",), "see below"),
    Row(
        "GET v2/nodes/{id}/versions",
        (FILE,),
        ("get_document_versions",),
        (P + "test_versions", E + "test_a_new_version_brings_its_own_values_class_and_access"),
    ),
    Row(
        "POST v2/nodes/{id}/versions",
        (FILE,),
        ("add_document_version",),
        (P + "test_versions", E + "test_a_new_version_brings_its_own_values_class_and_access"),
    ),
    Row("GET v2/nodes/{id}/versions/{n}", (), ("get_document_version",), (P + "test_versions",), "the list tells all of them"),
    Row(
        "GET v1/nodes/{id}/versions/latest",
        (),
        ("get_latest_document_version",),
        (P + "test_versions",),
        "a node's description tells its newest",
    ),
    Row(
        "DELETE v2/nodes/{id}/versions/{n}",
        (FILE,),
        (),
        (W + "test_version_numbers_are_never_used_twice", E + "test_a_late_refusal_takes_the_document_back"),
        "it has no method for it",
    ),
    Row("DELETE v2/nodes/{id}/versions", (), ("purge_document_versions",), (P + "test_versions",), "see below"),
    Row(
        "GET v2/nodes/{id}/content",
        (FETCH,),
        (),
        (E + "test_a_short_burst_is_waited_out", W + "test_bytes_come_back_as_they_went"),
        "it uses the first version of the interface",
    ),
    Row(
        "GET v2/nodes/{id}/versions/{n}/content",
        (FETCH,),
        ("download_document",),
        (P + "test_versions", E + "test_a_large_file_passes_in_bounded_memory"),
    ),
    Row(
        "GET v1/nodes/{id}/content",
        (),
        ("get_document_content",),
        (P + "test_downloads_what_was_uploaded",),
        "we use the second version of the interface",
    ),
    Row(
        "GET v1/nodes/{id}/versions/{n}/content",
        (),
        (),
        (W + "test_bytes_come_back_as_they_went",),
        "both use the second version of the interface",
    ),
)
