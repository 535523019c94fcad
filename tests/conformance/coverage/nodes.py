"""Signing in, nodes, versions, content."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, W, E = "pyxecm/test_pyxecm.py::", "pyxecm/test_wire.py::", "repositories/test_extended_ecm.py::"
FILE, GET, LOOK, FETCH = (f"extended_ecm.ExtendedEcmSession.{verb}" for verb in ("file", "get", "look", "fetch"))
Q, R, D = "pyxecm/test_nodes.py::", "pyxecm/test_wire_nodes.py::", "repositories/test_nodes.py::"
"""OpenText's client, bare HTTP, and ours: beyond filing."""
NODES = "otcs_nodes.Nodes."
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
        (FILE, NODES + "copy"),
        ("create_item", "upload_file_to_parent", "copy_node"),
        (
            P + "test_creates_a_folder_once",
            P + "test_uploads_and_finds_by_name",
            Q + "test_copies_a_folder_and_a_document",
            D + "test_a_copy_is_another_document",
            FILED,
        ),
    ),
    Row("POST v1/nodes", (), (), (W + "test_a_taken_name",), "both use the second version of the interface"),
    Row(
        "GET v2/nodes/{id}",
        (GET, NODES + "edit_token"),
        ("get_node",),
        (P + "test_creates_a_folder_once", FILED, D + "test_what_somebody_changed_meanwhile_is_not_renamed"),
    ),
    Row("GET v1/nodes/{id}", (), (), (W + "test_dates",), "both use the second version of the interface"),
    Row(
        "POST v2/nodes/list",
        (NODES + "several",),
        ("get_nodes",),
        (P + "test_several_nodes_at_once", D + "test_several_nodes_and_taken_names"),
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
        (FILE, NODES + "taken"),
        ("check_node_name",),
        (
            P + "test_uploads_and_finds_by_name",
            D + "test_several_nodes_and_taken_names",
            D + "test_a_crowded_folder_costs_no_more_than_an_empty_one",
        ),
    ),
    Row("POST v2/nodes/actions", (), ("get_node_actions",), (Q + "test_actions",), "a refusal tells what may not be done"),
    Row(
        "PUT v2/nodes/{id}",
        tuple(NODES + verb for verb in ("rename", "move", "version_control", "reserve", "unreserve")),
        ("rename_node", "update_item"),
        (
            P + "test_renames_and_moves",
            Q + "test_reserves",
            D + "test_renaming_and_moving",
            D + "test_reserving",
            D + "test_versions_have_names_locks_and_numbers_for_ever",
        ),
    ),
    Row(
        "DELETE v2/nodes/{id}",
        (FILE, NODES + "delete"),
        ("delete_node",),
        (P + "test_deletes", E + "test_a_late_refusal_takes_the_document_back", D + "test_deleted_restored_and_purged"),
    ),
    Row(
        "GET v2/volumes/recyclebin/nodes",
        (NODES + "deleted",),
        (),
        (R + "test_a_deleted_folder_comes_back_with_everything", D + "test_deleted_restored_and_purged"),
        "it has no method for it",
    ),
    Row(
        "POST v2/volumes/recyclebin/nodes/restore",
        (NODES + "restore",),
        ("restore_node",),
        (Q + "test_restores_what_was_deleted", D + "test_deleted_restored_and_purged"),
    ),
    Row(
        "POST v2/volumes/recyclebin/nodes/purge",
        (NODES + "purge",),
        ("purge_node",),
        (Q + "test_purges_for_good", D + "test_deleted_restored_and_purged"),
    ),
    Row(
        "GET v1/nodes/{id}/ancestors",
        (NODES + "ancestors",),
        ("get_node_ancestors",),
        (P + "test_ancestors", D + "test_renaming_and_moving"),
    ),
    *(
        Row(
            f"{method} v2/reservemanagement/nodes/{{id}}",
            (NODES + verb,),
            (),
            (R + "test_the_queue_for_a_reserved_document", D + "test_reserving"),
            "it has no method for it",
        )
        for method, verb in (("GET", "reservation"), ("POST", "queue"), ("DELETE", "leave_queue"))
    ),
    Row(
        "GET v2/members/reserved",
        (NODES + "reserved",),
        ("get_user_reserved_nodes",),
        (Q + "test_reserves", D + "test_reserving"),
    ),
    Row(
        "GET v2/members/accessed",
        (),
        ("get_user_recently_accessed",),
        (Q + "test_what_was_opened_last",),
        "what an account has opened decides nothing for us",
    ),
    Row(
        "GET v2/nodes/{id}/versions",
        (FILE, NODES + "versions"),
        ("get_document_versions",),
        (
            P + "test_versions",
            E + "test_a_new_version_brings_its_own_values_class_and_access",
            D + "test_versions_have_names_locks_and_numbers_for_ever",
        ),
    ),
    Row(
        "POST v2/nodes/{id}/versions",
        (FILE,),
        ("add_document_version",),
        (P + "test_versions", E + "test_a_new_version_brings_its_own_values_class_and_access"),
    ),
    Row(
        "GET v2/nodes/{id}/versions/{n}",
        (NODES + "version",),
        ("get_document_version",),
        (P + "test_versions", D + "test_versions_have_names_locks_and_numbers_for_ever"),
    ),
    *(
        Row(
            f"{call} v2/nodes/{{id}}/versions/{{n}}{path}",
            (NODES + verb,),
            (),
            (R + test, D + "test_versions_have_names_locks_and_numbers_for_ever"),
            "it has no method for it",
        )
        for call, path, verb, test in (
            ("PUT", "", "describe_version", "test_a_locked_version_is_neither_dropped_nor_purged"),
            ("POST", "/promote", "promote", "test_major_and_minor_versions"),
            ("POST", "/lock", "lock_version", "test_a_locked_version_is_neither_dropped_nor_purged"),
            ("POST", "/unlock", "unlock_version", "test_a_locked_version_is_neither_dropped_nor_purged"),
        )
    ),
    Row(
        "GET v1/nodes/{id}/versions/latest",
        (),
        ("get_latest_document_version",),
        (P + "test_versions",),
        "a node's description tells its newest",
    ),
    Row(
        "DELETE v2/nodes/{id}/versions/{n}",
        (FILE, NODES + "drop_version"),
        (),
        (
            W + "test_version_numbers_are_never_used_twice",
            E + "test_a_late_refusal_takes_the_document_back",
            D + "test_versions_have_names_locks_and_numbers_for_ever",
        ),
        "it has no method for it",
    ),
    Row(
        "DELETE v2/nodes/{id}/versions",
        (NODES + "purge_versions",),
        ("purge_document_versions",),
        (Q + "test_version_numbers_survive_a_purge", D + "test_versions_have_names_locks_and_numbers_for_ever"),
    ),
    *(
        Row(call, (FILE,), (), (R + "test_parts_in_any_order_make_one_file", D + test), "it sends every file in one piece")
        for call, test in (
            ("GET v2/multipart/settings", "test_a_server_without_parts_gets_the_file_in_one"),
            ("POST v2/multipart", "test_a_session_that_ran_out_is_started_again"),
            ("POST v2/multipart/{key}/{part}", "test_parts_are_sent_where_the_server_takes_them"),
            ("POST v2/multipart/{key}", "test_parts_are_sent_where_the_server_takes_them"),
            ("DELETE v2/multipart/{key}", "test_other_bytes_than_promised_are_never_filed_in_parts"),
        )
    ),
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
