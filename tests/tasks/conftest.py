"""Steps of journeys happen at a dock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.logging import disable_run_logger

from tests.ledger.clock import Clock
from tests.servers.prefect import PrefectServer, client_of
from tests.tasks.dock import Dock, dock_at


@pytest.fixture
def dock(tmp_path: Path) -> Iterator[Dock]:
    with dock_at(tmp_path / "home") as made:
        yield made


@pytest.fixture
def prefect(dock: Dock, prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    with client_of(prefect_server), disable_run_logger(), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def clock(dock: Dock) -> Clock:
    """Of the database of the dock's ledger."""
    return Clock(dock.ledger)
