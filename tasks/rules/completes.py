"""Completing: whether a file brings all that an earlier one of its name had, which was cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from tasks.rules.tabular import TRUNCATED

CUT = frozenset({TRUNCATED, "trailer-missing"})
"""Codes of files of which a part is missing."""
_MARK = b"\xef\xbb\xbf"
_PIECE = 1 << 20
"""Longer lines are compared piece by piece."""


def completes(whole: IO[bytes], cut: IO[bytes], control: str | None) -> bool:
    """True if every line of the cut file is in the whole one, in its order: so nothing of another day or version passes for the rest.

    ``control`` is how a control line begins, which may differ. The cut file's last line may be the beginning of one. A cut file with
    nothing but a header is completed by none: nobody could tell.
    """
    lines, matched = _lines(whole, control), 0
    for wanted, ended in _lines(cut, control):
        if not any(_same(wanted, line, ended) for line, _ in lines):
            return False
        matched += 1
    return matched > 1


def _same(wanted: bytes, line: bytes, ended: bool) -> bool:
    return line == wanted if ended else line.startswith(wanted)


def _lines(file: IO[bytes], control: str | None) -> Iterator[tuple[bytes, bool]]:
    """Lines without their ends, and whether each had one; not the control line."""
    first = True
    while line := file.readline(_PIECE):
        line = line.removeprefix(_MARK) if first else line
        first = False
        text = line.rstrip(b"\r\n")
        if control is None or not text.startswith(control.encode()):
            yield text, text != line or len(line) == _PIECE
