"""Real servers for the tests: started on loopback with configurations of their own, ended by their process id."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

SBIN = "/usr/sbin:/sbin:/usr/local/sbin"


def find(program: str, *more: str) -> str | None:
    """Where a server's program is; Debian keeps some outside the PATH."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), SBIN, *more]))


def need(program: str, package: str, *more: str) -> str:
    """Where a server's program is. Without it the test is skipped, and with CI=true it fails."""
    found = find(program, *more)
    if not found:
        lacking(f"{program} is missing: install Debian's package {package} (make test does it as root)")
    return found


def lacking(what: str) -> NoReturn:
    """The test cannot run on this machine: it is skipped, and with CI=true it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def free_port(first: int = 15_000, last: int = 32_000) -> int:
    """A loopback port that nothing listens on. Below those that the system gives to outgoing connections and to other tests'
    listeners: one of these could take it before the server that it is meant for."""
    while True:
        port = random.randint(first, last)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listening(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((host, port)) == 0


@contextmanager
def running(
    command: list[str], *, log: Path, ready: Callable[[], bool], seconds: float = 300.0, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process while the block runs. A process that does not become ready fails with the end of its log."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)  # type: ignore[call-overload]
    try:
        limit = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > limit:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{command[0]} did not become ready ({process.poll()}):\n{tail}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)
