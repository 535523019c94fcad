"""Traffic with a system: how fast, which route waits, and when it is left alone. One for all sessions of a process.

Other workers have a ``Traffic`` of their own: a rate that must hold for all of them is divided by their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from threading import Lock

from pydantic import Field

from blocks.values import Terms


class Rate(Terms):
    """How many calls a system may be made."""

    calls: int = Field(ge=1, description="So many calls, evenly spread, ...")
    per: timedelta = Field(gt=timedelta(0), description="... in this time, by each worker: PT1S, PT1M")


class Breaker(Terms):
    """When a system is left alone for a while."""

    failures: int = Field(default=5, ge=1, description="So many calls in a row without a proper answer")
    rest: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), description="So long nothing is sent; then one call tries"
    )


@dataclass
class Traffic:
    """Used by several threads at once."""

    rate: Rate | None
    breaker: Breaker
    clock: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _next: float = 0.0
    _failures: int = 0
    _rests_until: float = 0.0
    _paused: dict[str, float] = field(default_factory=dict)

    def wait_seconds(self, route: str) -> float:
        """0 if a call on this route may be made now. Where a breaker's rest is over, the one who asks makes the call that tries."""
        with self._lock:
            now = self.clock()
            wait = max(self._rests_until, self._paused.get(route, 0.0)) - now
            if wait <= 0 and self._failures >= self.breaker.failures:
                self._rests_until = now + self.breaker.rest.total_seconds()  # for all others, until that call has told
            return max(0.0, wait)

    def rest_seconds(self, route: str) -> float:
        """The same for who only asks, and makes no call."""
        with self._lock:
            return max(0.0, max(self._rests_until, self._paused.get(route, 0.0)) - self.clock())

    def turn_seconds(self) -> float:
        """Take the next turn that the rate allows; how long it is until then."""
        if self.rate is None:
            return 0.0
        with self._lock:
            now = self.clock()
            turn = max(now, self._next)
            self._next = turn + self.rate.per.total_seconds() / self.rate.calls
            return turn - now

    def pause(self, route: str, seconds: float) -> None:
        """The system said that this route is to wait."""
        with self._lock:
            self._paused[route] = max(self._paused.get(route, 0.0), self.clock() + seconds)

    def answered(self) -> None:
        """A proper answer came, whatever it said."""
        with self._lock:
            self._failures, self._rests_until = 0, 0.0

    def failed(self) -> None:
        """No answer came, or a page where an answer was due."""
        with self._lock:
            self._failures += 1
            if self._failures >= self.breaker.failures:
                self._rests_until = self.clock() + self.breaker.rest.total_seconds()


@cache
def traffic_of(address: str, rate: Rate | None, breaker: Breaker) -> Traffic:
    """The traffic with one system, as it was agreed; the same for all of this process."""
    return Traffic(rate, breaker)
