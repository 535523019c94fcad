"""A relay: the bytes of one file on their way from an endpoint to a repository, without a stop on our disk.

An endpoint's ``fetch`` writes into it as into a batch of the spool, in one thread; what files has them poured out, in another. Until
then they are held, so many at most: who writes waits. From then on each piece goes on in the thread that writes it, without being
copied, held or handed over, which would cost more than decrypting it; and who files waits for the end. That comes only once the endpoint
has said that the file is whole and was not changed meanwhile; if it says anything else, pouring raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha256
from threading import Condition
from typing import TypeAlias

from blocks.errors import TransferIncomplete
from blocks.spool import Batch, Spooled, SpoolFile

HELD_BYTES = 8 * 1024 * 1024

Take: TypeAlias = Callable[[bytes | bytearray | memoryview], object]
"""Is given the next bytes of a file, which are there only until it returns."""
Pour: TypeAlias = Callable[[Take], object]
"""Gives all bytes of a file, perhaps in another thread while it waits. Returns when they are known to be right, and raises if not: so who
takes them keeps the last ones back until then."""


class Relay(Batch):
    """Stands where a batch of the spool stands, for one file. It has no folder: nothing is kept, and nothing is gone on with."""

    def __init__(self, name: str, held_bytes: int = HELD_BYTES) -> None:
        self._name, self._most = name, held_bytes
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._take: Take | None = None
        self._whole, self._broken = False, ""
        self._refused: BaseException | None = None
        """What was raised by who takes, in the thread that writes."""
        self._changed = Condition()
        """Held while a piece is taken: whoever takes does not go on, and ends nothing, while one is on its way to him."""

    def open(self, resume_key: str | None = None) -> SpoolFile:
        return _Passing(self)

    # ----------------------------------------------------------------------------------------- who writes

    def put(self, piece: bytes | bytearray | memoryview) -> None:
        """Have it taken, or held; waits while too much is held. Raises ``TransferIncomplete`` once nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._take or self._held_bytes < self._most or self._broken)
            self._must_go_on()
            if self._take is None:
                self._held.append(bytes(piece))
                self._held_bytes += len(piece)
                self._changed.notify_all()
                return
            try:
                self._take(piece)
            except BaseException as error:  # noqa: BLE001  it is raised where it belongs
                self._refused = error
                self.give_up("nobody takes it any more")
            self._must_go_on()

    def end(self) -> None:
        """All is here, and is what it should be."""
        with self._changed:
            self._must_go_on()
            self._whole = True
            self._changed.notify_all()

    def give_up(self, why: str) -> None:
        """No more comes, or no more is taken: whoever waits at the other side is told. What came to its end stays so."""
        with self._changed:
            if not self._whole:
                self._broken = self._broken or why
            self._changed.notify_all()

    # ----------------------------------------------------------------------------------------- who reads

    def head(self, count: int) -> bytes:
        """The first bytes, as soon as they are here; they are still to be poured. Raises ``TransferIncomplete``."""
        with self._changed:
            self._changed.wait_for(lambda: self._held_bytes >= count or self._whole or self._broken)
            self._must_go_on()
            return b"".join(self._held)[:count]

    def pour(self, take: Take) -> None:
        """The bytes, once. Raises ``TransferIncomplete`` if the file does not come whole, and what ``take`` raises."""
        with self._changed:
            self._must_go_on()
            try:
                while self._held:
                    take(self._held.popleft())
                self._take = take
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._whole or self._broken)
            finally:
                self._take = None
                self.give_up("nobody takes it any more")  # after the end this means nothing
            if self._refused is not None:
                raise self._refused
            self._must_go_on()

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
        self._relay.put(data)
        self._hash.update(data)
        self.size += len(data)

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
