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

import re
import time
from collections.abc import Iterator, Mapping, Sequence
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
from blocks.ledger import Entry, Holding, Recorded, new_journey
from blocks.profile import load_repositories
from blocks.repositories.base import Repository
from blocks.settings import settings
from blocks.system_file import KEY, Handover, load_system_file
from blocks.systems.base import Fate
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
from tasks.telling import ASKED, Telling, Trail, holding, last_said, tell_once

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


class _InDoubt(Exception):
    """Nobody can tell what became of it, and a person looks first."""


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
        journey: said for journey in known.values() if (said := last_said(about[_place(journey)])) and said.kind == "dismissed"
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
                first = _begin(agreed, document)
                with holding([first.journey], patience) as held:
                    rows[document] = _hand_over(agreed, first, held, session)
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


def _begin(agreed: Handing, document: str) -> Recorded:
    """The first entry of the document's journey: whoever came first has written it."""
    facts = {**_about(agreed), "name": document, "document": document, "profile": agreed.digest}
    [first] = ledger().append([Entry(new_journey(), OFFERED, facts, once=_once(agreed, document))])
    return first


def _hand_over(agreed: Handing, first: Recorded, held: Holding | None, session: HttpSession) -> Row:
    document = str(first.body["document"])
    if held is None:
        return _row(first, None, "waits", "another run has it in hand")
    journey = _Journey(agreed, first, held, session)
    try:
        if journey.trail.asked:
            return journey.row("in doubt", ASKED)
        journey.tell(journey.filed())
    except _InDoubt as doubt:
        return journey.row("in doubt", str(doubt))
    except _Refused as refused:
        open_incident(agreed, _place(journey.id), document, refused.code, refused.reason)
        return journey.row("refused", refused.reason)
    except (SystemUnreachable, RepositoryError) as error:
        if not error.worth_retrying:
            raise
        return replace(journey.row("waits", str(error)), after_seconds=getattr(error, "after_seconds", 0.0))
    close_incidents(agreed, NOT_HANDED_OVER, [_place(journey.id)])
    return journey.row("filed")


def _row(first: Recorded, filed: Recorded | None, outcome: str, reason: str = "") -> Row:
    id, version = (str(filed.body["repository_id"]), int(filed.body["version"])) if filed else ("", 0)
    return Row(str(first.body["document"]), outcome, first.journey, id, version, reason)


class _Journey:
    """One document on its way."""

    def __init__(self, agreed: Handing, first: Recorded, held: Holding, session: HttpSession) -> None:
        self.agreed, self.document, self.id = agreed, str(first.body["document"]), first.journey
        self._first, self._session = first, session
        self.trail = Trail(agreed, self.id, self.document, held, place=_place(self.id), code=HANDOVER_IN_DOUBT)

    def row(self, outcome: str, reason: str = "") -> Row:
        return _row(self._first, self.trail.last("filed"), outcome, reason)

    def _doubt(self, reason: str) -> _InDoubt:
        """Write it down, and ask a person."""
        self.trail.doubt(reason)
        return _InDoubt(reason)

    # ------------------------------------------------------------------------------------------------- kept

    def filed(self) -> Recorded:
        """The entry that says where it is kept; first fetched and filed, if it is not yet."""
        filed = self.trail.last("filed")
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
        before, begun = self.trail.last("fetched"), self._begun()
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
        return self.trail.write("fetched", {"digest": came.digest, "size": came.size, "media_type": media_type})

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
            raise self._doubt(str(error)) from error
        if not isinstance(answer, Filed):
            if there is not None and there.identity == self.id and not self.trail.looked_at_since(intent):
                raise self._doubt(f"it is kept as {there.id}, and was refused now: {answer.code}: {answer.reason}")
            self.trail.write("not filed", {"code": answer.code, "reason": answer.reason})
            raise _Refused(NOT_HANDED_OVER, f"{answer.code}: {answer.reason}")
        place = {
            "repository_id": answer.id,
            "version": answer.version,
            "folder": "/".join(answer.folder),
            "filed_as": answer.name,
        }
        stage = Stage.CLEARED if agreed.terms.done is None else None
        return self.trail.write("filed", {**facts, **place, "name": self._first.body["name"]}, once="filed", stage=stage)

    def _begun(self) -> Recorded | None:
        """The intent of an attempt that may have filed it; None where there is none, or it surely did not."""
        last = self.trail.last("filing", "not filed")
        return last if last is not None and last.kind == "filing" else None

    def _intent(self, begun: Recorded | None, facts: Mapping[str, Any]) -> Recorded:
        """The intent to file it, this attempt's or that of the one that was broken off."""
        if begun is not None and begun.body["repository"] != facts["repository"]:
            there = f"it may be kept at {begun.body['repository']}"
            if not self.trail.looked_at_since(begun):
                raise self._doubt(
                    f"{there}, and is to be kept at {facts['repository']} now; if it is there, name that one again in the "
                    "system's file before you close this",
                )
            self.trail.write("not filed", {"reason": f"{there}: a person has looked, and closed the incident"})
            begun = None
        return begun or self.trail.write("filing", facts, once=f"filing/{self.trail.count('not filed')}")

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
        if route is None:
            return
        facts = {
            KEY: self.document,
            "id": filed.body["repository_id"],
            "version": filed.body["version"],
            "repository": filed.body["repository"],
        }
        [told] = tell_once(self._session, [Telling(self.trail, route, facts, stage=Stage.CLEARED)])
        match told.fate:
            case Fate.UNKNOWN:
                raise _InDoubt(f"it is kept; {told.reason}")
            case Fate.REFUSED:
                raise _Refused(NOT_HANDED_OVER, f"it is kept, and the system did not take that: {told.code}: {told.reason}")
            case Fate.PENDING:
                reason = f"it is kept and the system was told so; its last word is still to come: {told.reason}"
                raise SystemUnreachable(reason, told.after_seconds)
            case Fate.LATER:
                raise SystemUnreachable(f"it is kept, and the system is told later: {told.reason}", told.after_seconds)


def _short(told: Any) -> str:
    """What a system says, for the ledger, a case and a message."""
    return shown(str(told))[:80]
