"""Receipts: what a partner is told of each file of theirs, in a fixed small form; no word in it that is not theirs or of these three."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from blocks.outbound import iso
from blocks.values import ReceiptFormat, ReceiptState, RemoteFile
from tasks.rules.note import harmless, shortened_name

KIND = "countersign receipt"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """One file in one state."""

    state: ReceiptState
    partner: str
    stream: str
    file: RemoteFile
    """As it was listed at the partner: its size and time are what that server said."""
    digest: str | None
    """SHA-256; None where it was refused without being fetched."""
    at: datetime
    """When the receipt was made."""

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "version": VERSION,
            "state": self.state.value,
            "partner": self.partner,
            "stream": self.stream,
            "file": self.file.shown,
            "file_hex": self.file.name.hex(),
            "size": self.file.size,
            "sha256": self.digest,
            "left": iso(self.file.modified) if self.file.modified else None,
            "at": iso(self.at),
        }


def receipt_name(receipt: Receipt, id: str, format: ReceiptFormat) -> bytes:
    """What it is called: by the file's own name and the message's id, so that no two have the same."""
    return shortened_name(receipt.file.name) + f".{id[:8]}.{receipt.state}.{format}".encode()


def written(receipt: Receipt, format: ReceiptFormat) -> bytes:
    """The receipt as a file."""
    if format is ReceiptFormat.JSON:
        return (json.dumps(receipt.facts, indent=2, ensure_ascii=True) + "\n").encode("ascii")
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(receipt.facts)
    writer.writerow(harmless("" if value is None else str(value)) for value in receipt.facts.values())
    return out.getvalue().encode("ascii", "backslashreplace")
