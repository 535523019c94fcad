"""Onward: what was accepted and is kept goes to the systems that it is for, to each on its own, exactly once.

::

    onward ─ routed: { destinations: [pim, erp] } ─ telling, told (to: pim) ─ telling, not told (to: erp) ─ ... ─ delivered
        ... ─ left                          it was not filed after all, a newer version came first, or a person has said so;
                                            of one destination (to: erp): that one is given up

    onward.<partner>.<stream>.<file's journey>     a file that an intake has filed; begun by it (``to_go_onward``)
    onward.<watch>.watch.<digest>                  a version of a document that a person has put into a watched folder
        .where                                     incident ``no-destination``: nobody can tell where it goes
        .<destination>.<n>                         incident ``not-taken``: refused; closing it has the system told again
        .<destination>.lacks, .gone                the same: its bytes cannot be had, or it is no destination any more; closing it
                                                   leaves it at that
    telling.<its journey>.<destination>.<n>        incident ``telling-in-doubt`` (``telling``)

Where it goes is decided once, and from then on "1 of 2 delivered" is about the same two. The source at the partner is cleared without
waiting for that: what goes onward rests on the ledger and the repository, and its bytes are those that were accepted, by their digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from blocks.canonical import sha256
from blocks.errors import ConfigurationError, DocumentMissing, RepositoryError
from blocks.ledger import Entry, Holding, Recorded
from blocks.outbound import Attribute
from blocks.profile import load_partner, partners
from blocks.repositories.base import RepositorySession
from blocks.reviewed import nearest
from blocks.settings import settings
from blocks.spool import Spooled
from blocks.system_file import load_system, systems
from blocks.systems.base import Fate, System
from blocks.systems.templates import BadFact, facts_in, fill
from blocks.tombstones import REDUCED
from blocks.values import Change, Onward, Stage, shown
from blocks.watch_file import load_watch_file, watches
from tasks.agreed import load_inbound
from tasks.connections import ledger, repository_session, spool
from tasks.consignment import Agreed
from tasks.follow import Watching, follow, load_watch
from tasks.incidents import NO_DESTINATION, NOT_TAKEN, close_incidents, open_incident
from tasks.report import SHOWN, tell
from tasks.retrying import task
from tasks.rules.filing import offered
from tasks.rules.literal import literal
from tasks.rules.outcome import summary
from tasks.rules.routing import KNOWN, Routing, needed, route
from tasks.telling import IN_DOUBT, Telling, Told, Trail, holding, last_said, tell_once
from tasks.to_go_onward import LEFT, ONWARD, ROUTED, beginning, journey_of

DELIVERED = "delivered"
MOST_AT_ONCE = 1000
"""Documents that one run has in hand for each destination, the oldest that can go on; so many are taken up from a watch."""
MOST_SYSTEMS = 8
"""Told at the same time."""
PAGE = 500
_READINGS = frozenset({"View", "Download"})
"""Changes of a watched folder that change nothing."""
_ENDS = frozenset({"duplicate", "rejected", "superseded"})
"""Of a file that was not filed after all; what was made of one by us, a correction say, may be filed after it was rejected."""


class Going:
    """What was agreed about where documents of one stream or watch go, and nothing that is open. Its class is opaque to Prefect."""

    def __init__(
        self, about: Agreed | Watching, terms: Onward, known: Iterable[str], told: Mapping[str, Attribute] | None = None
    ) -> None:
        self.partner, self.stream, self.terms, self.repository = about.partner, about.stream, about.terms, about.repository
        self.watching = about if isinstance(about, Watching) else None
        self.told = told or {}
        """Of a watch: facts, and where in the repository they stand."""
        self.onward, self.systems = terms, _systems(self.key, terms)
        self.needs = dict(_needs(self.key, terms, self.systems, {*KNOWN, "media_type", *known}))

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    def with_bytes(self, destination: str) -> bool:
        """True if the document's bytes go to it, or something that only they tell."""
        one = self.onward.destinations[destination]
        system = self.systems[one.system]
        used = system.needs(one.route) - one.facts.keys() | facts_in(dict(one.facts))
        return system.takes_document(one.route) or bool({"digest", "size"} & used)


def _systems(key: str, terms: Onward) -> dict[str, System]:
    folder = settings().profiles
    found = {}
    for name, one in terms.destinations.items():
        if one.system not in systems(folder):
            raise ConfigurationError(
                f"{key}: onward.destinations.{name}.system: no such system; {nearest(one.system, systems(folder))}"
            )
        found[one.system] = load_system(one.system, folder)
        if not found[one.system].has_route(one.route):
            raise ConfigurationError(f"{key}: onward.destinations.{name}.route: {one.system} has no route '{one.route}'")
    return found


def _needs(
    key: str, terms: Onward, systems: Mapping[str, System], known: Iterable[str]
) -> Iterator[tuple[str, frozenset[str]]]:
    """What must be known of a document for each destination. Raises ``ConfigurationError`` for what can never be."""
    known = frozenset(known)
    for name, one in terms.destinations.items():
        needs = needed(one, systems[one.system].needs(one.route), facts_in(dict(one.facts)))
        if never := sorted((needs | one.when.keys()) - known):
            told = ", ".join(sorted(known))
            raise ConfigurationError(
                f"{key}: onward.destinations.{name}: {', '.join(never)} is never known of a document here; known are {told}"
            )
        yield name, needs - KNOWN


def load_onward(partner: str, stream: str) -> Going:
    """Where the files of a stream go. Raises ``ConfigurationError`` that says what to mend."""
    agreed = load_inbound(partner, stream)
    if agreed.terms.onward is None:
        raise ConfigurationError(f"{agreed.key}: says nothing of 'onward'")
    return Going(agreed, agreed.terms.onward, {*offered(agreed.terms), "doctype"})


def load_uploads(watch: str) -> Going:
    """Where what people put into a watched folder goes. Raises ``ConfigurationError`` that says what to mend."""
    watching = load_watch(watch)
    terms = watching.terms.onward
    if terms is None:
        raise ConfigurationError(f"watch {watch}: says nothing of 'onward'")
    return Going(watching, terms, {"by", *terms.told}, terms.told)


def find_sources(partner: str = "", stream: str = "", watch: str = "") -> tuple[list[Going], list[str]]:
    """One stream, or one watch, or all that say ``onward``; and what is wrong with those that cannot be read, which stop no other."""
    folder, found, wrong = settings().profiles, list[Going](), list[str]()
    if watch:
        return [load_uploads(watch)], []
    if partner:
        return [load_onward(partner, stream)], []
    of_partners = [partial(_onward_of, name) for name in partners(folder)]
    of_watches = [partial(_uploads_of, name) for name in watches(folder)]
    for load in (*of_partners, *of_watches):
        try:
            found += load()
        except ConfigurationError as error:
            wrong.append(str(error))
    return found, wrong


def _onward_of(partner: str) -> list[Going]:
    inbound = load_partner(partner, settings().profiles).inbound
    return [load_onward(partner, stream) for stream, terms in inbound.items() if terms.onward is not None]


def _uploads_of(watch: str) -> list[Going]:
    return [] if load_watch_file(watch, settings().profiles).watch.onward is None else [load_uploads(watch)]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one document in a run."""

    document: str
    outcome: str
    """delivered, waits, refused, in doubt, triage, left"""
    delivered: int = 0
    of: int = 0
    reason: str = ""
    journey: str = ""
    news: bool = False
    """A system was told of it by this run."""

    @property
    def said(self) -> str:
        """For people: "1 of 2 delivered"."""
        return f"{self.delivered} of {self.of} delivered" if self.of else ""


@task(task_run_name="go onward {agreed.key}")
def go_onward(agreed: Going, patience: timedelta) -> list[Row]:
    """Tell each system of the documents that are for it. One that cannot be told hinders neither another document nor another system.

    ``patience``: longest wait for a system that says "later"; the rest waits for the next run.
    """
    with holding([f"{beginning(agreed.partner, agreed.stream)}run"], timedelta(0)) as alone:
        if alone is None:
            get_run_logger().info("%s: another run has it in hand", agreed.key)
            return []
        trouble = None if agreed.watching is None else _take_up(agreed, agreed.watching)
        going = _in_hand(agreed, [one for one in _documents(agreed) if not one.rests])
        with holding([one.journey for one in going], timedelta(0)) as held:
            rows = _go(agreed, going, held, patience) if held is not None and going else []
    _announce(agreed, rows)
    if trouble is not None:
        raise trouble
    return rows


def _in_hand(agreed: Going, documents: Sequence[_Document]) -> list[_Document]:
    """What one run sees to: the oldest of each destination, so that one that is down stops no other, and nothing is overtaken.

    What waits for a person is the last to be chosen.
    """
    standing = ledger().cases(partner=agreed.partner, stream=agreed.stream)
    asked = {case.journey for case in standing if case.code == NO_DESTINATION}
    count, going = Counter[str](), list[_Document]()
    for one in sorted(documents, key=lambda one: one.waits_for_a_person or one.where in asked):
        one.may_tell = {to for to in one.outstanding if count[to] < MOST_AT_ONCE}
        count.update(one.may_tell)
        if one.may_tell or not one.outstanding:
            going.append(one)
    return sorted(going, key=lambda one: one.place)


def _go(agreed: Going, documents: Sequence[_Document], held: Holding, patience: timedelta) -> list[Row]:
    tellings, by_journey, stuck = list[Telling](), {one.journey: one for one in documents}, set[str]()
    with repository_session(agreed.repository) as session:
        for document in documents:
            document.held = held
            try:
                document.decide(session)
            except RepositoryError as error:
                document.reason = str(error)
            tellings += document.tellings(session, stuck)
    for told in _tell(agreed, tellings, patience):
        by_journey[told.telling.trail.journey].heard(told)
    # Before any of these journeys is closed: nobody would come back to them.
    for code in (NO_DESTINATION, NOT_TAKEN):
        close_incidents(agreed, code, {place for document in documents for place in document.settled})
    for document in documents:
        document.conclude()
    return [document.row() for document in documents]


def _tell(agreed: Going, tellings: Sequence[Telling], patience: timedelta) -> list[Told]:
    """Tell each system what is for it, all at the same time; what became of each."""
    by_system: dict[str, list[Telling]] = {}
    for one in tellings:
        by_system.setdefault(agreed.onward.destinations[one.trail.to].system, []).append(one)

    def told(name: str) -> list[Told]:
        known = dict[str, Told]()
        try:
            with agreed.systems[name].session() as session:
                for one in tell_once(session, by_system[name], patience):
                    known[one.telling.trail.key] = one
        except ConfigurationError as error:  # a credential or a certificate that is not there, say
            rest = [one for one in by_system[name] if one.trail.key not in known]
            return [*known.values(), *(Told(one, Fate.LATER, reason=str(error)) for one in rest)]
        return list(known.values())

    with ThreadPoolExecutor(max_workers=MOST_SYSTEMS, thread_name_prefix="onward") as pool:
        asked = [pool.submit(copy_context().run, told, name) for name in by_system]
    return [one for future in asked for one in future.result()]


# --------------------------------------------------------------------------------------------- what ops see


def _announce(agreed: Going, rows: Sequence[Row]) -> None:
    """A table of the documents; an event for all that went well, and one for each that is only partly through."""
    if rows:
        columns = [
            {
                "document": literal(row.document),
                "outcome": row.outcome,
                "delivered": row.said,
                "reason": literal(row.reason),
                "journey": row.journey,
            }
            for row in sorted(rows, key=lambda row: (row.outcome == "delivered", row.document))[:SHOWN]
        ]
        told = summary(row.outcome for row in rows)
        create_table_artifact(
            table=columns, key=f"onward-{agreed.partner}-{agreed.stream}", description=f"**{agreed.key}**: {told}"
        )
        get_run_logger().info("%s: %s", agreed.key, told)
    if through := [row.journey for row in rows if row.outcome == "delivered"]:
        tell(agreed, "onward", {"files": len(through), "journeys": through[:100]})
    for row in rows:
        if row.news and row.outcome != "delivered":
            tell(
                agreed, "onward-partly", {"file": row.document, "said": row.said, "reason": row.reason, "journey": row.journey}
            )


def report_onward(rows: Sequence[Row], wrong: Sequence[str] = (), broken: Sequence[str] = ()) -> State:
    """The run's final state, whose name says it: "1 of 2 delivered". Failed only for files that cannot be read, and what broke off."""
    outcomes = [row.outcome for row in rows]
    delivered, of = sum(row.delivered for row in rows), sum(row.of for row in rows)
    if of:
        name = "Delivered" if delivered == of else f"{delivered} of {of} delivered"
    else:
        name = "Nothing delivered" if rows else "Nothing new"
    several = [name, *(f"{count} {word}" for word in ("refused", "in doubt", "triage") if (count := outcomes.count(word)))]
    if wrong or broken:
        message = "; ".join([*wrong, *broken, f"of the others: {', '.join(several)}"])
        return Failed(name="Misconfigured" if wrong else "Broken off", message=message)
    return Completed(name=", ".join(several), message=summary(outcomes))


# --------------------------------------------------------------------------------------------- taken up from a watch


def _take_up(agreed: Going, watching: Watching) -> RepositoryError | None:
    """Begin a journey for what people have put into the folder. Trouble with that is given back: it stops nothing that was taken up."""
    taken = 0
    try:
        with closing(follow(watching, ONWARD)) as feed, repository_session(agreed.repository) as session:
            for changes in feed:
                if taken >= MOST_AT_ONCE:
                    return None  # the next run is told these again
                uploads = {one.target: one for one in changes if one.kind != "folder" and one.event not in _READINGS}
                entries = [entry for one in uploads.values() if (entry := _begun(agreed, one, session)) is not None]
                taken += sum(entry.fresh for entry in ledger().append(entries))
    except RepositoryError as error:
        return error
    return None


def _begun(agreed: Going, change: Change, session: RepositorySession) -> Entry | None:
    """The first entry about a document's newest version; None for one that is gone, or that we have filed ourselves."""
    try:
        kept, makers = session.get(change.target), session.filed_by(change.target)
    except DocumentMissing:
        return None
    maker = makers[kept.version - 1] if len(makers) >= kept.version else None
    # Whoever uploads may claim anything: ours is what the ledger knows of.
    if kept.container or (maker is not None and ledger().journey(maker)):
        return None
    place = {"kept_at": agreed.repository.address, "document": kept.id, "version": kept.version}
    journey = f"{beginning(agreed.partner, agreed.stream)}{sha256('/'.join(map(str, place.values())))[:32]}"
    about = {"partner": agreed.partner, "stream": agreed.stream, "name": kept.name, "by": change.actor}
    return Entry(journey, ONWARD, {**about, **place}, once=f"{journey}/begun")


# --------------------------------------------------------------------------------------------- what is under way


def _open(agreed: Going) -> list[str]:
    """Journeys that are not over, oldest first."""
    begun = ledger().begun(ONWARD, ledger().now())
    return [journey for journey in begun if journey.startswith(beginning(agreed.partner, agreed.stream))]


def _documents(agreed: Going, journeys: Sequence[str] | None = None) -> list[_Document]:
    """What is under way, or goes by these journeys, oldest first."""
    journeys, found = _open(agreed) if journeys is None else journeys, list[_Document]()
    for start in range(0, len(journeys), PAGE):
        histories = {one: told for one, told in ledger().journeys(journeys[start : start + PAGE]).items() if told}
        files = ledger().journeys([str(history[0].body["file"]) for history in histories.values() if "file" in history[0].body])
        for journey, history in histories.items():
            found.append(_Document(agreed, journey, history, files.get(str(history[0].body.get("file")), [])))
    return sorted(found, key=lambda one: one.place)


@dataclass
class _Document:
    """One document on its way."""

    agreed: Going
    journey: str
    history: list[Recorded]
    file: Sequence[Recorded]
    """What the ledger says of the file, where it came as one."""
    held: Holding | None = None
    reason: str = ""
    unclear: bool = False
    """Nobody can tell where it goes."""
    over: str = ""
    """Why there is nothing to go onward."""
    news: bool = False
    """A system was told of it by this run."""
    may_tell: set[str] = field(default_factory=set)
    """Destinations of which not too many older ones wait."""
    settled: set[str] = field(default_factory=set)
    """Journeys of its incidents, if there are any, that are about nothing any more."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """Destination -> what is so of it now: delivered, left, waits, refused, in doubt."""

    @property
    def first(self) -> Recorded:
        return self.history[0]

    @property
    def name(self) -> str:
        return str(self.first.body["name"])

    @property
    def routed(self) -> Recorded | None:
        return self._last(ROUTED)

    @property
    def place(self) -> int:
        """Its place among all of them: when it was filed, or was seen in the folder."""
        return next((entry.seq for entry in self.file if entry.kind == "filed"), self.first.seq)

    @property
    def outstanding(self) -> set[str]:
        """Destinations that it is still for, or may be."""
        if self.routed is None:
            return set(self.agreed.onward.destinations)
        return {to for to in self.routed.body["destinations"] if not self._is_over(to)}

    def _is_over(self, to: str) -> bool:
        return any(entry.kind in ("told", LEFT) and entry.body.get("to") == to for entry in self.history)

    @property
    def rests(self) -> bool:
        """True if there is nothing to do before somebody else has done something."""
        if self.first.body.get("file") is None or self.routed is not None:
            return False
        kinds = {entry.kind for entry in self.file}
        ends = _ENDS - {"rejected"} if "derived" in kinds else _ENDS
        return "filed" not in kinds and not kinds & {*ends, REDUCED}

    @property
    def waits_for_a_person(self) -> bool:
        """True if each of its systems has refused it, or nobody can tell: others go first."""
        last = {str(entry.body["to"]): entry for entry in self.history if "to" in entry.body}
        wanted = [last.get(to) for to in self.routed.body["destinations"]] if self.routed else []
        return bool(wanted) and all(
            one is not None and (one.kind in (IN_DOUBT, "told", LEFT) or _is_refusal(one)) for one in wanted
        )

    def _last(self, kind: str) -> Recorded | None:
        return next((entry for entry in reversed(self.history) if entry.kind == kind), None)

    def _trail(self, to: str = "") -> Trail:
        assert self.held is not None  # noqa: S101 - nothing is done without
        return Trail(self.agreed, self.journey, self.name, self.held, to=to, history=self.history)

    def _write(self, kind: str, facts: Mapping[str, Any], stage: Stage | None = None) -> None:
        about = {"name": self.name, **facts}
        self.history.append(self._trail().write(kind, about, once=kind, stage=stage))

    # ------------------------------------------------------------------------------------------------- where it goes

    def decide(self, session: RepositorySession) -> None:
        """Find out where it goes, unless that is known."""
        if self.routed is not None:
            return
        try:
            facts = self._facts_of_upload(session) if self.first.body.get("file") is None else self._facts_of_file()
            routing = self._routing(facts)
        except _Over as over:
            self.over = self.reason = str(over)
            self.settled.add(self.where)
            return
        if routing is not None:
            self._route(routing, facts, session)

    def _routing(self, facts: Mapping[str, Any]) -> Routing | None:
        """Where it goes; None while a person is asked. Raises ``_Over`` if it goes nowhere."""
        terms = self.agreed.onward
        routing = route(facts, terms.destinations, self.agreed.needs, terms.others)
        if not routing.unclear:
            if not routing.destinations:
                raise _Over("it is for no system, as agreed")
            return routing
        if self._given_up(self.where):
            raise _Over(f"a person has closed its incident, and {routing.unclear}")
        self.reason, self.unclear = routing.unclear, True
        open_incident(self.agreed, self.where, self.name, NO_DESTINATION, routing.unclear)
        return None

    def _route(self, routing: Routing, facts: dict[str, Any], session: RepositorySession) -> None:
        if any(map(self.agreed.with_bytes, routing.destinations)):
            facts = self._digested(facts, session)
        kept = {"digest": facts["digest"]} if "digest" in facts else {}
        self._write(ROUTED, {"destinations": list(routing.destinations), "facts": facts, "lane": self._lane(facts), **kept})

    def _lane(self, facts: Mapping[str, Any]) -> str:
        """What it is a version of: of files, all that were to be kept under one name, also where both are."""
        filing = next((entry.body for entry in reversed(self.file) if entry.kind == "filing"), None)
        if filing is None or "document" in filing:
            return str(facts["id"])
        return "/".join([*filing["folder"], filing["filed_as"]])

    def _digested(self, facts: dict[str, Any], session: RepositorySession) -> dict[str, Any]:
        """With what only its bytes tell. Raises ``RepositoryError``."""
        if "digest" in facts:
            return facts
        came = self._fetched(session, str(facts["id"]), int(facts["version"]))
        return {**facts, "digest": came.digest, "size": came.size}

    @property
    def where(self) -> str:
        """The journey of the incident about where it goes."""
        return f"{self.journey}.where"

    def _given_up(self, place: str) -> bool:
        said = last_said(ledger().journey(place))
        return said is not None and said.kind == "dismissed"

    def _facts_of_file(self) -> dict[str, Any]:
        """What is known of a file that was filed."""
        last = {entry.kind: entry.body for entry in self.file}
        if "filed" not in last:
            raise _Over("it was not filed")
        filed = last["filed"]
        if REDUCED in last or "facts" not in filed:
            raise _Over("its journey was closed long ago, and what was known of it is not here any more")
        known = {**filed["facts"], "doctype": filed["doctype"], "media_type": filed["media_type"]}
        kept = {"digest": filed["digest"], "size": filed["size"]}
        return known | self._always(filed["repository_id"], filed["version"], filed["repository"], **kept)

    def _facts_of_upload(self, session: RepositorySession) -> dict[str, Any]:
        """What the repository tells of a document that somebody has put there."""
        told, body = self.agreed.told, self.first.body
        if body["kept_at"] != self.agreed.repository.address:
            raise _Over(f"it is kept at {body['kept_at']}, which is not followed any more")
        try:
            kept = session.get(str(body["document"]))
        except DocumentMissing as error:
            raise _Over("it was removed before anybody was told of it") from error
        if kept.version != body["version"]:
            raise _Over(f"version {kept.version} came before anybody was told of this one")
        values = {fact: kept.categories.get(place.category, {}).get(place.attribute) for fact, place in told.items()}
        known = {fact: _plain(value) for fact, value in values.items() if value is not None}
        about = {"media_type": kept.media_type, "by": body["by"], "size": kept.size}
        return {**known, **about} | self._always(kept.id, kept.version, self.agreed.repository.address)

    def _always(self, id: str, version: int, repository: str, **more: Any) -> dict[str, Any]:
        _, dot, extension = self.name.rpartition(".")
        about = {"partner": self.agreed.partner, "stream": self.agreed.stream, "name": self.name}
        about |= {"extension": extension if dot else "", "received": self.first.at.isoformat()}
        return {**about, "id": id, "version": version, "repository": repository, **more}

    # ------------------------------------------------------------------------------------------------- telling

    def tellings(self, session: RepositorySession, stuck: set[str]) -> list[Telling]:
        """What is to be told of it now. ``stuck``: lanes of what cannot be told now; none behind it goes."""
        if self.routed is None:
            return []
        self.settled.add(self.where)
        wanted, found = self.routed.body["destinations"], list[Telling]()
        for to in wanted:
            lane = f"{to}/{self.routed.body['lane']}"
            if lane in stuck and not self._is_over(to):
                self.outcomes[to], self.reason = "waits", f"{to}: waits for an earlier one"
            elif (one := self._telling(to, dict(self.routed.body["facts"]), session, lane)) is not None:
                found.append(one)
            elif self.outcomes[to] == "waits":
                stuck.add(lane)
        return found

    def _telling(self, to: str, facts: dict[str, Any], session: RepositorySession, lane: str) -> Telling | None:
        """None if there is nothing to be told now; what is so of it then stands in ``outcomes``."""
        trail, terms = self._trail(to), self.agreed.onward.destinations.get(to)
        if self._is_over(to):
            self.outcomes[to] = "delivered" if trail.last("told") else "left"
            self.settled |= {self._lacks(to), self._gone(to)}
            return None
        if terms is None:
            self._not_agreed(trail)
            return None
        self.settled.add(self._gone(to))
        refused = _refusal(trail)
        if refused is not None and not self._closed(trail, refused):
            self.outcomes[to], self.reason = "refused", f"{to}: {refused.body['code']}: {refused.body['reason']}"
            return None
        if to not in self.may_tell:
            self.outcomes[to], self.reason = "waits", f"{to}: {MOST_AT_ONCE} earlier ones wait"
            return None
        if refused is not None and self._is_overtaken(to):
            self._leave(trail, "a later version was told since it was refused")
            return None
        try:
            facts = self._digested(facts, session) if self.agreed.with_bytes(to) else facts
            more = fill(dict(terms.facts), facts)
            path = self._bytes(session, facts) if self.agreed.systems[terms.system].takes_document(terms.route) else None
        except (BadFact, RepositoryError) as error:
            self._not_now(trail, error)
            return None
        self.settled.add(self._lacks(to))
        return Telling(trail, terms.route, {**facts, **more}, path, lane=lane)

    def _leave(self, trail: Trail, why: str) -> None:
        """One destination is given up, and nobody is asked about it any more."""
        self.history.append(trail.write(LEFT, {"reason": why}, once=LEFT))
        self.outcomes[trail.to], self.reason = "left", f"{trail.to}: {why}"
        self.settled |= {self._lacks(trail.to), self._gone(trail.to)}

    def _is_overtaken(self, to: str) -> bool:
        """True if a later version of it was told."""
        assert self.routed is not None  # noqa: S101 - it was told before
        facts, partner, stream = self.routed.body["facts"], self.agreed.partner, self.agreed.stream
        if self.file:
            kept = ledger().search(repository_id=facts["id"], partner=partner, stream=stream, limit=MOST_AT_ONCE)
            found = [journey_of(partner, stream, one.journey) for one in kept]
        else:
            named = ledger().search(name=self.name, partner=partner, stream=stream, limit=MOST_AT_ONCE)
            found = [one.journey for one in named if one.journey.startswith(beginning(partner, stream))]
        return any(
            one.routed is not None
            and one.routed.body["facts"]["id"] == facts["id"]
            and one.routed.body["facts"]["version"] > facts["version"]
            and any(entry.kind == "told" and entry.body.get("to") == to for entry in one.history)
            for one in _documents(self.agreed, found)
        )

    def _not_now(self, trail: Trail, error: BadFact | RepositoryError) -> None:
        """It lacks something that we must have first; a person is told where that does not come by itself."""
        self.reason = error.reason if isinstance(error, BadFact) else str(error)
        self.outcomes[trail.to] = "waits"
        if isinstance(error, BadFact) or not error.worth_retrying:
            place, why = self._lacks(trail.to), f"{trail.to}: {self.reason}; later versions wait for it"
            open_incident(
                self.agreed, place, self.name, NOT_TAKEN, f"{why}. Mend that, or close the incident to leave it at that"
            )
            if self._given_up(place):
                self._leave(trail, f"a person has closed its incident, and {self.reason}")

    def _lacks(self, to: str) -> str:
        return f"{self.journey}.{to}.lacks"

    def _gone(self, to: str) -> str:
        return f"{self.journey}.{to}.gone"

    def _not_agreed(self, trail: Trail) -> None:
        """The destination was taken out of the file, or has another name now: nobody forgets what waited for it."""
        place, why = self._gone(trail.to), f"'{trail.to}' is no destination any more"
        if self._given_up(place):
            self._leave(trail, why)
            return
        self.outcomes[trail.to], self.reason = "refused", f"{why}; name it again, or close the incident to leave it at that"
        open_incident(self.agreed, place, self.name, NOT_TAKEN, self.reason)

    def _closed(self, trail: Trail, refused: Recorded) -> bool:
        """True if a person has closed the incident about a refusal; asks them if we broke off before."""
        place = f"{self.journey}.{trail.to}.{refused.n}"
        said = last_said(ledger().journey(place))
        if said is None:
            reason = f"{trail.to}: {refused.body['code']}: {refused.body['reason']}"
            open_incident(self.agreed, place, self.name, NOT_TAKEN, reason)
        return said is not None and said.kind != "incident"

    def _bytes(self, session: RepositorySession, facts: Mapping[str, Any]) -> Path:
        """Those that were accepted, from the spool or the repository. Raises ``RepositoryError``."""
        digest = str(facts["digest"])
        if not spool().holds(digest):
            came = self._fetched(session, str(facts["id"]), int(facts["version"]))
            if came.digest != digest:
                raise RepositoryError(
                    f"{shown(self.name)}: the repository gives {came.digest} for version {facts['version']} of {facts['id']}, and "
                    f"{digest} was accepted; nothing was sent"
                )
        return spool().path(digest)

    def _fetched(self, session: RepositorySession, id: str, version: int) -> Spooled:
        with spool().batch() as batch:
            return session.fetch(id, version, batch)

    def heard(self, told: Told) -> None:
        """What became of a telling."""
        to, names = told.telling.trail.to, {Fate.TAKEN: "delivered", Fate.REFUSED: "refused", Fate.UNKNOWN: "in doubt"}
        self.outcomes[to] = names.get(told.fate, "waits")
        if told.fate is Fate.TAKEN:
            self.news = True
            return
        self.reason = f"{to}: {told.code}: {told.reason}" if told.code else f"{to}: {told.reason or 'later'}"
        if told.fate is Fate.REFUSED and (refused := _refusal(told.telling.trail)) is not None:
            self._closed(told.telling.trail, refused)

    # ------------------------------------------------------------------------------------------------- what is said of it

    def conclude(self) -> None:
        """Close its journey once nothing is left to do."""
        if self.over:
            self._write(LEFT, {"reason": self.over}, Stage.CLEARED)
        elif self.routed is not None and set(self._states) <= {"delivered", "left"}:
            self._write(DELIVERED, {"delivered": self._delivered, "of": len(self._states)}, Stage.CLEARED)

    @property
    def _states(self) -> list[str]:
        wanted = self.routed.body["destinations"] if self.routed else ()
        return [self.outcomes.get(to, "waits") for to in wanted]

    @property
    def _delivered(self) -> int:
        return self._states.count("delivered")

    def row(self) -> Row:
        states = self._states
        if self.routed is None:
            outcome = "left" if self._last(LEFT) else "triage" if self.unclear else "waits"
        else:
            outcome = next((one for one in ("in doubt", "refused", "waits") if one in states), "delivered")
        return Row(self.name, outcome, self._delivered, len(states), self.reason, self.journey, self.news)


class _Over(Exception):
    """There is nothing to go onward."""


def _refusal(trail: Trail) -> Recorded | None:
    """The entry about a refusal that stands; None where there is none, or it was tried again since."""
    last = trail.last("telling", "not told", "pending", "told")
    return last if last is not None and _is_refusal(last) else None


def _is_refusal(entry: Recorded) -> bool:
    return entry.kind == "not told" and entry.body["code"] != Fate.LATER


def _plain(value: Any) -> Any:
    """A value as JSON; several as a list, one of them as itself."""
    several = [_plain(one) for one in value] if isinstance(value, list | tuple) else None
    if several is not None:
        return several[0] if len(several) == 1 else several
    return value if isinstance(value, str | int | float | bool) else str(value)
