"""Refused arrivals keep their bytes and their reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from blocks.quarantine import Quarantine


def test_bytes_and_reason_are_kept_together(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"bad bytes")
    quarantine = Quarantine(tmp_path / "quarantine")
    quarantine.keep("j1", content, {"reason": "wrong-header"})
    content.unlink()
    kept = quarantine.content("j1")
    assert kept is not None
    assert kept.read_bytes() == b"bad bytes"
    assert quarantine.about("j1") == {"reason": "wrong-header"}


def test_a_file_refused_before_it_was_fetched_has_a_reason_and_no_bytes(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.keep("j1", None, {"reason": "too-large"})
    assert quarantine.content("j1") is None
    assert quarantine.about("j1") == {"reason": "too-large"}


def test_keeping_again_never_changes_the_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    quarantine = Quarantine(tmp_path / "quarantine")
    quarantine.keep("j1", None, {"round": 0})
    quarantine.keep("j1", first, {"round": 1})
    quarantine.keep("j1", second, {"round": 2})
    kept = quarantine.content("j1")
    assert kept is not None
    assert kept.read_bytes() == b"first"
    assert quarantine.about("j1") == {"round": 2}
    assert not [path for path in (tmp_path / "quarantine").iterdir() if path.name.startswith(".")]


def test_bytes_whose_removal_broke_off_go_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"bad bytes")
    quarantine = Quarantine(tmp_path / "quarantine")
    for journey in ("j1", "j2"):
        quarantine.keep(journey, content, {"reason": "wrong-header"})

    def dies(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", dies)
        quarantine.drop("j1")
    assert len(list(quarantine.folder.iterdir())) == 2
    assert quarantine.drop("j2") == len(b"bad bytes")
    assert list(quarantine.folder.iterdir()) == []
