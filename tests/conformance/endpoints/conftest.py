"""Servers are started once per run; every test gets an empty folder and a spool of its own."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.spool import Spool
from tests.conformance.endpoints.checks import Ground
from tests.conformance.endpoints.enrolment import ENROLLED, Shore
from tests.servers.openssh import openssh

__all__ = ["openssh"]

_number = itertools.count()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing of this suite is skipped: docs/conformance.md says of every cell what was seen."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome, report.longrepr = "failed", f"skipped, which this suite never is in CI: {report.longrepr}"
    return report


class Shores:
    """Starts a server when it is first asked for."""

    def __init__(self, place: Path) -> None:
        self.place, self.stack, self.started = place, ExitStack(), dict[str, Shore]()

    def __getitem__(self, name: str) -> Shore:
        if name not in self.started:
            self.started[name] = self.stack.enter_context(ENROLLED[name].start(self.place / str(len(self.started))))
        return self.started[name]


@pytest.fixture(scope="session")
def shores() -> Iterator[Shores]:
    # A hundred thousand files are made in a second in memory, and in a minute on a busy disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        shores = Shores(Path(place))
        with shores.stack:
            yield shores


def ground_on(shore: Shore, spool: Path, crowd: int = 20_000, unspeakable: frozenset[bytes] = frozenset()) -> Ground:
    """An empty folder at a running server."""
    place = shore.root / f"ground-{next(_number)}" / "drop"
    place.mkdir(parents=True)
    folder = f"{shore.prefix.rstrip('/')}/{place.relative_to(shore.root)}"
    return Ground(shore.endpoint, folder, place, Spool(spool, floor_bytes=0), crowd, unspeakable)


@pytest.fixture
def ground(shores: Shores, tmp_path: Path, enrolled: str) -> Ground:
    agreed = ENROLLED[enrolled]
    empty = ground_on(shores[enrolled], tmp_path / "spool", agreed.crowd, frozenset(agreed.unspeakable))
    return replace(empty, rename_replaces=agreed.rename_replaces)
