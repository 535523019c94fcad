"""Repositories are started once per run; every test gets a folder in it, and a place for files, of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from blocks.repositories.base import Repository
from blocks.settings import settings
from blocks.spool import Spool
from tests.conformance.repositories.checks import Ground
from tests.conformance.repositories.enrolment import ENROLLED
from tests.conformance.repositories.writes.bench import LARGE_UPLOAD, Bench, benched

_number = itertools.count()


class Repositories:
    """Starts a repository when it is first asked for."""

    def __init__(self, place: Path) -> None:
        self.place, self.stack, self.started = place, ExitStack(), dict[str, Repository]()

    def __getitem__(self, name: str) -> Repository:
        if name not in self.started:
            self.started[name] = self.stack.enter_context(ENROLLED[name].start(self.place / str(len(self.started))))
        return self.started[name]


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repositories]:
    repositories = Repositories(tmp_path_factory.mktemp("repositories"))
    with repositories.stack:
        yield repositories


def ground_in(repository: Repository, place: Path, enrolled: str) -> Ground:
    files = place / "files"
    files.mkdir()
    spool = Spool(place / "spool", floor_bytes=0)
    return Ground(repository, ("Conformance", f"ground {next(_number)}"), files, spool, ENROLLED[enrolled].refusals)


@pytest.fixture
def ground(repositories: Repositories, tmp_path: Path, enrolled: str) -> Ground:
    return ground_in(repositories[enrolled], tmp_path, enrolled)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Extended ECM in this process, for what only it can do."""
    with benched(tmp_path_factory.mktemp("bench"), {"large_upload": LARGE_UPLOAD}) as bench:
        yield bench


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COUNTERSIGN_PAUSE_SECONDS", "0.02")
    settings.cache_clear()
    yield
    settings.cache_clear()
