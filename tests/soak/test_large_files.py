"""A 2 GiB video and a 2 GiB table through a whole intake: every byte arrives, and the worker's memory stays flat."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tests.world import COLUMNS, World

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

GIB = 1024**3
MOST_MIB = {"film.mp4": 250, "prices.csv": 370}
"""Of the whole process. Arrow, pandas and pandera are 110 of them as soon as a table is checked, of 128 MiB or of 2 GiB alike."""


def video(path: Path, size: int) -> str:
    """An MP4's first box, then bytes without a pattern that would compress or repeat."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        block = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + hashlib.sha256(b"seed").digest()
        written = 0
        while written < size:
            data = (block * (1 + 1024 * 1024 // len(block)))[: min(1024 * 1024, size - written)]
            file.write(data)
            digest.update(data)
            written += len(data)
            block = hashlib.sha256(block).digest() * 8
    return digest.hexdigest()


def table(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        data, number = (COLUMNS + "\n").encode(), 0
        while file.tell() < size:
            file.write(data)
            digest.update(data)
            data = b"".join(b"%012d,Bolt,EUR,1.50,2026-12-01\n" % n for n in range(number, number + 20_000))
            number += 20_000
    return digest.hexdigest()


@pytest.mark.parametrize(("name", "make", "doctype"), [("film.mp4", video, "video"), ("prices.csv", table, "price-list")])
def test_two_gibibytes_in_bounded_memory(world: World, name: str, make: object, doctype: str) -> None:
    world.agree(
        classify=[{"pattern": r".*", "doctype": doctype}],
        limits={"largest_bytes": 4 * GIB, "rows": 100_000_000},
    )
    digest = make(world.out / name, 2 * GIB)  # type: ignore[operator]
    output, _ = world.run_apart("--memory").communicate(timeout=2500)
    assert "COMPLETED Filed" in output, output[-2000:]
    peak = int(re.search(r"peak (\d+) MiB", output)[1])  # type: ignore[index]
    print(f"{name}: peak {peak} MiB")
    (entries,) = world.journeys().values()
    assert [entry.body["digest"] for entry in entries if entry.kind == "filed"] == [digest]
    with world.repository() as session:
        from blocks.spool import Spool

        spool = Spool(world.home / "read-back", floor_bytes=0)
        kept = session.find(("Tests", world.remote.name), name)
        assert kept is not None
        with spool.batch() as batch:
            done = session.fetch(kept.id, None, batch)
    assert done.digest == digest
    assert peak < MOST_MIB[name]
