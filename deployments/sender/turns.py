"""One visit at a time for each package, and for each message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from blocks.errors import SenderUnreachable

_PATIENCE_SECONDS = 5.0


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
