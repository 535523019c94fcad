"""``sftp-small``, ``sftp-large``, ``ftps-large``, ``ftps-small``: whole folders down and up, beside the tools a user would pick instead.

Ours is what a worker does with a consignment: a session of its own (host key or certificate compared, signed in), look, fetch into the
spool (every byte hashed, complete ones made safe together), or put (temporary name, size checked, renamed; a name that is taken is
refused). Like a worker it has its imports behind it; the others are programs that start. Theirs only copy.

Servers: OpenSSH, and vsftpd that requires TLS with the reuse of its session on every data connection. All of it is on loopback, in memory
where there is room. After each run the bytes of every file are compared, whoever brought them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from blocks.endpoints.base import Endpoint
from blocks.endpoints.ftp import Ftps
from blocks.endpoints.sftp import Sftp
from blocks.spool import Spool
from blocks.values import Fetched, Outgoing, Placed
from tests.bench.peers.copying import TOOLS, Tool, ToolFailed
from tests.servers.ftp import PASSWORD, Ftp, vsftpd_server
from tests.servers.openssh import OpenSsh, openssh_server

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Load:
    """What is carried."""

    protocol: str
    files: int
    size: int
    at_once: int
    """Connections at a time: a partner's usual limit for FTP, and what SFTP servers take without asking."""

    def scaled(self, scale: float) -> Load:
        """A part of it, for a rehearsal: fewer small files, a smaller large one."""
        if self.files > 1:
            return replace(self, files=max(2, int(self.files * scale)))
        return replace(self, size=max(KIB, int(self.size * scale)))

    @property
    def shown(self) -> str:
        size = f"{self.size / MIB:g} MiB" if self.size >= MIB else f"{self.size / KIB:g} KiB"
        return f"{self.files:,} x {size}"


LOADS: Mapping[str, Load] = {
    "sftp-small": Load("sftp", 5000, 4 * KIB, 8),
    "sftp-large": Load("sftp", 1, 256 * MIB, 8),
    "ftps-large": Load("ftps", 1, 256 * MIB, 4),
    "ftps-small": Load("ftps", 1000, 4 * KIB, 4),
}
OURS = "ours"


@dataclass(slots=True)
class Line:
    """One tool in one direction."""

    tool: str
    direction: str
    seconds: list[float] = field(default_factory=list)
    """For all files, whether it carried them or a part."""
    part: int | None = None
    """So many files it carried in each round; None: all."""
    problem: str = ""
    """Why there is no time: it is not installed, cannot do this, or did not do it right."""

    @property
    def shown(self) -> str:
        return f"{self.tool} (with {self.part} files, times in proportion)" if self.part else self.tool

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def main(rounds: int, *, name: str, scale: float = 1.0) -> None:
    """Print a JSON line per peer and direction, and one table. Exits with 1 if a byte of ours was wrong."""
    load = LOADS[name].scaled(scale)
    lines = measure(load, rounds)
    ours = {line.direction: line for line in lines if line.tool == OURS}
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    for line in lines:
        if line.tool != OURS and line.seconds:
            mine = ours[line.direction].median
            told = {
                "bench": f"{name} {line.direction}",
                "ours_s": round(mine, 3),
                "peer": line.shown,
                "peer_s": round(line.median, 3),
            }
            print(json.dumps({**told, "ratio": round(line.median / mine, 2), "peak_mib": peak}))
    print(table(name, load, rounds, lines))


def table(name: str, load: Load, rounds: int, lines: list[Line]) -> str:
    """As Markdown. A ratio is theirs to ours: 2.00 means that ours took half the time."""
    ours = {line.direction: line for line in lines if line.tool == OURS}
    rows = [
        f"{name}: {load.shown}, {rounds} round{'s' if rounds > 1 else ''}, ours and theirs by turns, every byte compared",
        "",
        "| | tool | median s | least - most | ratio |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        if line.seconds:
            spread = f"{min(line.seconds):.2f} - {max(line.seconds):.2f}"
            ratio = "" if line.tool == OURS else f"{line.median / ours[line.direction].median:.2f}"
            rows.append(f"| {line.direction} | {line.shown} | {line.median:.2f} | {spread} | {ratio} |")
        else:
            rows.append(f"| {line.direction} | {line.shown} | - | - | {line.problem} |")
    return "\n".join([*rows, ""])


def measure(load: Load, rounds: int, tools: Sequence[type[Tool]] = TOOLS) -> list[Line]:
    """Every tool in both directions, one after another within each round, beginning with another one each time."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=_roomy(8 * load.files * load.size)) as scratch,
        _serving(load.protocol, Path(scratch)) as (server, endpoint),
    ):
        return Course(Path(scratch), server, endpoint, load, tools).run(rounds)


class Course:
    """A server with files, the same files here, and those who carry them."""

    def __init__(
        self, base: Path, server: OpenSsh | Ftp, endpoint: Endpoint, load: Load, tools: Sequence[type[Tool]] = TOOLS
    ) -> None:
        self.base, self.server, self.endpoint = base, server, endpoint
        self.source, self.originals = server.root / "out", base / "originals"
        self.source.mkdir()
        self.originals.mkdir()
        self.digests = dict(_fill(self.originals, load))
        for path in self.originals.iterdir():
            shutil.copy(path, self.source)
        self.part = _part(load, tools)
        if self.part:
            for whole in (self.source, self.originals):
                few = whole.with_name(f"{whole.name}-part")
                few.mkdir()
                for name in list(self.digests)[: self.part]:
                    shutil.copy(whole / name, few)
        self.lines: list[Line] = []
        ours = {"down": self._ours_down, "up": self._ours_up}
        self.work: dict[tuple[str, str], Callable[[Path], Mapping[str, Path]]] = {
            (OURS, direction): work for direction, work in ours.items()
        }
        lacking, parts = {}, dict[str, int]()
        for kind in tools:
            if missing := kind.lacks(server):
                lacking[kind.program] = missing
                continue
            own = base / f"tool-{kind.program}"
            own.mkdir()
            tool = kind(server, own, load.at_once)
            source, originals = self.source, self.originals
            if self.part and kind.most_over_ftps:
                source, originals = (whole.with_name(f"{whole.name}-part") for whole in (source, originals))
                parts[kind.version()] = self.part
            self.work |= {(kind.version(), "down"): _down(tool, source), (kind.version(), "up"): _up(tool, originals)}
        for direction in ours:
            self.lines += [Line(name, way, part=parts.get(name)) for name, way in self.work if way == direction]
            self.lines += [Line(program, direction, problem=missing) for program, missing in lacking.items()]

    def run(self, rounds: int) -> list[Line]:
        with self.endpoint.session() as session:  # once uncounted: imports
            list(session.look(str(self.source)))
        for number in range(rounds):
            for direction in ("down", "up"):
                taking_part = [line for line in self.lines if line.direction == direction and not line.problem]
                first = number % len(taking_part)
                for line in taking_part[first:] + taking_part[:first]:
                    self._take(line)
        return self.lines

    def _take(self, line: Line) -> None:
        """One run, timed, and its bytes compared. Ours must be right; what theirs does not do is told instead of a time."""
        place = (self.base if line.direction == "down" else self.server.root) / "target"
        place.mkdir()
        start = time.perf_counter()
        try:
            arrived = self.work[line.tool, line.direction](place)
            line.seconds.append((time.perf_counter() - start) * len(self.digests) / (line.part or len(self.digests)))
            line.problem = self._wrong(arrived, list(self.digests)[: line.part])
        except ToolFailed as failed:
            line.problem = str(failed)
        finally:
            shutil.rmtree(place)
        if line.problem:
            line.seconds = []
            assert line.tool != OURS, line.problem
        print(f"{line.direction}: {line.tool}: {line.problem or f'{line.seconds[-1]:.2f} s'}", file=sys.stderr)

    def _wrong(self, arrived: Mapping[str, Path], sent: Sequence[str]) -> str:
        """What is wrong with the files that arrived; "" if they are all there with their bytes, and nothing else is."""
        if arrived.keys() != set(sent):
            return f"{len(set(sent) - arrived.keys())} files are missing, {len(arrived.keys() - set(sent))} too many"
        bad = [name for name, path in arrived.items() if _digest(path) != self.digests[name]]
        return f"{len(bad)} files have other bytes, such as {bad[0]}" if bad else ""

    def _ours_down(self, place: Path) -> Mapping[str, Path]:
        spool = Spool(place, floor_bytes=0)
        with self.endpoint.session() as session, spool.batch() as batch:
            answers = list(session.fetch(list(session.look(str(self.source))), batch))
        return {answer.file.shown: spool.path(answer.digest) for answer in answers if isinstance(answer, Fetched)}

    def _ours_up(self, place: Path) -> Mapping[str, Path]:
        # Sizes and digests are the ledger's to know; what is sent is hashed again on its way.
        size = {name: (self.originals / name).stat().st_size for name in self.digests}
        outgoing = [Outgoing(self.originals / name, name.encode(), size[name], digest) for name, digest in self.digests.items()]
        with self.endpoint.session() as session:
            answers = list(session.put(outgoing, str(place)))
        stand = {path.name: path for path in place.iterdir()}
        said = {answer.file.shown for answer in answers if isinstance(answer, Placed)}
        return stand if said == stand.keys() else {}


def _part(load: Load, tools: Sequence[type[Tool]]) -> int | None:
    """So many of the files make the part that the slowest tools carry; None if there are not many more."""
    most = min((kind.most_over_ftps for kind in tools if kind.most_over_ftps), default=load.files)
    return most if load.protocol == "ftps" and load.files > 2 * most else None


def _down(tool: Tool, source: Path) -> Callable[[Path], Mapping[str, Path]]:
    def work(place: Path) -> Mapping[str, Path]:
        tool.fetch(str(source), place)
        return {path.name: path for path in place.iterdir()}

    return work


def _up(tool: Tool, originals: Path) -> Callable[[Path], Mapping[str, Path]]:
    def work(place: Path) -> Mapping[str, Path]:
        tool.put(originals, str(place))
        return {path.name: path for path in place.iterdir()}

    return work


@contextmanager
def _serving(protocol: str, base: Path) -> Iterator[tuple[OpenSsh | Ftp, Endpoint]]:
    if protocol == "sftp":
        with openssh_server(base / "server") as ssh:
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


def _roomy(needed: int) -> str | None:
    """In memory where there is room, so that no disk is measured."""
    memory = "/dev/shm"
    return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > needed else None
