"""Environments of programs that we are compared with or tested by, each made once per checkout below ``.venvs``."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".venvs"


class NotMade(Exception):
    """An environment could not be installed; why."""


@cache
def python_of(name: str, requirements: Path) -> Path:
    """The interpreter of the environment ``name``, made where it is missing or was made for something else. Raises ``NotMade``."""
    environment = ENVIRONMENTS / name
    made_for, python = environment / "made-for.txt", environment / "bin" / "python"
    wanted = f"{sys.version}\n{requirements.read_text()}"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made_for.exists() and made_for.read_text() == wanted:
            return python
        shutil.rmtree(environment, ignore_errors=True)
        venv.create(environment, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
        installed = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        if installed.returncode:
            errors = [line for line in installed.stderr.splitlines() if line.startswith("ERROR")]
            raise NotMade(f"{name} could not be installed from the package registry: {' '.join(errors)}")
        made_for.write_text(wanted)
    return python
