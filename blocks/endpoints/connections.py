"""How many connections of this process to one server are open: its ``connection_limit`` holds for all sessions together."""

from __future__ import annotations

import threading
from typing import ClassVar

from blocks.errors import EndpointBusy


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
