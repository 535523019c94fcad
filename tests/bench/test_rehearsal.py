"""A rehearsal of the benches, so that they do not rot: a few files, one round, and no time decides anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import checking, ledger, listing, release_many
from tests.bench.copying import KIB, LOADS, OURS, run
from tests.bench.cost import Cost
from tests.bench.peers.copying import TOOLS, Curl, Lftp, LftpPut, OpenSshSftp, Tool
from tests.bench.race import Contender, Failed, Goal, race
from tests.servers import need
from tests.servers.ftp import vsftpd_server
from tests.servers.openssh import SFTP_SERVERS, OpenSsh, openssh_server
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


@pytest.mark.parametrize("kind", [OpenSshSftp, Lftp, LftpPut, Curl])
def test_a_tool_puts_under_temporary_names_over_sftp(kind: type[Tool], tmp_path: Path) -> None:
    """The server's own log tells: nothing is opened but under a temporary name, and all of them are renamed."""
    need(kind.program, kind.package)
    program = shutil.which("sftp-server", path=SFTP_SERVERS)
    assert program is not None
    log = tmp_path / "sftp.log"
    with openssh_server(tmp_path / "server", f"Subsystem sftp {program} -e -l INFO 2>>{log}") as server:
        names = _put_three(kind(server, tmp_path, 2), tmp_path, server.root)
    said = log.read_text()
    parts = [f".in.{name}" for name in names]
    assert sorted(Path(opened).name for opened in re.findall(r'^open "(.*?)" flags WRITE', said, re.MULTILINE)) == parts
    renamed = re.findall(r'^(?:posix-)?rename old "(.*?)" new "(.*?)"', said, re.MULTILINE)
    assert sorted((Path(old).name, Path(new).name) for old, new in renamed) == list(zip(parts, names, strict=True))


@pytest.mark.parametrize("kind", [Lftp, Curl])
def test_a_tool_puts_under_temporary_names_over_ftps(kind: type[Tool], tmp_path: Path) -> None:
    need(kind.program, kind.package)
    log = tmp_path / "vsftpd.log"
    with vsftpd_server(tmp_path / "server", "log_ftp_protocol=YES", "xferlog_enable=YES", f"vsftpd_log_file={log}") as server:
        names = _put_three(kind(server, tmp_path, 2), tmp_path, server.root)
    said = log.read_text()
    for command, wanted in (("STOR", [f".in.{name}" for name in names]), ("RNTO", names)):
        assert sorted(Path(asked).name for asked in re.findall(rf'"{command} (.*?)"', said)) == wanted


def _put_three(tool: Tool, base: Path, root: Path) -> list[str]:
    source, place = base / "source", root / "place"
    source.mkdir()
    place.mkdir()
    names = [f"prices_{number}.csv" for number in range(3)]
    for name in names:
        (source / name).write_text(name)
    tool.put(source, str(place))
    assert {path.name: path.read_text() for path in place.iterdir()} == {name: name for name in names}
    return names


def test_what_is_wrong_in_a_table_is_told_the_same_by_all(tmp_path: Path) -> None:
    with checking.entered() as contenders:
        load = checking.Load(files=3, size=2 * KIB, bad=True)
        outcome = checking.run(tmp_path / "bad", load, 1, "checks", contenders)
    assert {line.name: line.problem for line in outcome.theirs} == dict.fromkeys(contenders, "")


RULES = {
    3: ("description", f"A2,{'x' * 501},EUR,1.50,2026-12-01"),
    4: ("sku", "A 3,,EUR,1.50,2026-12-01"),
    5: ("currency", "A4,,EURO,1.50,2026-12-01"),
    6: ("price", "A5,,EUR,1e5,2026-12-01"),
    7: ("price", "A6,,EUR,-1,2026-12-01"),
    8: ("valid_from", "A7,,EUR,1,1999-12-01"),
    9: ("valid_from", "A8,,EUR,1,2026-02-30"),
    10: ("valid_from", "A9,,EUR,1,1.2.2026"),
    11: ("sku", ",,EUR,1,2026-12-01"),
}


def test_all_have_the_same_rules(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.csv", {(row, column) for row, (column, _) in RULES.items()}
    lines = ["sku,description,currency,price,valid_from", "A1,,EUR,1,2026-12-01", *(line for _, line in RULES.values())]
    path.write_text("\n".join([*lines, "A1,the same key,EUR,2,2026-12-01", ""]))
    with pytest.raises(Failed) as told:
        checking.ours([path], [])
    assert json.loads(str(told.value).partition("it found ")[2].partition(", and [] is wrong")[0].replace("'", '"')) == [
        *([0, row, column] for row, column in sorted(wanted)),
        [0, 12, "sku+currency+valid_from"],
    ]
    with checking.entered() as contenders:
        for name, warm in contenders.items():
            assert not isinstance(warm, str), warm
            found = {(row, column) for _, row, column in warm.bring({"files": [str(path)]})["bad"]}
            assert {(row, column) for row, column in found if row in RULES} == wanted, name
            assert ({row for row, _ in found} == {2, 12, *RULES}) == (name != "polars without pandera"), name


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


def test_who_is_far_slower_than_another_peer_is_not_asked_again() -> None:
    asked: list[str] = []

    def peer(name: str, seconds: float, *, counts: bool = True) -> Contender:
        return Contender(name, lambda: asked.append(name) or seconds, counts=counts)  # type: ignore[func-returns-value]

    theirs = [peer("best", 1.0), peer("slow", 3.9), peer("slowest", 4.1), peer("shown", 0.1, counts=False)]
    outcome = race("it", "work", Contender("ours", lambda: 0.01), theirs, rounds=3)
    assert sorted(asked) == ["best"] * 3 + ["shown"] * 3 + ["slow"] * 3 + ["slowest"]
    assert "| slowest (one round) | 4.10 |" in outcome.table and "| slow | 3.90 |" in outcome.table


def test_a_goal_is_reached_only_in_time_and_in_memory() -> None:
    def outcome(goal: Goal) -> str:
        return race("it", "work", Contender("ours", lambda: 1.0), [Contender("peer", lambda: 2.0)], rounds=1, goal=goal).verdict

    assert "goal: at least 2x: reached" in outcome(Goal(2))
    assert "NOT reached" in outcome(Goal(2.1))
    assert "goal: at least 2x, peak under 1 MiB: NOT reached" in outcome(Goal(2, peak_mib=1))


def test_a_missed_goal_is_told_with_what_the_cpu_leaves_room_for(capsys: pytest.CaptureFixture[str]) -> None:
    ours = Contender("ours", lambda: Cost(2.0, own_cpu=1.5, server_cpu=1.25))
    theirs = Contender("peer", lambda: Cost(3.0, own_cpu=2.5, server_cpu=1.0).times(2))
    outcome = race("it", "work", ours, [theirs], rounds=3, goal=Goal(4))
    cores = len(os.sched_getaffinity(0))
    assert "NOT reached (it would take 1.50 s; of our 2.00 s" in outcome.verdict
    assert f"used 1.25 s of CPU and we 1.50 s, together no less than {2.75 / cores:.2f} s" in outcome.verdict
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert (line["ours_cpu_s"], line["server_cpu_s"], line["peer_cpu_s"], line["peer_server_cpu_s"]) == (1.5, 1.25, 5.0, 2.0)
    assert "| peer | 6.00 | 6.00 - 6.00 | 3.00 | 5.00, 2.00 |" in outcome.table


WATCHED = """
import subprocess, sys
from tests.bench.cost import Watch, keep_orphans, started

def program(text):
    return [sys.executable, "-c", text]

def burning(seconds):
    return program(f"import time\\nwhile time.process_time() < {seconds}: pass")

pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
serving = f"import subprocess\\nwhile input(): subprocess.run({burning(1.0)}); print(flush=True)"
server = subprocess.Popen(program(serving), **pipes)
keep_orphans()
with Watch(started()) as watch:
    # Its parent ends at once, and nobody waits for it but for the end of its output.
    subprocess.run(program(f"import subprocess; subprocess.Popen({burning(0.3)})"), stdout=subprocess.PIPE, check=True)
    server.stdin.write(b"work\\n")
    server.stdin.flush()
    server.stdout.readline()
server.kill()
print(watch.cost.own_cpu, watch.cost.server_cpu)
"""


def test_the_cpu_of_what_was_left_behind_is_counted_and_servers_are_counted_apart() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    own, servers = map(float, done.stdout.split())
    assert 0.3 <= own < 1.0 <= servers < 1.3, (own, servers)  # interpreters that start add to both


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
