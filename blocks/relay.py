"""A relay: the bytes of one file on their way from an endpoint to a repository, without a stop on our disk.

An endpoint's ``fetch`` writes into it as into a batch of the spool, in one thread; what files reads ``pieces`` in another. Only
so much is held: who writes waits for who reads. The last piece comes out only once the endpoint has said that the file is whole
and was not changed meanwhile; if it says anything else, reading raises, so that no body is completed with bytes that are not proven.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from threading import Condition

from blocks.errors import TransferIncomplete
from blocks.spool import Batch, Spooled, SpoolFile

HELD_BYTES = 8 * 1024 * 1024


class Relay(Batch):
    """Stands where a batch of the spool stands, for one file. It has no folder: nothing is kept, and nothing is gone on with."""

    def __init__(self, name: str, held_bytes: int = HELD_BYTES) -> None:
        self._name, self._most = name, held_bytes
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._whole, self._broken = False, ""
        self._changed = Condition()

    def open(self, resume_key: str | None = None) -> SpoolFile:
        return _Passing(self)

    # ----------------------------------------------------------------------------------------- who writes

    def put(self, piece: bytes) -> None:
        """Waits while too much is held. Raises ``TransferIncomplete`` once nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._held_bytes < self._most or self._broken)
            self._must_go_on()
            self._held.append(piece)
            self._held_bytes += len(piece)
            self._changed.notify_all()

    def end(self) -> None:
        """All is here, and is what it should be."""
        with self._changed:
            self._must_go_on()
            self._whole = True
            self._changed.notify_all()

    def give_up(self, why: str) -> None:
        """No more comes, or no more is read: whoever waits at the other side is told. What came to its end stays so."""
        with self._changed:
            if not self._whole:
                self._broken = self._broken or why
            self._changed.notify_all()

    # ----------------------------------------------------------------------------------------- who reads

    def head(self, count: int) -> bytes:
        """The first bytes, as soon as they are here; they are still to be read. Raises ``TransferIncomplete``."""
        with self._changed:
            self._changed.wait_for(lambda: self._held_bytes >= count or self._whole or self._broken)
            self._must_go_on()
            return b"".join(self._held)[:count]

    def pieces(self) -> Iterator[bytes]:
        """The bytes, once. Raises ``TransferIncomplete`` before the last piece is out if the file did not come whole."""
        last = b""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._whole or self._broken)
                self._must_go_on()
                if not self._held:
                    break
                piece = self._held.popleft()
                self._held_bytes -= len(piece)
                self._changed.notify_all()
            if last:
                yield last
            last = piece
        yield last

    def _must_go_on(self) -> None:
        if self._broken:
            raise TransferIncomplete(
                f"{self._name}: it did not pass through us whole ({self._broken}); the source was not touched"
            )


class _Passing(SpoolFile):
    """What an endpoint writes into."""

    def __init__(self, relay: Relay) -> None:
        self._relay, self._hash, self.size = relay, sha256(), 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        piece = bytes(data)
        self._relay.put(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        if self.size:
            self._relay.give_up("it has to begin anew")

    def finish(self) -> Spooled:
        self._relay.end()
        return Spooled(self._hash.hexdigest(), self.size)

    def keep(self) -> None:
        self._relay.give_up("the connection was lost")

    def discard(self) -> None:
        self._relay.give_up("it was changed or cannot be read")

    def head(self, count: int) -> bytes:
        raise NotImplementedError("nothing is held: what passes through begins at its beginning")

    tail = head
