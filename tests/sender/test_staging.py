"""Copies of what is to be sent, where only the sender writes: whole ones under their digest, or none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blocks.errors import SendRefused
from deployments.sender import delivery
from deployments.sender.delivery import packages_in, stage, unstage


def test_a_disk_that_takes_a_part_of_a_file_leaves_no_copy_and_the_next_try_is_whole(tmp_path: Path) -> None:
    data = b"x" * 600
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / digest).write_bytes(data)
    # A limit on the size of files cuts a write as a full disk does: the first one is short, only the next one fails.
    code = f"""
import resource, signal
from pathlib import Path
from deployments.sender.delivery import stage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
stage("package", [({digest!r}, 600)], lambda name: Path({str(tmp_path)!r}, name), Path({str(tmp_path)!r}, "outbox"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "File too large" in done.stderr
    staged = stage("package", [(digest, 600)], lambda name: tmp_path / name, tmp_path / "outbox")
    assert staged[digest].read_bytes() == data


@pytest.mark.parametrize("other", ["pipe", "folder", "link"])
def test_what_is_no_file_in_the_spool_is_neither_followed_nor_waited_for(other: str, tmp_path: Path) -> None:
    digest, place = hashlib.sha256(b"whole").hexdigest(), tmp_path / "spooled"
    if other == "pipe":
        os.mkfifo(place)
        end = os.open(place, os.O_RDWR)

        def feed() -> None:
            os.write(end, b"whole")
            os.close(end)

        threading.Timer(3, feed).start()  # who waits for it would have it copied
    elif other == "folder":
        place.mkdir()
    else:
        (tmp_path / "elsewhere").write_bytes(b"whole")
        place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SendRefused, match="the spool does not hold what was approved"):
        stage("package", [(digest, 5)], lambda _: place, tmp_path / "outbox")
    assert list((tmp_path / "outbox" / "package").iterdir()) == []


def test_what_a_killed_staging_left_is_gone_after_the_next(tmp_path: Path) -> None:
    left = tmp_path / "outbox" / "package.coming"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half of it")
    digest = hashlib.sha256(b"whole").hexdigest()
    (tmp_path / digest).write_bytes(b"whole")
    stage("package", [(digest, 5)], lambda name: tmp_path / name, tmp_path / "outbox")
    assert [path.name for path in (tmp_path / "outbox" / "package").iterdir()] == [digest]


def test_what_a_killed_staging_left_is_told_and_can_be_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "package.coming"
    left.mkdir()
    (left / "half").write_bytes(b"half of it")
    assert packages_in(tmp_path) == ["package"]
    assert unstage("package", tmp_path) == len(b"half of it")
    assert packages_in(tmp_path) == []


def test_what_was_copied_before_stays_and_the_rest_comes_beside_it(tmp_path: Path) -> None:
    contents = [b"one", b"two", b"three"]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    for digest, content in zip(digests, contents, strict=True):
        (tmp_path / digest).write_bytes(content)
    sizes = [(digest, len(content)) for digest, content in zip(digests, contents, strict=True)]
    first = stage("package", sizes[:1], lambda name: tmp_path / name, tmp_path / "outbox")[digests[0]].stat()
    staged = stage("package", sizes, lambda name: tmp_path / name, tmp_path / "outbox")
    assert [staged[digest].read_bytes() for digest in digests] == contents
    assert staged[digests[0]].stat().st_ino == first.st_ino, "it is not copied again"
    assert [path.name for path in (tmp_path / "outbox").iterdir()] == ["package"]


@pytest.mark.parametrize("before", [0, 1], ids=["all are new", "one was copied before"])
def test_no_copy_has_its_name_before_its_bytes_are_on_the_disk(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {hashlib.sha256(content).hexdigest(): content for content in (b"one", b"two", b"three")}
    for digest, content in contents.items():
        (tmp_path / digest).write_bytes(content)
    sizes, outbox = [(digest, len(content)) for digest, content in contents.items()], tmp_path / "outbox"
    synced = list[tuple[set[str], set[str]]]()
    if before:
        stage("package", sizes[:before], lambda name: tmp_path / name, outbox)
    monkeypatch.setattr(
        delivery,
        "sync_filesystem",
        lambda fresh: synced.append((set(os.listdir(fresh)), set(os.listdir(outbox / "package")))),
    )
    stage("package", sizes, lambda name: tmp_path / name, outbox)
    assert synced == [({*list(contents)[before:]}, {*list(contents)[:before]})]
