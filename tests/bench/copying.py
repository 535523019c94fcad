"""Whole folders from a server (``...-fetch-...``) and to it (``...-put-...``), beside the tools a user would pick instead.

Ours is what a worker does with a consignment: a session of its own (host key or certificate compared, signed in), look, fetch into the
spool (every byte hashed, complete ones made safe together), or put (temporary name, size checked, renamed; a name that is taken is
refused). Like a worker it has its imports behind it; the others are programs that start. Theirs only copy.

Servers: OpenSSH, and vsftpd that requires TLS with the reuse of its session on every data connection. All of it is on loopback, in memory
where there is room. After each run, when the clock stands still, what arrived is listed and the bytes of every file are compared, whoever
brought them.
"""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from blocks.endpoints.base import Endpoint
from blocks.endpoints.ftp import Ftps
from blocks.endpoints.sftp import Sftp
from blocks.spool import Spool
from blocks.values import Fetched, Outgoing, Placed
from tests.bench.cost import Cost, Watch, started
from tests.bench.peers.copying import TOOLS, Tool
from tests.bench.race import Contender, Failed, Goal, Outcome, race
from tests.servers.far import far
from tests.servers.ftp import PASSWORD, Ftp, vsftpd_server
from tests.servers.openssh import OpenSsh, openssh_server

KIB, MIB = 1024, 1024 * 1024
OURS = "ours"

Arrived: TypeAlias = Callable[[], Mapping[str, Path]]
"""What arrived and where it lies, by name: asked for when the clock stands still, for nothing is carried by telling it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is carried, and what we mean to reach beside the tools that ``against`` names (the others are shown)."""

    protocol: str
    direction: str
    files: int
    size: int
    at_once: int
    """Connections at a time: a partner's usual limit for FTP, and what SFTP servers take without asking."""
    goal: Goal | None = None
    against: frozenset[str] = frozenset({"sftp", "lftp", "rclone", "curl"})
    round_trip_ms: float = 0.0
    """How far away the server is."""

    def scaled(self, scale: float) -> Load:
        """A part of it, for a rehearsal: fewer small files, a smaller large one."""
        if self.files > 1:
            return replace(self, files=max(2, int(self.files * scale)))
        return replace(self, size=max(KIB, int(self.size * scale)))

    @property
    def shown(self) -> str:
        size = f"{self.size / MIB:g} MiB" if self.size >= MIB else f"{self.size / KIB:g} KiB"
        way = "from the server into the spool" if self.direction == "down" else "to the server, temporary names, renamed"
        far = f", {self.round_trip_ms:g} ms there and back" if self.round_trip_ms else ""
        return f"{self.files:,} x {size} {way}{far}"


NO_CURL = frozenset({"sftp", "lftp", "rclone"})
"""curl cannot list a folder: all names are given to it, for nothing, so it is shown and not counted where names are many."""
LOADS: Mapping[str, Load] = {
    "sftp-fetch-small": Load("sftp", "down", 5000, 4 * KIB, 8, Goal(6), NO_CURL),
    "sftp-put-small": Load("sftp", "up", 5000, 4 * KIB, 8, Goal(2.5)),
    "sftp-fetch-rtt": Load("sftp", "down", 200, 4 * KIB, 8, Goal(3), NO_CURL, round_trip_ms=20),
    "sftp-fetch-large": Load("sftp", "down", 1, 1024 * MIB, 8, Goal(1.2, peak_mib=150)),
    "sftp-put-large": Load("sftp", "up", 1, 1024 * MIB, 8, Goal(1, peak_mib=150)),
    "ftps-fetch-large": Load("ftps", "down", 1, 256 * MIB, 4, Goal(1), frozenset({"curl"})),
    "ftps-put-large": Load("ftps", "up", 1, 256 * MIB, 4),
    "ftps-fetch-small": Load("ftps", "down", 1000, 4 * KIB, 4, Goal(2)),
    "ftps-put-small": Load("ftps", "up", 1000, 4 * KIB, 4),
}


def main(rounds: int, *, name: str, scale: float = 1.0) -> Outcome:
    return run(name, LOADS[name].scaled(scale), rounds)


def run(name: str, load: Load, rounds: int, tools: Sequence[type[Tool]] = TOOLS, colds: bool = True) -> Outcome:
    """Every tool and ours. Raises ``Failed`` if a byte of ours was wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=roomy(3 * load.files * load.size)) as scratch,
        serving(load.protocol, Path(scratch), load.round_trip_ms) as (server, endpoint),
    ):
        course = Course(Path(scratch), server, endpoint, load)
        theirs = [course.contender(kind) for kind in tools]
        return race(name, load.shown, course.ours(), theirs, rounds=rounds, goal=load.goal, colds=colds)


@dataclass(frozen=True, slots=True)
class Job:
    """Ours: what a worker does with a consignment."""

    endpoint: Endpoint
    source: Path
    place: Path
    direction: str

    def do(self, digests: Mapping[str, str]) -> Arrived:
        """Carry everything."""
        return self.fetch() if self.direction == "down" else self.put(digests)

    def fetch(self) -> Arrived:
        spool = Spool(self.place, floor_bytes=0)
        with self.endpoint.session() as session, spool.batch() as batch:
            answers = list(session.fetch(list(session.look(str(self.source))), batch))
        return lambda: {one.file.shown: spool.place(one.digest) for one in answers if isinstance(one, Fetched)}

    def put(self, digests: Mapping[str, str]) -> Arrived:
        # Sizes and digests are the ledger's to know; what is sent is hashed again on its way.
        outgoing = [
            Outgoing(self.source / name, name.encode(), (self.source / name).stat().st_size, digest)
            for name, digest in digests.items()
        ]
        with self.endpoint.session() as session:
            answers = list(session.put(outgoing, str(self.place)))
        return lambda: {one.file.shown: self.place / one.file.shown for one in answers if isinstance(one, Placed)}


class Course:
    """A server with files, the same files here, and those who carry them."""

    def __init__(self, base: Path, server: OpenSsh | Ftp, endpoint: Endpoint, load: Load) -> None:
        self.base, self.server, self.endpoint, self.load = base, server, endpoint, load
        self._servers = started()
        down = load.direction == "down"
        self.source = (server.root if down else base) / "out"
        self.place = (base if down else server.root) / "target"
        self.source.mkdir()
        self.digests = dict(_fill(self.source, load))

    def ours(self) -> Contender:
        with self.endpoint.session() as session:  # once uncounted: imports
            list(session.look(str(self.server.root)))
        gc.freeze()  # as in the worker's forks: what was imported is not searched for garbage in a turn
        job = Job(self.endpoint, self.source, self.place, self.load.direction)
        return Contender(
            OURS,
            lambda: self._taken(lambda: job.do(self.digests), self.digests),
            cold=lambda: self._taken(lambda: _as_a_process(job, self.digests), self.digests),
        )

    def contender(self, kind: type[Tool]) -> Contender:
        """A tool. One that is very slow at this carries a part of the files, and its time is taken in proportion."""
        if missing := kind.lacks(self.server):
            return Contender(kind.program, None, lacks=missing)
        own = self.base / f"tool-{kind.__name__}"
        own.mkdir()
        tool, name, source, digests, times = (
            kind(self.server, own, self.load.at_once),
            kind.version(),
            self.source,
            self.digests,
            1.0,
        )
        most = kind.most_over_ftps if self.load.protocol == "ftps" else None
        if most and len(digests) > 2 * most:
            source, digests = self._part(most)
            name, times = f"{name} (with {most} files, times in proportion)", len(self.digests) / most

        def work() -> Arrived:
            if self.load.direction == "down":
                tool.fetch(str(source), self.place)
            else:
                tool.put(source, str(self.place))
            return lambda: {path.name: path for path in self.place.iterdir()}

        turn = lambda: self._taken(work, digests).times(times)  # noqa: E731 - as ours has one
        return Contender(name, turn, counts=kind.program in self.load.against)

    def _part(self, files: int) -> tuple[Path, Mapping[str, str]]:
        few = self.source.with_name(f"{self.source.name}-part")
        few.mkdir(exist_ok=True)
        names = list(self.digests)[:files]
        for name in names:
            shutil.copy(self.source / name, few)
        return few, {name: self.digests[name] for name in names}

    def _taken(self, work: Callable[[], Arrived], digests: Mapping[str, str]) -> Cost:
        """One turn: timed, and its bytes compared."""
        self.place.mkdir()
        try:
            with Watch(self._servers) as watch:
                arrived = work()
            if wrong := self._wrong(arrived(), digests):
                raise Failed(wrong)
        finally:
            shutil.rmtree(self.place)
        return watch.cost

    def _wrong(self, arrived: Mapping[str, Path], digests: Mapping[str, str]) -> str:
        """What is wrong with the files that arrived; "" if they are all there with their bytes, and nothing else is."""
        missing, more = digests.keys() - arrived.keys(), arrived.keys() - digests.keys()
        if self.load.direction == "up":
            more |= {path.name for path in self.place.iterdir()} - digests.keys()
        if missing or more:
            return f"{len(missing)} files are missing, {len(more)} too many"
        bad = [name for name, path in arrived.items() if not path.is_file() or _digest(path) != digests[name]]
        return f"{len(bad)} files have other bytes, such as {bad[0]}" if bad else ""


def _as_a_process(job: Job, digests: Mapping[str, str]) -> Arrived:
    """The same in an interpreter that starts for it. (Pickled: it is this very program on the other side.)"""
    code = "import pickle, sys; job, digests = pickle.load(sys.stdin.buffer); pickle.dump(job.do(digests)(), sys.stdout.buffer)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps((job, digests)), capture_output=True, timeout=300)
    if done.returncode:
        raise Failed(done.stderr.decode()[-500:])
    arrived: Mapping[str, Path] = pickle.loads(done.stdout)
    return lambda: arrived


@contextmanager
def serving(protocol: str, base: Path, round_trip_ms: float = 0.0) -> Iterator[tuple[OpenSsh | Ftp, Endpoint]]:
    if protocol == "sftp":
        with openssh_server(base / "server") as near, ExitStack() as stack:
            ssh = near
            if round_trip_ms:
                ssh = replace(near, port=stack.enter_context(far(near.port, round_trip_ms, base / "far.log")))
            yield (
                ssh,
                Sftp(
                    host=ssh.host,
                    port=ssh.port,
                    username=ssh.username,
                    private_key=f"file:{ssh.private_key}",
                    host_keys=(ssh.fingerprint,),
                ),
            )
        return
    with vsftpd_server(base / "server") as ftp:
        assert ftp.certificate is not None
        password = base / "password"
        password.write_text(PASSWORD)
        yield (
            ftp,
            Ftps(
                host=ftp.host,
                port=ftp.port,
                username=ftp.username,
                password=f"file:{password}",
                ca_file=ftp.certificate.authority,
            ),
        )


def _fill(folder: Path, load: Load) -> Iterator[tuple[str, str]]:
    """Files whose bytes do not compress or repeat: names and digests."""
    numbers = random.Random(load.files)
    for number in range(load.files):
        name, left, digest = f"prices_{number:05d}.csv", load.size, hashlib.sha256()
        with (folder / name).open("wb") as file:
            while left:
                data = numbers.randbytes(min(left, MIB))
                digest.update(data)
                file.write(data)
                left -= len(data)
        yield name, digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def roomy(needed: int) -> str | None:
    """In memory where there is room, so that no disk is measured."""
    memory = "/dev/shm"
    return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > needed else None
