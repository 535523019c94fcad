"""Fixtures for all suites: the real servers, once per run, and a world in which one partner's files travel."""

import os

# Before anything of ours is imported: a task's back-off is fixed with its decorator, and ten seconds are long for a test.
os.environ.setdefault("COUNTERSIGN_RETRY_SECONDS", "0.2")

from pathlib import Path

# Tests trust no Prefect server on the internet; and Prefect reads the authorities for each client anew, all of which take 30 ms.
os.environ.setdefault("PREFECT_API_SSL_CERT_FILE", str(Path(__file__).parent / "servers" / "nobody.pem"))

import pytest
from hypothesis import HealthCheck, settings

from tests.conformance.pyxecm.summary import pytest_terminal_summary
from tests.servers.openssh import openssh
from tests.servers.prefect import prefect_server
from tests.world import ecm, world

__all__ = ["ecm", "openssh", "prefect_server", "pytest_terminal_summary", "world"]

# Examples are the same in every run, and how long one takes says nothing: a busy machine may be several times slower.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

SLOW_FIRST = ("e2e", "worker", "bench", "flows", "usecases", "hostile", "cli", "sender", "conformance")
"""Folders whose files take long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: processes that share out files (``make test``) then all end at about the same time."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=rank)
