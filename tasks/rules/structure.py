"""The raw structural pass over a delimited text: bytes in, verified records out, everything odd told with its exact row.

Libraries that read tables forgive: rows longer than the header shift silently, a file cut inside its last number still parses.
So nothing is handed to one before this pass has counted the fields of every record.

::

    chunks of bytes ─▶ encoding, BOM, NUL ─▶ whole records ─▶ header exact? ─▶ Blocks: every record has the right number of fields
                            │                                     │                         │ others are cut out
                            └────────────────── Findings with row and offset ◀──────────────┘

Memory stays flat: a chunk and an unfinished record are held. A chunk without quotes is proven by one comparison of its
delimiters and newlines with what they must be; only what has quotes, or fails that, is read record by record by ``csv``.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import chain

from blocks.values import Finding, shown
from tasks.rules.findings import Findings, note

LONGEST_RECORD_BYTES = 16 * 1024 * 1024
HEADER_BYTES = 64 * 1024
OFFENCES = 20
"""So many bytes that are no text, and the rest of the file is not worth reading as text."""
HEAD_BYTES = 4096
BLANK_LINES = 10_000
"""More blank lines together than any table has by accident."""
_CSV_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Shape:
    """What was agreed about a table."""

    columns: tuple[str, ...]
    encoding: str = "utf-8"
    delimiter: str = ","
    trailer: str | None = None
    """How the control line at the end begins; None if there is none."""
    rows: int = 50_000_000
    field_characters: int = 131_072


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive whole records, each with the right number of fields. UTF-8, each ended by a newline."""

    first_row: int
    rows: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Offence:
    """Bytes that are no text, at an offset in the file."""

    code: str
    offset: int | None
    """None where the encoding does not let us tell."""
    found: bytes


class _Stopped(Exception):
    """The rest of the file is not looked at."""


class Scan:
    """One pass over one file. Take all ``blocks``; then the other attributes are complete."""

    def __init__(self, shape: Shape, findings: Findings) -> None:
        self.shape, self.findings = shape, findings
        self.rows = 0
        """Data rows: without header, trailer and blank lines."""
        self.trailer: str | None = None
        self.header: tuple[str, ...] | None = None
        self.sound = False
        """True once the header was found to be exact. Without that no block is handed out."""
        self.complete = True
        """False if the pass stopped before the end: totals and counts mean nothing then."""
        self._record = 0  # records passed, the header being the first
        self._rest = b""  # begins at the beginning of a record, always
        self._blank, self._first_blank = 0, 0
        self._newlines: set[str] = set()
        self._width = len(shape.columns)
        self._delimiter = shape.delimiter.encode()
        self._others = _all_but(self._delimiter + b"\n")
        self._line_skeleton = self._delimiter * (self._width - 1) + b"\n"
        self._trailer_start = shape.trailer.encode() if shape.trailer else None
        self._longest = min(max(4 * shape.field_characters * len(shape.columns), 1 << 20), LONGEST_RECORD_BYTES)
        if csv.field_size_limit() < _CSV_LIMIT:
            csv.field_size_limit(_CSV_LIMIT)  # never met: ours is lower, and is told with the row

    def blocks(self, chunks: Iterable[bytes]) -> Iterator[Block]:
        """Blocks of good records in their order. Findings appear as a side effect, rows and trailer are set at the end."""
        try:
            for piece in _text(chunks, self.shape.encoding, self.findings):
                if isinstance(piece, _Offence):
                    self._offends(piece)
                    continue
                data = self._rest + piece if self._rest else piece
                # A carriage return at the very end may be half of a newline.
                end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
                self._rest = data[end:]
                if end:
                    yield from self._records(data[:end] if self._rest else data, final=False)
                if len(self._rest) > self._longest:
                    self._endless()
            if self._rest:
                data, self._rest = self._rest, b""
                yield from self._records(data, final=True)
            self._at_end()
        except _Stopped:
            self.complete = False

    # ------------------------------------------------------------------------------------------ records

    def _records(self, data: bytes, *, final: bool) -> Iterator[Block]:
        if self.header is None:
            data = self._take_header(data, final=final)
            if not data:
                return
        count = self._all_good(data)
        if not count:
            yield from self._carefully(data, final=final)
            return
        self._count(count)
        if self.sound:
            yield Block(self._record + 1, count, data)
        self._record += count

    def _all_good(self, data: bytes) -> int:
        """How many records, if all are data rows and good beyond doubt; else 0."""
        if self._blank or self.trailer is not None or len(self._delimiter) != 1 or data[-1:] != b"\n":
            return 0
        if self._trailer_start is not None and self._trailer_start in data:
            return 0
        returns = data.count(b"\r") if b"\r" in data else 0
        pairs = data.count(b"\r\n") if returns else 0
        if pairs != returns:
            return 0  # carriage returns of their own end rows too
        count = self._quoted(data) if b'"' in data else self._plain(data)
        if count:
            self._newlines |= {"CRLF"} if pairs >= count else {"CRLF", "LF"} if pairs else {"LF"}
        return count

    def _plain(self, data: bytes) -> int:
        """Without quotes, what is left of the data without its texts is a known pattern: delimiters and newlines."""
        count = data.count(b"\n")
        skeleton = data.translate(None, self._others)
        # The lengths first: thousands of columns times a million short lines is a pattern that no memory holds.
        if len(skeleton) != len(self._line_skeleton) * count or skeleton != self._line_skeleton * count:
            return 0
        if self._width == 1 and (data[:1] in (b"\n", b"\r") or b"\n\n" in data or b"\n\r\n" in data):
            return 0  # one column: a blank line has the right number of delimiters
        return 0 if self._may_hold_a_long_field(data) else count

    def _quoted(self, data: bytes) -> int:
        lines = list(io.StringIO(data.decode(), newline=""))
        try:
            widths = Counter(map(len, csv.reader(lines, delimiter=self.shape.delimiter, strict=True)))
        except csv.Error:
            return 0
        count = widths[self._width]
        one_line_each = count == len(lines) or len(data) <= self.shape.field_characters
        return count if len(widths) == 1 and one_line_each and len(max(lines, key=len)) <= self.shape.field_characters else 0

    def _may_hold_a_long_field(self, data: bytes) -> bool:
        """A field longer than the bound covers a whole stretch of half the bound that has neither delimiter nor newline."""
        step = max(1, self.shape.field_characters // 2)
        return any(
            data.find(self._delimiter, start, start + step) < 0 and data.find(b"\n", start, start + step) < 0
            for start in range(0, len(data) - step + 1, step)
        )

    def _carefully(self, data: bytes, *, final: bool) -> Iterator[Block]:
        """Record by record. A quoted field may hold newlines, so a record that is open at the end is kept for the next chunk."""
        lines = list(io.StringIO(data.decode(), newline=""))
        reader = csv.reader(lines, delimiter=self.shape.delimiter, strict=True)
        first_line, first_row, good, end = 0, 0, 0, len(lines)  # of the run of good records not yet handed out
        while True:
            start = reader.line_num
            try:
                record = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                is_open = "unexpected end" in str(error)
                if is_open and not final:
                    self._rest, end = "".join(lines[start:]).encode() + self._rest, start
                    break
                self._record += 1
                self._count(1)
                self.findings.add(_bad_quote(self._record, is_open=is_open))
                self.complete = self.complete and not is_open
                fits = False
            else:
                self._record += 1
                fits = self._fits(record, lines[start : reader.line_num])
            if fits and not good:
                first_line, first_row = start, self._record
            elif not fits and good:
                yield Block(first_row, good, _joined(lines[first_line:start]))
            good = good + 1 if fits else 0
        if good:
            yield Block(first_row, good, _joined(lines[first_line:end]))

    def _fits(self, record: list[str], lines: list[str]) -> bool:
        """True for a data row with the right number of fields. ``lines`` are the physical lines it stands on."""
        row, width = self._record, self._width
        last = lines[-1]
        ended = last[-1:] in ("\n", "\r")
        self._newlines.add("CRLF" if last.endswith("\r\n") else "CR" if last.endswith("\r") else "LF" if ended else "")
        if not record:
            self._first_blank = self._first_blank if self._blank else row
            self._blank += 1
            if self._blank > BLANK_LINES:
                self.findings.add(_blank_row(self._first_blank))
                raise _Stopped
            return False
        if self.shape.trailer is not None and record[0].startswith(self.shape.trailer):
            self._take_trailer("".join(lines).strip("\r\n"), row)
            return False
        if self._blank:
            self.findings.add(_blank_row(self._first_blank))
            self.findings.more(self._blank - 1)
            self._blank = 0
        if self.trailer is not None:
            self.findings.add(_after_trailer(row, self.shape.trailer or ""))
            return False
        self._count(1)
        if len(record) != width:
            self.findings.add(_ragged(row, len(record), width, cut=not ended and len(record) < width))
            return False
        if len(lines) > 1 or len(last) > self.shape.field_characters:
            for name, field in zip(self.header or (), record, strict=False):
                if len(field) > self.shape.field_characters:
                    self.findings.add(_long_field(row, name, len(field), self.shape.field_characters))
                    return False
        if not ended:
            self.findings.add(note("no-final-newline", "The last line does not end in a newline.", row=row))
        return self.sound

    def _count(self, rows: int) -> None:
        self.rows += rows
        if self.rows > self.shape.rows:
            self.findings.add(
                Finding(
                    code="too-many-rows",
                    message=f"There are more than {self.shape.rows:,} rows; the rest was not looked at.",
                    row=self.shape.rows + 2,
                    rule=f"At most {self.shape.rows:,} rows",
                    fix="Send it in parts, or agree on a larger bound (limits.rows of the stream).",
                )
            )
            raise _Stopped

    # ------------------------------------------------------------------------------------------ header, trailer, ends

    def _take_header(self, data: bytes, *, final: bool) -> bytes:
        """Read the first record, and give back what follows it."""
        exact = _exact_header(self.shape.columns, self.shape.delimiter)
        if exact is not None and data.startswith(exact):  # as nearly all do; a parser is for telling what is the matter
            self._record, self.header, self.sound = 1, self.shape.columns, True
            return data[len(exact) :]
        text = io.StringIO(data[:HEADER_BYTES].decode(errors="ignore"), newline="")
        lines: list[str] = []  # those of the header: the rest is not cut into lines here
        reader = csv.reader(_noted(text, lines), delimiter=self.shape.delimiter, strict=True)
        try:
            header = next(reader)
        except csv.Error as error:
            if "unexpected end" in str(error) and not final and len(data) <= HEADER_BYTES:
                self._rest = data + self._rest
                return b""
            self.findings.add(_bad_quote(1, is_open="unexpected end" in str(error)))
            raise _Stopped from error
        if len(data) > HEADER_BYTES and not text.readline():
            self.findings.add(_long_header())
            raise _Stopped
        self._record, self.header = 1, tuple(header)
        problems = list(_header_problems(header, self.shape))
        for problem in problems:
            self.findings.add(problem)
        if any(problem.code in ("wrong-delimiter", "missing-header") for problem in problems):
            raise _Stopped  # everything else would only repeat it
        self.sound = not problems
        self._width = len(header)
        self._line_skeleton = self._delimiter * (self._width - 1) + b"\n"
        return data[sum(len(line.encode()) for line in lines) :]

    def _take_trailer(self, line: str, row: int) -> None:
        if self.trailer is not None:
            self.findings.add(_after_trailer(row, self.shape.trailer or ""))
        self.trailer = line

    def _endless(self) -> None:
        """A record that does not end within the bound: most often a quote that is never closed."""
        if b'"' in self._rest:
            self.findings.add(_bad_quote(self._record + 1, is_open=True))
        else:
            self.findings.add(
                _long_field(self._record + 1, None, self._longest, min(self.shape.field_characters, LONGEST_RECORD_BYTES))
            )
        raise _Stopped

    def _offends(self, offence: _Offence) -> None:
        # What came before may hold whole records only if a newline ended them, and those were handed out: this one is open.
        self.findings.add(_no_text(offence, self._record + 1, self.shape.encoding))

    def _at_end(self) -> None:
        if self.header is None:
            self.findings.add(_no_header(self.shape))
            raise _Stopped
        if self._blank:
            told = f"Blank lines at the end, from row {self._first_blank}."
            self.findings.add(note("blank-lines-at-end", told, row=self._first_blank))
        styles = sorted(self._newlines - {""})
        if len(styles) > 1:
            self.findings.add(note("mixed-newlines", f"Lines end in different ways: {', '.join(styles)}."))
        elif styles == ["CR"]:
            self.findings.add(note("cr-newlines", "Lines end in a carriage return alone, as on very old systems."))
        if self.rows == 0:
            self.findings.add(note("no-rows", "The table has a header and no rows."))


@lru_cache
def _all_but(these: bytes) -> bytes:
    return bytes(sorted({*range(256)} - {*these}))


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """Lines as they are asked for, each noted in ``taken``."""
    for line in lines:
        taken.append(line)
        yield line


# --------------------------------------------------------------------------------------------- text


def _text(chunks: Iterable[bytes], encoding: str, findings: Findings) -> Iterator[bytes | _Offence]:
    """The file's text as UTF-8, and in between what is no text. A BOM is taken off."""
    source = iter(chunks)
    raw = b""
    while len(raw) < HEAD_BYTES and (chunk := next(source, None)) is not None:
        raw += chunk
    codec, offset = _opened(raw[:HEAD_BYTES], encoding, findings)
    raw, decoder, offences = raw[offset:], _Decoder(codec), 0
    for following in chain(source, [None]):
        while True:
            nul = raw.find(b"\0") if decoder.like_ascii else -1
            piece, used, bad = decoder.decode(raw if nul < 0 else raw[:nul], final=following is None or nul >= 0)
            if piece:
                if not piece.isascii():
                    _watch(piece, findings)
                clean, *after_nul = piece.split(b"\0", OFFENCES) if b"\0" in piece else (piece,)  # where a zero byte is no NUL
                yield clean
                for part in after_nul:
                    yield _Offence("nul-byte", None, b"\0")
                    yield part.replace(b"\0", b"")
            if not bad and nul < 0:
                break
            yield _Offence("wrong-encoding", offset + used, bad) if bad else _Offence("nul-byte", offset + nul, b"\0")
            offences += 1
            if offences >= OFFENCES:
                findings.add(_not_text(encoding, offset + used))
                raise _Stopped
            if bad:
                yield _REPLACEMENT
            step = used + len(bad) if bad else nul + 1
            raw, offset = raw[step:], offset + step
        raw, offset = raw[used:] + (following or b""), offset + used


class _Decoder:
    """Strict decoding in pieces. Bytes of an unfinished character stay with the caller."""

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self.like_ascii = _like_ascii(codec)

    @cached_property
    def _decoder(self) -> codecs.IncrementalDecoder:
        return codecs.getincrementaldecoder(self._codec)("strict")  # nearly all that comes is ASCII, and needs none

    def decode(self, raw: bytes, *, final: bool) -> tuple[bytes, int, bytes]:
        """The text as UTF-8, how many bytes it took, and the bytes after it that are no text."""
        if self.like_ascii and raw.isascii():
            return raw, len(raw), b""
        state = self._decoder.getstate()
        try:
            text = self._decoder.decode(raw, final)
        except UnicodeDecodeError as error:
            self._decoder.setstate(state)
            text = self._decoder.decode(raw[: error.start])
            self._decoder.reset()
            return text.encode("utf-8", "replace"), error.start, raw[error.start : error.end]
        unfinished, flags = self._decoder.getstate()
        self._decoder.setstate((b"", flags))
        used = len(raw) - len(unfinished)
        return raw[:used] if self._codec == "utf-8" else text.encode("utf-8", "replace"), used, b""


@lru_cache
def _like_ascii(codec: str) -> bool:
    """Whether bytes that ASCII knows mean the same in it."""
    try:
        return bytes(range(128)).decode(codec) == bytes(range(128)).decode("ascii")
    except UnicodeDecodeError:
        return False


def _opened(head: bytes, encoding: str, findings: Findings) -> tuple[str, int]:
    """The codec to go on with, and where the text begins. What the first bytes tell against the agreed encoding is a finding."""
    codec = codecs.lookup(encoding).name.removesuffix("-sig")
    found = next(((mark, name) for mark, name in _MARKS if head.startswith(mark)), None)
    if found is None:
        if codec == "utf-8" and (likely := _looks_like_utf_16(head)):
            findings.add(_other_encoding(encoding, likely, "every second byte is NUL"))
            raise _Stopped
        if not codec.startswith("utf") and not head.isascii() and _is_utf_8(head):
            findings.add(
                note("encoding-doubt", f"The stream says {encoding}, and the text would also be valid UTF-8: check umlauts.")
            )
        return ("utf-16-le" if codec == "utf-16" else "utf-32-le" if codec == "utf-32" else codec), 0
    mark, name = found
    if not name.startswith(codec):
        findings.add(_other_encoding(encoding, name, f"the file begins with the mark of {name}"))
        raise _Stopped
    if head.startswith(mark, len(mark)):
        findings.add(
            Finding(
                code="double-bom",
                message="The file begins with two byte order marks.",
                row=1,
                rule="At most one byte order mark",
                fix="Export the file again with one mark or none; a program has added one to text that had one.",
            )
        )
        return name, 2 * len(mark)
    return name, len(mark)


# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_REPLACEMENT = "\ufffd".encode()


def _looks_like_utf_16(head: bytes) -> str:
    """Latin text in UTF-16 has a NUL in nearly every second byte, and hardly one in between."""
    if b"\0" not in head:
        return ""
    half = len(head) // 2
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if half < 4 or max(even, odd) < 0.7 * half or min(even, odd) > 0.1 * half:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_utf_8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _watch(piece: bytes, findings: Findings) -> None:
    """UTF-8 that was read as cp1252 and written as UTF-8 again: "MÃ¼ller"."""
    if b"\xc3\x83\xc2" in piece or b"\xc3\xa2\xe2\x82\xac" in piece:
        findings.add(note("mojibake", "Some letters look as if they had been encoded twice (such as 'Ã¼' for 'ü')."))


# --------------------------------------------------------------------------------------------- header


@lru_cache
def _exact_header(columns: tuple[str, ...], delimiter: str) -> bytes | None:
    """The first line of a table that was written as agreed; None where a name can only be written in quotes."""
    if not all(columns) or any(mark in name for name in columns for mark in (delimiter, '"', "\n", "\r")):
        return None
    return f"{delimiter.join(columns)}\n".encode()


def _header_problems(header: list[str], shape: Shape) -> Iterator[Finding]:
    """The header must be exact; a likely meaning is suggested and never assumed."""
    columns = list(shape.columns)
    if header == columns:
        return
    rule = f"The header is exactly: {shape.delimiter.join(columns)}"
    line = shape.delimiter.join(header)
    others = {mark: line.split(mark) for mark in ",;\t|" if mark != shape.delimiter}
    other = next((mark for mark, split in others.items() if _same(split, columns)), None)
    if other is None and len(header) == 1:
        other = next((mark for mark, split in others.items() if len(_known(split, columns)) > 1), None)
    if other is not None:
        yield Finding(
            code="wrong-delimiter",
            message=f"The columns are separated by {other!r}; agreed was {shape.delimiter!r}. Nothing else was checked.",
            row=1,
            value=shown(line[:200]),
            rule=rule,
            fix=f"Export with {shape.delimiter!r} as separator, or agree on {other!r} (the stream's delimiter).",
        )
        return
    if not _known(header, columns):
        yield _no_header(shape, shown(line[:200]))
        return
    yield from _column_problems(header, columns, rule)


def _column_problems(header: list[str], columns: list[str], rule: str) -> Iterator[Finding]:
    fix = "Send the agreed columns in the agreed order; columns are never renamed or moved by us."
    times = Counter(header)
    repeated = sorted(name for name, count in times.items() if count > 1)
    unknown = [name for name in times if name not in columns]
    missing = [name for name in columns if name not in header]
    for name in repeated:
        told = f"The column {shown(name)} is there {times[name]} times."
        yield Finding("duplicate-column", told, row=1, column=shown(name), rule=rule, fix=fix)
    for name in missing:
        near = _near(name, unknown)
        if near is not None:
            unknown.remove(near)
            told = f"The column {name} is missing; {shown(near)} may be meant."
            yield Finding("renamed-column", told, row=1, column=name, value=shown(near), rule=rule, fix=fix)
        else:
            yield Finding("missing-column", f"The column {name} is missing.", row=1, column=name, rule=rule, fix=fix)
    for name in unknown:
        told = f"The column {shown(name[:200])} was not agreed."
        yield Finding("unknown-column", told, row=1, column=shown(name[:200]), rule=rule, fix=fix)
    if not (repeated or unknown or missing):
        told = f"The columns are there in another order: {', '.join(header)}."
        yield Finding("column-order", told, row=1, value=",".join(header), rule=rule, fix=fix)


def _plainly(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _same(header: list[str], columns: list[str]) -> bool:
    return [_plainly(name) for name in header] == columns


def _known(header: list[str], columns: list[str]) -> set[str]:
    return {_plainly(name) for name in header} & {_plainly(name) for name in columns}


def _near(name: str, candidates: list[str]) -> str | None:
    plain = {_plainly(candidate[:200]): candidate for candidate in candidates[:200]}
    found = get_close_matches(_plainly(name), plain, n=1, cutoff=0.7)
    return plain[found[0]] if found else None


# --------------------------------------------------------------------------------------------- what is told


def _joined(lines: list[str]) -> bytes:
    data = "".join(lines).encode()
    return data if data[-1:] in (b"\n", b"\r") else data + b"\n"


def _no_header(shape: Shape, value: str | None = None) -> Finding:
    return Finding(
        code="missing-header",
        message="The first row is not the header. Nothing else was checked.",
        row=1,
        value=value,
        rule=f"The header is exactly: {shape.delimiter.join(shape.columns)}",
        fix="Send the file with its header as the first row.",
    )


def _long_header() -> Finding:
    return Finding(
        code="header-too-long",
        message=f"The header is longer than {HEADER_BYTES:,} bytes. Nothing else was checked.",
        row=1,
        rule=f"A header of at most {HEADER_BYTES:,} bytes",
        fix="Send the agreed columns only.",
    )


def _ragged(row: int, found: int, width: int, *, cut: bool) -> Finding:
    if cut:
        return Finding(
            code="truncated",
            message=f"The file ends inside row {row}: {found} of {width} fields, and no newline.",
            row=row,
            rule=f"Every row has {width} fields",
            fix="The file was cut; send it again completely.",
        )
    return Finding(
        code="ragged-row",
        message=f"Row {row} has {found} fields instead of {width}.",
        row=row,
        value=str(found),
        rule=f"Every row has {width} fields",
        fix='Most often a separator inside a text: put that text into double quotes ("…").',
    )


def _blank_row(row: int) -> Finding:
    return Finding(
        code="blank-row",
        message=f"Row {row} is blank, and more rows follow.",
        row=row,
        rule="No blank rows between rows",
        fix="Remove the blank row; if rows are missing there, send them.",
    )


def _bad_quote(row: int, *, is_open: bool) -> Finding:
    return Finding(
        code="unclosed-quote" if is_open else "bad-quote",
        message=f"A double quote opens in row {row} and is never closed; what follows cannot be read."
        if is_open
        else f"In row {row} text goes on after a closing double quote.",
        row=row,
        rule='A quoted field is "…", and a double quote inside it is written twice',
        fix='Write a double quote inside a text as "" and put the text in double quotes.',
    )


def _long_field(row: int, column: str | None, length: int, most: int) -> Finding:
    return Finding(
        code="field-too-long",
        message=f"A field in row {row} has {length:,} characters{' or more' if column is None else ''}; the bound is {most:,}.",
        row=row,
        column=column,
        rule=f"At most {most:,} characters in a field",
        fix="Shorten it, or agree on a larger bound (limits.field_characters of the stream). An unclosed quote also looks like this.",
    )


def _after_trailer(row: int, trailer: str) -> Finding:
    return Finding(
        code="after-trailer",
        message=f"Row {row} comes after the control line, which must be the last.",
        row=row,
        rule=f"The line that begins with {trailer} is the last one",
        fix="Send one table per file, with its control line at the end.",
    )


def _no_text(offence: _Offence, row: int, encoding: str) -> Finding:
    where = f"row {row}" if offence.offset is None else f"row {row}, at offset {offence.offset:,}"
    if offence.code == "nul-byte":
        return Finding(
            code="nul-byte",
            message=f"There is a NUL byte in {where}.",
            row=row,
            value="\\x00",
            rule="A text holds no NUL bytes",
            fix="Export the table as text again; a NUL comes from a binary file, a broken disk or a fixed-length field.",
        )
    raw = offence.found.hex(" ")
    guess = offence.found.decode("cp1252", "ignore")
    return Finding(
        code="wrong-encoding",
        message=f"The bytes {raw} in {where}, are not {encoding}.",
        row=row,
        value="".join(f"\\x{byte:02x}" for byte in offence.found),
        rule=f"The text is {encoding}",
        fix=f"Export it as {encoding}" + (f"; in cp1252 these bytes would be '{shown(guess)}'." if guess else "."),
    )


def _other_encoding(encoding: str, found: str, why: str) -> Finding:
    return Finding(
        code="wrong-encoding",
        message=f"The text looks like {found}: {why}. The stream says {encoding}; nothing else was checked.",
        row=1,
        rule=f"The text is {encoding}",
        fix=f"Export it as {encoding}, or agree on {found} (the stream's encoding).",
    )


def _not_text(encoding: str, offset: int) -> Finding:
    return Finding(
        code="not-text",
        message=f"{OFFENCES} places up to offset {offset:,} are no {encoding} text; the rest was not looked at.",
        rule=f"The text is {encoding}",
        fix=f"Export the table as {encoding} text.",
    )
