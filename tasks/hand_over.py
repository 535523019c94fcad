"""Hand over: a document that a system has made is kept in a repository, exactly once by its key, and the system is told where.

::

    offered ─ fetched ─ filing (an intent) ─ filed ─ telling (an intent) ─ told       one journey for each key
                        ... ─ not filed               ... ─ pending | not told        the intent's end; then it is tried again
                        ... ─ in doubt                ... ─ in doubt                  nobody can tell: a person looks first
    handover.<journey>:      incident (``not-handed-over``, ``key-reused``) ─ resolved | dismissed
    handover.<journey>.<n>:  incident (``handover-in-doubt``) ─ dismissed              one for each doubt

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
from blocks.values import Filed, Filing, NotFiled, Stage, shown
from tasks.connections import ledger, repository_session, spool
from tasks.incidents import HANDOVER_IN_DOUBT, KEY_REUSED, NOT_HANDED_OVER, close_incidents, open_incident
from tasks.report import SHOWN, tell
from tasks.retrying import task
from tasks.rules.filing import Evidence, check_handover, plan_evidence
from tasks.rules.literal import literal
from tasks.rules.outcome import summary
from tasks.rules.sniff import sniff

OFFERED, IN_DOUBT = "offered", "in doubt"
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
        place, name = f"handover.{agreed.partner}.{agreed.stream}.{sha256(odd)[:16]}", _short(odd)
        open_incident(agreed, place, name, NOT_HANDED_OVER, f"offered under {name!r}, and a key is {_SOUND}")
    begun = ledger().journeys(ledger().begun(OFFERED, ledger().now()))
    mine = [str(first.body["document"]) for first, *_ in begun.values() if _about(agreed).items() <= first.body.items()]
    found = _not_given_up(agreed, list(dict.fromkeys([*mine, *filter(_is_sound, keys)])))
    return [found[start : start + MOST_DOCUMENTS] for start in range(0, len(found), MOST_DOCUMENTS)]


def _not_given_up(agreed: Handing, keys: Sequence[str]) -> list[str]:
    """Without what was refused and a person has closed the incident of: only a call that names it has it tried again."""
    known = {key: first.journey for key in keys if (first := ledger().holder(_once(agreed, key))) is not None}
    about = ledger().journeys([_place(journey) for journey in known.values()])
    closed = {
        journey: said for journey in known.values() if (said := _said(about[_place(journey)])) and said.kind == "dismissed"
    }
    histories = ledger().journeys(list(closed))
    given_up = {journey for journey, said in closed.items() if _given_up(histories[journey], about[_place(journey)], said)}
    return [key for key in keys if known.get(key) not in given_up]


def _given_up(history: Sequence[Recorded], about: Sequence[Recorded], closed: Recorded) -> bool:
    opened = next(entry for entry in reversed(about) if entry.kind == "incident")
    # A call that named it may have begun it anew since then.
    last = next(entry for entry in reversed(history) if entry.kind != "fetched")
    begun = last.seq > closed.seq and last.kind != "not filed"
    case = opened.body.get("case", {})  # reduced: nothing is known of it any more
    return case.get("code") == NOT_HANDED_OVER and not begun


def _said(about: Sequence[Recorded]) -> Recorded | None:
    """What was last done about an incident: "incident" (opened), "resolved" or "dismissed"; None if there is none."""
    return next((entry for entry in reversed(about) if entry.kind in ("incident", "resolved", "dismissed")), None)


def _once(agreed: Handing, document: str) -> str:
    return f"handover/{agreed.key}/{document}"


def _place(journey: str) -> str:
    """Where the incidents about a document are."""
    return f"handover.{journey}"


_SOUND = "printable text of 1 to 200 characters"


def _is_sound(key: str) -> bool:
    return 0 < len(key) <= 200 and key.isprintable()


def _sound(key: str) -> str:
    if not _is_sound(key):
        raise ConfigurationError(f"{_short(key)!r}: a document's key is {_SOUND}")
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
        if journey.asked:
            return journey.row("in doubt", "a person is asked about it; when its incident is closed it is tried again")
        filed = journey.filed()
        journey.tell(filed)
    except _Refused as refused:
        if refused.code == HANDOVER_IN_DOUBT:
            journey.write(IN_DOUBT, {"reason": refused.reason})
            journey.open_doubt()
            return journey.row("in doubt", refused.reason)
        open_incident(journey.agreed, journey.place, journey.document, refused.code, refused.reason)
        return journey.row("refused", refused.reason)
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
        [self._first] = ledger().append([Entry(new_journey(), OFFERED, facts, once=_once(agreed, document))])
        self.id = self._first.journey
        self.place = _place(self.id)
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

    # ------------------------------------------------------------------------------------------------- in doubt

    @property
    def asked(self) -> bool:
        """True while a person is asked what became of it."""
        if self.last(IN_DOUBT) is None:
            return False
        if (said := self._said()) is None:
            self.open_doubt()  # we broke off before we had asked
        return said is None or said.kind != "dismissed"

    def open_doubt(self) -> None:
        """Ask a person about the newest doubt, once."""
        doubt = self.last(IN_DOUBT)
        assert doubt is not None  # noqa: S101 - it was just written or looked at
        open_incident(self.agreed, self._doubted_at(), self.document, HANDOVER_IN_DOUBT, str(doubt.body["reason"]))

    def looked_at_since(self, before: Recorded) -> bool:
        """True if a person has closed the incident about a doubt that came after an entry."""
        doubt, said = self.last(IN_DOUBT), self._said()
        return doubt is not None and doubt.seq > before.seq and said is not None and said.kind == "dismissed"

    def _said(self) -> Recorded | None:
        """The newest entry about the newest doubt; None while nobody has been asked."""
        return _said(ledger().journey(self._doubted_at()))

    def _doubted_at(self) -> str:
        return f"{self.place}.{sum(entry.kind == IN_DOUBT for entry in self._history)}"

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
                    KEY_REUSED,
                    f"kept under this key is {filed.body['digest']}, and {_short(announced)} is offered under it now",
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
        before, begun = self.last("fetched"), self._begun()
        if before is not None and spool().holds(str(before.body["digest"])) and announced in ("", before.body["digest"]):
            return before
        size = at(told, terms.about.size) if terms.about.size else None
        if isinstance(size, int) and size > terms.largest_bytes:
            raise _Refused(NOT_HANDED_OVER, f"it has {size:,} bytes, and at most {terms.largest_bytes:,} were agreed")
        try:
            with spool().batch() as batch:
                came = self._session.fetch("content", terms.content, {KEY: self.document}, batch, terms.largest_bytes)
        except SystemRefused as error:
            raise _Refused(NOT_HANDED_OVER, str(error)) from error
        if announced not in ("", came.digest) or (terms.about.size and size != came.size):
            said = f"{announced or 'no digest'}, {_short(size)} bytes"
            raise SystemUnreachable(
                f"{_short(self.document)}: {came.digest}, {came.size} bytes came instead of {said}; it is fetched again"
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
        begun = self._begun()
        intent = self._intent(begun, facts)
        # Where an earlier attempt may have filed it already, its place is that one's, also if the file has changed since.
        filing = replace(filing, folder=tuple(intent.body["folder"]), name=str(intent.body["filed_as"]))
        try:
            with repository_session(agreed.repository) as session:
                [answer] = session.file([filing])
                # Refused now: an earlier attempt that was broken off may have been carried out all the same.
                there = session.find(filing.folder, filing.name) if intent is begun and isinstance(answer, NotFiled) else None
        except OutcomeUnknown as error:
            raise _Refused(HANDOVER_IN_DOUBT, str(error)) from error
        if not isinstance(answer, Filed):
            if there is not None and there.identity == self.id and not self.looked_at_since(intent):
                raise _Refused(
                    HANDOVER_IN_DOUBT, f"it is kept as {there.id}, and was refused now: {answer.code}: {answer.reason}"
                )
            self.write("not filed", {"code": answer.code, "reason": answer.reason})
            raise _Refused(NOT_HANDED_OVER, f"{answer.code}: {answer.reason}")
        place = {
            "repository_id": answer.id,
            "version": answer.version,
            "folder": "/".join(answer.folder),
            "filed_as": answer.name,
        }
        stage = Stage.CLEARED if agreed.terms.done is None else None
        return self.write("filed", {**facts, **place, "name": self._first.body["name"]}, once="filed", stage=stage)

    def _begun(self) -> Recorded | None:
        """The intent of an attempt that may have filed it; None where there is none, or it surely did not."""
        last = self.last("filing", "not filed")
        return last if last is not None and last.kind == "filing" else None

    def _intent(self, begun: Recorded | None, facts: Mapping[str, Any]) -> Recorded:
        """The intent to file it, this attempt's or that of the one that was broken off."""
        if begun is not None and begun.body["repository"] != facts["repository"]:
            there = f"it may be kept at {begun.body['repository']}"
            if not self.looked_at_since(begun):
                raise _Refused(
                    HANDOVER_IN_DOUBT,
                    f"{there}, and is to be kept at {facts['repository']} now; if it is there, name that one again in the "
                    "system's file before you close this",
                )
            self.write("not filed", {"reason": f"{there}: a person has looked, and closed the incident"})
            begun = None
        number = sum(entry.kind == "not filed" for entry in self._history)
        return begun or self.write("filing", facts, once=f"filing/{number}")

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
        before = self.last("telling", "not told", "pending")
        begun = before if before is not None and before.kind != "not told" else None
        if begun is not None and self.looked_at_since(begun):
            self.write(
                "told", {"route": route, "by": "a person, who has closed the incident"}, once="told", stage=Stage.CLEARED
            )
            return
        if begun is None:
            self.write("telling", {"route": route})
        facts = {
            KEY: self.document,
            "id": filed.body["repository_id"],
            "version": filed.body["version"],
            "repository": filed.body["repository"],
        }
        known = str(begun.body["as"]) if begun is not None and begun.kind == "pending" else None
        [answer] = self._session.send([Message(self.id, route, facts, doubted=begun is not None, id=known)])
        if answer.fate is Fate.TAKEN:
            self.write("told", {"route": route, "as": answer.id}, once="told", stage=Stage.CLEARED)
        elif answer.fate is Fate.UNKNOWN:
            raise _Refused(HANDOVER_IN_DOUBT, f"it is kept; whether the system was told so nobody can tell: {answer.reason}")
        elif answer.fate is Fate.PENDING:
            if known is None:
                self.write("pending", {"route": route, "as": answer.id})
            raise SystemUnreachable(
                f"it is kept and the system was told so; its last word is still to come: {answer.reason}", answer.after_seconds
            )
        else:
            if not answer.doubted and (known is None or answer.fate is Fate.REFUSED):
                self.write("not told", {"route": route, "reason": answer.reason})
            if answer.fate is Fate.REFUSED:
                raise _Refused(NOT_HANDED_OVER, f"it is kept, and the system did not take that: {answer.code}: {answer.reason}")
            raise SystemUnreachable(f"it is kept, and the system is told later: {answer.reason}", answer.after_seconds)


def _short(told: Any) -> str:
    """What a system says, for the ledger, a case and a message."""
    return shown(str(told))[:80]
