"""Size bounds of a stream. Too large is known from the listing, and such a file is not fetched at all."""

from __future__ import annotations

from collections.abc import Iterator

from blocks.values import Finding, Limits
from tasks.rules.findings import note


def too_large(size: int, limits: Limits, file: str) -> Iterator[Finding]:
    if size > limits.largest_bytes:
        yield Finding(
            code="too-large",
            message=f"{size:,} bytes are more than the {limits.largest_bytes:,} that were agreed.",
            file=file,
            value=str(size),
            rule=f"At most {limits.largest_bytes:,} bytes",
            fix="Send it in parts, or agree on a larger bound (limits.largest_bytes of the stream).",
        )


def too_small(size: int, limits: Limits, file: str) -> Iterator[Finding]:
    if size < limits.smallest_bytes:
        yield Finding(
            code="empty-file" if size == 0 else "too-small",
            message="The file is empty."
            if size == 0
            else f"{size:,} bytes are fewer than the {limits.smallest_bytes:,} agreed.",
            file=file,
            value=str(size),
            rule=f"At least {limits.smallest_bytes:,} bytes",
            fix="Send the complete file again under the same name.",
        )


def as_agreed(file: str) -> Finding:
    """An empty file on a stream that accepts such: there is nothing to check in it, and that is said."""
    return note("empty-accepted", f"{file} is empty; this stream accepts such files ('empty: accept').")
