"""The sender as its command starts it, for tests: in a process of its own, until the block ends."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocks.sender import Sender
from tests.servers import running

ROOT = Path(__file__).parents[2]


@contextmanager
def sender_process(
    home: Path,
    *options: str,
    socket: Path,
    state: Path,
    profiles: Path,
    die_at: int = 0,
    die_in_upload: int = 0,
    log: str = "sender.log",
) -> Iterator[subprocess.Popen[bytes]]:
    """A sender of the installation in ``home``, once it answers; with ``die_at`` it is killed at that step of its delivery, with
    ``die_in_upload`` after so many bytes of a file."""
    dying = ["--die-at", str(die_at)] if die_at else ["--die-in-upload", str(die_in_upload)] if die_in_upload else []
    places = ["--socket", str(socket), "--state", str(state), "--profiles", str(profiles), "--spool", str(home / "spool")]
    command = [sys.executable, "-m", "tests.sender.driver", *dying, *places, *options]
    environment = {**os.environ, "COUNTERSIGN_HOME": str(home), "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0"}
    with running(command, log=home / log, ready=lambda: answers(socket), cwd=ROOT, env=environment) as process:
        yield process


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
