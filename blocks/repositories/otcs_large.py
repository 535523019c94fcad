"""Large files at one Content Server: sent in parts, each in a call of its own, never held in memory.

``bring`` gives the key that stands for a file's bytes in the call that makes the document or the version. What the server asks
for (OpenText's REST reference, Large File Upload):

- It says from which size and up to which it takes files this way, or that it does not at all. The size of the parts and how often
  one may be sent again is told when a session starts.
- A part that arrived and whose answer was lost is refused when it comes again ("has already been uploaded"): then it is there.
- A session runs out. It is started once more then; what was sent is sent again.

Nothing of this can be seen in the repository before the key is used, and a session that is left behind runs out by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from blocks.errors import CountersignError, RepositoryError, RepositoryUnreachable
from blocks.relay import Take
from blocks.repositories.once import Once
from blocks.repositories.otcs_wire import CHUNK_BYTES, AnswerLost, Fields, Refusal, Upload, Wire, pauses, readable

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

SESSIONS = 2
"""How often a session is started for one file, before we say that it cannot be done now."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Which sizes the server takes in parts, in bytes. None at all: ``most`` is 0."""

    least: int
    most: int

    def covers(self, size: int) -> bool:
        return max(self.least, 1) <= size <= self.most


class LargeFiles:
    """The large files of one signed-in account. Used by several threads at once."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._offers = Once[None, Offer]()

    def offer(self) -> Offer:
        """What the server offers; asked once. An older server, which does not know the question, offers nothing."""

        def find() -> Offer:
            what = "settings of large uploads"
            try:
                answer = self._wire.ask(what, "GET", "v2/multipart/settings")
            except Refusal:
                return Offer(0, 0)
            if not answer.get("is_enabled"):
                return Offer(0, 0)
            least, most = answer.get("min_size"), answer.get("max_size")
            if not isinstance(least, int) or not isinstance(most, int):
                raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no sizes; nothing was sent")
            return Offer(least, most)

        return self._offers.get(None, find)

    def bring(self, upload: Upload) -> str:
        """The key of the file's bytes, all of them at the server. Raises ``SpoolCorrupt`` where they are not the promised ones."""
        for _ in range(SESSIONS):
            session = self._start(upload)
            try:
                self._send(session, upload)
                self._complete(session)
            except RepositoryUnreachable:
                raise  # whoever is away cannot be told either: the session runs out
            except Refusal as refusal:
                if not session_ended(refusal):
                    self.cancel(session.key)
                    raise
            except CountersignError:
                self.cancel(session.key)
                raise
            else:
                return session.key
        raise RepositoryUnreachable(
            f"large upload of {upload.name!r} at {self._wire.url}: the server ends its sessions before all parts are there; it is safe "
            "to try again"
        )

    def _start(self, upload: Upload) -> _Session:
        what = f"large upload of {upload.name!r}"
        media_type = upload.media_type or _Part.media_type  # an empty one is refused
        fields: Fields = {"file_name": upload.name, "file_size": upload.size, "mime_type": media_type}
        for _ in pauses():
            try:
                answer = self._wire.write(what, "POST", "v2/multipart", fields=fields)
            except AnswerLost:
                continue  # a session of which nobody knows runs out
            key, size, retries = answer.get("upload_key"), answer.get("part_size"), answer.get("max_retries")
            if not isinstance(key, str) or not key or not isinstance(size, int) or size < 1:
                raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no key or no part size; nothing was sent")
            session = _Session(key, size, -(-upload.size // size), retries if isinstance(retries, int) else 1)
            if answer.get("num_parts", session.parts) != session.parts:
                raise RepositoryError(
                    f"{what} at {self._wire.url}: {answer['num_parts']} parts of {size} bytes do not make {upload.size} bytes; "
                    "nothing was sent"
                )
            return session
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer; nothing was filed, it is safe to try again")

    def _send(self, session: _Session, upload: Upload) -> None:
        digest = sha256()
        for number in range(1, session.parts + 1):
            part = _Part(upload, session, number, digest)
            self._send_part(session, part)
            digest = part.digest

    def _send_part(self, session: _Session, part: _Part) -> None:
        what = f"part {part.number} of {session.parts} of {part.name!r}"
        for attempt, _ in enumerate(pauses()):
            if attempt > session.retries:
                break
            try:
                self._wire.write(what, "POST", f"v2/multipart/{session.key}/{part.number}", upload=part, bare=True)
            except AnswerLost:
                continue
            except Refusal as refusal:
                if not attempt or "already been uploaded" not in refusal.text:
                    raise
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer; nothing was filed, it is safe to try again")

    def _complete(self, session: _Session) -> None:
        what = f"completing large upload {session.key}"
        for attempt, _ in enumerate(pauses()):
            try:
                self._wire.write(what, "POST", f"v2/multipart/{session.key}", bare=True)
            except AnswerLost:
                continue
            except Refusal as refusal:
                if not attempt or "already closed" not in refusal.text:
                    raise
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer; nothing was filed, it is safe to try again")

    def cancel(self, key: str) -> None:
        """Give up what was sent. It is nowhere to be seen, so it does no harm if this does not arrive."""
        try:
            self._wire.write(f"large upload {key}", "DELETE", f"v2/multipart/{key}", bare=True)
        except (RepositoryUnreachable, Refusal):
            return  # it runs out by itself


def session_ended(refusal: Refusal) -> bool:
    """True if the server does not know a key (any more)."""
    return "UploadKey is invalid" in refusal.text or "session expired" in refusal.text


@dataclass(frozen=True, slots=True)
class _Session:
    key: str
    part_size: int
    parts: int
    retries: int
    """How often one part may be sent again."""


class _Part:
    """One part of a file, read from its place in it. The last one is only let go if the whole file was what was promised."""

    field: ClassVar[str] = "part_content"
    media_type: ClassVar[str] = "application/octet-stream"

    def __init__(self, upload: Upload, session: _Session, number: int, before: Hash) -> None:
        self._upload, self._before, self.number = upload, before, number
        self._start, self._last = (number - 1) * session.part_size, number == session.parts
        self.name, self.size = upload.name, min(session.part_size, upload.size - self._start)
        self.digest = before
        """Of the file up to the end of this part, once it was sent."""

    def pour(self, take: Take) -> None:
        for piece in self._pieces():
            take(piece)

    def _pieces(self) -> Iterator[bytes]:
        digest, left, held = self._before.copy(), self.size, b""
        with readable(self._upload) as source:
            source.seek(self._start)
            while left and (piece := source.read(min(left, CHUNK_BYTES))):
                if held:
                    yield held
                digest.update(piece)
                left, held = left - len(piece), piece
            whole = self._last and not left and not source.read(1)
        sent_before = self.digest is not self._before
        if (
            left
            or (sent_before and self.digest.digest() != digest.digest())
            or (self._last and not (whole and digest.hexdigest() == self._upload.digest))
        ):
            raise self._upload.corrupt()
        self.digest = digest
        yield held
