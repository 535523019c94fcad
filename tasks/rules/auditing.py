"""Auditing: the numbers by which a SIEM sees that an event is missing, and what an object's own history says of those that were told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

POISON = frozenset({"bad-fact", "missing-fact", "status-400", "status-413", "status-422"})
"""Refusals that are about one event. Any other is about all: nothing more is told before it is mended."""


class Event(Protocol):
    """What of an object's history is read here."""

    @property
    def id(self) -> str: ...
    @property
    def at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Stand:
    """How far the events of one object are told."""

    numbered: int = 0
    """Number of its last event; they begin at 1, and none is left out."""
    last: str = ""
    """That event's id."""
    told: int = 0
    """All up to this number are told, or a person has given them up."""
    refused: bool = False
    """The next one was refused: it, and those behind it, wait for a person or for a SIEM that takes it."""

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Stand:
        """As the newest entry of an object's journey tells it."""
        if body is None:
            return cls()
        return cls(int(body["numbered"]), str(body["last"]), int(body["told"]), bool(body["refused"]))

    @property
    def facts(self) -> dict[str, Any]:
        return {"numbered": self.numbered, "last": self.last, "told": self.told, "refused": self.refused}

    def after(self, event: str) -> Stand:
        """With one event more."""
        return replace(self, numbered=self.numbered + 1, last=event)


@dataclass(frozen=True, slots=True)
class Gap:
    """What an object's history and what was told of it do not agree on."""

    missing: tuple[str, ...] = ()
    """Ids of events that it knows and that we were not told of in the feed."""
    vanished: tuple[str, ...] = ()
    """Ids of events that were told, and that it does not know any more though it knows older ones."""


def compare(numbered: Sequence[str], history: Iterable[Event], now: datetime, late_after: timedelta) -> Gap:
    """What is missing of an object's events. ``numbered``: those that the feed told, in order; ``history``: oldest first.

    What happened before the first of them happened elsewhere: the object was moved here. What came last may yet come in the feed, and is
    missing when it is older than that. A trail may end somewhere, and forget what is older.
    """
    events, known = list(history), set(numbered)
    here = next((n for n, event in enumerate(events) if event.id in known), 0)
    newest = max((n for n, event in enumerate(events) if event.id in known), default=-1)
    missing = tuple(
        event.id
        for n, event in enumerate(events)
        if n >= here and event.id not in known and (n < newest or now - event.at > late_after)
    )
    told = {event.id for event in events}
    oldest = next((n for n, id in enumerate(numbered) if id in told), len(numbered))
    return Gap(missing, tuple(id for id in numbered[oldest:] if id not in told))
