"""A rehearsal of the intake benches: a few files, one round, and no time decides anything."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import pytest

from tests.bench.intake import (
    KIB,
    LOADS,
    MIB,
    PEERS,
    PRICES,
    ROOT,
    VIDEOS,
    Course,
    Kind,
    course,
    entered,
    job_of,
    price_list,
)
from tests.bench.peers import lftp_curl
from tests.bench.plot import svg
from tests.bench.race import Contender, Failed
from tests.bench.sink import Received, sink
from tests.environment import NotMade, python_of
from tests.servers import lacking
from tests.servers.openssh import OpenSsh
from tests.servers.prefect import PrefectServer


@contextmanager
def small_course(base: Path, openssh: OpenSsh, prefect: PrefectServer, bench: str, *, files: int) -> Iterator[Course]:
    """A bench's course with a few files, in a folder of its own at the tests' OpenSSH."""
    server = replace(openssh, root=openssh.root / f"bench-{uuid4().hex[:8]}")
    server.root.mkdir()
    with sink() as there, entered(base, server, prefect, there, replace(LOADS[bench], files=files)) as run:
        yield run


def test_ours_the_shell_and_the_tutorial_bring_in_the_right_bytes_and_who_does_not_is_told(
    tmp_path: Path, openssh: OpenSsh, prefect_server: PrefectServer
) -> None:
    with small_course(tmp_path, openssh, prefect_server, "intake-naive", files=3) as run:

        def only_writes() -> None:
            for path in list(run.source.iterdir()):
                path.write_bytes(b"other bytes")

        lazy = Contender("lazy", lambda: run.turn(only_writes, run.theirs))
        outcome = run.race("intake-naive", 1, [run.shell(), run.tutorial(), lazy], colds=False)
    lines = {line.name: line for line in outcome.theirs}
    assert "3 files are missing at the repository" in lines.pop("lazy").problem
    assert [line.problem for line in (outcome.ours, *lines.values())] == ["", "", ""]
    assert outcome.best is not None and outcome.best.name == "a tutorial's flow"


def test_a_bad_row_has_its_file_quarantined_alone_and_who_files_it_is_told(
    tmp_path: Path, openssh: OpenSsh, prefect_server: PrefectServer
) -> None:
    with small_course(tmp_path, openssh, prefect_server, "intake-one-finding", files=4) as run:
        outcome = run.race("intake-one-finding", 1)
        assert [line.problem for line in (outcome.ours, *outcome.theirs)] == ["", ""]
        with pytest.raises(Failed, match="0 files are missing at the repository, 1 too many"):
            run.turn(lambda: lftp_curl.intake(run.job, tmp_path / "shell"), run.theirs, finding=True)  # it looks at no row


ONE_JOB = """
import asyncio, json, sys
from tests.bench.peers.scripts import Job, run
from tests.bench.peers.{script} import bring

async def told(job, sftp, http, name, size):
    await bring(job, sftp, http, name, size + {more})

print(asyncio.run(run(Job(**json.load(sys.stdin)), told)))
"""
BAD_ROW = b"A 1,Bolt,EUR,1.50,2026-12-01\n"


@pytest.fixture(scope="module")
def peers() -> str:
    """The interpreter of the scripts' own environment."""
    try:
        return str(python_of("peers", PEERS / "requirements.txt"))
    except NotMade as trouble:
        lacking(str(trouble))


@pytest.mark.parametrize("script", ["asyncio_script", "tuned_script"])
@pytest.mark.parametrize(
    ("file", "more", "said"),
    [
        pytest.param((PRICES, 4 * KIB, b""), 0, "", id="a small table is brought in"),
        pytest.param((PRICES, 100 * KIB, b""), 0, "", id="a larger table is brought in"),
        pytest.param((VIDEOS, 9 * MIB, b""), 0, "", id="a video is brought in"),
        pytest.param((PRICES, 4 * KIB, BAD_ROW), 0, "ValueError: line ", id="a bad row in a small table stops it"),
        pytest.param((PRICES, 100 * KIB, BAD_ROW), 0, "ValueError: ", id="a bad row in a larger table stops it"),
        pytest.param((PRICES, 100 * KIB, b"A1,Bolt,EUR,1.50,2026-02-30\n"), 0, "Error: ", id="a day that is none stops it"),
        pytest.param((PRICES, 4 * KIB, b""), 1, "4096 of 4097 bytes", id="a small table that is short stops it"),
        pytest.param((VIDEOS, 9 * MIB, b""), 1, f"{9 * MIB} of {9 * MIB + 1} bytes", id="a video that is short stops it"),
    ],
)
def test_a_script_brings_in_what_is_good_and_nothing_else(
    script: str, file: tuple[Kind, int, bytes], more: int, said: str, peers: str, openssh: OpenSsh
) -> None:
    kind, size, last = file
    content = b"".join(kind.content(1, size)) + last
    base = openssh.root / f"bench-{uuid4().hex[:8]}"
    source, done = base / "out", base / "done"
    source.mkdir(parents=True)
    done.mkdir()
    (source / kind.name(1)).write_bytes(content)
    with sink() as there:
        folder = there.folder("Bench", "Theirs")
        ran = subprocess.run(
            [peers, "-c", ONE_JOB.format(script=script, more=more)],
            input=json.dumps(job_of(openssh, source, done, there, folder)),
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            check=False,
        )
        received = there.received(folder)
    wanted = {} if said else {kind.name(1): Received(len(content), sha256(content).hexdigest())}
    assert (ran.returncode, ran.stdout, received) == (int(bool(said)), "" if said else "1\n", wanted), ran.stderr
    assert said in ran.stderr
    assert [path.parent.name for path in base.glob("*/*")] == ["out" if said else "done"]


@pytest.mark.soak
@pytest.mark.parametrize("name", LOADS)
def test_everybody_brings_in_the_right_bytes(name: str) -> None:
    with course(LOADS[name].scaled(0.01)) as run:
        outcome = run.race(name, 1)
        assert [line.problem for line in (outcome.ours, *outcome.theirs)] == [""] * (1 + len(outcome.theirs))
        assert "pick_up" in run.where_the_time_goes()


@pytest.mark.parametrize("size", [4096, MIB + 7])
def test_a_price_list_has_its_size_and_every_value_once(size: int) -> None:
    one, other = (b"".join(price_list(number, size)) for number in (1, 2))
    assert len(one) == len(other) == size
    rows = list(csv.reader(io.StringIO(one.decode(), newline="")))
    assert {len(row) for row in rows} == {5}
    skus = {row[0] for row in rows} | {row[0] for row in csv.reader(io.StringIO(other.decode(), newline=""))}
    assert len(skus) == 2 * len(rows) - 1  # the header is the same


def test_a_picture_has_a_line_for_everybody_and_names_that_cannot_break_it() -> None:
    drawn = svg("Seconds", {"ours": [(100, 0.5), (20_000, 30)], "<peer> & co": [(100, 1.5)]}, {100: "100", 20_000: "20,000"})
    root = ElementTree.fromstring(drawn)
    [ours, peer] = [line.attrib["points"] for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    start, end = (tuple(map(float, point.split(","))) for point in ours.split())
    assert start[0] < end[0] and start[1] > end[1]  # more files to the right, more seconds up
    assert peer.split()[0].split(",")[0] == ours.split()[0].split(",")[0]
    assert "<peer> & co" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
