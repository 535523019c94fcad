"""What the stand-ins for partners' servers have in common: a folder on loopback, users, and faults by name.

``faults`` is a mapping that may be changed while the server runs. A fault is on while its value is a number above zero (numbers
may be written as text).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeAlias

Value: TypeAlias = str | float
ODD_NAMES = (b"../odd.csv", b"..\\odd.csv", b"/etc/odd.csv", b"odd/name.csv", b"../dropEVIL/odd.csv", b"")
"""What no honest listing holds."""


PERSONALITY: Mapping[str, str] = {
    "ignore-case": "names that differ in case are one",
    "upper-case": "new names are kept in upper case, and found in any",
    "deny-long-names": "no names of more bytes than that",
    "cut-long-names": "longer names are cut to so many bytes",
    "clock-ahead": "files get the time of a clock that is so many seconds ahead",
}
"""No faults, but ways to be that any server may have."""


class PartnerServer(ABC):
    """A server. ``users`` maps names to passwords; ``root`` is all they see.

    ``reserved`` gives top-level folders to single users: nobody else gets in there, and they get nowhere else.
    """

    known: ClassVar[Mapping[str, str]]
    """Every fault, and what it does."""

    def __init__(
        self,
        root: Path,
        users: Mapping[str, str],
        reserved: Mapping[str, str],
        host: str,
        port: int,
        faults: MutableMapping[str, Value] | None,
    ) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.users, self.reserved = dict(users), dict(reserved)
        self.host, self.port = host, port
        self.faults: MutableMapping[str, Value] = {} if faults is None else faults
        self.stopping = threading.Event()
        self.logins = 0
        """How often somebody was let in."""
        self.listings = 0
        """How often a folder was listed."""
        self.refusals = 0
        """How often a name and a password did not fit."""
        self.knocks = 0
        """How many connections were made."""
        self.late: dict[str, str] = {}
        """Renames that were asked for and not yet done: from where, to where."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    @property
    @abstractmethod
    def trust(self) -> Mapping[str, str]:
        """What a client has to trust, as the running server shows it."""

    @abstractmethod
    def start(self) -> Self:
        """Listen, on the same port as before if it was stopped."""

    @abstractmethod
    def stop(self) -> None:
        """End all connections, and listen no more. Safe to call twice."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def may(self, user: str, path: str) -> bool:
        """True if the user may touch what is at this path (from the root, normalised)."""
        top = path.strip("/").partition("/")[0]
        own = [folder for folder, owner in self.reserved.items() if owner == user]
        return self.reserved.get(top, user) == user and (top in ("", *own) or not own)

    def fault(self, name: str) -> float:
        """The value of a fault; 0 when it is off."""
        assert name in self.known, name
        return float(self.faults.get(name) or 0)

    def kept_name(self, place: str) -> str:
        """Where a new name ends up: cut short, or refused, or taken for one that differs in case, as the faults say."""
        folder, name = os.path.split(place)
        if (most := int(self.fault("deny-long-names"))) and len(os.fsencode(name)) > most:
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        if most := int(self.fault("cut-long-names")):
            name = os.fsdecode(os.fsencode(name)[:most])
        if self.fault("upper-case") and not os.path.lexists(place):
            name = name.upper()
        if self.fault("ignore-case") and os.path.isdir(folder):
            name = next((other for other in os.listdir(folder) if other.lower() == name.lower()), name)
        return os.path.join(folder, name)

    def written(self, place: str | int) -> None:
        """The time of a file that was just written, by this server's clock."""
        if self.fault("clock-ahead"):
            now = time.time() + self.fault("clock-ahead")
            os.utime(place, (now, now))

    def late_rename(self, old: str, new: str, kind: str) -> bool:
        """True if this rename, to a name without a dot before, is to be done later, by the fault ``kind``."""
        if os.path.basename(new).startswith(".") or not self.spend(kind):
            return False
        self.late[old] = new
        return True

    def catch_up(self, old: str) -> None:
        """Do what is late of this file."""
        if new := self.late.pop(old, None):
            os.rename(old, new)
            if self.fault("quick-partner"):
                os.unlink(new)

    def spend(self, name: str) -> bool:
        """True if a fault that counts down is on; takes one off."""
        left = self.fault(name)
        if left:
            self.faults[name] = left - 1
        return bool(left)
