"""Since last: what of a package is not as its stream released it last, and who decided what before. Read once, kept in the ledger."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from blocks.errors import RepositoryError, SpoolFull
from blocks.ledger import Recorded
from blocks.outbound import Package, PackageFile, Vote
from blocks.values import Inbound
from tasks.connections import ledger, repository_session, spool
from tasks.doctypes import find
from tasks.doctypes.base import Table
from tasks.gather import terms_as_inbound
from tasks.order import Order, sent
from tasks.rules import difference
from tasks.rules.difference import Changed, Columns, Decided, Difference, Released, Row, RowChanges
from tasks.rules.findings import Findings
from tasks.rules.judge import classify
from tasks.rules.sniff import HEAD_BYTES, sniff
from tasks.rules.structure import Scan
from tasks.tables import CHUNK, shape

PART_BYTES = 4 * 1024 * 1024
"""Text of both releases that is compared at once; it takes some fifteen times as much memory."""
MOST_PARTS = 64
MOST_BYTES = MOST_PARTS * PART_BYTES
"""Of both documents together: for more, only their sizes are told."""
MOST_IN_ALL = MOST_BYTES
"""Of all documents of a package: an approver waits for them."""
MOST_FIELDS = 500
"""In a row. Where there are more, each change would cost as much as a row: only the sizes are told."""
_LINE = 64 * 1024
DECISIONS = 3
"""Earlier decisions that are told."""


def certificates(order: Order) -> str:
    """The journey that holds the stream's chain of certificates."""
    return f"certificates.{order.agreed.partner}.{order.agreed.stream}"


def since_last(order: Order) -> Difference | None:
    """The package beside the stream's last release; None if there was none. Compared once with each release."""
    released = last_released(order)
    if released is None:
        return None
    kept = next((entry for entry in order.each("compared") if entry.body["with"] == released.package), None)
    if kept is None:
        facts = {"with": released.package, "difference": _difference(order, released).facts}
        kept = order.write("compared", facts, once=f"compared/{order.journey}/{released.package}")
    return difference.parse(kept.body["difference"])


def last_released(order: Order) -> Released | None:
    """What the stream sent last: an order with its remainders. What was only sent again tells nothing of what is new, and what was
    left out of a package is compared with the release before that one."""
    package, found = order.matter.package, None
    for link in reversed(ledger().journey(certificates(order))):
        entries = ledger().journey(link.body["release"])
        frozen = next((entry for entry in reversed(entries) if entry.kind == "frozen"), None)
        if frozen is None:
            continue
        then = Package.parse(frozen.body["package"])
        anew = package.redelivery is not None or package.corrects is not None
        if then.redelivery is not None or (then.root_order == package.root_order and not anew):
            continue
        files = sent(entries)
        if found is None:
            root, found = then.root_order, Released(then.order, then.digest, link.at, then.destinations, files)
        elif then.root_order == root:
            names = {file.name for file in found.files}
            found = replace(found, files=(*found.files, *(file for file in files if file.name not in names)))
        if then.order == root:
            break  # remainders come after what they were left out of
    return found


def decided_before(order: Order) -> list[Decided]:
    """How the stream's last orders ended, newest first."""
    about = order.agreed
    found = ledger().with_entry(about.partner, about.stream, "closed", first="ordered", limit=DECISIONS + 1)
    return [_decided(entries) for journey, entries in ledger().journeys(found).items() if journey != order.journey][:DECISIONS]


def _decided(entries: list[Recorded]) -> Decided:
    closed = next(entry for entry in reversed(entries) if entry.kind == "closed")
    votes = [Vote.parse(entry.body["vote"]) for entry in entries if entry.kind == "answered" and entry.body["vote"]]
    against = [vote for vote in votes if not vote.decision.approves]
    by = tuple(dict.fromkeys(vote.approver for vote in against or votes))
    return Decided(entries[0].body["order"], str(closed.body["state"]), closed.at, by, against[-1].comment if against else "")


# --------------------------------------------------------------------------------------------- document by document


def _difference(order: Order, released: Released) -> Difference:
    package, terms = order.matter.package, order.agreed.terms
    stream = terms_as_inbound(terms)

    def doctype(file: PackageFile) -> str | None:
        return classify(file.name, stream)[0] if terms.classify else None

    pairs, gone, fresh = difference.match(released.files, package.files, doctype)
    told, budget = [], MOST_IN_ALL
    for before, after in pairs:
        if before.sha256 == after.sha256:
            continue
        slug = doctype(after)
        table = find(slug).table if slug else None
        one, read = _changed(order, before, after, table, stream, budget)
        budget -= read
        told.append(one)
    return difference.difference(released, package.destinations, pairs, gone, fresh, told)


def _changed(
    order: Order, before: PackageFile, after: PackageFile, table: Table | None, stream: Inbound, budget: int
) -> tuple[Changed, int]:
    """What changed in one document, and how many bytes were read for it."""
    one = Changed(after.shown, before.shown, before.size, after.size)
    size = before.size + after.size
    if size > min(MOST_BYTES, budget):
        return replace(one, note="too large to be compared row by row"), 0
    paths = []
    for file in (before, after):
        path = bytes_of(order, file)
        if isinstance(path, str):
            return replace(one, note=path), 0
        paths.append(path)
    if not all(_is_text(path) for path in paths):
        return one, 0
    try:
        return replace(one, rows=_compared(paths[0], paths[1], table, stream, size)), size
    except _TooWide:
        return replace(one, note="too wide to be compared row by row"), size
    except UnicodeError:
        return replace(one, note=f"one of the two cannot be read as {stream.encoding}"), size


def bytes_of(order: Order, file: PackageFile) -> Path | str:
    """Where a document's bytes are: in the spool, or now brought there; else why they are not to be had."""
    if not spool().holds(file.sha256):
        try:
            with repository_session(order.source) as session, spool().batch() as batch:
                done = session.fetch(file.repository_id, file.version, batch)
        except SpoolFull:
            return "the spool has no room to compare it"
        except RepositoryError as error:
            if error.worth_retrying:
                raise
            return "the repository no longer has what was released"
        if done.digest != file.sha256:
            return "the repository has other bytes than were released"
    return spool().path(file.sha256)


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        media_type = sniff(file.read(HEAD_BYTES))
    return media_type.startswith("text/") or media_type == "application/xml"


class _TooWide(Exception):
    """A row has more than ``MOST_FIELDS``."""


class _NoTable(Exception):
    """A document is not, or was not, the table that its type describes."""


def _compared(before: Path, after: Path, table: Table | None, stream: Inbound, size: int) -> RowChanges:
    if table is not None:
        columns = difference.columns_of(table, stream.decimal)
        try:
            return _in_parts(lambda: _records(before, table, stream), lambda: _records(after, table, stream), columns, size)
        except _NoTable:
            pass  # then line by line
    columns = difference.columns_of_lines(stream.decimal)
    found = _in_parts(lambda: _lines(before, stream), lambda: _lines(after, stream), columns, size)
    if found.added or found.removed or found.changed:
        return found
    both = zip(_lines(before, stream), _lines(after, stream), strict=True)
    return replace(found, reordered=any(one != other for one, other in both))


def _records(path: Path, table: Table, stream: Inbound) -> Iterator[Row]:
    findings = Findings(path.name)
    scan = Scan(shape(table, stream), findings)
    with path.open("rb") as file:
        for block in scan.blocks(iter(lambda: file.read(CHUNK), b"")):
            yield from map(tuple, csv.reader(io.StringIO(block.data.decode(), newline=""), delimiter=stream.delimiter))
    if not (scan.sound and scan.complete) or findings.errors:
        raise _NoTable


def _lines(path: Path, stream: Inbound) -> Iterator[Row]:
    with path.open(encoding=stream.encoding, errors="surrogateescape") as file:
        while line := file.readline(_LINE):  # a line without an end is taken in pieces
            row = tuple(line.rstrip("\n").split(stream.delimiter))
            if len(row) > MOST_FIELDS:
                raise _TooWide
            yield row


def _in_parts(
    before: Callable[[], Iterable[Row]], after: Callable[[], Iterable[Row]], columns: Columns, size: int
) -> RowChanges:
    """Large tables are split by what names their rows, on disk, and compared part by part."""
    if size <= PART_BYTES:
        return difference.compare(before(), after(), columns)
    count = min(MOST_PARTS, 1 + size // PART_BYTES)
    with ExitStack() as stack:
        sides = [[stack.enter_context(_part()) for _ in range(count)] for _ in range(2)]
        for parts, rows in zip(sides, (before(), after()), strict=True):
            writers = [csv.writer(part) for part in parts]
            for row in rows:
                writers[hash(columns.part(row)) % count].writerow(row)
        if columns.keys and max(part.tell() for parts in sides for part in parts) > 8 * PART_BYTES:
            # Most rows have the same key, so it names none of them.
            return _in_parts(before, after, replace(columns, keys=()), size)
        total = RowChanges()
        for old, new in zip(*sides, strict=True):
            total += difference.compare(_read(old), _read(new), columns)
        return total


def _part() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", newline="")


def _read(part: IO[str]) -> Iterator[Row]:
    part.seek(0)
    return map(tuple, csv.reader(part))
