"""What all sessions of this process with one server share: how many connections are open, and whether it bears several questions."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import ClassVar

from blocks.errors import EndpointBusy


class OneByOne:
    """Servers of one protocol that lose questions, or get muddled, when several wait at once: for as long as this process lives."""

    def __init__(self) -> None:
        self._seen, self._expected = set[Hashable](), set[Hashable]()

    def __contains__(self, server: Hashable) -> bool:
        """Whether it is asked one question at a time."""
        return server in self._seen or server in self._expected

    def saw(self, server: Hashable) -> None:
        """It did so before our eyes."""
        self._seen.add(server)

    def seen(self, server: Hashable) -> bool:
        return server in self._seen

    def expect(self, server: Hashable, known: bool | None) -> None:
        """What earlier processes found out, if anything: do not lose the time again that it takes to see it.

        Where they found out that it does so no more, or is another server now, it is given another chance.
        """
        (self._expected.add if known else self._expected.discard)(server)


class Slots:
    """The places at one server."""

    _all: ClassVar[dict[tuple[str, int], Slots]] = {}
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._open, self._changed = 0, threading.Condition()

    @classmethod
    def of(cls, host: str, port: int) -> Slots:
        with cls._lock:
            return cls._all.setdefault((host.lower(), port), cls())

    def take(self, limit: int, seconds: float, address: str) -> None:
        """Wait for a place. Raises ``EndpointBusy``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._open < limit, seconds):
                raise EndpointBusy(
                    f"{address}: all {limit} connections allowed by connection_limit are in use; it will be tried again"
                )
            self._open += 1

    def take_if_free(self, limit: int) -> bool:
        """A place if there is one just now."""
        with self._changed:
            free = self._open < limit
            self._open += free
            return free

    def give(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()
