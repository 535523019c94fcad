"""What a turn cost: its seconds, and the CPU seconds of who did the work and of the servers it was done with.

The kernel keeps them: a process has its own, and those of its children that ended and were waited for (proc(5)). But lftp leaves its
``ssh`` behind, and ``sshd`` a session whose client is gone, and nobody waits for these. So the process of a bench takes in what its
descendants leave behind (``keep_orphans``), and whatever ran for a turn stays in its family.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_TICKS = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36
_LEFT_BEHIND = ("sshd", "sftp-server", "vsftpd")
"""How the names of server processes begin that may be found outside their server's own family."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock, and of CPU where that is known: of the contender itself, and of the servers. ``peak_mib``: the most memory
    that the contender had in use, where it tells that itself."""

    seconds: float
    own_cpu: float | None = None
    server_cpu: float | None = None
    peak_mib: float | None = None

    def times(self, factor: float) -> Cost:
        """Of so many times the work."""
        own, servers = (None if one is None else one * factor for one in (self.own_cpu, self.server_cpu))
        return Cost(self.seconds * factor, own, servers)

    def __str__(self) -> str:
        if self.own_cpu is None or self.server_cpu is None:
            return f"{self.seconds:.2f} s"
        return f"{self.seconds:.2f} s (CPU {self.own_cpu:.2f} s, servers' {self.server_cpu:.2f} s)"


class Watch:
    """``with Watch(...) as watch: work()``, and then ``watch.cost``: all of this process's family beside the servers is the contender.

    Args:
        servers: Process ids, as ``started`` told them before the contenders came.
    """

    cost: Cost

    def __init__(self, servers: Collection[int] = ()) -> None:
        self._servers = servers

    def __enter__(self) -> Watch:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def begin(self) -> None:
        self._own, self._of_servers = self._spent()
        self._began = time.perf_counter()

    def end(self) -> None:
        seconds = time.perf_counter() - self._began
        own, servers = self._spent()
        self.cost = Cost(seconds, own - self._own, servers - self._of_servers)

    def _spent(self) -> tuple[float, float]:
        """CPU seconds so far: of the contender, of the servers."""
        every = family(os.getpid())
        while (again := family(os.getpid())).keys() != every.keys():
            every = again  # one that ends in between would be missed, or counted by its parent too
        of_servers = {one for one, process in every.items() if process.name.startswith(_LEFT_BEHIND)}
        for server in every.keys() & self._servers:
            of_servers |= _below(every, server).keys()
        own, servers = (sum(every[one].cpu for one in some) for some in (every.keys() - of_servers, of_servers))
        return own, servers


def started() -> Set[int]:
    """What this process has started and what that has: at the beginning of a bench, its servers."""
    return family(os.getpid()).keys() - {os.getpid()}


@dataclass(frozen=True, slots=True)
class Process:
    """One that is there, or has ended and was not waited for. ``cpu``: seconds, with those of its children that were waited for."""

    name: str
    parent: int
    cpu: float


def family(process: int) -> dict[int, Process]:
    """A process and all that it has started, by process id."""
    every: dict[int, Process] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = entry.read_text().rpartition(")")
        except OSError:  # it has ended
            continue
        told = after.split()
        every[int(entry.parent.name)] = Process(before.partition("(")[2], int(told[1]), sum(map(int, told[11:15])) / _TICKS)
    return _below(every, process)


def _below(every: Mapping[int, Process], process: int) -> dict[int, Process]:
    found, fresh = {process: every[process]}, {process}
    while fresh:
        fresh = {one for one, about in every.items() if about.parent in fresh}
        found |= {one: every[one] for one in fresh}
    return found


def peak_mib(process: int) -> float:
    """The most memory that a process had in use, as the kernel saw it (proc(5): ``VmHWM``); of a fork, since it is one."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def keep_orphans() -> None:
    """From now on, this process is the parent of what its descendants leave behind (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
