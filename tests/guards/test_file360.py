"""The table of File 360's calls claims nothing that is not there."""

from __future__ import annotations

from tests.conformance.coverage.file360 import PAGE, ROWS, answered, page
from tests.guards.test_coverage import wrong_with
from tests.sandbox.routes import shape


def test_the_page_fits_the_rows() -> None:
    assert PAGE.read_text("utf-8") == page(), "rows have changed: run 'python -m tests.conformance.coverage.file360'"


def test_the_rows_are_the_routes_of_the_sandbox() -> None:
    claimed = [shape(row.call) for row in ROWS]
    assert len(claimed) == len(set(claimed)), "a call stands in two rows"
    assert set(claimed) == set(answered())


def test_nothing_is_claimed_that_is_not_there() -> None:
    assert {row.call: wrong for row in ROWS if (wrong := list(wrong_with(row.row())))} == {}
