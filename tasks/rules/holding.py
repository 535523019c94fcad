"""Holding: which legal holds are in force here, and where a journey's document is kept.

Holds that we are told of stand in the ledger under the journey ``holds``, so that they are in force here at once, also while the
repository is away; each act stands in its journey's own chain as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tasks.rules.case_record import RECORDED
from tasks.rules.flagging import FLAGGED

REGISTER = "holds"
"""The journey under which the holds of all journeys stand."""
APPLIED, TOLD, LIFTING, LIFTED = "hold-applied", "hold-told", "hold-lifting", "hold-lifted"
TELLING = "hold-telling"
"""An intent, of a flag alone: none of its name stood at the document before."""
FLAG = "flag."
"""What the journeys of flags begin with, which governance systems have set."""
UNKNOWN = "unknown"
REMOVED = "removed"
NOT_THERE = "was not there any more"
"""Outcome of a removal of which nobody knows that it was ours: a document that is not shown to us may be hidden, and on hold."""
ON_ITS_WAY = ("arrived", "fetched", "judged", "filing", "clearing", "cleared")
"""Kinds of entries that every file has and that tell nothing of this: neither where a document is kept, nor whose bytes it holds."""
RELIED_ON = "relied-on"
"""Kind of the entry about a part on which a later whole file relies (``from``), of which it did not come itself."""


class Entry(Protocol):
    """What of a recorded entry is read here."""

    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A document in a repository."""

    repository: str
    """Its address."""
    id: str

    @property
    def facts(self) -> dict[str, str]:
        return {"repository": self.repository, "id": self.id}


@dataclass(frozen=True, slots=True)
class HoldHere:
    """A hold that we were told of and that was not lifted since."""

    journey: str
    name: str
    comment: str = ""
    by: str = ""
    told: frozenset[Place] = frozenset()
    """Where a repository has it too."""
    stood: frozenset[Place] = frozenset()
    """Of these: where somebody had set one of that name before we told it. What stands there is theirs, and not ours to lift."""


def in_force(register: Iterable[Entry]) -> dict[str, dict[str, HoldHere]]:
    """Journey -> folded name of a hold -> the hold, from the register's entries in order. Case makes no other hold of a name, as in
    Extended ECM.

    A lifting that did not end may have reached any of the repositories: from then on none counts as told.
    """
    found: dict[str, dict[str, HoldHere]] = {}
    for entry in register:
        body = entry.body
        of_journey = found.setdefault(str(body.get("journey")), {})
        name = str(body.get("hold")).casefold()
        if entry.kind == APPLIED:
            of_journey[name] = HoldHere(
                str(body["journey"]), str(body["hold"]), str(body.get("comment", "")), str(body.get("by", ""))
            )
        elif entry.kind == TOLD and name in of_journey:
            told, stood = _places(body.get("places", ())), _places(body.get("stood", ()))
            before = of_journey[name]
            of_journey[name] = replace(before, told=before.told | told, stood=before.stood | stood)
        elif entry.kind == LIFTING and name in of_journey:
            of_journey[name] = replace(of_journey[name], told=frozenset())
        elif entry.kind == LIFTED:
            of_journey.pop(name, None)
    return {journey: holds for journey, holds in found.items() if holds}


def _places(told: Iterable[Mapping[str, Any]]) -> set[Place]:
    return {Place(str(place["repository"]), str(place["id"])) for place in told}


def filed_at(history: Iterable[Entry]) -> tuple[Place, ...]:
    """Where a journey's document was filed and, as far as is known, was not removed since; the evidence of a release, and the copies
    filed with it."""
    found: dict[Place, None] = {}
    for entry in history:
        if entry.kind == "copied":
            for copy in entry.body["copies"].values():
                found[Place(str(copy["repository"]), str(copy["id"]))] = None
        if entry.kind in ("filed", "certified", "recorded") and (repository := entry.body.get("repository")):
            for id in filter(None, map(entry.body.get, ("repository_id", "page_id"))):
                found[Place(str(repository), str(id))] = None
        if entry.kind == REMOVED and entry.body.get("outcome") != NOT_THERE:
            found.pop(Place(str(entry.body["repository"]), str(entry.body["repository_id"])), None)
    return tuple(found)


def kept_at(history: Sequence[Entry]) -> tuple[Place, ...]:
    """The same, and the record of the journey's case: a hold on the journey is for that too. Of a flag: the document that it is on."""
    records: dict[Place, None] = {}
    for entry in history:
        if entry.kind == FLAGGED and "id" in entry.body["at"]:
            records[Place(str(entry.body["at"]["repository"]), str(entry.body["at"]["id"]))] = None
        if entry.kind == RECORDED:
            for copy in entry.body["copies"].values():
                records[Place(str(copy["repository"]), str(copy["id"]))] = None
    return tuple(dict.fromkeys((*records, *filed_at(history))))


def texts(history: Iterable[Entry]) -> tuple[str, ...]:
    """Digests of what we wrote about a release, or a transfer, and filed: certificate, page to print, transmission records."""
    told = {"sealed": ("certificate",), "certified": ("certificate", "page"), "recorded": ("record",)}
    found = (entry.body.get(key) for entry in history for key in told.get(entry.kind, ()))
    return tuple({str(digest): None for digest in found if digest})


def same_bytes(history: Iterable[Entry]) -> tuple[str, ...]:
    """Journeys whose documents hold this one's bytes: the one that they were filed as, or those of its good rows."""
    found: dict[str, None] = {}
    for entry in history:
        if entry.kind == "duplicate":
            found[str(entry.body["duplicate_of"])] = None
        if entry.kind in ("duplicate", "parted"):
            found |= dict.fromkeys(str(part) for part in entry.body.get("parts", ()))
    return tuple(found)


def wholes_of(history: Iterable[Entry]) -> tuple[str, ...]:
    """Journeys of the whole files of which this one's document is a part."""
    return tuple({str(entry.body["from"]): None for entry in history if entry.kind in ("derived", RELIED_ON)})


def nobody_knows(history: Iterable[Entry]) -> bool:
    """True if an attempt to file it ended without our knowing how, and nobody has decided since: there may be a document that we
    cannot ask about."""
    decisive = [entry.kind for entry in history if entry.kind in (UNKNOWN, "filed", "rejected")]
    return decisive[-1:] == [UNKNOWN]
