"""Which changes start an approval, and what is said of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from blocks.outbound import Admission, shortened
from blocks.values import Change, Kept, shown
from tasks.rules.packing import values

_KINDS = {
    "Create": "upload",
    "Restore": "upload",
    "Move": "upload",  # into the folder: what comes here was not looked at
    "Rename": "modify",
    "Add Version": "modify",
    "Share": "share",
    "Link": "share",
}
"""The repository's words for what happens. A change that is told twice, or of another kind, starts no second approval of a version."""


def kind_of(change: Change, on: Collection[str]) -> str | None:
    """Which kind of change it is: upload, modify or share; None if changes of that kind start no approval."""
    kind = _KINDS.get(change.event)
    return kind if kind in on else None


def is_sensitive(kept: Kept, patterns: Sequence[str], having: Sequence[Admission]) -> bool:
    """True for a document of such a name with all such values."""
    named = any(fnmatchcase(kept.name, pattern) for pattern in patterns)
    return not kept.container and named and all(set(one.values) & values(kept, one) for one in having)


def order_id(watch: str, document: str, version: int, attempt: int) -> str:
    """The id of the order that asks for the sign-off of one version: always the same one.

    >>> order_id("pricing", "4711", 3, 0), order_id("pricing", "4711", 3, 1)
    ('pricing-4711-v3', 'pricing-4711-v3.1')
    """
    plain = document if re.fullmatch(r"[A-Za-z0-9]{1,24}", document) else hashlib.sha256(document.encode()).hexdigest()[:16]
    return f"{watch}-{plain}-v{version}" + (f".{attempt}" if attempt else "")


def asked(version: int, order: str, kind: str, actor: str) -> str:
    """For people who read the document."""
    return f"Approval of version {version}: pending. Asked as order {order}, because of: {kind} by {shown(actor)[:80]}."


def over(version: int, order: str, state: str, digest: str, by: Sequence[str]) -> str:
    """The same when it is over, whatever came of it."""
    word = "approved" if state.startswith("Delivered") else state[:1].lower() + state[1:]
    told = f"Approval of version {version}: {shortened(shown(word), 200)}."
    told += f" Signed by {', '.join(by)}." if by else ""
    told += f" SHA-256 {digest}." if digest else ""
    return f"{told} Order {order}."
