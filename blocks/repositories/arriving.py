"""A file that is filed while it still arrives: its bytes come once, and what they are is known when the last one is out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from blocks.errors import RepositoryUnreachable, TransferIncomplete


class Arriving:
    """The file part of a call, from bytes that cannot be read again."""

    field: ClassVar[str] = "file"

    def __init__(self, pieces: Iterator[bytes], name: str, media_type: str, size: int) -> None:
        self._pieces, self._begun = pieces, False
        self.name, self.media_type, self.size = name, media_type, size

    def pieces(self) -> Iterator[bytes]:
        """The bytes. Raises before the last piece is out if there are fewer or more than were promised.

        A second time there are none: then what became of the first call is for looking to tell.
        """
        if self._begun:
            raise RepositoryUnreachable(f"{self.name!r}: its bytes came only once, and no answer tells that it was filed")
        self._begun = True
        sent, held = 0, b""
        for piece in self._pieces:
            if held:
                yield held
            sent, held = sent + len(piece), piece
            if sent > self.size:
                break
        if sent != self.size:
            raise TransferIncomplete(f"{self.name!r}: {sent} bytes came and {self.size} were announced; it was not filed")
        yield held
