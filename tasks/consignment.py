"""The consignment: the documents that one task call carries together, and how far each has come.

Tasks take a consignment and give back the next one. Its class is deliberately opaque to Prefect: a dataclass or a model would be
walked through, field by field, for every document at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from blocks.calendars import Calendar
from blocks.endpoints.base import Endpoint
from blocks.ledger import Entry, Holding, Lease, Recorded
from blocks.outbound import PackageFile
from blocks.repositories.base import Repository
from blocks.values import Arrival, Document, Filed, Inbound, RemoteFile, Stage, Verdict, name_b64
from tasks.rules.judge import from_facts

GONE = frozenset({"cleared", "seen absent", "replaced", "vanished"})
"""Kinds of entries after which an original does not stand at the partner any more."""


class Agreed:
    """What was agreed about one inbound stream: everything its tasks need to know, and nothing that is open."""

    def __init__(
        self,
        partner: str,
        stream: str,
        terms: Inbound,
        endpoint: Endpoint,
        repository: Repository,
        digest: str,
        timezone: str = "UTC",
        calendar: Calendar | None = None,
        *,
        records_cases: bool = False,
    ) -> None:
        self.partner, self.stream, self.terms, self.timezone = partner, stream, terms, timezone
        self.calendar = calendar
        """By which something is expected, if it is by any."""
        self.endpoint, self.repository = endpoint, repository
        self.digest = digest
        """Of the reviewed profile, for the ledger."""
        self.records_cases = records_cases
        """This installation files records of cases."""
        self.away = ""
        """Why this run asks for no further messages to the partner; "" while it does. Its consignments share it."""

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    def about(self, arrival: Arrival) -> dict[str, Any]:
        """The facts by which every entry about this arrival can be searched for."""
        return {"partner": self.partner, "stream": self.stream, "name": arrival.file.shown}

    def origin(self, arrival: Arrival) -> dict[str, Any]:
        """Where an arrival came from, exactly."""
        file = arrival.file
        return {
            **self.about(arrival),
            "name_b64": name_b64(file.name),
            "folder": file.folder,
            "endpoint": self.endpoint.address,
            "size": file.size,
            "modified": file.modified.isoformat() if file.modified else None,
            "first_seen": arrival.first_seen.isoformat(),
            "profile": self.digest,
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One document of a consignment."""

    arrival: Arrival
    stage: Stage
    history: tuple[Recorded, ...] = ()
    """What the ledger held when it was claimed: empty for a new one."""
    document: Document | None = None
    verdict: Verdict | None = None
    filed: Filed | None = None
    duplicate_of: str | None = None
    origin: PackageFile | None = None
    """The document that it is an edited copy of, and the version; on streams of returns."""
    note: str = ""
    parted: bool = False
    """Its good rows were filed as a document of their own."""
    rows_filed: int = 0
    """How many of its rows were, by this try."""
    untold: str = ""
    """Why its partner could not yet be told what became of it: until then its original stays. "" if nothing waits for that."""

    @property
    def journey(self) -> str:
        return self.arrival.journey

    def recorded(self, kind: str) -> Recorded | None:
        """The newest entry of that kind, if there was one."""
        return next((entry for entry in reversed(self.history) if entry.kind == kind), None)

    @property
    def gone(self) -> bool:
        """True if the ledger knows already that its original does not stand at the partner any more."""
        return any(entry.kind in GONE for entry in self.history)

    @property
    def round(self) -> int:
        """How often a person asked for another try: part of the keys of steps that may be done again then."""
        return sum(entry.kind == "retried" for entry in self.history)


def claimed_item(arrival: Arrival, history: Sequence[Recorded]) -> Item:
    """An item as the ledger knows it: what an earlier run decided stands, so that this one can go on and report it."""
    item = Item(arrival, arrival.stage, tuple(history))
    if arrival.stage is Stage.FILED and (filed := item.recorded("filed")):
        body = filed.body
        folder = tuple(body["folder"].split("/"))
        return replace(item, filed=Filed(item.journey, body["repository_id"], body["version"], body["filed_as"], folder))
    if arrival.stage is Stage.DUPLICATE and (duplicate := item.recorded("duplicate")):
        return replace(item, duplicate_of=duplicate.body["duplicate_of"], rows_filed=duplicate.body.get("fresh", 0))
    if arrival.stage is Stage.QUARANTINED and (quarantined := item.recorded("quarantined")):
        parted = item.recorded("parted")
        rows = parted.body["fresh"] if parted is not None and parted.body["round"] == item.round else 0
        return replace(item, verdict=from_facts(item.journey, quarantined.body), parted=parted is not None, rows_filed=rows)
    return item


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the run's report: what became of one file."""

    file: str
    outcome: str
    reason: str = ""
    repository_id: str = ""
    journey: str = ""
    rows_filed: int = 0
    """Of a table whose good rows went on as a document of their own."""


class Consignment:
    """Items under one lease, which is renewed in the background while they are worked on."""

    def __init__(
        self, agreed: Agreed, held: Holding, items: Iterable[Item], markers: Mapping[str, RemoteFile] | None = None
    ) -> None:
        self.agreed, self._held = agreed, held
        self.items = tuple(items)
        self.filed: Consignment | None = None
        """What filing made of it, for a task that is tried again behind that: what a repository refused stands nowhere else."""
        self.markers: Mapping[str, RemoteFile] = markers or {}
        """Done files by the journey they speak for: they go when their file goes."""

    @property
    def lease(self) -> Lease:
        """Raises ``LeaseLost`` once it could not be kept: whoever has it now goes on."""
        return self._held.lease

    @property
    def size(self) -> int:
        return len(self.items)

    def at(self, *stages: Stage) -> list[Item]:
        return [item for item in self.items if item.stage in stages]

    def with_changes(self, changed: Mapping[str, Item]) -> Consignment:
        """The same consignment with some items further on."""
        items = (changed.get(item.journey, item) for item in self.items)
        return Consignment(self.agreed, self._held, items, self.markers)

    def rows(self) -> list[Row]:
        return [_row(item) for item in self.items]


@dataclass
class Steps:
    """Collects what a task did, writes it to the ledger in one go, and then gives back the consignment moved on."""

    consignment: Consignment
    entries: list[Entry] = field(default_factory=list)
    changed: dict[str, Item] = field(default_factory=dict)

    def add(self, item: Item, kind: str, facts: Mapping[str, Any], *, once: str | None = None, **now: Any) -> None:
        """Record ``kind`` for an item. ``now`` says what the item is from here on (``stage=``, ``document=``...)."""
        self.changed[item.journey] = replace(item, **now)
        self.entries.append(
            Entry(
                item.journey,
                kind,
                {**self.consignment.agreed.about(item.arrival), **facts},
                once=once,
                stage=now.get("stage"),
            )
        )

    def write(self, append: Callable[[list[Entry], Lease], list[Recorded]]) -> Consignment:
        if self.entries:
            append(self.entries, self.consignment.lease)
        return self.consignment.with_changes(self.changed)


def _row(item: Item) -> Row:
    name, journey = item.arrival.file.shown, item.journey
    if item.filed is not None:
        return Row(name, "filed", item.note, item.filed.id, journey)
    if item.duplicate_of is not None:
        return Row(name, "duplicate", item.note or f"same bytes as journey {item.duplicate_of}", "", journey, item.rows_filed)
    if item.verdict is not None and not item.verdict.accepted:
        return Row(name, "quarantined", item.verdict.reason, "", journey, item.rows_filed)
    if item.arrival.digest is not None and item.stage in (Stage.MARKER, Stage.LEFT, Stage.CLEARED):
        return Row(name, "marker", "an empty file, which as agreed only says something", "", journey)
    if item.stage is Stage.CLEARED:
        return Row(name, "vanished", item.note, "", journey)
    return Row(name, "waits", item.note, "", journey)
