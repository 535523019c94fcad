"""A line-of-business system's reviewed file: ``deployments/systems/<name>.yaml``, beside the partners'.

::

    system: { kind: http, url: …, auth: { … }, routes: { … } }      parsed by the block class of the kind

Nothing outside this file says where a system is, or what it is told; only credentials are references (``env:``, ``file:``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from blocks import reviewed
from blocks.catalog import SYSTEMS
from blocks.chosen import Chosen
from blocks.errors import ConfigurationError
from blocks.reviewed import nearest
from blocks.systems.base import System
from blocks.values import Terms

_system = Chosen("kind", SYSTEMS)


class SystemFile(Terms):
    """What was agreed about one system."""

    system: Annotated[System, _system]


def load_system_file(name: str, folder: Path) -> SystemFile:
    """A system's reviewed file, of the folder with the partners'. Raises ``ConfigurationError`` with every problem and its line."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise ConfigurationError(f"{name[:80]!r} is no system's name: small letters, digits and dashes, as in 'erp'")
    path = folder / "systems" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such system; {nearest(name, systems(folder))}")
    return reviewed.load(path, SystemFile)


def load_system(name: str, folder: Path) -> System:
    """How a system is spoken with. Raises ``ConfigurationError``."""
    return load_system_file(name, folder).system


def systems(folder: Path) -> list[str]:
    """Names of the systems' files, broken ones included."""
    return sorted(path.stem for path in (folder / "systems").glob("*.yaml"))
