"""A rehearsal of the benches, so that they do not rot: a few files, one round, and no time decides anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.copying import KIB, LOADS, OURS, measure, table
from tests.bench.peers.copying import TOOLS, Curl, Lftp
from tests.servers import need


class Slow(Curl):
    most_over_ftps = 2


@pytest.mark.parametrize("name", ["sftp-small", "ftps-small"])
def test_every_tool_that_is_here_brings_the_right_bytes_both_ways(name: str) -> None:
    for program, package in (("sftp", "openssh-client"), ("lftp", "lftp"), ("curl", "curl")):
        need(program, package)
    load = replace(LOADS[name].scaled(0.001), at_once=2)
    tools = TOOLS
    if name == "ftps-small":  # and what is slow there brings a part
        tools = tuple(Slow if kind is Curl else kind for kind in TOOLS)
        load = replace(load, files=5, size=KIB)
    lines = measure(load, 1, tools)
    assert [line.part for line in lines if line.part] == ([2, 2] if load.protocol == "ftps" else [])
    # What is compared with, and may be missing, is told as missing; what is here must do its work.
    absent = ("not installed (Debian's package rclone)", "speaks SFTP only")
    problems = {line.tool: line.problem for line in lines if line.problem and line.problem not in absent}
    assert problems == {}
    assert {line.direction for line in lines if line.tool == OURS} == {"down", "up"}
    shown = table(name, load, 1, lines)
    assert shown.count(f"| {OURS} |") == 2 and "lftp 4" in shown


def test_a_tool_that_brings_other_bytes_is_told_and_has_no_time() -> None:
    need("lftp", "lftp")

    class Mangling(Lftp):
        def fetch(self, folder: str, local: Path) -> None:
            super().fetch(folder, local)
            next(local.iterdir()).write_bytes(b"other bytes")

        def put(self, local: Path, folder: str) -> None:
            """Does nothing at all."""

    load = replace(LOADS["sftp-small"], files=3, size=KIB)
    down, up = (line for line in measure(load, 1, (Mangling,)) if line.tool != OURS)
    assert (down.seconds, up.seconds) == ([], [])
    assert "1 files have other bytes" in down.problem and "3 files are missing" in up.problem
