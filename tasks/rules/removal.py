"""Removal: how far the removal of a journey's document has come, as its history tells.

Intent before, look after: ``removing`` is written before the repository is asked, and ``removed`` or ``not-removed`` once we know
what came of it. Between the two nobody relies on the document, because it may be gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks.rules.holding import REMOVED, Entry

REMOVING, NOT_REMOVED = "removing", "not-removed"


def being_removed(history: Iterable[Entry]) -> bool:
    """True if a removal was begun, and nobody knows yet what came of it."""
    known = [entry.kind for entry in history if entry.kind in (REMOVING, REMOVED, NOT_REMOVED)]
    return known[-1:] == [REMOVING]


def was_removed(history: Iterable[Entry]) -> bool:
    """True if its document is gone, because it had been kept as long as agreed."""
    return any(entry.kind == REMOVED for entry in history)
