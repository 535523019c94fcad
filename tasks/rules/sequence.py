"""Sequences: what a file that is not through yet means for later ones of its stream.

A journey's id sorts by our first sight of its file, then by name: that is the order. Whatever was agreed, unless each file stands for
itself, an earlier one is never filed after a later one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from blocks.values import Settle, Sighting, Stage, Succession
from tasks.rules.naming import illegal
from tasks.rules.settle import belongs

SUPERSEDED = "superseded"
"""Reason code of what is not filed because a later file was."""
UNKNOWN = "outcome-unknown"
"""Reason code of a case that only a person's look at the repository can decide."""

_UNDER_WAY = frozenset({Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED})
_FOR_A_PERSON = frozenset({UNKNOWN, "bytes-lost"})


def waits_for(journey: str, not_through: Iterable[str], sequence: Succession) -> str | None:
    """The first journey that must be through before this one is filed; None if nothing keeps it.

    >>> waits_for("3", ["4", "2", "1"], Succession.ORDERED), waits_for("3", ["4"], Succession.ORDERED)
    ('1', None)
    >>> waits_for("3", ["1"], Succession.LATEST)
    """
    if sequence is not Succession.ORDERED:
        return None
    return min((other for other in not_through if other < journey), default=None)


def under_way(sightings: Iterable[Sighting], settle: Settle, patterns: tuple[str, ...]) -> list[Sighting]:
    """Files at the partner that are not through: still being written, or in work. Illegal names are not awaited."""

    def is_awaited(sighting: Sighting) -> bool:
        file = sighting.file
        return sighting.stage is Stage.SIGHTED and illegal(file.name) is None and belongs(file, settle, patterns)

    return [sighting for sighting in sightings if sighting.stage in _UNDER_WAY or is_awaited(sighting)]


def settled_by(journey: str, refused: Mapping[str, str], sequence: Succession) -> list[str]:
    """Of refused journeys (with the codes of their cases) those that need nobody any more once this one is filed.

    Where the latest wins they can never be filed after it. Not those about which a person must know whatever came later: our spool
    lost a document, or the repository may hold it.

    >>> settled_by("3", {"1": "outcome-unknown", "2": "schema", "4": "schema"}, Succession.LATEST)
    ['2']
    >>> settled_by("3", {"2": "schema"}, Succession.ORDERED)
    []
    """
    if sequence is not Succession.LATEST:
        return []
    return [other for other, code in refused.items() if other < journey and code not in _FOR_A_PERSON]
