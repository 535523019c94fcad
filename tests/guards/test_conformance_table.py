"""The documentation's conformance table is the suite's."""

from __future__ import annotations

from tests.conformance.table import PAGE, page


def test_the_page_fits_the_servers_and_checks_there_are() -> None:
    assert PAGE.read_text("utf-8") == page(), "enrolments or checks have changed: run 'python -m tests.conformance.table'"
