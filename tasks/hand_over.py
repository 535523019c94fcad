"""Hand over: a document that a system has made is kept in a repository, exactly once by its key, and the system is told where.

::

    offered ─ fetched ─ filing (an intent) ─ filed ─ telling (an intent) ─ told       one journey for each key
    handover.<journey>:   incident (``not-handed-over``, ``key-reused``, ``handover-in-doubt``) ─ resolved | dismissed

The key's first entry decides, among all workers, whose journey the document is; the repository knows that journey as the document's
identity. So whoever asks again, at any moment, goes on where it stopped, and is told the same id.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from blocks.canonical import sha256
from blocks.errors import ConfigurationError, OutcomeUnknown, RepositoryError, SystemRefused, SystemUnreachable
from blocks.ledger import JOURNEY, Entry, Holding, Recorded, new_journey
from blocks.profile import load_repositories
from blocks.repositories.base import Repository
from blocks.settings import settings
from blocks.system_file import KEY, Handover, load_system_file
from blocks.systems.base import Fate, Message
from blocks.systems.http import HttpSession, HttpSystem, at
from blocks.values import Filed, Filing, Stage, shown
from tasks.connections import ledger, repository_session, spool
from tasks.incidents import HANDOVER_IN_DOUBT, KEY_REUSED, NOT_HANDED_OVER, close_incidents, open_incident
from tasks.report import SHOWN, tell
from tasks.retrying import task
from tasks.rules.filing import Evidence, check_handover, plan_evidence
from tasks.rules.literal import literal
from tasks.rules.outcome import summary
from tasks.rules.sniff import sniff

OFFERED = "offered"
MOST_DOCUMENTS = 100
"""Of one consignment."""
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
"""Between two tries of what waits, where the system does not say for how long; they double."""
_HEAD = 4096


class Handing:
    """What was agreed about one handover of a system, and nothing that is open. Its class is opaque to Prefect."""

    def __init__(
        self, system: str, handover: str, terms: Handover, source: HttpSystem, repository: Repository, digest: str
    ) -> None:
        self.partner, self.stream, self.terms, self.digest = system, handover, terms, digest
        self.source, self.repository = source, repository

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one document."""

    document: str
    """Its key."""
    outcome: str
    """filed, refused, in doubt, waits"""
    journey: str = ""
    repository_id: str = ""
    version: int = 0
    reason: str = ""
    after_seconds: float = 0.0
    """Of what waits: not before then."""

    @property
    def told(self) -> str:
        """For who has asked for this one."""
        return f"id {self.repository_id}, version {self.version}" if self.outcome == "filed" else self.reason


class _Refused(Exception):
    """It cannot be handed over as it is, and a person is asked."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


def load_handover(system: str, handover: str) -> Handing:
    """A handover with its system and repository. Raises ``ConfigurationError`` that says what to mend."""
    folder = settings().profiles
    file = load_system_file(system, folder)
    terms = file.handovers.get(handover)
    if terms is None or not isinstance(file.system, HttpSystem):
        there = ", ".join(sorted(file.handovers)) or "none"
        raise ConfigurationError(f"{system}: no handover '{handover}'; its file has {there}")
    repositories = load_repositories(folder)
    repository = repositories.get(terms.target.repository)
    if repository is None:
        there = ", ".join(sorted(repositories))
        raise ConfigurationError(
            f"{system}/{handover}: no repository '{terms.target.repository}'; repositories.yaml has {there}"
        )
    if problems := list(check_handover(terms.target, terms.about.facts)):
        raise ConfigurationError(f"{system}/{handover}: {'; '.join(problems)}")
    return Handing(system, handover, terms, file.system, repository, file.digest)


@task(task_run_name="find offers of {agreed.key}")
def find_offers(agreed: Handing, document: str = "") -> list[list[str]]:
    """Keys of the documents that wait to be handed over and of those that are not through, in consignments; or the one asked for."""
    if document:
        return [[_sound(document)]]
    offers = agreed.terms.offers
    if offers is None:
        raise ConfigurationError(f"{agreed.key}: says nothing of 'offers', so a call names the document")
    with agreed.source.session() as session:
        items = at(session.ask("offers", offers, {}), offers.items)
    if not isinstance(items, list):
        raise SystemRefused(f"{agreed.key}: no list at {offers.items!r} of what the system answers; mend 'offers' in its file")
    keys = [str(at(item, offers.key) or "") for item in items]
    for odd in (key for key in keys if not _is_sound(key)):  # of no document that could be asked for: it hinders no other
        place, name = f"handover.{agreed.partner}.{agreed.stream}.{sha256(odd)[:16]}", shown(odd)[:80]
        open_incident(agreed, place, name, NOT_HANDED_OVER, f"offered under {name!r}, and a key is {_SOUND}")
    begun = ledger().journeys(ledger().begun(OFFERED, ledger().now()))
    mine = [str(first.body["document"]) for first, *_ in begun.values() if _about(agreed).items() <= first.body.items()]
    found = list(dict.fromkeys([*mine, *filter(_is_sound, keys)]))
    return [found[start : start + MOST_DOCUMENTS] for start in range(0, len(found), MOST_DOCUMENTS)]


_SOUND = "printable text of 1 to 200 characters"


def _is_sound(key: str) -> bool:
    return 0 < len(key) <= 200 and key.isprintable()


def _sound(key: str) -> str:
    if not _is_sound(key):
        raise ConfigurationError(f"{shown(key)[:80]!r}: a document's key is {_SOUND}")
    return key


def _about(agreed: Handing) -> dict[str, str]:
    return {"partner": agreed.partner, "stream": agreed.stream}


@task(task_run_name="hand over {agreed.key}")
def hand_over(agreed: Handing, documents: Sequence[str], patience: timedelta) -> list[Row]:
    """Fetch each document, have the repository keep it, and tell the system. One that cannot be handed over hinders no other.

    ``patience``: longest wait for another run that has it in hand, and for a system that says "later"; the rest waits for the next run.
    """
    rows, waiting, end = dict[str, Row](), list(documents), time.monotonic() + patience.total_seconds()
    pause = SHORTEST_PAUSE_SECONDS
    with agreed.source.session() as session:
        while waiting:
            for document in waiting:
                with _held(_Journey(agreed, document, session), patience) as journey:
                    rows[document] = _hand_over(journey)
            waiting = [document for document in waiting if rows[document].outcome == "waits"]
            wait = max([pause, min((rows[document].after_seconds for document in waiting), default=0.0)])
            if time.monotonic() + wait > end:
                break
            if waiting:
                time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return list(rows.values())


def report_handover(agreed: Handing, rows: Sequence[Row]) -> State:
    """A table of the documents, an event for programs, and the run's final state: failed only where all that there was must wait."""
    outcomes = [row.outcome for row in rows]
    if rows:
        columns = [
            {
                "document": literal(row.document),
                "outcome": row.outcome,
                "repository id": literal(row.repository_id),
                "version": row.version or "",
                "reason": literal(row.reason),
                "journey": row.journey,
            }
            for row in sorted(rows, key=lambda row: (row.outcome == "filed", row.document))[:SHOWN]
        ]
        key = f"handover-{agreed.partner}-{agreed.stream}"
        create_table_artifact(table=columns, key=key, description=f"**{agreed.key}**: {summary(outcomes)}")
    if filed := [row.journey for row in rows if row.outcome == "filed"]:
        tell(agreed, "filed", {"files": len(filed), "journeys": filed[:100]})
    get_run_logger().info("%s: %s", agreed.key, summary(outcomes))
    [only] = rows if len(rows) == 1 else [None]
    message = f"{shown(only.document)}: {only.told}" if only is not None else summary(outcomes)
    if rows and set(outcomes) == {"waits"}:
        return Failed(name="Waits", message=message)
    return Completed(name=", ".join([_name(outcomes), *_others(outcomes)]), message=message)


def _name(outcomes: Sequence[str]) -> str:
    return "Filed" if "filed" in outcomes else "Nothing filed" if outcomes else "Nothing new"


def _others(outcomes: Sequence[str]) -> Iterator[str]:
    for outcome in ("refused", "in doubt", "waits"):
        if count := outcomes.count(outcome):
            yield f"{count} {outcome}"


def _hand_over(journey: _Journey) -> Row:
    if journey.held is None:
        return journey.row("waits", "another run has it in hand")
    try:
        if journey.doubt == "incident":
            return journey.row("in doubt", "a person is asked about it; when its incident is closed it is tried again")
        filed = journey.filed()
        journey.tell(filed)
    except _Refused as refused:
        outcome = "in doubt" if refused.code == HANDOVER_IN_DOUBT else "refused"
        open_incident(journey.agreed, journey.place, journey.document, refused.code, refused.reason)
        return journey.row(outcome, refused.reason)
    except (SystemUnreachable, RepositoryError) as error:
        if not error.worth_retrying:
            raise
        return replace(journey.row("waits", str(error)), after_seconds=getattr(error, "after_seconds", 0.0))
    close_incidents(journey.agreed, NOT_HANDED_OVER, [journey.place])
    return journey.row("filed")


@contextmanager
def _held(journey: _Journey, patience: timedelta) -> Iterator[_Journey]:
    """The journey while we hold its lease; without one where somebody else has it for longer than we wait."""
    seconds, end = settings().lease_seconds, time.monotonic() + patience.total_seconds()
    owner = f"{socket.gethostname()}/{os.getpid()}"
    while (lease := ledger().lease([f"{JOURNEY}{journey.id}"], owner=owner, seconds=seconds)) is None:
        if time.monotonic() > end:
            yield journey
            return
        time.sleep(0.2)
    with ledger().holding(lease, seconds) as held:
        journey.hold(held)
        yield journey


class _Journey:
    """One document on its way."""

    def __init__(self, agreed: Handing, document: str, session: HttpSession) -> None:
        self.agreed, self.document = agreed, document
        self._session = session
        self.held: Holding | None = None
        facts = {**_about(agreed), "name": document, "document": document, "profile": agreed.digest}
        once = f"handover/{agreed.key}/{document}"
        [self._first] = ledger().append([Entry(new_journey(), OFFERED, facts, once=once)])
        self.id = self._first.journey
        self.place = f"handover.{self.id}"
        self._history: Sequence[Recorded] = ()

    def hold(self, held: Holding) -> None:
        self.held = held
        self._history = ledger().journey(self.id)

    def last(self, *kinds: str) -> Recorded | None:
        return next((entry for entry in reversed(self._history) if entry.kind in kinds), None)

    def write(self, kind: str, facts: Mapping[str, Any], *, once: str | None = None, stage: Stage | None = None) -> Recorded:
        assert self.held is not None  # noqa: S101 - nothing is written without
        entry = Entry(self.id, kind, {**_about(self.agreed), **facts}, once and f"{self.id}/{once}", stage)
        [recorded] = ledger().append([entry], self.held.lease)
        self._history = ledger().journey(self.id)
        return recorded

    def row(self, outcome: str, reason: str = "") -> Row:
        filed = self.last("filed")
        id, version = (str(filed.body["repository_id"]), int(filed.body["version"])) if filed else ("", 0)
        return Row(self.document, outcome, self.id, id, version, reason)

    @property
    def doubt(self) -> str:
        """ "incident" while a person is asked what became of it, "dismissed" once they have looked; empty if nobody is in doubt."""
        told = [entry for entry in ledger().journey(self.place) if entry.kind in ("incident", "resolved", "dismissed")]
        opened = next((entry for entry in reversed(told) if entry.kind == "incident"), None)
        return told[-1].kind if opened is not None and opened.body["case"]["code"] == HANDOVER_IN_DOUBT else ""

    # ------------------------------------------------------------------------------------------------- kept

    def filed(self) -> Recorded:
        """The entry that says where it is kept; first fetched and filed, if it is not yet."""
        filed = self.last("filed")
        try:
            told = self._session.ask("about", self.agreed.terms.about, {KEY: self.document})
        except (SystemUnreachable, SystemRefused) as error:
            if filed is not None:
                return filed  # the system need not know it for ever
            if isinstance(error, SystemUnreachable):
                raise
            raise _Refused(NOT_HANDED_OVER, f"the system does not know it: {error}") from error
        if filed is not None:
            announced = self._announced(told)
            if announced not in ("", filed.body["digest"]):
                raise _Refused(
                    KEY_REUSED, f"kept under this key is {filed.body['digest']}, and {announced} is offered under it now"
                )
            return filed
        return self._file(told, self._fetched(told))

    def _announced(self, told: Any) -> str:
        """The digest that the system says its bytes have; empty if it does not."""
        place = self.agreed.terms.about.sha256
        return str(at(told, place) or "").lower() if place else ""

    def _fetched(self, told: Any) -> Recorded:
        """Its bytes in the spool, whole, and what they are."""
        terms, announced = self.agreed.terms, self._announced(told)
        if terms.about.sha256 and not re.fullmatch(r"[0-9a-f]{64}", announced):
            raise _Refused(NOT_HANDED_OVER, f"the system says no SHA-256 of it at {terms.about.sha256!r}")
        before, begun = self.last("fetched"), self.last("filing")
        if before is not None and spool().holds(str(before.body["digest"])) and announced in ("", before.body["digest"]):
            return before
        try:
            with spool().batch() as batch:
                came = self._session.fetch("content", terms.content, {KEY: self.document}, batch, terms.largest_bytes)
        except SystemRefused as error:
            raise _Refused(NOT_HANDED_OVER, str(error)) from error
        size = at(told, terms.about.size) if terms.about.size else came.size
        if announced not in ("", came.digest) or size != came.size:
            said = f"{announced or 'no digest'}, {size} bytes"
            raise SystemUnreachable(
                f"{self.document}: {came.digest}, {came.size} bytes came instead of {said}; it is fetched again"
            )
        if begun is not None and begun.body["digest"] != came.digest:
            # The repository may have taken those of before: then two documents would be one.
            raise _Refused(KEY_REUSED, f"{begun.body['digest']} was to be kept under this key, and now it is {came.digest}")
        with spool().path(came.digest).open("rb") as file:
            media_type = sniff(file.read(_HEAD))
        if terms.media_types and media_type not in terms.media_types:
            raise _Refused(NOT_HANDED_OVER, f"its bytes are {media_type}, and only {', '.join(terms.media_types)} was agreed")
        return self.write("fetched", {"digest": came.digest, "size": came.size, "media_type": media_type})

    def _file(self, told: Any, fetched: Recorded) -> Recorded:
        agreed = self.agreed
        filing = self._filing(told, fetched)
        facts = {
            "digest": filing.digest,
            "repository": agreed.repository.address,
            "folder": list(filing.folder),
            "filed_as": filing.name,
        }
        intent = self.write("filing", facts, once="filing")
        # Where an earlier attempt may have filed it already, its place is that one's, also if the file has changed since.
        filing = replace(filing, folder=tuple(intent.body["folder"]), name=str(intent.body["filed_as"]))
        try:
            with repository_session(agreed.repository) as session:
                [answer] = session.file([filing])
        except OutcomeUnknown as error:
            raise _Refused(HANDOVER_IN_DOUBT, str(error)) from error
        if not isinstance(answer, Filed):
            raise _Refused(NOT_HANDED_OVER, f"{answer.code}: {answer.reason}")
        place = {
            "repository_id": answer.id,
            "version": answer.version,
            "folder": "/".join(answer.folder),
            "filed_as": answer.name,
        }
        stage = Stage.CLEARED if agreed.terms.done is None else None
        return self.write("filed", {**facts, **place, "name": self._first.body["name"]}, once="filed", stage=stage)

    def _filing(self, told: Any, fetched: Recorded) -> Filing:
        """What the repository is asked to keep."""
        agreed, terms, digest = self.agreed, self.agreed.terms, str(fetched.body["digest"])
        name = at(told, terms.about.name)
        if not isinstance(name, str) or not name.strip():
            raise _Refused(NOT_HANDED_OVER, f"the system says no name of it at {terms.about.name!r}")
        facts = {fact: at(told, place) for fact, place in terms.about.facts.items()}
        if lost := sorted(
            fact for fact, value in facts.items() if not isinstance(value, str | int | float) or not str(value).strip()
        ):
            raise _Refused(NOT_HANDED_OVER, f"the system does not say {', '.join(lost)} of it")
        path = PurePath(name.replace("/", "_"))
        piece = Evidence(
            key=self.id,
            name=shown(name),
            stem=path.stem,
            extension=path.suffix.removeprefix("."),
            digest=digest,
            size=int(fetched.body["size"]),
            media_type=str(fetched.body["media_type"]),
            path=spool().path(digest),
            said=f"Handed over by {agreed.key}, key {shown(self.document)}"[:255],
        )
        about = {**{fact: str(value) for fact, value in facts.items()}, **_about(agreed)}
        try:
            return replace(plan_evidence(piece, terms.target, about, self._first.at), journey=self.id)
        except (KeyError, ValueError) as error:
            raise _Refused(NOT_HANDED_OVER, f"where it is kept cannot be told: {error}") from error

    # ------------------------------------------------------------------------------------------------- told

    def tell(self, filed: Recorded) -> None:
        """Tell the system where its document is kept, if it is to be told, once."""
        route = self.agreed.terms.done
        if route is None or self.last("told"):
            return
        before = self.last("telling", "not told")
        doubted = before is not None and before.kind == "telling"
        if doubted and self.doubt == "dismissed":
            self.write(
                "told", {"route": route, "by": "a person, who has closed the incident"}, once="told", stage=Stage.CLEARED
            )
            return
        if not doubted:
            self.write("telling", {"route": route})
        facts = {
            KEY: self.document,
            "id": filed.body["repository_id"],
            "version": filed.body["version"],
            "repository": filed.body["repository"],
        }
        message = Message(self.id, route, facts, doubted=doubted)
        [answer] = self._session.send([message])
        if answer.fate is Fate.TAKEN:
            self.write("told", {"route": route, "as": answer.id}, once="told", stage=Stage.CLEARED)
        elif answer.fate is Fate.UNKNOWN:
            raise _Refused(HANDOVER_IN_DOUBT, f"it is kept; whether the system was told so nobody can tell: {answer.reason}")
        else:
            if not answer.doubted:
                self.write("not told", {"route": route, "reason": answer.reason})
            if answer.fate is Fate.REFUSED:
                raise _Refused(NOT_HANDED_OVER, f"it is kept, and the system did not take that: {answer.code}: {answer.reason}")
            raise SystemUnreachable(f"it is kept, and the system is told later: {answer.reason}", answer.after_seconds)
