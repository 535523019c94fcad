"""Says at the end of a run which methods of OpenText's client were called, and how often."""

from __future__ import annotations

import textwrap
from collections import Counter

from _pytest.terminal import TerminalReporter

PROPERTY = "pyxecm"


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """A hook of pytest: works with tests in several processes too, because reports carry what was noted."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = Counter(
        call
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, noted in report.user_properties
        if name == PROPERTY
        for call in noted
    )
    if calls:
        terminalreporter.section(f"OpenText's client: {len(calls)} methods, {calls.total()} calls")
        for line in textwrap.wrap(", ".join(f"{name} {count}" for name, count in sorted(calls.items())), 120):
            terminalreporter.line(line)
