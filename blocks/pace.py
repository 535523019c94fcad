"""Pace: when a transfer that still moves a byte now and then stands still all the same."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

SLOWEST = 1024
"""Bytes in a second. Whoever sends or takes fewer for longer than was agreed stands still for us, however often a byte comes."""


class Pace:
    """The total deadline of one transfer. It grows with what is moved; time that we took ourselves does not count."""

    def __init__(self, address: str, seconds: float, error: Callable[[str], Exception]) -> None:
        self._address, self._seconds, self._error = address, seconds, error
        self._last: float | None = None
        self._waited, self._moved = 0.0, 0

    def moved(self, count: int) -> None:
        """Raises the ``error`` that it was given."""
        now = monotonic()
        gap = 0.0 if self._last is None else now - self._last
        self._last = now
        if gap <= self._seconds:  # no single answer takes longer: then it was our own reader that paused
            self._waited += gap
        self._moved += count
        if self._waited > self._seconds + self._moved / SLOWEST:
            raise self._error(
                f"{self._address}: only {self._moved:,} bytes in {self._waited:.0f} s; that is standing still, it will be tried again"
            )
