"""Cells that a person puts right in a refused table: only these change, every other byte stays as the partner wrote it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from blocks.values import shown

MOST = 200
"""Cells in one answer; with more, a whole new file is less work and fewer mistakes."""
_CELL = re.compile(
    r"\s*(?:row\s+)?(?P<row>[0-9]{1,7})\s*[,;]\s*(?P<column>[^\s=][^=]*?)\s*=(?P<value>.*)", re.DOTALL | re.IGNORECASE
)
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as it should be."""

    row: int
    """As a spreadsheet counts: the header is row 1."""
    column: str
    """As the table's own header calls it."""
    value: str


def parsed(text: str) -> Cell:
    """A cell as people write it. Raises ``ValueError`` that shows how.

    >>> parsed("7, quantity = 12")
    Cell(row=7, column='quantity', value='12')
    """
    found = _CELL.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text[:80])!r} is no cell: write row, column = value, such as '7, quantity = 12'")
    return Cell(int(found["row"]), found["column"], found["value"].strip())


def put_right(content: bytes, cells: Sequence[Cell], encoding: str, delimiter: str) -> bytes:
    """The table with these cells. Raises ``ValueError`` that says which of them cannot be, and why."""
    if not 0 < len(cells) <= MOST:
        raise ValueError(f"{len(cells)} cells: name at least one, and at most {MOST}; give a new file for more")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"the file cannot be read as {encoding}: give a new file instead of cells") from error
    wanted: dict[int, dict[str, str]] = {}
    for cell in cells:
        if wanted.setdefault(cell.row, {}).setdefault(cell.column, cell.value) != cell.value:
            raise ValueError(f"row {cell.row}, {shown(cell.column)}: two values are given")
    mark = _BOM if text.startswith(_BOM) else ""
    lines = list(io.StringIO(text.removeprefix(mark), newline=""))
    out, header, before = list[str](), list[str](), 0
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row, record in enumerate(reader, 1):
            written, before = "".join(lines[before : reader.line_num]), reader.line_num
            header = record if row == 1 else header
            out.append(_written(record, wanted.pop(row), header, written, row, delimiter) if row in wanted else written)
    except csv.Error as error:
        raise ValueError(f"the table cannot be read from row {len(out) + 1} on ({error}): give a new file") from error
    if wanted:
        raise ValueError(f"row {min(wanted)}: the table has {len(out)} rows")
    try:
        return (mark + "".join(out)).encode(encoding)
    except UnicodeEncodeError as error:
        raise ValueError(f"{shown(error.object[error.start : error.end])!r} cannot be written in {encoding}") from error


def _written(record: list[str], cells: dict[str, str], header: list[str], before: str, row: int, delimiter: str) -> str:
    ending = before[len(before.rstrip("\r\n")) :]
    changed, fields = list(record), _fields(before.removesuffix(ending), delimiter)
    for column, value in cells.items():
        if header.count(column) != 1:
            raise ValueError(
                f"row {row}: {shown(column)!r} is {'several columns' if column in header else 'no column'} of this table; it has "
                + ", ".join(shown(name) for name in header[:30])
            )
        position = header.index(column)
        if position >= len(record):
            raise ValueError(f"row {row}: it has only {len(record)} fields, and none for {shown(column)}: give a new file")
        changed[position] = value
        quoted = fields[position].startswith('"') or any(char in value for char in f'{delimiter}"\r\n') or changed == [""]
        fields[position] = '"' + value.replace('"', '""') + '"' if quoted else value
    made = delimiter.join(fields) + ending
    if next(csv.reader(io.StringIO(made, newline=""), delimiter=delimiter)) != changed:
        raise ValueError(f"row {row}: its quotes cannot be told from its values: give a new file")
    return made


def _fields(row: str, delimiter: str) -> list[str]:
    """The fields of a row as they are written, quotes and all: what ``csv.reader`` reads as one field each.

    >>> _fields('1,"a ""b"", c",d"e', ",")
    ['1', '"a ""b"", c"', 'd"e']
    """
    other = f"[^{re.escape(delimiter)}]*"
    field = re.compile(f'"[^"]*(?:""[^"]*)*(?:"{other})?|{other}')
    found, at = list[str](), 0
    while at <= len(row):
        whole = field.match(row, at)
        assert whole is not None  # noqa: S101 - nothing is a field, too
        found.append(whole[0])
        at = whole.end() + 1
    return found
