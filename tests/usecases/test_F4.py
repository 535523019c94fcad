"""F4 Large media: a video over a flaky FTP line is one governed copy, and the corrected one is its next version.

File 360 is the repository of this use case.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.ftp import FtpSandbox
from tests.world import World, file360, over_ftp

MIB = 1024 * 1024
SIZE = 100 * MIB
MOST_MIB = 250
"""An intake of a small file needs 200 (measured)."""
FILM = "film.mp4"
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"


def video(size: int) -> bytes:
    return MP4 + os.urandom(size - len(MP4))


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """File 360 is this use case's repository."""
    with file360(tmp_path_factory.mktemp("file360")) as service:
        yield service


@pytest.fixture
def partner(world: World, tmp_path: Path) -> Iterator[FtpSandbox]:
    """The agency's FTP server; our profile leads there."""
    password = tmp_path / "password"
    password.write_text("not a secret")
    with FtpSandbox(tmp_path / "agency", users={"partner": "not a secret"}) as server:
        world.agree(
            endpoint=over_ftp(server.host, server.port, password),
            folder="/",
            classify=[{"pattern": r".*\.mp4", "doctype": "video"}],
            limits={"largest_bytes": 4 * SIZE},
        )
        yield server


def taken_in(world: World) -> tuple[str, int]:
    """One intake in a process of its own: what it said, and its peak memory in MiB."""
    output, _ = world.run_apart("--memory").communicate(timeout=300)
    found = re.search(r"peak (\d+) MiB", output)
    assert found is not None, output[-3000:]
    return output, int(found[1])


def filed(world: World) -> list[str]:
    """The digests that were filed, in order."""
    ledger = world.ledger
    entries = [entry for summary in ledger.search(limit=100) for entry in ledger.journey(summary.journey)]
    return [entry.body["digest"] for entry in sorted(entries, key=lambda entry: entry.at) if entry.kind == "filed"]


def test_a_dropped_video_goes_on_and_its_correction_is_a_new_version(world: World, partner: FtpSandbox) -> None:
    first = video(SIZE)
    (partner.root / FILM).write_bytes(first)
    # It drops at 60 %, again and again: only a download that goes on can come to its end.
    partner.faults["drop-after"] = SIZE * 6 // 10
    output, peak = taken_in(world)
    assert "COMPLETED Filed" in output, output[-3000:]
    assert filed(world) == [digest_of(first)]
    assert world.versions() == {FILM: 1}

    print(f"peak {peak} MiB for a video of {SIZE // MIB} MiB")
    assert peak < MOST_MIB

    partner.faults.clear()
    corrected = video(MIB)
    (partner.root / FILM).write_bytes(corrected)
    assert world.run().name == "Filed"
    assert world.versions() == {FILM: 2}, "not a second document"
    assert filed(world)[-1] == digest_of(corrected)


@pytest.mark.parametrize("changed", ["size", "time"])
def test_what_was_changed_during_the_break_is_not_mixed_with_what_came_before(
    changed: str, world: World, partner: FtpSandbox
) -> None:
    first, second = video(10 * MIB), video(10 * MIB + (changed == "size"))
    second = first[: 8 * MIB] + second[8 * MIB :]  # the part that came before the break is the same
    film = partner.root / FILM
    film.write_bytes(first)
    os.utime(film, (1_000_000_000, 1_000_000_000))
    partner.faults.update({"drop-after": 6 * MIB, "no-rest": 1})  # so that every try of this intake breaks
    assert world.run().is_failed()
    (kept,) = (world.home / "spool" / "partial").iterdir()
    assert kept.stat().st_size > 5 * MIB, "nothing was kept to go on with"
    film.write_bytes(second)
    os.utime(film, (1_000_000_000, 1_000_000_000 + (changed == "time")))
    partner.faults.clear()
    before = partner.carried
    assert world.run().name == "Filed"
    assert partner.carried - before >= len(second), "it went on in the middle of another file"
    assert filed(world) == [digest_of(second)]
    assert world.filed() == {FILM: second}
