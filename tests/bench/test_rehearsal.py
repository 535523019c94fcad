"""A rehearsal of the benches, so that they do not rot: a few files, one round, and no time decides anything."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import ledger, listing, release_many
from tests.bench.copying import KIB, LOADS, OURS, run
from tests.bench.peers.copying import TOOLS, Curl, Lftp
from tests.bench.race import Contender, Failed, Goal, race
from tests.servers import need
from tests.servers.openssh import OpenSsh
from tests.servers.prefect import PrefectServer


class Slow(Curl):
    most_over_ftps = 2


@pytest.mark.parametrize("name", ["sftp-fetch-small", "sftp-put-small", "ftps-fetch-small", "ftps-put-small"])
def test_every_tool_that_is_here_carries_the_right_bytes(name: str) -> None:
    for program, package in (("sftp", "openssh-client"), ("lftp", "lftp"), ("curl", "curl")):
        need(program, package)
    tools = tuple(Slow if kind is Curl else kind for kind in TOOLS)  # what is slow with FTPS carries a part
    outcome = run(name, replace(LOADS[name], files=5, size=KIB, at_once=2), 1, tools, colds=name == "sftp-fetch-small")
    assert [("with 2 files" in line.name) for line in outcome.theirs][-1] == name.startswith("ftps")
    # What is compared with, and may be missing, is told as missing; what is here must do its work.
    absent = ("not installed (Debian's package rclone)", "speaks SFTP only")
    problems = {line.name: line.problem for line in outcome.theirs if line.problem and line.problem not in absent}
    assert problems == {}
    assert (
        outcome.ours.name == OURS
        and (outcome.ours.cold is not None) == (name == "sftp-fetch-small")
        and outcome.best is not None
    )
    assert f"| {OURS} |" in outcome.table and "lftp 4" in outcome.table


def test_a_server_that_is_far_away_is_as_far_for_all() -> None:
    need("lftp", "lftp")
    outcome = run("sftp-fetch-rtt", replace(LOADS["sftp-fetch-rtt"], files=3), 1, (Lftp,), colds=False)
    [line] = outcome.theirs
    # Signing in takes more than eight round trips, whoever does it.
    assert min(line.median, outcome.ours.median) > 8 * 0.020


def test_a_listing_is_told_the_same_by_both() -> None:
    need("sftp", "openssh-client")
    outcome = listing.main(1, scale=0.002)
    assert outcome.best is not None and outcome.work == "200 entries"


@pytest.mark.parametrize("name", ["sftp-fetch-small", "sftp-put-small"])
def test_a_tool_that_brings_other_bytes_is_told_and_has_no_time(name: str) -> None:
    need("lftp", "lftp")

    class Mangling(Lftp):
        def fetch(self, folder: str, local: Path) -> None:
            super().fetch(folder, local)
            next(local.iterdir()).write_bytes(b"other bytes")

        def put(self, local: Path, folder: str) -> None:
            """Does nothing at all."""

    [line] = run(name, replace(LOADS[name], files=3, size=KIB), 1, (Mangling,), colds=False).theirs
    assert line.seconds == []
    assert ("1 files have other bytes" if "fetch" in name else "3 files are missing") in line.problem


def test_medians_decide_who_begins_changes_and_memory_is_the_most_of_our_own_turns(capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    kept: list[bytearray] = []

    def turn(name: str, *seconds: float, mib: int = 0) -> Contender:
        left = iter(seconds)

        def take() -> float:
            order.append(name)
            kept[:] = [bytearray(mib << 20)] if mib else []
            kept.clear()
            return next(left)

        return Contender(name, take)

    def fails() -> float:
        raise Failed("ended with 7")

    before = int(re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]
    ours = turn("ours", 1.0, 9.0, 2.0, mib=64)
    theirs = [turn("best", 4.0, 6.0, 5.0), turn("hog", 8.0, 8.0, 8.0, mib=512), Contender("broken", fails)]
    outcome = race("it", "work", ours, theirs, rounds=3, goal=Goal(2.5, peak_mib=before + 400))
    assert order == ["ours", "best", "hog", "best", "hog", "ours", "hog", "ours", "best"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [(line["bench"], line["ours_s"], line["peer"], line["peer_s"], line["ratio"], line["spread"]) for line in lines] == [
        ("it", 2.0, "best", 5.0, 2.5, 4.0),
        ("it", 2.0, "hog", 8.0, 4.0, 4.0),
    ]
    assert outcome.peak_mib is not None and 32 < outcome.peak_mib - before < 400
    assert lines[0]["peak_mib"] == round(outcome.peak_mib, 1)
    assert outcome.reached and "2.50x of best" in outcome.verdict and "| broken | - | - | ended with 7 | |" in outcome.table


def test_a_goal_is_reached_only_in_time_and_in_memory() -> None:
    def outcome(goal: Goal) -> str:
        return race("it", "work", Contender("ours", lambda: 1.0), [Contender("peer", lambda: 2.0)], rounds=1, goal=goal).verdict

    assert "goal: at least 2x: reached" in outcome(Goal(2))
    assert "NOT reached" in outcome(Goal(2.1))
    assert "goal: at least 2x, peak under 1 MiB: NOT reached" in outcome(Goal(2, peak_mib=1))


def test_a_release_is_timed_from_sign_off_to_delivered(tmp_path: Path, openssh: OpenSsh, prefect_server: PrefectServer) -> None:
    need("lftp", "lftp")
    outcome = release_many.run(tmp_path, openssh, prefect_server, 3, 1)
    assert len(outcome.ours.seconds) == 1 and outcome.best is not None and outcome.peak_mib, outcome.table


def test_an_old_ledger_and_an_empty_one_are_asked_the_same(tmp_path: Path) -> None:
    outcomes = ledger.run(tmp_path, 100, 1, files=7, times=1)
    assert [outcome.bench for outcome in outcomes] == [
        f"ledger {what}" for what in ("claim", "append", "search", "asks", "name")
    ]
    assert all(outcome.ours.seconds and outcome.best is not None for outcome in outcomes)
