"""Steps of journeys happen at a dock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.dock import Dock, dock_at


@pytest.fixture
def dock(tmp_path: Path) -> Iterator[Dock]:
    with dock_at(tmp_path / "home") as made:
        yield made
