"""A file that is filed while it still arrives: its bytes come once, and what they are is known when the last one is out."""

from __future__ import annotations

from typing import ClassVar

from blocks.errors import RepositoryUnreachable, TransferIncomplete
from blocks.relay import Pour, Take


class Arriving:
    """The file part of a call, from bytes that cannot be read again."""

    field: ClassVar[str] = "file"

    def __init__(self, pour: Pour, name: str, media_type: str, size: int) -> None:
        self._pour, self._begun = pour, False
        self.name, self.media_type, self.size = name, media_type, size

    def pour(self, take: Take) -> None:
        """Give the bytes. The last ones only when they are known to be right: raises before if not, or if there are fewer or more than
        were promised.

        A second time there are none: then what became of the first call is for looking to tell.
        """
        if self._begun:
            raise RepositoryUnreachable(f"{self.name!r}: its bytes came only once, and no answer tells that it was filed")
        self._begun = True
        came, last = 0, b""

        def counted(piece: bytes | bytearray | memoryview) -> None:
            nonlocal came, last
            came += len(piece)
            if came > self.size:
                raise self._others(came)
            if came < self.size:
                take(piece)
            else:
                last += bytes(piece)

        self._pour(counted)
        if came != self.size:
            raise self._others(came)
        take(last)

    def _others(self, came: int) -> TransferIncomplete:
        return TransferIncomplete(f"{self.name!r}: {came} bytes came and {self.size} were announced; it was not filed")
