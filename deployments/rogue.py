"""Rogue servers to try this installation's endpoints on: partner's servers that misbehave on demand, in a process of their own.

The servers are the sandbox of a checkout (``python -m tests.sandbox serve``), which no product code imports. They listen on
loopback, keep everything in a temporary folder, and end with us.
"""

from __future__ import annotations

import json
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from blocks.endpoints.base import Endpoint
from blocks.endpoints.ftp import Ftp, Ftps
from blocks.endpoints.sftp import Sftp
from blocks.errors import ConfigurationError

KINDS: dict[str, type[Endpoint]] = {"sftp": Sftp, "ftp": Ftp, "ftps": Ftps}
"""The endpoint classes that are tried."""
CHECKOUT = Path(__file__).parents[1]
_START_SECONDS, _ANSWER_SECONDS = 120.0, 60.0


@dataclass(slots=True)
class Rogue:
    """One server: what it told when it started, and what it told last."""

    rogues: Rogues
    service: str
    told: dict[str, Any]

    @property
    def root(self) -> Path:
        """All that its users see, on this machine."""
        return Path(self.told["root"])

    def endpoint(self, kind: type[Endpoint], **fields: object) -> Endpoint:
        """What would be agreed about it; ``fields`` change that."""
        agreed: dict[str, object] = {
            "host": self.told["host"],
            "port": self.told["port"],
            "username": self.told["user"],
            "password": f"file:{self.rogues.password_file}",
            "timeout_seconds": 20,
        }
        trust: dict[str, object] = {}
        if "host_key" in self.told:
            trust = {"host_keys": [self.told["host_key"]]}
        elif "certificate" not in self.told:
            trust = {"unprotected": "accepted"}
        elif "certificates" not in fields:
            trust = {"ca_file": self.told["ca_file"]}
        return kind.model_validate(agreed | trust | fields)

    def misbehave(self, faults: Mapping[str, float], *, restart: bool = False) -> None:
        """From now on exactly so. With ``restart``, all connections end, and what is shown at a start is shown anew."""
        self.told |= self.rogues.ask({"service": self.service, "faults": dict(faults), "restart": restart})

    @property
    def logins(self) -> int:
        """How often it let somebody in."""
        return int(self.rogues.ask({"service": self.service})["logins"])


class Rogues:
    """The process, while the block runs. Raises ``ConfigurationError`` where it cannot be started."""

    def __init__(self, place: Path, checkout: Path = CHECKOUT) -> None:
        self.place, self._checkout = place, checkout
        self.password_file = place / "password"
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._asking = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.servers: dict[str, Rogue] = {}

    def __enter__(self) -> Self:
        if not (self._checkout / "tests" / "sandbox" / "__main__.py").is_file():
            raise ConfigurationError(
                f"{self._checkout}: there is no tests/sandbox here. The rogue servers come with a checkout of Countersign, not with "
                "an installed package: name one with --checkout"
            )
        self.place.mkdir(parents=True, exist_ok=True)
        password = secrets.token_hex(12)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(password)
        command = [sys.executable, "-m", "tests.sandbox", "serve", *KINDS, "--until-stdin-closes", "--data", str(self.place)]
        log = self.place / "servers.log"
        with log.open("wb") as errors:
            # Its standard input is ours: should we be killed, it closes, and the servers end too.
            self.process = subprocess.Popen(
                [*command, "--user", "selftest", "--password", password],
                cwd=self._checkout,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._pump = threading.Thread(target=_pump, args=(self.process.stdout, self._lines), daemon=True)
        self._pump.start()
        try:
            for _ in KINDS:
                told = self._started(log)
                self.servers[told["service"]] = Rogue(self, told["service"], told)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Have a server changed, or say how it is."""
        with self._asking:
            if self.process is None or self.process.stdin is None or self.process.poll() is not None:
                raise ConfigurationError("the rogue servers have ended; start the self-test again")
            with suppress(BrokenPipeError):  # then there is no answer either
                self.process.stdin.write(json.dumps(order).encode() + b"\n")
                self.process.stdin.flush()
            told = self._line(_ANSWER_SECONDS)
        if told is None or "error" in told:
            raise ConfigurationError(
                f"the rogue servers of this checkout do not do {json.dumps(order)} ({told['error'] if told else 'no answer'}); "
                "is the checkout of the same version?"
            )
        return told

    def _started(self, log: Path) -> dict[str, Any]:
        told = self._line(_START_SECONDS)
        if told is None:
            last = log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise ConfigurationError(
                f"{self._checkout}: the rogue servers do not start ({last or 'they say nothing'}). They need the development "
                "dependencies: 'make check' in the checkout installs them, and its .venv/bin/countersign has them"
            )
        return told

    def _line(self, seconds: float) -> dict[str, Any] | None:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        told = json.loads(line) if line else None
        return told if isinstance(told, dict) else None

    def _end(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._pump.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process = None


def _pump(source: IO[bytes] | None, lines: queue.Queue[bytes]) -> None:
    """Lines as they come, then an empty one."""
    for line in source or ():
        lines.put(line)
    lines.put(b"")
