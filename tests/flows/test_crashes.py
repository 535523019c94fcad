"""kill -9 at every step boundary, then a restart: exactly one target object, the source cleared, the chain intact."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from tests.world import World, price_list

BAD = b"not,the,header\n1,2,3\n"
MOST = 60
LEASE_SECONDS = 8
"""Of a worker that stalls: not so few that a busy machine makes one lose its lease before."""


def good(number: int) -> bytes:
    return price_list(first=number)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.soak, id="each"), pytest.param(2, id="every other")])
def test_kill_at_every_boundary_then_a_restart(world: World, step: int) -> None:
    streams = {}
    for number in range(1, MOST + 1):
        folder = world.remote / f"s{number}"
        folder.mkdir()
        (folder / "good.csv").write_bytes(good(number))
        (folder / "bad.csv").write_bytes(BAD + b"%d\n" % number)
        target = {"repository": "ecm", "folder": f"Tests/{world.remote.name}", "name": f"s{number} {{name}}"}
        streams[f"s{number}"] = {"folder": str(folder), "target": target}
    world.agree(streams=streams)
    output, _ = world.run_apart("--walk", str(step), COUNTERSIGN_LEASE_SECONDS="5").communicate(timeout=900)
    walked = re.search(r"walked (\d+) again 0", output)
    assert walked, output[-3000:]
    number = int(walked[1])
    assert 20 < number < MOST, "boundaries were walked, and the last run survived"

    visited = range(1, number + 1, step)
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


def test_a_worker_stalled_past_its_lease_wakes_and_changes_nothing(world: World) -> None:
    world.leave("p1.csv", price_list())
    # Stopped before the write of "judged": it holds the lease, has the bytes, and sleeps through the end of its lease.
    stalled = world.run_apart("--stop-at", "12", COUNTERSIGN_LEASE_SECONDS=str(LEASE_SECONDS))
    try:
        limit = time.monotonic() + 180
        while "T" not in _state(stalled.pid):
            assert time.monotonic() < limit and stalled.poll() is None
            time.sleep(0.1)
        time.sleep(LEASE_SECONDS + 0.5)
        assert world.run().name == "Filed"
        before = world.kinds()
    finally:
        os.kill(stalled.pid, signal.SIGCONT)
    output, _ = stalled.communicate(timeout=180)
    assert "LeaseLost" in output or "Failed" in output, output
    assert world.kinds() == before
    assert world.versions() == {"p1.csv": 1}
    world.ledger.verify()


@pytest.mark.parametrize("where", ["before file", "before remove"])
def test_a_worker_that_wakes_before_an_act_that_shows_outside_does_not_act(world: World, where: str) -> None:
    world.leave("p1.csv", price_list(first=1), modified=1_790_000_000)
    stalled = world.run_apart("--stop-when", where, COUNTERSIGN_LEASE_SECONDS=str(LEASE_SECONDS))
    try:
        limit = time.monotonic() + 180
        while "T" not in _state(stalled.pid):
            assert time.monotonic() < limit and stalled.poll() is None
            time.sleep(0.1)
        time.sleep(LEASE_SECONDS + 0.5)
        assert world.run().name == "Filed"
        # Who removed only by name, size and time would now remove this one.
        alike = world.leave("p1.csv", price_list(first=2), modified=1_790_000_000)
        before = world.kinds()
    finally:
        os.kill(stalled.pid, signal.SIGCONT)
    stalled.communicate(timeout=180)
    assert alike.exists()
    assert world.kinds() == before
    assert world.filed() == {"p1.csv": price_list(first=1)}
    assert world.run().name == "Filed"
    assert world.versions() == {"p1.csv": 2}


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]
