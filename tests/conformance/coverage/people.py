"""Permissions, members, search, the audit trail, shares."""

from __future__ import annotations

from tests.conformance.coverage.row import Row

P, W, E = "pyxecm/test_pyxecm.py::", "pyxecm/test_wire.py::", "repositories/test_extended_ecm.py::"
FILE, HISTORY, SEARCH = (f"extended_ecm.ExtendedEcmSession.{verb}" for verb in ("file", "history", "search"))
FILED = E + "test_values_class_and_access_are_set_exactly"

ROWS = (
    Row("GET v2/nodes/{id}/permissions", (FILE,), (), (FILED,), "it asks for each assignee's own line"),
    Row("POST v2/nodes/{id}/permissions/custom", (FILE,), ("assign_permission",), (P + "test_permissions", FILED)),
)
