"""``sftp-list``: what stands in a large folder at the server, beside OpenSSH's ``ls -l``.

Ours is ``look``, as a flow asks it: name, size, time and kind of every entry, one after another; connecting included. Theirs prints the
lines that the server makes for people, in the server's order (``-f``: sorting them costs more), with size and a time that leaves out the
seconds or the hour.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

from blocks.endpoints.base import Endpoint
from tests.bench.copying import OURS, roomy, serving
from tests.bench.cost import Cost, Watch, started
from tests.bench.peers.copying import OpenSshSftp
from tests.bench.race import Contender, Failed, Goal, Outcome, race

ENTRIES = 100_000
_FIRST = datetime(2025, 1, 1, tzinfo=UTC)
_KIB = 1024


def main(rounds: int, *, name: str = "sftp-list", scale: float = 1.0) -> Outcome:
    entries = max(10, int(ENTRIES * scale))
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=roomy(4 * _KIB * entries)) as scratch,
        serving("sftp", Path(scratch)) as (server, endpoint),
    ):
        servers = started()
        folder = server.root / "crowd"
        folder.mkdir()
        for number in range(entries):
            _make(folder / _name(number), number)
        with endpoint.session() as session:  # once uncounted: imports
            list(session.look(str(server.root)))
        if missing := OpenSshSftp.lacks(server):
            theirs = Contender("sftp ls -l", None, lacks=missing)
        else:
            tool = OpenSshSftp(server, Path(scratch), 1)
            theirs = Contender(f"{OpenSshSftp.version()} ls -l", lambda: _theirs(tool, folder, entries, servers))
        return race(
            name,
            f"{entries:,} entries",
            Contender(OURS, lambda: _ours(endpoint, folder, entries, servers)),
            [theirs],
            rounds=rounds,
            goal=Goal(1, peak_mib=120),
        )


def _ours(endpoint: Endpoint, folder: Path, entries: int, servers: Collection[int]) -> Cost:
    """Each entry is compared as it comes, so that nothing of a listing is held: its size and time are told by its name."""
    seen = bytearray(entries)
    with Watch(servers) as watch, endpoint.session() as session:
        for file in session.look(str(folder)):
            number = int(file.name[7:13])
            seen[number] += file.size == number and file.modified is not None
    if seen.count(1) != entries:
        raise Failed(f"{entries - seen.count(1)} entries are missing or were told wrong")
    with endpoint.session() as session:
        for file in session.look(str(folder)):
            if file.modified != _FIRST + timedelta(minutes=int(file.name[7:13])):
                raise Failed(f"{file.shown} was told with the time {file.modified}")
    return watch.cost


def _theirs(tool: OpenSshSftp, folder: Path, entries: int, servers: Collection[int]) -> Cost:
    with Watch(servers) as watch:
        said = tool.ask(f"ls -lf {folder}")
    seen = bytearray(entries)
    for line in StringIO(said):  # nothing of a listing is held here either: it would count as memory of ours
        words = line.split()  # -rw-r--r--    ? root     root           4096 Nov 22 10:00 prices_004096.csv
        if line.startswith("-"):
            number = int(words[-1][-10:-4])
            seen[number] += words[-1].endswith(_name(number)) and int(words[4]) == number
    if seen.count(1) != entries:
        raise Failed(f"{entries - seen.count(1)} entries are missing or were told wrong")
    return watch.cost


def _name(number: int) -> str:
    return f"prices_{number:06d}.csv"


def _make(path: Path, number: int) -> None:
    path.touch()
    os.truncate(path, number)
    moment = (_FIRST + timedelta(minutes=number)).timestamp()
    os.utime(path, (moment, moment))
