"""The sender as its command starts it, for tests: in a process of its own, until the block ends."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from blocks.sender import Sender
from tests.forks import processes
from tests.sender.driver import become

LONG = 300.0
"""Seconds within which it must answer, also on a busy machine."""


@dataclass(frozen=True, slots=True)
class Started:
    """A sender's process."""

    process: ForkServerProcess

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def kill(self) -> None:
        self.process.kill()

    def wait(self, seconds: float) -> int | None:
        """How it ended, negative for a signal; None if it has not."""
        self.process.join(seconds)
        return self.process.exitcode


@contextmanager
def sender_process(
    home: Path,
    *options: str,
    socket: Path,
    state: Path,
    profiles: Path,
    die_at: int = 0,
    die_in_upload: int = 0,
    timed: bool = False,
    log: str = "sender.log",
) -> Iterator[Started]:
    """A sender of the installation in ``home``, once it answers; with ``die_at`` it is killed at that step of its delivery, with
    ``die_in_upload`` after so many bytes of a file. ``timed``: its log tells when each step was written down."""
    dying = ["--die-at", str(die_at)] if die_at else ["--die-in-upload", str(die_in_upload)] if die_in_upload else []
    dying += ["--timed"] if timed else []
    places = ["--socket", str(socket), "--state", str(state), "--profiles", str(profiles), "--spool", str(home / "spool")]
    environment = {**os.environ, "COUNTERSIGN_HOME": str(home), "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0"}
    process = processes().Process(target=become, args=([*dying, *places, *options], environment, str(home / log)))
    process.start()
    try:
        limit = time.monotonic() + LONG
        while not answers(socket):
            if process.exitcode is not None or time.monotonic() > limit:
                tail = (home / log).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the sender did not become ready ({process.exitcode}):\n{tail}")
            time.sleep(0.05)
        yield Started(process)
    finally:
        process.terminate()
        process.join(10)
        if process.exitcode is None:
            process.kill()
            process.join(60)
        process.close()


def answers(socket: Path) -> bool:
    """True if a sender answers behind the socket."""
    if not socket.exists() or not stat.S_ISSOCK(socket.stat().st_mode):
        return False
    try:
        with Sender(socket, timeout_seconds=60, sending_seconds=60) as client:
            client.health()
    except Exception:  # noqa: BLE001 - not ready yet, or somebody who is not us
        return False
    return True
