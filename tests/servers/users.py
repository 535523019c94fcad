"""Processes of other OS users, for tests that run as root: user ids that nobody has, and a Python that they can reach.

No user is made on this machine: a number is enough for the kernel. But our own Python, packages or checkout may stand in a folder
that only root may enter (``/root``, a runner's private folder); what does is linked, or copied, to where everybody may.
"""

from __future__ import annotations

import grp
import os
import pwd
import random
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import lacking

ROOT = Path(__file__).parents[2]
_NOT_NEEDED = {".git", ".venv", ".venvs", ".servers", ".countersign", "test", "idlelib", "tkinter", "site-packages"}


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user of the tests."""

    uid: int
    gid: int
    home: Path
    """Theirs alone."""
    groups: tuple[int, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """For ``subprocess``."""
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def own(self, path: Path, mode: int, *, group: int | None = None) -> Path:
        """Give a file or folder (made if need be) to this user."""
        if not path.exists():
            path.mkdir(parents=True)
        os.chown(path, self.uid, self.gid if group is None else group)
        path.chmod(mode)
        return path


@dataclass(frozen=True, slots=True)
class Reachable:
    """Our code as every user can run it."""

    python: Path
    environment: dict[str, str]
    """What this Python needs to find everything."""
    root: Path
    """The project's folder."""


def need_root() -> None:
    """Only root can start a process as somebody else. Without it the test is skipped, and with CI=true it fails."""
    if os.geteuid() != 0:
        lacking("only root can start processes of other users: run it as root")


def unused_ids(count: int) -> list[int]:
    """Numbers that are no user and no group here, and of which no process runs."""
    taken = {user.pw_uid for user in pwd.getpwall()} | {group.gr_gid for group in grp.getgrall()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            taken.add(process.stat().st_uid)
        except FileNotFoundError:
            continue
    return random.sample(sorted(set(range(40_000, 60_000)) - taken), count)


def reachable(folder: Path) -> Reachable:
    """Our Python, packages and code, so that every user can run them. What has to be linked goes below ``folder``."""
    base, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sysconfig.get_path("stdlib"))
    python = base / "bin" / version
    environment = {}
    if not _everybody_may(python, library / "os.py"):
        own = folder / "python"
        shared = [path for path in (base / "lib").iterdir() if path.name.startswith("libpython")]
        for path in (python, *shared):
            _give(path, own / path.relative_to(base))
        _give_all(library, own / library.relative_to(base))
        python = own / python.relative_to(base)
        environment["LD_LIBRARY_PATH"] = str(own / "lib")
    packages = [Path(path) for path in dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))]
    found = []
    for number, place in enumerate(packages):
        if not _everybody_may(place / "prefect/__init__.py", place / "pydantic/__init__.py"):
            place = _give_all(place, folder / f"packages-{number}", ())
        found.append(place)
    root = ROOT
    if not _everybody_may(ROOT / "blocks/errors.py", ROOT / "tests/__init__.py", ROOT / "prefect.yaml"):
        root = _give_all(ROOT, folder / "checkout")
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [root, *found]))
    return Reachable(python, environment, root)


def _everybody_may(*paths: Path) -> bool:
    """True if others may read these and enter every folder on the way."""
    folders = {parent for path in paths for parent in path.resolve().parents}
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders) and all(
        path.stat().st_mode & stat.S_IROTH for path in paths
    )


def _give_all(source: Path, target: Path, without: Iterable[str] = frozenset(_NOT_NEEDED)) -> Path:
    """A second name for every file of a tree, in folders that everybody may enter."""
    skipped = set(without)
    for place, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name not in skipped]
        inside = target / Path(place).relative_to(source)
        inside.mkdir(parents=True, exist_ok=True)
        inside.chmod(0o755)
        for name in files:
            _give(Path(place) / name, inside / name)
    return target


def _give(source: Path, target: Path) -> None:
    if not target.parent.exists():
        target.parent.mkdir(parents=True)
        target.parent.chmod(0o755)
    real = source.resolve()
    if not real.is_file():
        return  # a socket, a broken link
    if real.stat().st_mode & stat.S_IROTH:
        try:
            target.hardlink_to(real)
        except OSError:  # on another disk
            pass
        else:
            return
    shutil.copy2(real, target)
    target.chmod(target.stat().st_mode | 0o444 | (0o111 if os.access(real, os.X_OK) else 0))
