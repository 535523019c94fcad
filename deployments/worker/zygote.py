"""The zygote: a process of one thread and no connection that has everything imported, and of which each flow run is a fork.

``python -m deployments.worker.zygote FD`` is started by the worker with its end of a socket. Each line that comes is a request for one
run; what goes back are lines too: ``{"request", "pid"}`` or ``{"request", "error"}`` or ``{"request", "stale"}``, and
``{"pid", "status"}`` once a run has ended, its status as ``subprocess`` tells it. When the worker is gone, however it went, the zygote
takes no more requests and ends after the last of its runs, which go on as those of Prefect's process worker do.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

HEAVY = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "pandera.pandas",
    "pandera.accessors.pandas_accessor",
    "pandera.backends.pandas.builtin_checks",
    "pandera.backends.pandas.register",
    "psycopg",
    "pyarrow.csv",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
)
"""What runs need sooner or later and our modules import only where it is used: together it takes seconds."""
SETTINGS = {"PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false"}
"""Prefect's, for runs, where nobody has chosen: each would ask the server twice for its version, which the worker has done."""
ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Request:
    """One run, as the worker asks for it."""

    request: int
    environment: dict[str, str]
    """All of it: nothing of the zygote's own environment stays."""
    quiet: bool
    """What it prints is shown nowhere."""
    job: dict[str, Any]
    """What Prefect wants done, for ``job.refusal`` to judge."""


def main() -> None:
    """Fork runs until the worker is gone. Every fork comes out of :meth:`Zygote.attend` too, and becomes its run."""
    end = End()
    channel = socket.socket(fileno=int(sys.argv[1]))
    # The worker decides when it ends: a supervisor's signal goes to all processes at once. What is blocked and not ignored waits,
    # so a fork loses none that comes before it has become its run.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    began = time.time_ns()
    warm()
    if (asked := Zygote(channel, code(began)).attend()) is not None:
        with end:
            become(asked)


def warm() -> None:
    """Import whatever runs use, and read what they are judged by."""
    environment = dict(os.environ)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else numpy starts threads when it is imported; and we multiply no matrices
    os.environ["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # else Arrow does, to give memory back
    # Each run begins with no memory of its own, and where the machine has no room for huge pages to be found, the kernel makes it: that
    # took a run with a thousand small tables a tenth of a second of CPU, more than checking them does.
    os.environ["MIMALLOC_ALLOW_THP"] = "0"
    import flows

    for module in pkgutil.iter_modules(flows.__path__):
        importlib.import_module(f"flows.{module.name}")
    for name in HEAVY:
        importlib.import_module(name)
    from deployments.worker import job, rehearsal
    from tasks import doctypes

    doctypes.known()
    job.warm()
    rehearsal.rehearse()
    end_without_heartbeat()
    _be_in(environment)
    gc.collect()
    gc.freeze()  # what is here stays, so no fork need look through it (and copy the pages by that)


def end_without_heartbeat() -> None:
    """Have a run end when it ends. Prefect waits for the thread that tells a flow's heartbeat, which looks once a second whether it may
    stop; asynchronous flows do not wait for theirs. Another Prefect, that has no such choice, is left as it is.
    """
    from prefect import flow_engine

    beats = getattr(flow_engine, "_send_heartbeats", None)
    if beats is not None and "join_on_exit" in signature(beats).parameters:
        flow_engine._send_heartbeats = partial(beats, join_on_exit=False)


def crowd(own: Collection[int]) -> list[str]:
    """What a fork must not find here: threads besides this one (their locks would stay taken), open files besides our own."""
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    others = [str(Path(f"/proc/self/fd/{number}").readlink()) for number in _files() if number not in own]
    return [f"{threads} threads"] * (threads > 1) + others


def _files() -> list[int]:
    """Open ones, besides input and output."""
    with os.scandir("/proc/self/fd") as entries:
        numbers = [int(entry.name) for entry in entries]
    return [number for number in numbers if number > 2 and _is_open(number)]


def _is_open(number: int) -> bool:
    """The list of files names the one too by which it was read."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def code(began: int) -> dict[str, int]:
    """Every file that was imported or read, and when it was last changed, in nanoseconds.

    What was changed since ``began``, when the first of them was not imported yet, may be here as it was before or as it is now: it
    counts as changed.
    """
    files = {str(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    times = {file: _changed(file) for file in [*files, *read()]}
    now = time.time_ns()
    return {file: _UNKNOWN if began <= changed <= now else changed for file, changed in times.items()}


_UNKNOWN = -1
"""No file was last changed then."""


def read() -> list[str]:
    """Files that were read, and folders in which new ones count."""
    import flows
    from blocks.settings import settings
    from tasks import doctypes

    profiles = settings().profiles
    return [".env", "prefect.yaml", *flows.__path__, *doctypes.__path__, str(profiles), *map(str, profiles.glob("*.yaml"))]


def is_stale(code: Mapping[str, int]) -> bool:
    """Something has changed since."""
    return any(_changed(file) != then for file, then in code.items())


def _changed(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns  # noqa: PTH116 - a Path for each of two thousand files takes longer than the rest of a fork
    except OSError:
        return 0


@dataclass
class Zygote:
    """Takes requests, forks, and tells how forks ended."""

    channel: socket.socket
    code: dict[str, int]
    _runs: dict[int, int] = field(default_factory=dict)
    """File descriptor of a process (which is readable once it has ended) -> its id."""
    _pending: bytearray = field(default_factory=bytearray)

    def attend(self) -> Request | None:
        """None in the zygote when all is over; in a fork what it was made for."""
        with selectors.EpollSelector() as waiting:
            waiting.register(self.channel, selectors.EVENT_READ)
            open_ = True
            while open_ or self._runs:
                for key, _ in waiting.select():
                    if key.fileobj is not self.channel:
                        waiting.unregister(key.fileobj)
                        self._reap(key.fd)
                        continue
                    received = self.channel.recv(1 << 16)
                    if not received:
                        open_ = False
                        waiting.unregister(self.channel)
                    self._pending += received
                    while (end := self._pending.find(b"\n")) >= 0:
                        asked = Request(**json.loads(self._pending[:end]))
                        del self._pending[: end + 1]
                        pid = self._fork(asked, {self.channel.fileno(), waiting.fileno(), *self._runs})
                        if pid == 0:
                            self.channel.close()
                            return asked
                        if pid is not None:
                            run = os.pidfd_open(pid)
                            self._runs[run] = pid
                            waiting.register(run, selectors.EVENT_READ)
        return None

    def _fork(self, asked: Request, own: Collection[int]) -> int | None:
        """The fork's process id, 0 in the fork, None if there is none and the worker has been told why."""
        if is_stale(self.code):
            self._tell(request=asked.request, stale=True)
            return None
        if crowded := crowd(own):
            self._tell(request=asked.request, error=f"a run cannot be forked beside {', '.join(crowded)[:2000]}")
            return None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(request=asked.request, error=f"the system forks no process: {error}")
            return None
        if pid:
            os.setpgid(pid, pid)  # before the worker knows it, so that a signal to the group finds one
            self._tell(request=asked.request, pid=pid)
        return pid

    def _reap(self, run: int) -> None:
        pid = self._runs.pop(run)
        os.close(run)
        _, status = os.waitpid(pid, 0)
        self._tell(pid=pid, status=os.waitstatus_to_exitcode(status))

    def _tell(self, **what: Any) -> None:
        try:
            self.channel.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            return  # the worker is gone: nobody is left to hear it


# --------------------------------------------------------------------------------------------- in the fork


def become(asked: Request) -> None:
    """Be one run: what ``python -m prefect.engine`` is in a process that was started for it."""
    part(quiet=asked.quiet)
    from deployments.worker.job import refusal, refuse

    # Before anything that came with the job takes effect: the reviewed files are those that the worker was started with.
    if finding := refusal(asked.job):
        refuse(UUID(asked.environment["PREFECT__FLOW_RUN_ID"]), finding)
        return
    _settle_in(asked.environment)
    sys.argv = ["prefect.engine"]
    sys.modules.pop("prefect.engine")  # others imported it; here it runs, as a module that was not imported before
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def part(*, quiet: bool) -> None:
    """Keep nothing open of the zygote's, and be reached by signals."""
    os.setpgid(0, 0)  # whichever of both comes first
    for number in _files():
        os.close(number)
    if quiet:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.close(nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


class End:
    """How a run's process ends: after its threads, and after all that is called at exit if this was made before anything else.

    Python would then take apart what the zygote had imported, object by object, and copy it for that: a quarter of the CPU of a small
    run. A process that nobody can tell the status of ends as ever.
    """

    def __init__(self) -> None:
        self._status: int | None = None
        atexit.register(self._leave)  # what was registered first is called last

    def __enter__(self) -> None:
        """Begin a run."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._status = 0
        elif isinstance(error, SystemExit) and isinstance(error.code, int | None):
            self._status = error.code or 0

    def _leave(self) -> None:
        if self._status is not None:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(self._status)


def _settle_in(environment: Mapping[str, str]) -> None:
    """This process's environment, and all that was made of the zygote's."""
    usual = _lasting(environment) == _lasting(os.environ)
    _be_in(environment)
    import numpy

    numpy.random.seed()  # a fork seeds Python's own generator anew, and not this one
    if usual:  # as most are, and reading Prefect's settings takes a fifth of the time until a flow's first line
        return

    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    from blocks.settings import settings

    time.tzset()
    settings.cache_clear()
    refresh_global_settings_context()
    setup_logging(incremental=False)


def _lasting(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what Prefect tells each run of itself."""
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT__")}


def _be_in(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    main()
