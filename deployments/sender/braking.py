"""How much a release is beside those that went before it, by the sender's own record: workers have no say in it.

Documents, and what was delivered of them, the sender knows itself. Rows and values it counts in the bytes of the workers' spool, once
for each digest, and only in bytes that have it: whoever changes them there changes what is sent, and that is refused.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from blocks.outbound import Brake, Outbound, Package, canonical, sha256
from deployments.sender.store import Counted, Store
from tasks.doctypes import known
from tasks.rules.brake import Amounts, unusual
from tasks.rules.naming import extension
from tasks.rules.sniff import EMPTY, HEAD_BYTES, UNKNOWN, sniff

MOST_BYTES = 128 * 1024 * 1024
"""Of all tables of a package that are counted while somebody waits; of a larger one nobody knows."""
_TEXTS = frozenset({"txt", "tsv"}).union(*(doctype.extensions for doctype in known().values() if doctype.table))
"""Endings of names that promise a text: what is none there was not counted, however well it is known."""
_CHUNK = 1024 * 1024
_LONGEST_LINE = 1024 * 1024
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a stream's tables are read."""

    encoding: str
    delimiter: str
    decimal: str
    column: str
    """Whose numbers are added; "" for none."""

    @property
    def key(self) -> str:
        """What was counted in this way is comparable."""
        return sha256(canonical({"v": 2, **asdict(self)}))

    @property
    def key_before(self) -> str:
        """Of what was counted before open quotes were found: it tells what was usual, and nothing about a release that is to go."""
        return sha256(canonical(asdict(self)))

    def number(self, text: str) -> float | None:
        """The number of a cell; None for what is none."""
        if not re.fullmatch(rf"[+-]?[0-9]{{1,15}}(?:{re.escape(self.decimal)}[0-9]{{0,9}})?", text.strip(), re.ASCII):
            return None
        return float(text.strip().replace(self.decimal, "."))


def brakes(
    package: Package, terms: Outbound, store: Store, place: Callable[[str], Path], *, most_bytes: int = MOST_BYTES
) -> tuple[str, ...]:
    """Why one more person must sign this package; empty if it is as usual, or if nothing was agreed about that.

    An order counts with all of it that was delivered already: what is left of one is no small release, nor are its parts. What goes
    once more did go, and was judged then.
    """
    brake = terms.signoff.brake
    if brake is None or package.redelivery is not None:
        return ()
    reading = Reading(terms.encoding, terms.delimiter, terms.decimal, brake.value.column if brake.value else "")
    about = (package.partner, package.stream)
    now = store.went(*about, package.root_order) | names_of(package)
    before = store.releases(*about, but=package.root_order, most=brake.releases)
    counted = count(now, reading, store, place, most_bytes) if _counts(brake) else {}
    told = [amounts(names, _counted_before(names, reading, store), reading) for names in before]
    return unusual(amounts(now, counted, reading), told, brake)


def _counted_before(names: Mapping[bytes, tuple[str, int]], reading: Reading, store: Store) -> dict[str, Counted]:
    digests = [digest for digest, _ in names.values()]
    return store.counted(digests, reading.key_before) | store.counted(digests, reading.key)


def names_of(package: Package) -> dict[bytes, tuple[str, int]]:
    """Digest and size of each document, by its name."""
    return {file.name: (file.sha256, file.size) for file in package.files}


def _counts(brake: Brake) -> bool:
    return brake.rows is not None or brake.value is not None or brake.removed is not None


def count(
    names: Mapping[bytes, tuple[str, int]],
    reading: Reading,
    store: Store,
    place: Callable[[str], Path],
    most_bytes: int = MOST_BYTES,
) -> dict[str, Counted]:
    """What these documents hold, by digest, as far as it can be counted while somebody waits; each is counted once."""
    counted = store.counted((digest for digest, _ in names.values()), reading.key)
    budget = most_bytes
    texts = {digest for name, (digest, _) in names.items() if extension(name) in _TEXTS}
    for digest in texts & counted.keys():
        if not counted[digest].rows:  # it may have had another name then, which promised no text
            del counted[digest]
    for digest, size in names.values():
        if digest not in counted and size <= budget:
            budget -= size
            found = _count(place(digest), digest, size, reading, promised=digest in texts)
            if found is not None:
                counted[digest] = found
                store.count(digest, reading.key, found)
    return counted


def amounts(names: Mapping[bytes, tuple[str, int]], counted: Mapping[str, Counted], reading: Reading) -> Amounts:
    """What was counted in these documents, together."""
    found = [counted.get(digest) for digest, _ in names.values()]
    rows = [one.rows for one in found if one is not None]
    values = [one.value for one in found if one is not None and one.value is not None]
    value = math.fsum(values) if len(values) == len(found) else None
    if reading.column and not value and any(rows):
        value = None  # rows and no value: most likely the column has another name there, or the table another delimiter
    return Amounts(files=len(names), rows=sum(rows) if len(rows) == len(found) else None, value=value)


def _count(path: Path, digest: str, size: int, reading: Reading, *, promised: bool) -> Counted | None:
    """What a document holds, whose name may have promised a text; None if nobody can tell.

    So it is where other bytes stand, or none: not counted is not usual, and one more person signs.
    """
    return read(path, digest, size, lambda content: _counted(content, reading, promised))


def read(path: Path, digest: str, size: int, look: Callable[[Hashed], Found | None]) -> Found | None:
    """What is found in the bytes of this digest; None where other bytes stand, or none.

    A worker may have put anything there, also a pipe or a link: neither is followed.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        try:
            content = Hashed(file, size)
            found = look(content)
            return found if content.hexdigest() == digest else None
        except OSError:
            return None


class Hashed(io.RawIOBase):
    """Bytes that are hashed as they are read, as far as they can be those of a document."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left, self._hash = file, size + 1, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        self._hash.update(data)
        buffer[: len(data)] = data
        return len(data)

    def hexdigest(self) -> str:
        """Of all bytes, also of those that nobody has read yet."""
        while self.read(_CHUNK):
            pass
        return self._hash.hexdigest()


def _counted(content: Hashed, reading: Reading, promised: bool) -> Counted | None:
    """Rows are lines that hold something, but for the first; what is known to be no text, and promised none, has none.

    None for what is nothing known, or is no text in this encoding: one byte is enough to make a table look like it.
    """
    stream = io.BufferedReader(content, _CHUNK)
    try:
        head = stream.peek(HEAD_BYTES)[:HEAD_BYTES]
        kind = sniff(head)
        wide = codecs.lookup(reading.encoding).name.startswith(("utf-16", "utf-32"))
        if kind == UNKNOWN and wide:  # its bytes look like none
            kind = sniff(head.decode(reading.encoding, errors="replace").encode())
        if not kind.startswith("text/"):
            return Counted(0, 0.0) if kind == EMPTY or not (promised or kind == UNKNOWN) else None
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not wide:
            return None
        if head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        text = io.TextIOWrapper(stream, encoding=reading.encoding, errors="replace", newline="")
        first = text.readline(_LONGEST_LINE).removeprefix("\N{BYTE ORDER MARK}")
        rows, cells = _rows(chain([first], iter(lambda: text.readline(_LONGEST_LINE), "")), reading)
        text.detach()
        return Counted(max(0, rows - 1), cells)
    finally:
        stream.detach()


def _rows(lines: Iterator[str], reading: Reading) -> tuple[int, float | None]:
    """How many rows there are, and the sum of the column; None where a cell of it is no number, and 0 where there is no such column."""
    if not reading.column:
        return sum(1 for line in lines if line.strip()), 0.0
    # Strict: else a quote that is never closed makes one cell of all rows behind it.
    records = csv.reader(lines, delimiter=reading.delimiter, strict=True)
    count, total, known = 0, 0.0, True
    try:
        header = [name.strip() for name in next(records, [])]
        count = 1
        column = header.index(reading.column) if reading.column in header else None
        for record in records:
            count += any(cell.strip() for cell in record)
            if column is not None and any(record):
                number = reading.number(record[column]) if column < len(record) else None
                known, total = known and number is not None, total + abs(number or 0.0)
    except csv.Error:
        return count + 1 + sum(1 for line in lines if line.strip()), None  # the record that could not be read is one too
    return count, total if known else None
