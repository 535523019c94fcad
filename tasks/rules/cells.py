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
        lines = list(io.StringIO(content.decode(encoding), newline=""))
    except UnicodeDecodeError as error:
        raise ValueError(f"the file cannot be read as {encoding}: give a new file instead of cells") from error
    wanted: dict[int, dict[str, str]] = {}
    for cell in cells:
        if wanted.setdefault(cell.row, {}).setdefault(cell.column, cell.value) != cell.value:
            raise ValueError(f"row {cell.row}, {shown(cell.column)}: two values are given")
    out, header, before = list[str](), list[str](), 0
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row, record in enumerate(reader, 1):
            written, before = "".join(lines[before : reader.line_num]), reader.line_num
            if row == 1:
                header = [name.removeprefix(_BOM) for name in record]
            out.append(_written(record, wanted.pop(row), header, written, row, delimiter) if row in wanted else written)
    except csv.Error as error:
        raise ValueError(f"the table cannot be read from row {len(out) + 1} on ({error}): give a new file") from error
    if wanted:
        raise ValueError(f"row {min(wanted)}: the table has {len(out)} rows")
    try:
        return "".join(out).encode(encoding)
    except UnicodeEncodeError as error:
        raise ValueError(f"{shown(error.object[error.start : error.end])!r} cannot be written in {encoding}") from error


def _written(record: list[str], cells: dict[str, str], header: list[str], before: str, row: int, delimiter: str) -> str:
    changed = list(record)
    for column, value in cells.items():
        if header.count(column) != 1:
            raise ValueError(
                f"row {row}: {shown(column)!r} is {'several columns' if column in header else 'no column'} of this table; it has "
                + ", ".join(shown(name) for name in header[:30])
            )
        position = header.index(column)
        if position >= len(record):
            raise ValueError(f"row {row}: it has only {len(record)} fields, and none for {shown(column)}: give a new file")
        bom = _BOM if row == 1 and position == 0 and record[0].startswith(_BOM) else ""
        changed[position] = bom + value
    ending = before[len(before.rstrip("\r\n")) :]
    made = io.StringIO(newline="")
    csv.writer(made, delimiter=delimiter, lineterminator=ending).writerow(changed)
    return made.getvalue()
