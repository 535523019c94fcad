"""``intake-small``, ``-medium``, ``-large``, ``-naive``: price lists from OpenSSH into a repository, beside scripts for the job.

The job: name, sha256, five columns of every row, a multipart post, a rename at the source. The large files are videos, of which nobody
looks at more than the beginning, so they may be streamed. Ours is a whole flow run with a Prefect server: looked at until
nobody writes any more, leased, kept in the spool and in the ledger, filed with category values and an identity, moved once the
ledger has it. It runs as a worker runs it: each run in a fork of its own of a process that has everything imported (``ours``); cold is
``countersign run intake --local``.

Everybody's clock runs while a warm process is asked for a turn, until its answer: with ours while the run is made known to Prefect's
server, forked and taken up, until its flow is through. What a worker does before that is left out (to look for runs every so often, to
see whether its own code is stale, to import the deployment's entry point: the bench ``trigger`` tells all of it), and so are the
lines that a run logs at INFO. The peak that is told is of that fork alone, with what it shares with the process it is a fork of.

All post to one sink and fetch from one server, everything lies in memory where there is room, and after each turn the sink has
every file's digest and the source none of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import numpy as np
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_LEVEL, temporary_settings
from prefect.states import Pending

from blocks.settings import settings
from deployments.worker.zygote import SETTINGS
from tasks import connections
from tests.bench.cost import Cost, Watch, started
from tests.bench.peers import lftp_curl
from tests.bench.race import Contender, Failed, Goal, Outcome, race
from tests.bench.sink import Received, Sink, sink
from tests.environment import NotMade, python_of
from tests.servers import find
from tests.servers.openssh import OpenSsh, openssh_server
from tests.servers.prefect import PrefectServer, serve

KIB, MIB = 1024, 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).parent / "peers"
OURS, THEIRS = ("Bench", "Ours"), ("Bench", "Theirs")
HEADER = b"sku,description,currency,price,valid_from\n"
ROWS = 16_384
"""So many rows are made at a time."""
TUTORIAL_FILES = 60
"""So many files the tutorial's flow brings in, where there are more; its time is multiplied."""


# ----------------------------------------------------------------------------------------------------- what is carried


def price_list(number: int, size: int) -> Iterator[bytes]:
    """A good price list of just ``size`` bytes, in pieces. Every number gives other articles, and each row its own values."""
    yield HEADER
    left, block = size - len(HEADER), 0
    while True:
        rows = _rows(number, block)
        width = rows.shape[1]
        count = min(len(rows), (left - 2 * width) // width)
        if count > 0:
            yield rows[:count].tobytes()
            left -= count * width
        if count < len(rows):
            break
        block += 1
    last = f"{number:06d}{block:04d}{ROWS:05d},,EUR,1.50,2026-12-01\n"
    yield last.replace(",,", f",{'x' * (left - len(last))},").encode()


def _rows(number: int, block: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``ROWS`` rows of a price list, a line of the array each. The array is used again for the next ones."""
    rows = _template()
    rows[:, :10] = np.frombuffer(f"{number:06d}{block:04d}".encode(), np.uint8)
    return rows


@cache
def _template() -> np.ndarray[Any, np.dtype[np.uint8]]:
    lines = [f"{0:06d}{0:04d}{row:05d},Bolt M{row:05d},EUR,1{row:05d}.50,2026-12-01\n" for row in range(ROWS)]
    return np.frombuffer(bytearray("".join(lines).encode()), np.uint8).reshape(ROWS, -1)


def video(number: int, size: int) -> Iterator[bytes]:
    """What begins as a video does, and is of just ``size`` bytes, in pieces. Every number gives others."""
    yield b"\0\0\0\x18ftypisom\0\0\2\0isomiso2"
    left, block = size - 24, 0
    while left:
        piece = (b"%06d%06d" % (number, block) + _noise())[:left]
        yield piece
        left, block = left - len(piece), block + 1


@cache
def _noise() -> bytes:
    return random.Random(1).randbytes(MIB)


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of document is brought in."""

    doctype: str
    prefix: str
    suffix: str
    content: Callable[[int, int], Iterator[bytes]]

    def name(self, number: int) -> str:
        return f"{self.prefix}_{number:06d}.{self.suffix}"

    @property
    def pattern(self) -> str:
        return rf"{self.prefix}_\d{{6}}\.{self.suffix}"


PRICES = Kind("price-list", "prices", "csv", price_list)
VIDEOS = Kind("video", "clip", "mp4", video)


# ----------------------------------------------------------------------------------------------------- the benches


@dataclass(frozen=True, slots=True)
class Load:
    """What is brought in, and what we mean to reach. ``naive``: beside the tutorial's flow, else beside the scripts. ``finding``: a row
    of one file in the middle is bad, beside ours where none is."""

    files: int
    size: int
    goal: Goal | None = None
    naive: bool = False
    kind: Kind = PRICES
    finding: bool = False

    @property
    def shown(self) -> str:
        size = f"{self.size / MIB:g} MiB" if self.size >= MIB else f"{self.size / KIB:g} KiB"
        finding = f", a bad row in file {self.files // 2:,}" if self.finding else ""
        return f"{self.files:,} {self.kind.suffix.upper()} x {size} from SFTP into the repository{finding}"

    def scaled(self, scale: float) -> Load:
        """A part of it, for a rehearsal: fewer files, and smaller ones where they are large."""
        if self.size < 2 * MIB:
            return replace(self, files=max(2, int(self.files * scale)))
        return replace(self, size=max(9 * MIB, int(self.size * scale)))


LOADS: Mapping[str, Load] = {
    "intake-small": Load(1000, 4 * KIB, Goal(2)),
    "intake-medium": Load(200, MIB, Goal(1.5)),
    "intake-large": Load(4, 256 * MIB, Goal(1.5, peak_mib=250), kind=VIDEOS),
    "intake-one-finding": Load(1000, 4 * KIB, Goal(round(1 / 1.2, 2)), finding=True),
    "intake-naive": Load(1000, 4 * KIB, Goal(20), naive=True),
}


def main(rounds: int, *, name: str, scale: float = 1.0) -> Outcome:
    load = LOADS[name].scaled(scale)
    with course(load) as run:
        outcome = run.race(name, rounds)
        print(run.where_the_time_goes())
        return outcome


@contextmanager
def course(load: Load) -> Iterator[Course]:
    """Servers of their own, and all contenders, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_roomy(4 * load.files * load.size)) as scratch:
        base = Path(scratch)
        with (
            openssh_server(base / "ssh") as server,
            serve(base / "prefect") as prefect,
            sink() as there,
            entered(base, server, prefect, there, load) as run,
        ):
            yield run


@contextmanager
def entered(base: Path, server: OpenSsh, prefect: PrefectServer, there: Sink, load: Load) -> Iterator[Course]:
    """An installation of ours on these servers, and the peers' processes, while the block runs."""
    environment = {
        "COUNTERSIGN_HOME": str(base / "home"),
        "COUNTERSIGN_PROFILES": str(base / "profiles"),
        "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
        "SINK_PASSWORD": there.password,
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    spoken: dict[Any, Any] = {PREFECT_API_URL: prefect.url, PREFECT_LOGGING_LEVEL: "WARNING"}
    with ExitStack() as open_until, patch.dict(os.environ, environment), temporary_settings(spoken):
        _forget()
        run = Course(base, server, prefect, there, load, open_until)
        try:
            yield run
        finally:
            _forget()


def _forget() -> None:
    for cached in (settings, connections.quarantine):
        cached.cache_clear()


class Course:
    """The source, the sink, and those who carry files from one to the other."""

    def __init__(
        self, base: Path, server: OpenSsh, prefect: PrefectServer, there: Sink, load: Load, open_until: ExitStack
    ) -> None:
        self.base, self.server, self.prefect, self.sink, self.load, self._open = base, server, prefect, there, load, open_until
        self.source, self.done = server.root / "out", server.root / "done"
        self.source.mkdir(exist_ok=True)
        self.done.mkdir(exist_ok=True)
        self.made = 0
        """Files that were ever made: each has its own number, name and bytes."""
        self.last: UUID | None = None
        """Our last warm run."""
        self._servers = started()
        self.ours = there.folder(*OURS)
        self.theirs = there.folder(*THEIRS)
        self.job = job_of(server, self.source, self.done, there, self.theirs)
        _agree(base / "profiles", server, self.source, self.done, there, load)

    def race(self, bench: str, rounds: int, theirs: Sequence[Contender] | None = None, *, colds: bool = True) -> Outcome:
        """Everybody once uncounted, then by turns. ``theirs``: other peers than the bench's own."""
        ours = self.contender(finding=self.load.finding)
        theirs = self.peers() if theirs is None else theirs
        for one in (ours, *theirs):
            if one.turn is not None:
                self.uncounted(one)
        return race(bench, self.load.shown, ours, theirs, rounds=rounds, goal=self.load.goal, colds=colds)

    def uncounted(self, one: Contender) -> None:
        """A turn with few files: connections, schema, imports."""
        whole, self.load = self.load, replace(self.load, files=2, size=min(self.load.size, 9 * MIB))
        try:
            assert one.turn is not None
            one.turn()
        except Failed as failed:
            print(f"{one.name}: {failed}", file=sys.stderr)  # the race tells it too
        finally:
            self.load = whole

    # ------------------------------------------------------------------------------------------------- contenders

    def contender(self, *, finding: bool = False) -> Contender:
        """Ours. ``finding``: a file in the middle has a bad row, and is quarantined, alone."""
        from flows.intake import intake

        environment = self.prefect.environment(PREFECT_LOGGING_LEVEL="WARNING", **SETTINGS)
        warm = self._open.enter_context(Warm.started(sys.executable, "-m", "tests.bench.ours", env=environment))
        wanted = "Filed, 1 quarantined" if finding else "Filed"
        command = [sys.executable, "-m", "deployments.cli", "run", "intake", "--partner", "acme", "--stream", "price-lists"]

        def turn() -> Cost:
            told: dict[str, Any] = {}

            def work() -> None:
                with get_client(sync_client=True) as client:
                    asked = {"partner": "acme", "stream": "price-lists", "patience_seconds": 1}
                    self.last = client.create_flow_run(intake, parameters=asked, state=Pending()).id
                told.update(warm.bring({"run": str(self.last)}))
                if told.get("state") != wanted:
                    raise Failed(f"ended as {told}, and not as {wanted}")

            try:
                cost = self.turn(work, self.ours, finding=finding)
            finally:
                ended = warm.heard() if "state" in told else told  # left unread, the next turn would take it for its own answer
            if ended != {"status": 0}:
                raise Failed(f"its process ended with {ended}")
            return replace(cost, peak_mib=told["peak_mib"])

        def cold() -> None:
            done = subprocess.run(
                [*command, "--local"], timeout=600, capture_output=True, text=True, cwd=ROOT, env=self.prefect.environment()
            )
            assert done.returncode == 0, done.stdout + done.stderr

        if finding:
            return Contender("ours", turn)
        return Contender("ours", turn, cold=lambda: self.turn(cold, self.ours))

    def peers(self) -> list[Contender]:
        if self.load.finding:
            return [replace(self.contender(), name="ours without the bad row", cold=None)]
        if self.load.naive:
            return [self.tutorial()]
        return [*self.scripts(), self.shell()]

    def scripts(self) -> list[Contender]:
        return [
            self.script("asyncio script", "asyncio_script"),
            self.script("tuned script (polars, own framing)", "tuned_script", counts=False),
        ]

    def script(self, name: str, module: str, *, counts: bool = True) -> Contender:
        """One of the two scripts of asyncssh and httpx."""
        try:
            python = python_of("peers", PEERS / "requirements.txt")
        except NotMade as trouble:
            return Contender(name, None, str(trouble), counts=counts)
        command = (str(python), "-m", f"tests.bench.peers.{module}")
        warm = self._open.enter_context(Warm.started(*command))

        def cold() -> None:
            with Warm.started(*command) as starting:
                starting.bring(self.job)

        return Contender(
            name,
            lambda: self.turn(lambda: warm.bring(self.job), self.theirs),
            cold=lambda: self.turn(cold, self.theirs),
            counts=counts,
        )

    def shell(self) -> Contender:
        """lftp and curl, which look at no row: shown, and not what we are measured by."""
        if missing := [program for program in ("lftp", "curl") if not find(program)]:
            return Contender("lftp and curl", None, f"{missing[0]} is not installed", counts=False)
        scratch = self.base / "shell"
        return Contender(
            "lftp and curl (no rows checked)",
            lambda: self.turn(lambda: lftp_curl.intake(self.job, scratch), self.theirs),
            counts=False,
        )

    def tutorial(self) -> Contender:
        """A Prefect flow with a task per step and file. It brings in a part, and its time is multiplied."""
        environment = self.prefect.environment(PREFECT_LOGGING_LEVEL="WARNING")
        warm = self._open.enter_context(Warm.started(sys.executable, "-m", "tests.bench.peers.naive_flow", env=environment))
        part = min(TUTORIAL_FILES, self.load.files)

        def turn() -> Cost:
            whole, self.load = self.load, replace(self.load, files=min(part, self.load.files))
            try:
                cost = self.turn(lambda: warm.bring(self.job), self.theirs)
                return cost.times(whole.files / self.load.files)
            finally:
                self.load = whole

        name = "a tutorial's flow" + (f" (with {part} files, time in proportion)" if part < self.load.files else "")
        return Contender(name, turn)

    # ------------------------------------------------------------------------------------------------- one turn

    def turn(self, work: Callable[[], None], folder: int, *, finding: bool = False) -> Cost:
        """New files, the work timed, everything verified, and all tidied up. Raises ``Failed`` if a byte is not where it must be."""
        wanted, set_aside = dict(self._fill()), _set_aside()
        refused = dict([self._spoil()]) if finding else {}
        _quiet(self.prefect.process.pid)
        try:
            with Watch(self._servers) as watch:
                work()
            self._verify({name: one for name, one in wanted.items() if name not in refused}, folder)
            aside = [path for journey, path in _set_aside().items() if journey not in set_aside]
            if [_received(path) for path in aside] != [*refused.values()]:
                raise Failed(f"{len(aside)} files were quarantined, or others than should be")
        finally:
            self.sink.forget(folder)
            for place in (self.source, self.done):
                for path in place.iterdir():
                    path.unlink()
        return watch.cost

    def _fill(self) -> Iterator[tuple[str, Received]]:
        for _ in range(self.load.files):
            self.made += 1
            name, digest = self.load.kind.name(self.made), sha256()
            with (self.source / name).open("wb") as file:
                for piece in self.load.kind.content(self.made, self.load.size):
                    digest.update(piece)
                    file.write(piece)
            yield name, Received(self.load.size, digest.hexdigest())

    def _spoil(self) -> tuple[str, Received]:
        """Make one row bad, of the file in the middle; the file's size stays."""
        path = self.source / self.load.kind.name(self.made - self.load.files + self.load.files // 2)
        good, _, last = path.read_bytes().rpartition(b",EUR,")
        path.write_bytes(good + b",eur," + last)
        return path.name, _received(path)

    def _verify(self, wanted: Mapping[str, Received], folder: int) -> None:
        received = self.sink.received(folder)
        if received.keys() != wanted.keys():
            missing, more = wanted.keys() - received.keys(), received.keys() - wanted.keys()
            raise Failed(f"{len(missing)} files are missing at the repository, {len(more)} too many")
        if bad := [name for name, there in received.items() if there != wanted[name]]:
            raise Failed(f"{len(bad)} files have other bytes at the repository, such as {bad[0]}")
        left, moved = {path.name for path in self.source.iterdir()}, {path.name for path in self.done.iterdir()}
        if left or moved != wanted.keys():
            raise Failed(f"{len(left)} files are left at the source, {len(wanted.keys() - moved)} were not moved")

    def where_the_time_goes(self) -> str:
        """Seconds per task of the last warm run, from Prefect's own record. Steps overlap: they add up to more than the whole."""
        assert self.last is not None
        with get_client(sync_client=True) as client:
            last = client.read_flow_run(self.last)
            tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[last.id])), limit=200)
        spent: dict[str, float] = {}
        for task in tasks:
            name = task.task_key.partition("-")[0]
            spent[name] = spent.get(name, 0.0) + task.total_run_time.total_seconds()
        parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(spent.items(), key=lambda pair: -pair[1]))
        return f"where our time goes (a whole run {last.total_run_time.total_seconds():.2f} s, steps overlap): {parts}"


class Warm:
    """A peer's process that has everything imported, and is told its job over a pipe."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log

    @classmethod
    @contextmanager
    def started(cls, *command: str, env: Mapping[str, str] | None = None) -> Iterator[Warm]:
        with tempfile.NamedTemporaryFile() as log:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
            assert process.stdin and process.stdout
            try:
                yield cls(process, Path(log.name))
            finally:
                process.stdin.close()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)
                process.stdout.close()

    def bring(self, job: Mapping[str, Any]) -> Any:
        """Have it do everything; what it says then. Raises ``Failed`` with the end of its log."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended before, and its log says why
        return self.heard()

    def heard(self) -> Any:
        """What it says next. Raises ``Failed`` with the end of its log."""
        assert self._process.stdout
        if not (answer := self._process.stdout.readline()):
            said = self._log.read_text(errors="replace").strip().splitlines()
            raise Failed(f"ended with {self._process.wait(30)}: {said[-1] if said else 'it says nothing'}")
        return json.loads(answer)


def _set_aside() -> dict[str, Path]:
    """Journeys in our quarantine, and where their bytes are."""
    kept = connections.quarantine()
    return {journey: path for journey in kept.journeys() if (path := kept.content(journey))}


def _received(path: Path) -> Received:
    content = path.read_bytes()
    return Received(len(content), sha256(content).hexdigest())


def job_of(server: OpenSsh, source: Path, done: Path, there: Sink, parent: int) -> Mapping[str, Any]:
    """What the peers are told: the fields of ``scripts.Job``."""
    return {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "key": str(server.private_key),
        "source": str(source),
        "done": str(done),
        "url": there.url,
        "login": there.user,
        "password": there.password,
        "parent": parent,
    }


def _agree(profiles: Path, server: OpenSsh, source: Path, done: Path, there: Sink, load: Load) -> None:
    """What our installation knows of the partner and the repository."""
    drop = {
        "protocol": "sftp",
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "private_key": f"file:{server.private_key}",
        "host_keys": [server.fingerprint],
    }
    # What nobody looks at whole may pass straight through; then nothing can name its digest before it is there.
    straight = load.kind is VIDEOS
    passing = {"duplicates": "file", "ordered": False} if straight else {}
    told = {} if straight else {"SHA-256": "{digest}"}
    stream = {
        "endpoint": "drop",
        "folder": str(source),
        "settle": {"quiet": "PT0S"},
        "naming": load.kind.pattern,
        "classify": [{"pattern": ".*", "doctype": load.kind.doctype}],
        "disposition": {"accepted": "move", "folder": str(done)},
        "target": {
            "repository": "ecm",
            "folder": "/".join(OURS),
            "categories": {"Partner Document": {"Partner ID": "{partner}", **told}},
        },
        "run_files": max(10_000, load.files),  # all of them in one run
        **passing,
    }
    partner = {"name": "acme", "title": "ACME", "endpoints": {"drop": drop}, "streams": {"price-lists": stream}}
    repository = {"kind": "extended-ecm", "url": there.url, "username": there.user, "password": "env:SINK_PASSWORD"}
    profiles.mkdir(exist_ok=True)
    (profiles / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))
    (profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"ecm": repository}}))


def _quiet(process: int, seconds: float = 30) -> None:
    """Wait until a server has done what it still does about an earlier turn, so that no other turn pays for that."""
    until = time.monotonic() + seconds
    before = _ticks(process)
    while time.monotonic() < until:
        time.sleep(0.2)
        now = _ticks(process)
        if now - before <= 2:  # of 20
            return
        before = now


def _ticks(process: int) -> int:
    """Hundredths of a second that a process has used of the CPU."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def _roomy(needed: int) -> str | None:
    """In memory where there is room, so that no disk is measured."""
    memory = "/dev/shm"
    return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > needed else None
