"""Examine: read the documents of a consignment once, and say what is wrong in them. I/O is here, decisions are in the rules.

Tables of one document type go through one frame, whoever sent them in how many files: each frame costs one pandera call. A
table larger than a frame goes through several, with accumulators for its keys, totals and constants; memory stays flat.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from blocks.errors import SpoolMissing
from blocks.values import Document, EmptyFiles, Finding, Inbound, Verdict
from tasks.doctypes import find
from tasks.doctypes.base import Doctype, Table
from tasks.rules import tabular
from tasks.rules.bounds import as_agreed, too_small
from tasks.rules.findings import MOST, Findings
from tasks.rules.judge import classify, verdict
from tasks.rules.sidecar import LARGEST_BYTES, is_sidecar, read
from tasks.rules.sniff import EMPTY, HEAD_BYTES, PLAIN, TAIL_BYTES, inspect, sniff, suits
from tasks.rules.structure import Block, Scan, Shape

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

CHUNK = 1024 * 1024
FRAME_TEXT_BYTES = 4 * 1024 * 1024
"""Text in one frame, which takes several times as much while it is checked."""
_IMPORTING = Lock()
_HASHED_ROWS = 1 << 13
"""So many texts of Python's are made at a time: each takes ten times as much as in Arrow."""
_FILE = "\n"
"""Name of the column that tells files apart: no column of a table is called so."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the content of one document told."""

    media_type: str
    findings: tuple[Finding, ...]
    facts: Mapping[str, str] = field(default_factory=dict)


Told: TypeAlias = tuple[Mapping[str, str], tuple[Finding, ...]]


def judge(
    documents: Sequence[Document],
    stream: Inbound,
    told: Mapping[str, Told] | None = None,
    *,
    frame_bytes: int = FRAME_TEXT_BYTES,
    chunk: int = CHUNK,
) -> list[tuple[Document, Verdict]]:
    """Classify, examine and judge documents in the spool, in their order. Each comes back with its sniffed type.

    ``told`` is what people said of some, by journey: facts that neither name nor content tell, and a note for each.
    ``frame_bytes`` of text, and as many more as a ``chunk`` that is read has, are checked at once.

    Raises ``SpoolMissing`` if the bytes of one are not where it says.
    """
    classified = {document.journey: classify(document.name, stream) for document in documents}
    recognised = [(document, find(slug)) for document in documents if (slug := classified[document.journey][0])]
    examined = examine(recognised, stream, frame_bytes, chunk)
    judged = []
    for document in documents:
        slug, facts = classified[document.journey]
        found = examined.get(document.journey) or _unrecognised(document, stream)
        sniffed = replace(document, sniffed=found.media_type)
        by_people, notes = (told or {}).get(document.journey, ({}, ()))
        judged.append((sniffed, verdict(sniffed, slug, {**by_people, **facts}, (*found.findings, *notes), found.facts, stream)))
    return judged


def examine(
    documents: Sequence[tuple[Document, Doctype]], stream: Inbound, frame_bytes: int = FRAME_TEXT_BYTES, chunk: int = CHUNK
) -> dict[str, Examined]:
    """Findings and facts of the content, by journey. Raises ``SpoolMissing``."""
    results: dict[str, Examined] = {}
    progress: dict[str, _Progress] = {}
    for slug, group in groupby(sorted(documents, key=lambda pair: pair[1].slug), key=lambda pair: pair[1].slug):
        doctype = find(slug)
        frame = _Frame(doctype.table, stream, frame_bytes) if doctype.table else None
        for document, _ in group:
            with _Content(document, chunk) as content:
                if content.size == 0 and stream.empty is EmptyFiles.ACCEPT:
                    results[document.journey] = Examined(EMPTY, (as_agreed(document.shown),))
                    continue
                media_type = sniff(content.head)
                findings = Findings(document.shown)
                for finding in (
                    *too_small(content.size, stream.limits, document.shown),
                    *inspect(document.name, media_type, content.head, content.tail, doctype),
                ):
                    findings.add(finding)
                facts = dict[str, str]()
                if media_type == PLAIN and is_sidecar(document.name, stream):
                    facts, wrong = read(content.up_to(LARGEST_BYTES + 1), stream)
                    for finding in wrong:
                        findings.add(finding)
                results[document.journey] = Examined(media_type, findings.all(), facts)
                if frame is not None and media_type != EMPTY and suits(media_type, doctype):
                    progress[document.journey] = frame.take(document, content, findings)
        if frame is not None:
            frame.flush()
    for journey, done in progress.items():
        facts = done.conclude()
        results[journey] = Examined(results[journey].media_type, done.findings.all(), facts)
    return results


def _unrecognised(document: Document, stream: Inbound) -> Examined:
    with _Content(document) as content:
        return Examined(sniff(content.head), tuple(too_small(content.size, stream.limits, document.shown)))


class _Content:
    """A document's bytes: first, last, and all of them in chunks. A small one is read once."""

    def __init__(self, document: Document, chunk: int = CHUNK) -> None:
        self._chunk = chunk
        try:
            self._file = os.open(document.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SpoolMissing(
                f"{document.shown}: its bytes {document.digest[:16]}… are not in the spool any more; they will be fetched again"
            ) from error
        # Few and small calls: at each, another thread may take Python's lock, and there are thousands of small files.
        try:
            self.size = os.fstat(self._file).st_size
            self._first = self._at(0, chunk)
        except BaseException:
            os.close(self._file)
            raise
        self.head = self._first[:HEAD_BYTES]

    @property
    def tail(self) -> bytes:
        if self.size <= len(self._first):
            return self._first[-TAIL_BYTES:]
        return self._at(max(0, self.size - TAIL_BYTES), TAIL_BYTES)

    def up_to(self, size: int) -> bytes:
        """Its first bytes, at most so many."""
        return self._at(0, size)

    def chunks(self) -> Iterator[bytes]:
        chunk, offset = self._first, 0
        while chunk:
            yield chunk
            offset += len(chunk)
            chunk = self._at(offset, self._chunk)

    def _at(self, offset: int, most: int) -> bytes:
        wanted = min(most, self.size - offset)
        return os.pread(self._file, wanted, offset) if wanted > 0 else b""

    def __enter__(self) -> _Content:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


class _Progress:
    """What is known of one table while its rows go through frames."""

    def __init__(self, document: Document, table: Table, scan: Scan, findings: Findings) -> None:
        self.document, self.table, self.scan, self.findings = document, table, scan, findings
        self.read = False
        """All its blocks were handed out."""
        self.totals = dict.fromkeys(table.trailer.totals if table.trailer else (), 0)
        self.constants: dict[str, str] = {}
        self.keys: _Keys | None = None
        """Of a table whose rows are in several frames."""

    def conclude(self) -> dict[str, str]:
        """Last findings, once all rows were seen, and the facts."""
        scan = self.scan
        if self.table.trailer is not None and scan.sound and scan.complete:
            totals = self.totals if not self.findings.errors else {}
            for finding in tabular.check_trailer(self.table.trailer, scan.trailer, scan.rows, totals):
                self.findings.add(finding)
        return {"rows": str(scan.rows), **self.constants}

    def compare_keys(self, stream: Inbound) -> None:
        """Find repeats once its last row was seen. What was kept for that is let go."""
        if self.keys is None:
            return
        pairs, count = self.keys.repeats(MOST)
        self.keys.close()
        self.keys = None
        if not pairs:
            return
        # The hashes only point at rows: what these really hold is read again, so that nobody is accused by a collision.
        rows = _rows_at({row for pair in pairs for row in pair}, self.document, self.table, stream)
        places = [self.table.names.index(name) for name in self.table.key]
        same = [(row, first) for row, first in pairs if all(rows[row][at] == rows[first][at] for at in places)]
        for row, first in same:
            key = {name: rows[row][at] for name, at in zip(self.table.key, places, strict=True)}
            self.findings.add(tabular.repeated(row, first, key))
        if len(same) == len(pairs):
            self.findings.more(count - len(pairs))


class _Frame:
    """Rows of many files of one document type, judged together as soon as there are enough."""

    def __init__(self, table: Table, stream: Inbound, most_bytes: int) -> None:
        self._table, self._stream, self._most_bytes = table, stream, most_bytes
        self._shape = shape(table, stream)
        self._blocks: list[tuple[_Progress, Block]] = []
        self._bytes = 0

    def take(self, document: Document, content: _Content, findings: Findings) -> _Progress:
        scan = Scan(self._shape, findings)
        progress = _Progress(document, self._table, scan, findings)
        if self._bytes + content.size > self._most_bytes:
            self.flush()  # a table that fits into one frame is not spread over two
        for block in scan.blocks(content.chunks()):
            self._blocks.append((progress, block))
            self._bytes += len(block.data)
            if self._bytes >= self._most_bytes:
                self.flush()
        progress.read = True
        if not self._blocks:
            progress.compare_keys(self._stream)
        return progress

    def flush(self) -> None:
        if not self._blocks:
            return
        _load_the_heavy_ones()
        import numpy as np

        blocks, self._blocks, self._bytes = self._blocks, [], 0
        data = b"".join(block.data for _, block in blocks)
        rows = np.concatenate([np.arange(block.first_row, block.first_row + block.rows) for _, block in blocks])
        texts = _texts(data, self._table, self._stream.delimiter)
        if len(texts) != len(rows):  # counted by the csv module, so that one is right
            texts = _texts_exactly(data, self._table, self._stream.delimiter)
        converted, cells = tabular.judge(texts, self._table, self._stream.decimal)
        spans = list(_spans(blocks))
        owners = np.repeat(np.arange(len(spans)), [stop - start for _, start, stop in spans])
        for cell in cells:
            findings = spans[owners[cell.position]][0].findings
            if findings.full:
                findings.more(1)
            else:
                findings.add(cell.finding(int(rows[cell.position])))
        self._find_repeats(texts, rows, owners, spans)
        for progress, start, stop in spans:
            for name in progress.totals:
                progress.totals[name] += int(converted[name].iloc[start:stop].sum())
            for name in self._table.constants:
                _constant(progress, name, texts[name].slice(start, stop - start), rows[start:stop])
            if progress.read:
                progress.compare_keys(self._stream)

    def _find_repeats(
        self,
        texts: pa.Table,
        rows: np.ndarray[Any, Any],
        owners: np.ndarray[Any, Any],
        spans: list[tuple[_Progress, int, int]],
    ) -> None:
        if not self._table.key:
            return
        import pyarrow as pa
        import pyarrow.compute as pc

        keys = texts.select(list(self._table.key))
        for progress, start, stop in spans:
            if progress.keys is not None or not progress.read:  # other rows of this file are in other frames
                progress.keys = progress.keys or _Keys()
                progress.keys.add(_hashes(keys.slice(start, stop - start)), rows[start:stop])
        if all(progress.keys is not None for progress, _, _ in spans):
            return
        if len(pc.unique(keys.column(0))) == len(keys):
            return  # so all of them differ, which is told faster by one column
        keys = keys.append_column(_FILE, pa.array(owners))
        if keys.group_by(keys.column_names, use_threads=False).aggregate([]).num_rows == len(keys):
            return
        marked = keys.to_pandas()
        for position in marked.index[marked.duplicated()]:
            progress, start, stop = spans[owners[position]]
            if progress.keys is None:
                if not progress.findings.full:
                    key = marked.iloc[position]
                    first = start + int((marked.iloc[start:stop] == key).all(axis=1).to_numpy().argmax())
                    repeated = tabular.repeated(int(rows[position]), int(rows[first]), key.drop(_FILE).to_dict())
                    progress.findings.add(repeated)
                else:
                    progress.findings.more(1)


def _load_the_heavy_ones() -> None:
    """Consignments are checked in several threads, and pandera imported by two at once deadlocks: one imports it, the rest wait."""
    with _IMPORTING:
        import pandera.errors
        import pandera.pandas  # noqa: F401


def _spans(blocks: Iterable[tuple[_Progress, Block]]) -> Iterator[tuple[_Progress, int, int]]:
    """Each file in a frame with the positions of its rows, which are together."""
    start = 0
    for progress, group in groupby(blocks, key=itemgetter(0)):
        stop = start + sum(block.rows for _, block in group)
        yield progress, start, stop
        start = stop


def _constant(progress: _Progress, name: str, values: pa.ChunkedArray, rows: np.ndarray[Any, Any]) -> None:
    import pyarrow.compute as pc

    agreed = progress.constants.setdefault(name, str(values[0]))
    at = pc.index(pc.not_equal(values, agreed), True).as_py()
    if at >= 0:
        progress.findings.add(tabular.several_values(name, agreed, str(values[at]), int(rows[at])))


def shape(table: Table, stream: Inbound) -> Shape:
    """What was agreed about a table on this stream."""
    return Shape(
        table.names,
        stream.encoding,
        stream.delimiter,
        table.trailer.start if table.trailer else None,
        stream.limits.rows,
        stream.limits.field_characters,
    )


def _texts(data: bytes, table: Table, delimiter: str) -> pa.Table:
    """The rows as texts, exactly as they were sent: no zeros lost, and "NA" is a text. Each column is in one piece."""
    import pyarrow as pa
    import pyarrow.csv as arrow

    # Arrow takes only separators of one byte, and drops a BOM: the file's own is off already, so this one is in a text.
    if not delimiter.isascii() or data.startswith(codecs.BOM_UTF8):
        return _texts_exactly(data, table, delimiter)
    quoted = b'"' in data
    try:
        texts = arrow.read_csv(
            pa.BufferReader(data),
            arrow.ReadOptions(column_names=table.names, use_threads=False, block_size=len(data) + 1),
            arrow.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted, ignore_empty_lines=False
            ),
            arrow.ConvertOptions(column_types=dict.fromkeys(table.names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid:  # it counts otherwise than the csv module, so that one is right
        return _texts_exactly(data, table, delimiter)
    return texts.combine_chunks()


def _texts_exactly(data: bytes, table: Table, delimiter: str) -> pa.Table:
    """The same, slower, by the parser that counted the rows."""
    import pyarrow as pa

    rows = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter)
    columns = zip(*rows, strict=True)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(table.names, columns, strict=True)})


def _rows_at(wanted: set[int], document: Document, table: Table, stream: Inbound) -> dict[int, list[str]]:
    """Some rows of a table, read again."""
    found: dict[int, list[str]] = {}
    with _Content(document) as content:
        for block in Scan(shape(table, stream), Findings(document.shown)).blocks(content.chunks()):
            numbers = range(block.first_row, block.first_row + block.rows)
            if not wanted.isdisjoint(numbers):
                records = csv.reader(io.StringIO(block.data.decode(), newline=""), delimiter=stream.delimiter)
                found.update((row, record) for row, record in zip(numbers, records, strict=True) if row in wanted)
    return found


# --------------------------------------------------------------------------------------------- keys of large tables


def _hashes(keys: pa.Table) -> np.ndarray[Any, Any]:
    """64 bits for each row, the same for equal keys within this process."""
    import numpy as np

    hashes = np.empty(len(keys), dtype=np.int64)
    for start in range(0, len(keys), _HASHED_ROWS):
        part = keys.slice(start, _HASHED_ROWS)
        columns = [column.to_pylist() for column in part.columns]
        hashes[start : start + len(part)] = np.fromiter(map(hash, zip(*columns, strict=True)), dtype=np.int64, count=len(part))
    return hashes.view(np.uint64)


class _Keys:
    """Which rows of a large table may have equal keys: 16 bytes a row. Many are on disk, and are compared part by part."""

    PARTS = 256
    """So that one part of 70 million rows is a few MiB when it is sorted."""
    HELD_ROWS = 1 << 18
    """So many are in memory, 4 MiB, before they go to disk."""

    def __init__(self) -> None:
        self._held: list[np.ndarray[Any, Any]] = []
        self._held_rows = 0
        self._files = ExitStack()
        self._parts: list[IO[bytes]] = []

    def add(self, hashes: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> None:
        import numpy as np

        self._held.append(np.column_stack([hashes, rows.astype(np.uint64)]))
        self._held_rows += len(rows)
        if self._held_rows > self.HELD_ROWS:
            self._to_disk()

    def _to_disk(self) -> None:
        import numpy as np

        if not self._parts:
            files = (tempfile.TemporaryFile() for _ in range(self.PARTS))  # noqa: SIM115 - the stack closes them
            self._parts = [self._files.enter_context(file) for file in files]
        pairs = np.concatenate(self._held)
        self._held, self._held_rows = [], 0
        part = pairs[:, 0] % np.uint64(self.PARTS)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(1, self.PARTS), side="left")
        for file, piece in zip(self._parts, np.split(pairs[order], ends), strict=True):
            file.write(piece.tobytes())

    def _tables(self) -> Iterator[np.ndarray[Any, Any]]:
        """Hashes and rows; the same hash is in no two of them."""
        import numpy as np

        if self._parts and self._held:
            self._to_disk()
        for file in self._parts:
            file.seek(0)
            yield np.frombuffer(file.read(), dtype=np.uint64).reshape(-1, 2)
        if self._held:
            yield np.concatenate(self._held)

    def repeats(self, most: int) -> tuple[list[tuple[int, int]], int]:
        """Rows whose key an earlier row has, each with that row: ``most`` of them, and how many there are."""
        import numpy as np

        pairs: list[tuple[int, int]] = []
        count = 0
        for unsorted in self._tables():
            table = unsorted[np.lexsort((unsorted[:, 1], unsorted[:, 0]))]
            again = np.flatnonzero(table[1:, 0] == table[:-1, 0]) + 1
            count += len(again)
            for at in again[: max(0, most - len(pairs))]:
                first = np.searchsorted(table[:, 0], table[at, 0], side="left")
                pairs.append((int(table[at, 1]), int(table[first, 1])))
        return sorted(pairs), count

    def close(self) -> None:
        self._files.close()
