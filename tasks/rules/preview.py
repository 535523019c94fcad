"""What an approver may see of the documents themselves: first rows and small pictures, as a page of Markdown.

A picture stands in it as a data URI that we encoded; every text is in a code span. So nothing of a document is ever asked for, or run.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blocks.outbound import Package
from tasks.rules.literal import cell, code, words

MOST_DOCUMENTS = 10
MOST_PICTURES = 600_000
"""Bytes of all pictures of a page: so much Prefect's UIs have been seen to show."""
HEAD_BYTES = 16 * 1024
ROWS, COLUMNS, _CHARACTERS = 10, 8, 60
PICTURES = frozenset({"application/pdf", "image/png", "image/jpeg", "image/gif", "image/tiff"})
"""Media types that a picture is made of."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What can be shown of one document."""

    name: str
    rows: tuple[tuple[str, ...], ...] = ()
    jpeg: bytes = b""
    note: str = ""
    """Why there is no more."""


def first_rows(head: bytes, encoding: str, delimiter: str, *, whole: bool) -> tuple[tuple[str, ...], ...]:
    """The first rows of a delimited text, of which ``head`` is the beginning, or all of it."""
    text = head.decode(encoding, "replace")
    last = max(text.rfind("\n"), text.rfind("\r"))
    lines = io.StringIO(text if whole else text[: last + 1], newline="")
    rows: list[tuple[str, ...]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            rows.append(tuple(row[:COLUMNS]) + (("…",) if len(row) > COLUMNS else ()))
            if len(rows) > ROWS:
                break
    except csv.Error:
        pass  # what was read until then is shown; the checks say what is wrong with it
    return tuple(rows)


def page(package: Package, previews: Sequence[Preview]) -> str:
    """The page with all previews, for the artifact that is there while people sign."""
    return "\n".join(_page(package, previews)) + "\n"


def _page(package: Package, previews: Sequence[Preview]) -> Iterator[str]:
    yield f"# Preview of package `{package.digits}`"
    yield ""
    yield "The beginning of its documents, made small: what you sign are the documents. This page is deleted when the order has ended."
    for number, preview in enumerate(previews, 1):
        yield ""
        yield f"## {number}. {code(preview.name, 1000, 1000)}"
        yield ""
        if preview.jpeg:
            yield f"![](data:image/jpeg;base64,{base64.b64encode(preview.jpeg).decode()})"
        elif preview.rows:
            width = max(map(len, preview.rows))
            yield "|" + " |" * width
            yield "|" + "---|" * width
            yield from (
                "| " + " | ".join(cell(text, _CHARACTERS) for text in (*row, *[""] * (width - len(row)))) + " |"
                for row in preview.rows
            )
        else:
            yield words(preview.note)
    if len(package.files) > len(previews):
        yield ""
        yield f"Of the other {len(package.files) - len(previews)} documents there is no preview."
