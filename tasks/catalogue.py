"""Catalogue: a search index is told of the documents in a watched folder: what is known of them, never what is in them.

::

    catalogue.<watch>:                        looking ─ looking ─ comparing ─ looking ...   each look with its number, which only rises
    catalogue.<watch>.compared:               agreed ─ compared ─ compared ...              what was compared to its end, as is agreed
    catalogue.<watch>.<id of a document>:     an incident about one that the index refuses

What the index is told carries the number of the look that found it, so an older look never replaces what a newer one told, whoever is
slower. Telling it twice changes nothing, so there are no intents of single documents: what broke off is looked at and told again. Nothing
here fetches a document; what the repository says of it is all that is asked.

A change leads to a look at what it happened to, not to a copy of what the change said: whatever was missed or came twice, the index has
what the repository says now. Now and then all is compared: every document is told anew, and what was not found goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.errors import (
    ConfigurationError,
    CountersignError,
    DocumentMissing,
    RepositoryError,
    SystemFailure,
    SystemRefused,
    SystemUnreachable,
)
from blocks.index_terms import IndexTerms
from blocks.ledger import Entry, Holding, Recorded
from blocks.repositories.base import RepositorySession
from blocks.settings import settings
from blocks.system_file import load_system
from blocks.systems.base import Answer, Fate, Message, persevere
from blocks.systems.opensearch import OpenSearch, OpenSearchSession
from blocks.systems.web import PAUSE_SECONDS
from blocks.values import Change, Described, Stage
from blocks.watch_file import load_watch_file, watches
from tasks.connections import ledger, repository_session
from tasks.follow import Watching, follow, load_watch
from tasks.incidents import CATALOGUE_LATE, NOT_CATALOGUED, close_incidents, open_incident
from tasks.report import tell
from tasks.rules.cataloguing import AS_OF, FOLDERS, MAPPING, WATCH, entry, to_look_at
from tasks.telling import holding

T = TypeVar("T")

READER = "index"
AT_ONCE = 500
"""Documents that are told in one go, and held in memory."""
MOST_REFUSED = 100
"""So many refused documents are cases; more of them are one thing gone wrong, and the run ends."""
LOOKING, COMPARING, AGREED, COMPARED = "looking", "comparing", "agreed", "compared"
_OF_ALL = frozenset({"status-401", "status-403", "status-404"})
"""Refusals that are no document's: the index is not there, or not for us."""


class Cataloguing(Watching):
    """A watch, and the search system that is told of it."""

    def __init__(self, watching: Watching, index: IndexTerms, system: OpenSearch) -> None:
        super().__init__(watching.partner, watching.terms, watching.repository, watching.digest)
        self.index, self.system = index, system

    @property
    def journey(self) -> str:
        return f"catalogue.{self.partner}"

    @property
    def comparisons(self) -> str:
        """The journey of what was compared to its end, and since when it is agreed to be."""
        return f"{self.journey}.{COMPARED}"


def load_catalogue(watch: str) -> Cataloguing:
    """A watch that says which index is told. Raises ``ConfigurationError`` that says what to mend."""
    watching = load_watch(watch)
    index = watching.terms.index
    if index is None:
        raise ConfigurationError(f"watch {watch}: its file says nothing under 'index', so there is nothing to tell")
    system = load_system(index.system, settings().profiles)
    if not isinstance(system, OpenSearch):
        raise ConfigurationError(f"watch {watch}: index.system: '{index.system}' is no search index (kind: opensearch)")
    return Cataloguing(watching, index, system)


@dataclass
class Tally:
    """What became of documents in one run."""

    told: int = 0
    """The index has what is known of them; what it knew before was replaced."""
    left_out: int = 0
    """Restricted, and to be left out."""
    removed: int = 0
    refused: list[str] = field(default_factory=list)
    """Ids of documents that the index does not take. It knows nothing of them."""

    def add(self, other: Tally) -> None:
        self.told += other.told
        self.left_out += other.left_out
        self.removed += other.removed
        self.refused += other.refused


def catalogue_watch(agreed: Cataloguing, patience: timedelta) -> Tally:
    """Tell the index what has changed, and compare all where that is due. Nothing while another run is at it.

    Raises ``SystemFailure`` where the index cannot be told now, and ``RepositoryError``: the next run goes on from there.
    """
    with holding([agreed.journey, agreed.comparisons], timedelta(0)) as held:
        if held is None:
            get_run_logger().info("%s: another run tells the index", agreed.key)
            return Tally()
        with repository_session(agreed.repository) as repository, agreed.system.session() as index:
            run = _Run(agreed, held, repository, index, patience)
            try:
                run.compare_if_due()
                run.tell_changes()
            except DocumentMissing as error:
                run.is_late(f"its folder is gone, and the index may still tell of what was in it: {error}")
                raise
            return run.tally


def catalogue_watches(watch: str, patience: timedelta) -> Tally:
    """The same for one watch, or for all that say something of an index: one that breaks off holds no other up, and is raised at last."""
    folder, whole, broken = settings().profiles, Tally(), list[CountersignError]()
    for name in [watch] if watch else watches(folder):
        try:
            if watch or load_watch_file(name, folder).watch.index is not None:
                agreed = load_catalogue(name)
                tally = catalogue_watch(agreed, patience)
                whole.add(tally)
                if tally.told or tally.removed:
                    tell(agreed, "catalogued", {"told": tally.told, "removed": tally.removed})
        except CountersignError as error:
            get_run_logger().warning("watch %s: %s", name, error)
            broken.append(error)
    if broken:
        raise broken[0]
    return whole


def report_catalogue(tally: Tally) -> State:
    """The run's final state."""
    name = "Catalogued" if tally.told or tally.removed else "Nothing told" if tally.refused else "Nothing new"
    said = f"{tally.told:,} told, {tally.left_out:,} left out, {tally.removed:,} removed, {len(tally.refused):,} refused"
    return Completed(name=f"{name}, {len(tally.refused)} refused" if tally.refused else name, message=said)


class _Run:
    """One run, while it holds the catalogue's lease."""

    def __init__(
        self, agreed: Cataloguing, held: Holding, repository: RepositorySession, index: OpenSearchSession, patience: timedelta
    ) -> None:
        self._agreed, self._held, self._repository, self._index = agreed, held, repository, index
        self._patience, self.tally = patience, Tally()
        self._standing = {
            case.journey for case in ledger().cases(partner=agreed.partner, stream=agreed.stream) if case.code == NOT_CATALOGUED
        }

    # ------------------------------------------------------------------------------------------------- all of it

    def compare_if_due(self) -> None:
        """Tell of every document anew, and remove what was not found: at first, when what was agreed has changed, and now and then."""
        agreed = self._agreed
        last = ledger().newest(agreed.comparisons)
        if last is None or last.body["agreed"] != agreed.digest:
            last = self._write(AGREED, 0, {"agreed": agreed.digest}, at=agreed.comparisons)
        due = last.at + agreed.index.compare_every if last.kind == COMPARED else last.at
        if ledger().now() < due:
            return
        with self._in_time(due):
            self._patiently(lambda: self._index.prepare(MAPPING))
            for _ in follow(agreed, READER):
                pass  # what has happened until now is seen by looking at all of it
            number = self._number(COMPARING)
            self._tell(self._repository.describe(agreed.folder), number)
            self.tally.removed += self._remove_older(number)
        self._write(COMPARED, number, {"agreed": agreed.digest}, at=agreed.comparisons)

    # ------------------------------------------------------------------------------------------------- what has changed

    def tell_changes(self) -> None:
        """Look at what has changed since the last run, and tell what is found; what is not there any more goes."""
        for changes in follow(self._agreed, READER):
            moments = [change.at for change in changes if change.at is not None]
            with self._in_time(min(moments, default=None)):
                if wanted := to_look_at(changes):
                    number = self._number(LOOKING)
                    for change in wanted:
                        self._look(change, number)
        self._all_is_told()

    def _look(self, change: Change, number: int) -> None:
        found = self._tell(self._repository.describe(self._agreed.folder, change.target), number)
        if change.kind != "folder" and change.target not in found:
            self._send([self._gone(change.target, number)], number)
            self.tally.removed += 1
        if change.kind != "document":
            self.tally.removed += self._remove_older(number, change.target)

    # ------------------------------------------------------------------------------------------------- telling

    def _tell(self, documents: Iterator[Described], number: int) -> set[str]:
        """Ids of the documents that were found."""
        found: set[str] = set()
        while some := list(islice(documents, AT_ONCE)):
            found.update(one.kept.id for one in some)
            self._send([self._message(one, number) for one in some], number)
        return found

    def _message(self, one: Described, number: int) -> Message:
        agreed = self._agreed
        told = entry(one, agreed.index, agreed.partner, agreed.repository.address, number)
        if told is None:
            self.tally.left_out += 1
            return self._gone(one.kept.id, number)
        return Message(f"{one.kept.id}.{number}", "index", {"id": one.kept.id, "version": number, "document": told})

    def _gone(self, id: str, number: int) -> Message:
        return Message(f"{id}.{number}", "delete", {"id": id, "version": number})

    def _send(self, messages: list[Message], number: int) -> None:
        self._held.lease  # noqa: B018 - raises
        by_key = {message.key: message for message in messages}
        refused = [
            (by_key[answer.key], answer)
            for answer in persevere(self._index, messages, self._patience)
            if not self._taken(by_key[answer.key], answer)
        ]
        for message, answer in refused:
            self._refused(message, answer, number)

    def _taken(self, message: Message, answer: Answer) -> bool:
        """False for a document that the index refuses. Raises ``SystemFailure`` where it is none of the document's doing."""
        id = str(message.facts["id"])
        if answer.fate is Fate.REFUSED and answer.code not in _OF_ALL:
            return False
        if answer.fate is Fate.REFUSED:
            raise SystemRefused(f"{self._agreed.system.address}: {answer.code}: {answer.reason}")
        if answer.fate is not Fate.TAKEN:
            raise SystemUnreachable(
                f"{self._agreed.system.address}: {answer.reason}; the next run goes on", answer.after_seconds
            )
        self.tally.told += message.route == "index"
        if (about := self._about(id)) in self._standing:
            close_incidents(self._agreed, NOT_CATALOGUED, [about])
        return True

    def _refused(self, message: Message, answer: Answer, number: int) -> None:
        """A person is told. What the index knew of it goes: it may be just what it must not know any more."""
        id = str(message.facts["id"])
        self.tally.refused.append(id)
        if len(self.tally.refused) > MOST_REFUSED:
            raise SystemRefused(f"{self._agreed.system.address}: refuses more than {MOST_REFUSED} documents; {answer.reason}")
        if message.route == "index":
            [gone] = persevere(self._index, [self._gone(id, number)], self._patience)
            if gone.fate is not Fate.TAKEN:
                raise SystemUnreachable(
                    f"{self._agreed.system.address}: {gone.reason}; the next run goes on", gone.after_seconds
                )
        reason = f"the index refuses what it is told of document {id}, and knows nothing of it: {answer.code}: {answer.reason}"
        open_incident(self._agreed, self._about(id), id, NOT_CATALOGUED, reason)

    def _remove_older(self, number: int, below: str | None = None) -> int:
        """Remove what an earlier look told and this one has not found: everywhere, or below one folder."""
        where = {WATCH: self._agreed.partner, **({FOLDERS: below} if below is not None else {})}
        self._held.lease  # noqa: B018 - raises
        return self._patiently(lambda: self._index.remove_older((AS_OF, number), where))

    def _patiently(self, call: Callable[[], T]) -> T:
        """What doing it twice does not change: done again while the index says "later", for as long as we wait."""
        end = time.monotonic() + self._patience.total_seconds()
        while True:
            try:
                return call()
            except SystemUnreachable as error:
                wait = max(PAUSE_SECONDS, error.after_seconds)
                if time.monotonic() + wait > end:
                    raise
            time.sleep(wait)

    # ------------------------------------------------------------------------------------------------- in time

    @contextmanager
    def _in_time(self, since: datetime | None) -> Iterator[None]:
        """What breaks off, and should have been told longer ago than was agreed, is told to a person."""
        try:
            yield
        except DocumentMissing:
            raise
        except (SystemFailure, RepositoryError) as error:
            if since is not None and ledger().now() - since > self._agreed.index.agreed_time:
                self.is_late(f"it does not know what is there since {since:%Y-%m-%d %H:%M} UTC: {error}")
            raise

    def is_late(self, why: str) -> None:
        """Tell a person that the index does not know what it should."""
        agreed, reason = self._agreed, f"the index of {self._agreed.key}: {why}"
        open_incident(agreed, f"{agreed.journey}.{CATALOGUE_LATE}", agreed.key, CATALOGUE_LATE, reason)

    def _all_is_told(self) -> None:
        close_incidents(self._agreed, CATALOGUE_LATE, [f"{self._agreed.journey}.{CATALOGUE_LATE}"])

    # ------------------------------------------------------------------------------------------------- in the ledger

    def _about(self, id: str) -> str:
        return f"{self._agreed.journey}.{id}"

    def _number(self, kind: str) -> int:
        """The number of a look that begins now: microseconds by the database's clock, and more than any before it.

        So it rises also where that clock was put back, and where the ledger was restored from an older copy.
        """
        last = ledger().newest(self._agreed.journey)
        number = max(int(ledger().now().timestamp() * 1_000_000), int(last.body["number"]) + 1 if last else 0)
        self._write(kind, number, {})
        return number

    def _write(self, kind: str, number: int, more: dict[str, str], at: str = "") -> Recorded:
        agreed = self._agreed
        facts = {"partner": agreed.partner, "stream": agreed.stream, "name": agreed.key, "number": number, **more}
        [written] = ledger().append([Entry(at or agreed.journey, kind, facts, stage=Stage.CLEARED)], self._held.lease)
        return written
