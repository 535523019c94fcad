"""What a release is, by its bytes: what the bounds of what was signed beforehand are about. No worker's word counts.

The type of a document is told by its name, as the terms have it, and must be that of its bytes: their kind, and a table's header. Its
cells nobody looks at here; the workers did.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from blocks.outbound import Extent, Outbound, Package, PackageFile
from blocks.values import Severity
from deployments.sender.braking import Hashed, Reading, amounts, count, names_of, read
from deployments.sender.store import Store
from tasks.doctypes import find
from tasks.doctypes.base import Doctype
from tasks.rules.findings import Findings
from tasks.rules.naming import recognise
from tasks.rules.sniff import EMPTY, HEAD_BYTES, TAIL_BYTES, inspect, sniff
from tasks.rules.structure import HEADER_BYTES, Scan, Shape

_CHUNK = 1024 * 1024
_SCANNING = Lock()


def gauge(package: Package, terms: Outbound, store: Store, place: Callable[[str], Path]) -> Extent:
    """What a package is, as far as its bounds ask. What is larger than they let pass is not read: it is outside them anyway.

    Within them all of it is read, for its types, however large they let it be; rows and values are counted in so much as ``count`` takes.
    """
    bounds = terms.signoff.standing
    if bounds is None or len(package.files) > bounds.files or package.size > bounds.size_bytes:
        return Extent()
    reading = Reading(terms.encoding, terms.delimiter, terms.decimal, bounds.value.column if bounds.value else "")
    names = names_of(package)
    asked = bounds.rows is not None or bounds.value is not None
    found = amounts(names, count(names, reading, store, place) if asked else {}, reading)
    types = [_doctype(file, terms, place(file.sha256)) for file in package.files] if terms.classify else []
    return Extent(
        doctypes=tuple(sorted({slug for slug in types if slug})) if all(types) else (),
        rows=found.rows if bounds.rows is not None else None,
        value=found.value if bounds.value is not None else None,
    )


def _doctype(file: PackageFile, terms: Outbound, path: Path) -> str | None:
    """The type that name and bytes agree on; None if they do not, or nobody can tell."""
    slug = recognise(file.name, terms)
    if slug is None:
        return None
    doctype = find(slug)
    return read(path, file.sha256, file.size, lambda content: slug if _is(content, file, doctype, terms) else None)


def _is(content: Hashed, file: PackageFile, doctype: Doctype, terms: Outbound) -> bool:
    first, last = b"", b""
    for data in iter(lambda: content.read(_CHUNK), b""):
        first += data[: max(0, HEADER_BYTES - len(first))]
        last = (last + data)[-TAIL_BYTES:]
    head = first[:HEAD_BYTES]
    media_type = sniff(head)
    if media_type == EMPTY or any(_refuses(inspect(file.name, media_type, head, last, doctype))):
        return False
    return doctype.table is None or _begins_as(first, Shape(doctype.table.names, terms.encoding, terms.delimiter))


def _refuses(findings: Iterator[object]) -> Iterator[bool]:
    return (getattr(finding, "severity", None) is not Severity.NOTE for finding in findings)


def _begins_as(first: bytes, shape: Shape) -> bool:
    """Its header is exactly that of the table."""
    with _usual_cells():
        scan = Scan(shape, Findings(""))
        for _ in scan.blocks([first]):
            pass
    return scan.sound


@contextmanager
def _usual_cells() -> Iterator[None]:
    """A scan lets cells of any length pass, in the whole process; who counts in it afterwards shall not hold one of all memory."""
    with _SCANNING:
        most = csv.field_size_limit()
        try:
            yield
        finally:
            csv.field_size_limit(most)
