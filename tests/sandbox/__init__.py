"""Stand-ins for the outside world, for tests, the demo and the benchmarks.

``with sandbox("extended-ecm", "sftp", data=folder) as services`` starts ``python -m tests.sandbox serve ...`` on free ports, and
ends it by its process id.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

SERVICES = ("extended-ecm", "file360", "sftp", "ftp", "ftps", "business")
ALL = ("extended-ecm", "file360", "sftp", "ftps", "business")
"""What is served when nothing is named: what the demo needs."""
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def sandbox(
    *services: str,
    data: Path,
    faults: Mapping[str, float] | None = None,
    options: tuple[str, ...] = (),
    seconds: float = 180.0,
) -> Iterator[dict[str, dict[str, Any]]]:
    """Services (``ALL``, if none is named) while the block runs: name -> what the command said about it.

    Every description has ``service``, ``url``, ``user``, ``password``; the partner's servers also ``host``, ``port``, ``root``
    and a second account, ``delivery_user`` and ``delivery_password``, which alone may use the folder ``in``;
    ftps ``certificate`` (its fingerprint) and ``ca_file``; sftp ``host_key`` (its fingerprint).
    Raises ``RuntimeError`` with the end of its log if a service is not ready after ``seconds``.
    """
    wanted = services or ALL
    command = [sys.executable, "-m", "tests.sandbox", "serve", *wanted, "--data", str(data), "--until-stdin-closes", *options]
    for name, value in (faults or {}).items():
        command += ["--fault", f"{name}={value}"]
    data.mkdir(parents=True, exist_ok=True)
    log = data / "sandbox.log"
    with log.open("ab") as errors:
        # Its standard input is ours: should we be killed, it closes, and the sandbox ends too.
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield _described(process, len(wanted), log, seconds)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _described(process: subprocess.Popen[bytes], count: int, log: Path, seconds: float) -> dict[str, dict[str, Any]]:
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    limit = time.monotonic() + seconds
    found: dict[str, dict[str, Any]] = {}
    while len(found) < count:
        try:
            line = lines.get(timeout=max(0.0, limit - time.monotonic()))
        except queue.Empty:
            line = b""
        if not line:
            tail = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the sandbox did not become ready (exit code {process.poll()}):\n{tail}")
        described = json.loads(line)
        found[described["service"]] = described
    return found


def _pump(source: IO[bytes] | None, lines: queue.Queue[bytes]) -> None:
    """Lines as they come, then an empty one."""
    for line in source or ():
        lines.put(line)
    lines.put(b"")
