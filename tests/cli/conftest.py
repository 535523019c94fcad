"""A project folder of its own for every test of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from blocks.settings import settings
from deployments.cli import app

Countersign = Callable[..., Result]


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder with the partner files; everything else of this installation would be in ``home``."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    monkeypatch.setenv("COUNTERSIGN_PROFILES", str(folder))
    monkeypatch.setenv("COUNTERSIGN_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield folder
    settings.cache_clear()


@pytest.fixture
def countersign(profiles: Path) -> Countersign:
    """Run a command in this process, as the terminal would."""

    def countersign(*arguments: str, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=answer)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return countersign
