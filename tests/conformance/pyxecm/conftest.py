"""One sandbox for the suite, each client signed in anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.pyxecm.environment import CALLED, Pyxecm
from tests.conformance.pyxecm.summary import PROPERTY
from tests.conformance.pyxecm.wire import Wire
from tests.sandbox import sandbox


@pytest.fixture(scope="session")
def extended_ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the sandbox command said about its Extended ECM."""
    with sandbox("extended-ecm", data=tmp_path_factory.mktemp("ecm")) as services:
        yield services["extended-ecm"]


@pytest.fixture(scope="session")
def otcs(extended_ecm: dict[str, Any]) -> Iterator[Pyxecm]:
    """OpenText's client, signed in as Admin."""
    with Pyxecm(extended_ecm["url"], extended_ecm["user"], extended_ecm["password"]) as client:
        assert client.authenticate()
        yield client


@pytest.fixture(autouse=True)
def _calls_are_noted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """Each test's report names what it called; ``summary`` prints them all."""
    yield
    record_property(PROPERTY, list(CALLED))
    CALLED.clear()


@pytest.fixture
def wire(extended_ecm: dict[str, Any]) -> Iterator[Wire]:
    """Bare HTTP, signed in as Admin. Faults end with the test."""
    with Wire(extended_ecm) as client:
        yield client
        client.faults(**dict.fromkeys(client.faults(), 0.0))


@pytest.fixture
def stranger(extended_ecm: dict[str, Any]) -> Iterator[Wire]:
    """Bare HTTP, signed out."""
    with Wire(extended_ecm, None) as client:
        yield client


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_bytes(b"sku,price\r\nA-1,9.90\r\n")
    return path
