"""Good rows that go on without the bad ones, and what a corrected file still has to bring."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from blocks.values import Finding, Severity
from tasks.doctypes.base import Table

ALREADY_FILED = "already-filed"
"""Code of a row of a corrected file that changes what was filed from an earlier one."""
_OF_ONE_ROW = frozenset(
    {"missing-value", "wrong-type", "ambiguous-date", "out-of-range", "wrong-format", "too-long", ALREADY_FILED}
)

Record = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parted:
    """What becomes of the rows of one file."""

    fresh: tuple[Record, ...]
    """Good, and not filed before."""
    held: tuple[int, ...]
    """Rows that stay behind, the header being row 1."""
    before: int
    """How many were filed from earlier files."""
    changed: tuple[Finding, ...] = ()
    """Rows whose key was filed with other values: whoever filed them must say which counts, so they stay behind too."""


def separable(findings: Iterable[Finding]) -> bool:
    """True if nothing is wrong but single rows, and all of these are known. Of rows that share a key nobody can tell which is meant."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    return all(finding.code in _OF_ONE_ROW and finding.row is not None for finding in errors)


def part(records: Mapping[int, Record], table: Table, findings: Iterable[Finding], filed: Collection[Record]) -> Parted:
    """Part the rows of a file. ``records`` are its data rows by number, ``filed`` those that went on from earlier files."""
    key = _key(table)
    bad = {finding.row for finding in findings if finding.severity is Severity.ERROR and finding.row is not None}
    known = keys(filed, table)
    good = {row: record for row, record in records.items() if row not in bad}
    changed = {row for row, record in good.items() if record not in filed and key(record) in known}
    fresh = tuple(record for row, record in good.items() if record not in filed and row not in changed)
    held = tuple(sorted(bad | changed))
    told = tuple(_changed(row, records[row], table) for row in sorted(changed))
    return Parted(fresh, held, len(good) - len(fresh) - len(changed), told)


def keys(records: Iterable[Record], table: Table) -> set[Record]:
    """What names these rows."""
    return set(map(_key(table), records))


def _key(table: Table) -> Callable[[Record], Record]:
    places = [table.names.index(name) for name in table.key]
    return lambda record: tuple(record[place] for place in places)


def _changed(row: int, record: Record, table: Table) -> Finding:
    named = ", ".join(f"{name} '{record[table.names.index(name)]}'" for name in table.key)
    return Finding(
        code=ALREADY_FILED,
        message=f"Row {row} changes what was filed from the file before: {named}.",
        row=row,
        column="+".join(table.key),
        rule="A corrected file brings what was missing; what was accepted stays as it was",
        fix="Leave accepted rows as they were; send changes to them in a file of their own.",
    )


def as_file(records: Sequence[Record], table: Table, delimiter: str, encoding: str) -> bytes:
    """A complete table of these rows, with a control line of its own where the document type has one."""
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([table.names, *records])
    if table.trailer is not None:
        totals = {name: sum(int(record[table.names.index(name)]) for record in records) for name in table.trailer.totals}
        told = "".join(f";{name}={total}" for name, total in totals.items())
        out.write(f"{table.trailer.start};rows={len(records)}{told}\n")
    return out.getvalue().encode(encoding)


def part_name(name: bytes, digest: str) -> bytes:
    """What a part is called: by the file that it came from, and its own digest, so that no part takes another's place."""
    stem, dot, extension = name.rpartition(b".")
    return b"%s.rows-%s%s%s" % (stem if dot else name, digest[:8].encode(), dot, extension if dot else b"")
