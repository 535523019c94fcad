"""kill -9 at every step boundary, then a restart: exactly one target object, the source cleared, the chain intact."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.clock import Clock
from tests.tasks.dock import Dock
from tests.tasks.test_pass_through import LEAST, VIDEOS, video
from tests.world import World, price_list

BAD = b"not,the,header\n1,2,3\n"
MOST = 60
VIDEO_BYTES = 3 * LEAST
LEASE_SECONDS = 20
"""Not so few that a busy machine makes a worker lose its lease before it stalls or is killed."""
LEASE = {"COUNTERSIGN_LEASE_SECONDS": str(LEASE_SECONDS)}


def good(number: int) -> bytes:
    return price_list(first=number)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "how", [pytest.param((), marks=pytest.mark.soak, id="in runs of Prefect"), pytest.param(("--plain",), id="step by step")]
)
def test_kill_at_every_boundary_then_a_restart(world: World, how: tuple[str, ...]) -> None:
    streams = {}
    for number in range(1, MOST + 1):
        folder = world.remote / f"s{number}"
        folder.mkdir()
        (folder / "good.csv").write_bytes(good(number))
        (folder / "bad.csv").write_bytes(BAD + b"%d\n" % number)
        target = {"repository": "ecm", "folder": f"Tests/{world.remote.name}", "name": f"s{number} {{name}}"}
        streams[f"s{number}"] = {"folder": str(folder), "target": target}
    world.agree(streams=streams)
    output, _ = world.run_apart("--walk", *how, **LEASE).communicate(timeout=900)
    walked = re.search(r"walked (\d+) again 0", output)
    assert walked, output[-3000:]
    number = int(walked[1])
    assert 20 < number < MOST, "boundaries were walked, and the last run survived"

    visited = range(1, number + 1)
    names = {f"s{n} good.csv": good(n) for n in visited}
    assert world.filed() == names
    assert set(world.versions().values()) == {1}
    assert not [file for n in visited for file in (world.remote / f"s{n}").iterdir()]
    cases = world.ledger.cases()
    assert len(cases) == len(visited)
    for case in cases:
        assert (world.home / "quarantine" / case.journey / "content").read_bytes().startswith(BAD)
    for kinds in world.kinds():
        for kind in ("arrived", "fetched", "judged", "filing", "filed", "quarantined", "clearing", "cleared"):
            assert kinds.count(kind) <= 1, kinds
    world.ledger.verify()


STRIKES = (
    "before append passing",
    "after append passing",
    "in mid-body",
    "after the last byte",
    "after the answer",
    "after file_arriving",
    "before append filed",
    "after append filed",
    "after append clearing",
)
"""Moments of a file that passes straight from its source into the repository."""
ALTERED = {"its source is gone": "after the answer", "its source has other bytes": "after the answer"}


@pytest.mark.timeout(600)
def test_kill_while_a_file_passes_through_then_a_restart(world: World) -> None:
    """SFTP to Extended ECM in a process of its own: nothing is lost or there twice, and where nobody can tell a person is asked."""
    strikes, streams, stands = [*STRIKES, *ALTERED.values()], dict[str, dict[str, Any]](), list[Path]()
    for number in range(1, len(strikes) + 1):
        stands.append(world.remote / f"s{number}" / "v.mp4")
        stands[-1].parent.mkdir()
        stands[-1].write_bytes(video(VIDEO_BYTES, seed=number))
        target = {"repository": "ecm", "folder": f"Tests/{world.remote.name}", "name": f"s{number} {{name}}"}
        streams[f"s{number}"] = {**VIDEOS, "folder": str(stands[-1].parent), "target": target}
    world.agree(streams=streams)
    asked = [part for name in strikes for part in ("--kill-when", name)]
    output, _ = world.run_apart("--plain", *asked, **LEASE).communicate(timeout=500)
    for number, name in enumerate(strikes, 1):
        assert output.count(f"{name}: ended with {-signal.SIGKILL}") == strikes.count(name), (number, output[-3000:])

    gone, other = stands[len(STRIKES) :]
    gone.unlink()
    before = other.stat()
    other.write_bytes(video(VIDEO_BYTES, seed=99))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    Clock(world.ledger).ahead = timedelta(seconds=LEASE_SECONDS + 1)
    dock = Dock(world.home)
    outcomes = [dock.run(f"s{number}")["v.mp4"] for number in range(1, len(strikes) + 1)]

    assert outcomes == ["filed"] * len(STRIKES) + ["quarantined"] * len(ALTERED)
    assert world.filed() == {f"s{number} v.mp4": video(VIDEO_BYTES, seed=number) for number in range(1, len(strikes) + 1)}
    assert set(world.versions().values()) == {1}
    cases = {case.stream: case for case in world.ledger.cases()}
    assert {stream: case.code for stream, case in cases.items()} == {
        f"s{number}": "outcome-unknown" for number in range(len(STRIKES) + 1, len(strikes) + 1)
    }
    assert [path for path in stands if path.exists()] == [other], "cleared what was filed, and nothing else"
    kept = world.home / "quarantine" / cases[f"s{len(strikes)}"].journey / "content"
    assert kept.read_bytes() == video(VIDEO_BYTES, seed=99), "what the source had instead is not lost"
    for kinds in world.kinds():
        for kind in ("arrived", "passing", "fetched", "judged", "filing", "filed", "quarantined", "clearing", "cleared"):
            assert kinds.count(kind) <= 1, kinds
    world.ledger.verify()


def test_workers_that_stall_past_their_lease_wake_and_change_nothing(world: World) -> None:
    """Three of them, each with a stream of its own, so that the end of a lease is waited for once."""
    stops = {
        # Before the write of "judged": it holds the lease, has the bytes, and sleeps through the end of its lease.
        "judged": ("--stop-at", "12"),
        "file": ("--stop-when", "before file"),
        "remove": ("--stop-when", "before remove"),
    }
    streams, places = {}, {}
    for number, name in enumerate(stops, 1):
        places[name] = world.remote / name / "p1.csv"
        places[name].parent.mkdir()
        places[name].write_bytes(price_list(first=number))
        os.utime(places[name], (1_790_000_000, 1_790_000_000))
        target = {"repository": "ecm", "folder": f"Tests/{world.remote.name}", "name": f"{name} {{name}}"}
        streams[name] = {"folder": str(places[name].parent), "target": target}
    world.agree(streams=streams)
    stalled = {name: replace(world, stream=name).run_apart(*stop, **LEASE) for name, stop in stops.items()}
    try:
        limit = time.monotonic() + 300
        while not all("T" in _state(process.pid) for process in stalled.values()):
            assert time.monotonic() < limit and all(process.poll() is None for process in stalled.values())
            time.sleep(0.1)
        time.sleep(LEASE_SECONDS + 0.5)
        for name in stops:
            assert world.run(name).name == "Filed"
        # Who removed only by name, size and time would now remove these.
        for number, name in enumerate(stops, 7):
            places[name].write_bytes(price_list(first=number))
            os.utime(places[name], (1_790_000_000, 1_790_000_000))
        before = world.kinds()
    finally:
        for process in stalled.values():
            os.kill(process.pid, signal.SIGCONT)
    outputs = {name: process.communicate(timeout=300)[0] for name, process in stalled.items()}
    assert "LeaseLost" in outputs["judged"] or "Failed" in outputs["judged"], outputs["judged"]
    assert all(place.exists() for place in places.values())
    assert world.kinds() == before
    assert world.filed() == {f"{name} p1.csv": price_list(first=number) for number, name in enumerate(stops, 1)}
    assert set(world.versions().values()) == {1}
    world.ledger.verify()
    for name in stops:
        assert world.run(name).name == "Filed"
    assert world.versions() == {f"{name} p1.csv": 2 for name in stops}


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]
