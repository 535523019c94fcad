"""One visit at a time for each package, and for each message; and a few at once for each partner."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync

from blocks.errors import SenderUnreachable

_PATIENCE_SECONDS = 5.0
_LANE_SECONDS = 60.0
"""How long somebody waits for others of the same partner."""
_THREADS = 32
_T = TypeVar("_T")


class Turns:
    """Who is being served, by digest."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def alone(self, digest: str, what: str = "package") -> Iterator[None]:
        """Serve nobody else for this digest meanwhile. Raises ``SenderUnreachable`` if somebody else is served for too long."""
        with self._changed:
            if not self._changed.wait_for(lambda: digest not in self._busy, _PATIENCE_SECONDS):
                raise SenderUnreachable(
                    f"{what} {digest[:8]} is just being sent for another caller; ask again, it is not sent twice"
                )
            self._busy.add(digest)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(digest)
                self._changed.notify_all()


class Lanes:
    """A few at once for each partner: whoever answers slowly holds up nobody else. For one event loop."""

    def __init__(self, each: int, *, patience_seconds: float = _LANE_SECONDS) -> None:
        self._each, self._patience = each, patience_seconds
        self._lanes: dict[str, CapacityLimiter] = {}
        self._threads = CapacityLimiter(_THREADS)

    async def run(self, partner: str, do: Callable[[], _T], left: Callable[[], Awaitable[bool]]) -> _T:
        """Do it in a thread when it is this partner's turn, unless whoever asked has ``left`` by then.

        Raises ``SenderUnreachable`` if nothing was begun: the partner is busy for too long, or nobody listens.
        """
        lane, me = self._lanes.setdefault(partner, CapacityLimiter(self._each)), object()
        try:
            with move_on_after(self._patience) as waiting:
                await lane.acquire_on_behalf_of(me)
            if waiting.cancelled_caught:
                raise SenderUnreachable(f"{partner}: others about this partner are still being served; nothing was begun")
            try:
                if await left():
                    raise SenderUnreachable(f"{partner}: whoever asked does not listen any more; nothing was begun")
                return await run_sync(do, limiter=self._threads)
            finally:
                lane.release_on_behalf_of(me)
        finally:
            served = lane.statistics()
            if not served.borrowed_tokens and not served.tasks_waiting:
                self._lanes.pop(partner, None)
