"""The worker's end of the zygote: ask for a fork, and hear how it ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from blocks.errors import CountersignError

LOST = 255
"""Status of a run whose end nobody could tell, because the zygote was killed meanwhile."""

ZYGOTE = (sys.executable, "-m", "deployments.worker.zygote")


class NoFork(CountersignError):
    """There is no process for a run."""


@dataclass
class Fork:
    """A run's process, as Prefect wants to know it."""

    pid: int
    returncode: int | None = None
    """None while it runs; of one that a signal ended it is negative."""
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        await self._ended.wait()

    def end(self, status: int) -> None:
        self.returncode = status
        self._ended.set()

    def signal(self, number: signal.Signals) -> None:
        """To the run, and to all that it has started."""
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(self.pid, number)


class Forks:
    """Processes forked from a zygote, which is started again when it has ended or when files that it had imported have changed."""

    def __init__(self, zygote: Sequence[str] = ZYGOTE, environment: Mapping[str, str] | None = None) -> None:
        """``environment`` is the zygote's; by default that of this process."""
        self._zygote = zygote
        self._environment = dict(os.environ if environment is None else environment)
        self._nurseries: list[_Nursery] = []
        """Those that still have forks, and the one that makes more."""
        self._starting = asyncio.Lock()

    async def begin(self, environment: dict[str, str], job: dict[str, Any], *, quiet: bool) -> Fork:
        """A process of its own for a run. Raises ``NoFork``."""
        while True:
            nursery = await self.ready()
            told = await nursery.ask(environment=environment, job=job, quiet=quiet)
            if isinstance(told, Fork):
                return told
            if "error" in told:
                raise NoFork(told["error"])
            nursery.close()  # what it has imported is not what stands in the files any more

    async def ready(self) -> _Nursery:
        """Have a zygote started; whether it has imported all by now is another thing."""
        async with self._starting:
            self._nurseries = [one for one in self._nurseries if not one.ended.done()]
            for nursery in self._nurseries:
                if not nursery.closed and not nursery.gone:
                    return nursery
            self._nurseries.append(await _Nursery.start(self._zygote, self._environment))
        return self._nurseries[-1]

    async def close(self) -> None:
        """Ask for no more forks, and wait for those that there are."""
        for nursery in self._nurseries:
            nursery.close()
        await asyncio.gather(*(nursery.ended for nursery in self._nurseries))


class _Nursery:
    """One zygote's process and its forks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, process: asyncio.subprocess.Process) -> None:
        self.closed = False
        """It makes no more."""
        self._writer, self._process = writer, process
        self._forks: dict[int, Fork] = {}
        self._asked: dict[int, asyncio.Future[Fork | dict[str, Any]]] = {}
        self._numbers = 0
        self.ended = asyncio.create_task(self._listen(reader))

    @classmethod
    async def start(cls, zygote: Sequence[str], environment: Mapping[str, str]) -> _Nursery:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *zygote,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=environment,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return cls(reader, writer, process)

    @property
    def gone(self) -> bool:
        """The zygote has ended, which may not have been told here yet (a fork has its end of the line for a moment): what it was not
        asked, another can be asked."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def ask(self, **request: Any) -> Fork | dict[str, Any]:
        """A fork, or why there is none. Raises ``NoFork`` if the zygote ends before."""
        self._numbers += 1
        number = self._numbers
        answer: asyncio.Future[Fork | dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._writer.write(json.dumps({"request": number, **request}).encode() + b"\n")
        return await answer

    def close(self) -> None:
        self.closed = True
        with suppress(OSError):
            self._writer.write_eof()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Until the zygote has ended, which it does after the last of its forks."""
        why = ""
        try:
            async for line in reader:
                told = json.loads(line)
                if "status" in told:
                    self._forks.pop(told["pid"]).end(told["status"])
                    continue
                if "pid" in told:
                    self._forks[told["pid"]] = Fork(told["pid"])
                fork = self._forks.get(told.get("pid"))
                answer = self._asked.pop(told["request"])
                if not answer.done():
                    answer.set_result(fork or told)
                elif fork:  # the worker stops, and nobody waits for it any more
                    fork.signal(signal.SIGTERM)
        except OSError:
            pass  # it has ended
        except (ValueError, KeyError) as error:  # a line too long is the former
            why = f"the zygote answered what nobody understands ({ascii(error)[:200]})"
        self.closed = True
        self._writer.close()
        why = (
            why or f"the zygote ended (status {await self._process.wait()}) before there was a process; see the worker's output"
        )
        for answer in filter(lambda one: not one.done(), self._asked.values()):
            answer.set_exception(NoFork(why))
        await asyncio.gather(self._process.wait(), *(self._outlived(fork) for fork in self._forks.values()))

    async def _outlived(self, fork: Fork) -> None:
        """The zygote was killed, or is listened to no more; its forks go on, and how they end is told to nobody."""
        ended = asyncio.Event()
        with suppress(ProcessLookupError):
            process = os.pidfd_open(fork.pid)
            loop = asyncio.get_running_loop()
            loop.add_reader(process, ended.set)
            await ended.wait()
            loop.remove_reader(process)
            os.close(process)
        fork.end(LOST)
