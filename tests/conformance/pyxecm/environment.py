"""The environment of OpenText's client, made once per checkout, and a client in it that tests can call."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.environment import NotMade, python_of
from tests.servers import lacking

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
CALLED: list[str] = []
"""Methods of the client that were called, until ``conftest`` notes them with the test that called them."""


def pyxecm_python() -> Path:
    """The interpreter that has pyxecm. Without a package registry the test is skipped, and with CI=true it fails."""
    try:
        return python_of("pyxecm", REQUIREMENTS)
    except NotMade as trouble:
        lacking(str(trouble))


class Pyxecm:
    """An ``OTCS`` object of OpenText's client in a process of its own: every method of it is a method here.

    Given an OAuth 2 client and its secret too, it is a ``CoreShare`` object.
    """

    def __init__(self, url: str, user: str, password: str, *client: str) -> None:
        command = [str(pyxecm_python()), str(HERE / "driver.py"), url, user, password, *client]
        # The client may not look for proxies or credentials of whoever runs the tests.
        environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*", "OTEL_SDK_DISABLED": "true", "PYTHONUTF8": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
        self.log: list[str] = []
        """What the client logged, at warning or above, during the last call."""
        self.version: str = self._answer()

    def __getattr__(self, method: str) -> Any:
        def call(**arguments: Any) -> Any:
            assert self._process.stdin
            CALLED.append(method)
            self._process.stdin.write(json.dumps({"call": method, "with": arguments}) + "\n")
            self._process.stdin.flush()
            return self._answer()

        return call

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the client's process ended; see its error output above"
        answer = json.loads(line)
        self.log = answer.get("log", [])
        assert "raised" not in answer, answer
        return answer["answer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
