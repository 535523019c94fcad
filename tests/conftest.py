"""Fixtures for all suites: the real servers, once per run, and a world in which one partner's files travel."""

import os

# Before anything of ours is imported: a task's back-off is fixed with its decorator, and ten seconds are long for a test.
os.environ.setdefault("COUNTERSIGN_RETRY_SECONDS", "0.2")

from tests.conformance.pyxecm.summary import pytest_terminal_summary
from tests.servers.openssh import openssh
from tests.servers.prefect import prefect_server
from tests.world import ecm, world

__all__ = ["ecm", "openssh", "prefect_server", "pytest_terminal_summary", "world"]
