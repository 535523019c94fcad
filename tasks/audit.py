"""Audit: every event of a watched folder reaches the SIEM, at least once and in order per object; and what does not is found.

::

    audit.<watch>.<object>:           numbered ─ told ─ numbered ─ told ...     one number for each event, without holes, and the
                                      numbered ─ refused ...                    event before it; they go with it to the SIEM
    audit.<watch>.<object>.refused:   incident (``audit-refused``) ─ resolved | dismissed      closing it gives up one event
    audit.<watch>.<object>.gap:       incident (``audit-gap``) ─ dismissed
    audit.<watch>:                    parked ─ unparked                         objects of which an event was refused, or that
                                                                                were not told to the end
    audit.<watch>.late:               incident (``audit-late``) ─ resolved | dismissed         the SIEM takes nothing for long

What broke off is told again with the same number and key. An object's next event is told when the one before it is: an event that the
SIEM refuses holds up those of its own object, and no other's.

Two look for gaps. The SIEM sees one by the numbers. We compare what an object's own history tells with what was told (``compare``): what
the feed has left out is numbered next, marked as late, told, and a person hears of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.canonical import sha256
from blocks.errors import (
    ConfigurationError,
    CountersignError,
    DocumentMissing,
    LeaseLost,
    SystemRefused,
    SystemUnreachable,
)
from blocks.ledger import Entry, Holding, Recorded
from blocks.repositories.base import RepositorySession
from blocks.settings import settings
from blocks.system_file import load_system
from blocks.systems.base import Answer, Fate, Message, System, SystemSession, persevere
from blocks.systems.collector import EventCollector
from blocks.systems.syslog import Syslog
from blocks.values import Change, Stage, shown
from blocks.watch_file import Audit, Watch, load_watch_file, watches
from tasks.connections import ledger, repository_session
from tasks.follow import Watching, follow, load_watch
from tasks.incidents import AUDIT_GAP, AUDIT_LATE, AUDIT_REFUSED, close_incidents, open_incident
from tasks.report import SHOWN
from tasks.retrying import task
from tasks.rules.auditing import POISON, Stand, compare
from tasks.rules.literal import literal
from tasks.telling import holding

READER = "audit"
NUMBERED, TOLD, REFUSED = "numbered", "told", "refused"
PARKED, UNPARKED = "parked", "unparked"
ANOTHER_RUN = timedelta(minutes=10)
"""So long the whole check waits for a run that tells events: what it then leaves out nobody compares before the next night."""
TOLD_AGAIN = timedelta(days=2)
"""The last event of an object that had one since then is told again by each whole check: a tail that was lost shows no hole."""


class Auditing:
    """What was agreed about telling one watch's events, and nothing that is open. Its class is opaque to Prefect."""

    stream = READER

    def __init__(self, watching: Watching, audit: Audit, siem: System) -> None:
        self.watching, self.audit, self.siem = watching, audit, siem
        self.partner, self.terms = watching.partner, watching.terms

    terms: Watch

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    @property
    def register(self) -> str:
        return f"audit.{self.partner}"

    @property
    def late(self) -> str:
        return f"{self.register}.late"

    def journey(self, target: str) -> str:
        return f"audit.{self.partner}.{sha256(target)[:24]}"

    def once(self, event: str) -> str:
        return f"audit/{self.partner}/{self.watching.repository.address}/{event}"


@dataclass(slots=True)
class Audited:
    """What one run came to."""

    told: int = 0
    """Events that the SIEM has now; some of them again."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    """Object and reason."""

    def and_then(self, other: Audited) -> Audited:
        return Audited(self.told + other.told, self.refused + other.refused, self.gaps + other.gaps)


def load_audit(watch: str) -> Auditing:
    """A watch and its SIEM. Raises ``ConfigurationError`` that says what to mend."""
    watching = load_watch(watch)
    audit = watching.terms.audit
    if audit is None:
        raise ConfigurationError(f"watch {watch}: says nothing of 'audit' in its file")
    siem = load_system(audit.system, settings().profiles)
    if not isinstance(siem, Syslog | EventCollector):
        raise ConfigurationError(
            f"watch {watch}: its 'audit' names {audit.system}, which is no SIEM: kind syslog or event-collector"
        )
    return Auditing(watching, audit, siem)


@task(task_run_name="tell events, and look for gaps")
def audit_watches(watch: str, everything: bool, patience: timedelta) -> Audited:
    """Tell the events of one watch, or of all that name a SIEM: one that breaks off holds no other up, and is raised at last."""
    folder, done, broken = settings().profiles, Audited(), list[CountersignError]()
    for name in [watch] if watch else watches(folder):
        try:
            if watch or load_watch_file(name, folder).watch.audit is not None:
                agreed = load_audit(name)
                done = done.and_then(tell_events(agreed, patience))
                if everything:
                    done = done.and_then(check_events(agreed, patience))
        except CountersignError as error:
            get_run_logger().warning("watch %s: %s", name, error)
            broken.append(error)
    if broken:
        raise broken[0]
    return done


def tell_events(agreed: Auditing, patience: timedelta) -> Audited:
    """Tell all that happened since the last run, and what was refused then; then compare each object's history with what was told.

    Raises ``SystemUnreachable`` and ``SystemRefused`` where the SIEM takes nothing: the next run goes on there.
    """
    done, seen = Audited(), dict[str, Change]()
    with agreed.siem.session() as siem:
        with holding([_followed(agreed)], timedelta(0)) as held:
            if held is not None:  # else another run tells events just now, and has taken these up
                _take_up(agreed, siem, patience, done)
        with closing(follow(agreed.watching, READER)) as feed:
            for changes in feed:
                _number(agreed, changes)
                seen |= {change.target: change for change in changes}
                _tell(agreed, siem, {change.target: None for change in changes}, patience, done)
        with holding([_followed(agreed)], timedelta(0)) as held:
            if held is not None:  # else another run tells events just now; the whole check compares these
                _find_gaps(agreed, siem, held, {target: change.kind for target, change in seen.items()}, patience, done)
    close_incidents(agreed, AUDIT_LATE, [agreed.late])
    return done


def check_events(agreed: Auditing, patience: timedelta) -> Audited:
    """Compare the history of all that is in the folder now with what was told, and tell each object's last event again.

    Raises ``LeaseLost`` where another run tells events for longer than we wait: then nothing was compared.
    """
    done, there = Audited(), dict[str, str]()
    with repository_session(agreed.watching.repository) as session:
        for id, kind in _everything(session, agreed.watching.folder):
            there[id] = kind
    with agreed.siem.session() as siem, holding([_followed(agreed)], ANOTHER_RUN) as held:
        if held is None:
            raise LeaseLost(f"watch {agreed.partner}: another run tells its events and does not end; nothing was compared")
        _find_gaps(agreed, siem, held, there, patience, done)
        lately = ledger().now() - TOLD_AGAIN
        last = {id: newest for id in there if (newest := ledger().newest(agreed.journey(id))) and newest.at > lately}
        stands = [Stand.of(newest.body) for newest in last.values()]
        again = [ledger().holder(agreed.once(stand.last)) for stand in stands if stand.told == stand.numbered]
        _send(agreed, siem, [entry for entry in again if entry is not None], patience, done)
    return done


def _everything(session: RepositorySession, folder: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Id and kind of a folder, and of all that is in it."""
    here = session.find(folder[:-1], folder[-1])
    if here is not None:
        yield here.id, "folder"
    for kept in session.look(folder):
        if kept.container:
            yield from _everything(session, (*folder, kept.name))
        else:
            yield kept.id, "document"


def _followed(agreed: Auditing) -> str:
    """The journey that whoever numbers and tells this watch's events holds: the one by which they are followed."""
    return f"watch.{agreed.partner}.{READER}"


# --------------------------------------------------------------------------------------------- numbers


def _number(agreed: Auditing, changes: Iterable[Change], *, late: bool = False) -> None:
    """Give each event its object's next number, once. Whoever comes to it again finds the same."""
    entries = []
    for target, some in groupby(sorted(changes, key=lambda change: change.target), key=lambda change: change.target):
        journey = agreed.journey(target)
        stand = _stand(journey)
        for change in some:
            if ledger().holder(agreed.once(change.id)) is not None:
                continue
            before, stand = stand.last, stand.after(change.id)
            about = {**asdict(change), "at": (change.at or ledger().now()).isoformat(), "late": late}
            facts = {**_about(agreed), "name": target, "event": about, "previous": before, **stand.facts}
            entries.append(Entry(journey, NUMBERED, facts, once=agreed.once(change.id), stage=Stage.CLEARED))
    ledger().append(entries)


def _stand(journey: str) -> Stand:
    newest = ledger().newest(journey)
    return Stand.of(newest.body if newest else None)


def _untold(agreed: Auditing, journey: str) -> list[Recorded]:
    """Events of an object that have a number and were not told, in order: from the last one back, each names the one before."""
    stand, found = _stand(journey), list[Recorded]()
    event = stand.last
    while len(found) < stand.numbered - stand.told:
        entry = ledger().holder(agreed.once(event))
        assert entry is not None  # noqa: S101 - it has a number
        found.append(entry)
        event = str(entry.body["previous"])
    return found[::-1]


# --------------------------------------------------------------------------------------------- telling


def _tell(agreed: Auditing, siem: SystemSession, targets: Collection[str], patience: timedelta, done: Audited) -> None:
    """Tell what these objects' events are not told yet: of each object one at a time, of all objects together."""
    waiting = {journey: untold for target in targets if (untold := _open(agreed, journey := agreed.journey(target)))}
    while waiting:
        taken = _send(agreed, siem, [untold[0] for untold in waiting.values()], patience, done)
        waiting = {journey: untold[1:] for journey, untold in waiting.items() if journey in taken and untold[1:]}


def _open(agreed: Auditing, journey: str) -> list[Recorded]:
    return [] if _stand(journey).refused else _untold(agreed, journey)


def _send(agreed: Auditing, siem: SystemSession, round: Sequence[Recorded], patience: timedelta, done: Audited) -> set[str]:
    """Tell one event of each of some objects; the journeys of those that were taken. Written down before anything is raised."""
    messages = [_message(agreed, entry) for entry in round]
    answers = {answer.key: answer for answer in persevere(siem, messages, patience)}
    by_journey = {entry.journey: (entry, answers[message.key]) for entry, message in zip(round, messages, strict=True)}
    taken = {journey for journey, (_, answer) in by_journey.items() if answer.fate is Fate.TAKEN}
    entries = []
    for journey in sorted(taken):
        stand, number = _stand(journey), int(by_journey[journey][0].body["numbered"])
        if number > stand.told:
            facts = {**stand.facts, "told": number, "refused": False}
            entries.append(Entry(journey, TOLD, {**_about(agreed), **facts}, stage=Stage.CLEARED))
    ledger().append(entries)
    done.told += len(taken)
    left = {journey: both for journey, both in by_journey.items() if journey not in taken}
    for entry, answer in left.values():
        if answer.fate is Fate.REFUSED and answer.code in POISON and int(entry.body["numbered"]) > _stand(entry.journey).told:
            _park(agreed, entry, answer, done)
    for entry, answer in left.values():
        if answer.fate is Fate.REFUSED and answer.code in POISON:
            continue
        _is_late(agreed, entry, answer)
        if answer.fate is Fate.REFUSED:
            raise SystemRefused(f"{agreed.siem.address}: takes no events: {answer.code}: {answer.reason}")
        raise SystemUnreachable(f"{agreed.siem.address}: {answer.reason}", answer.after_seconds)
    return taken


def _is_late(agreed: Auditing, entry: Recorded, answer: Answer) -> None:
    """Tell a person, once it is longer than was agreed, that an event is not told, and with it none of those behind it."""
    if ledger().now() - entry.at > agreed.audit.late_after and int(entry.body["numbered"]) > _stand(entry.journey).told:
        event = entry.body["event"]
        reason = (
            f"the SIEM {agreed.siem.address} is not told event {event['id']} of {event['target']}, nor what came after it: "
        )
        open_incident(agreed, agreed.late, agreed.key, AUDIT_LATE, f"{reason}{answer.code} {shown(answer.reason)[:300]}")


def _message(agreed: Auditing, entry: Recorded) -> Message:
    """What the SIEM is told of an event; the same whenever it is told."""
    about: Mapping[str, Any] = entry.body["event"]
    facts = {
        "at": about["at"],
        "watch": agreed.partner,
        "object": about["target"],
        "number": entry.body["numbered"],
        "previous": entry.body["previous"],
        "event_id": about["id"],
        "event": about["event"],
        "actor": about["actor"],
        "address": about["address"],
        "object_kind": about["kind"],
        "name": about["name"],
        "detail": about["detail"],
        "late": about["late"],
        "text": f"{about['actor']}: {about['event']} {shown(str(about['name']))}",
    }
    return Message(f"audit-{sha256(agreed.once(str(about['id'])))[:40]}", "access", facts)


def _about(agreed: Auditing) -> dict[str, Any]:
    return {"partner": agreed.partner, "stream": agreed.stream}


# --------------------------------------------------------------------------------------------- what the SIEM refuses


def _park(agreed: Auditing, entry: Recorded, answer: Answer, done: Audited) -> None:
    """An event that the SIEM does not take: its object's others wait behind it."""
    target, stand = str(entry.body["event"]["target"]), _stand(entry.journey)
    reason = f"event {entry.body['event']['id']} of {target}: {answer.code}: {shown(answer.reason)[:300]}"
    done.refused.append((target, reason))
    if not stand.refused:
        facts = {**_about(agreed), **stand.facts, "refused": True, "reason": reason}
        ledger().append([Entry(entry.journey, REFUSED, facts, stage=Stage.CLEARED), _registered(agreed, PARKED, target)])
    open_incident(agreed, f"{entry.journey}.refused", target, AUDIT_REFUSED, reason)


def _registered(agreed: Auditing, kind: str, target: str) -> Entry:
    return Entry(agreed.register, kind, {**_about(agreed), "object": target}, stage=Stage.CLEARED)


def _take_up(agreed: Auditing, siem: SystemSession, patience: timedelta, done: Audited) -> None:
    """Try again what was refused, and tell the end of what broke off.

    An event whose incident a person has closed is given up, which its number shows, and the next one told.
    """
    parked = dict[str, None]()
    for entry in ledger().journey(agreed.register):
        if entry.kind == PARKED:
            parked[str(entry.body["object"])] = None
        else:
            parked.pop(str(entry.body["object"]), None)
    for target in parked:
        journey = agreed.journey(target)
        stand = _stand(journey)
        if stand.refused and _given_up(journey):
            facts = {**_about(agreed), **stand.facts, "told": stand.told + 1, "refused": False, "given_up": True}
            ledger().append([Entry(journey, TOLD, facts, stage=Stage.CLEARED)])
        elif stand.refused and not _send(agreed, siem, _untold(agreed, journey)[:1], patience, done):
            continue
        close_incidents(agreed, AUDIT_REFUSED, [f"{journey}.refused"])
        _tell(agreed, siem, [target], patience, done)
        if not _stand(journey).refused:
            ledger().append([_registered(agreed, UNPARKED, target)])


def _given_up(journey: str) -> bool:
    """True if a person has closed the incident since its event was refused."""
    said = ledger().newest(f"{journey}.refused")
    if said is None or said.kind != "dismissed":
        return False
    return said.seq > max(entry.seq for entry in ledger().journey(journey) if entry.kind == REFUSED)


# --------------------------------------------------------------------------------------------- gaps


def _find_gaps(
    agreed: Auditing, siem: SystemSession, held: Holding, targets: Mapping[str, str], patience: timedelta, done: Audited
) -> None:
    """Compare objects' own histories with what was told of them; tell what is missing, and a person of it. ``targets``: id -> kind.

    A person first: once an event has its number, no comparison finds that it was missing. And it is taken up by the next run, should
    the SIEM not take it now: the feed tells of it no more.
    """
    for target, kind in targets.items():
        with repository_session(agreed.watching.repository) as session:
            try:
                history = list(session.trail(target, kind))[::-1]
            except DocumentMissing:
                continue  # gone for ever: what the feed told of that was told
        journey = agreed.journey(target)
        numbered = [entry for entry in ledger().journey(journey) if entry.kind == NUMBERED]
        gap = compare([str(one.body["event"]["id"]) for one in numbered], history, ledger().now(), agreed.audit.late_after)
        if not gap.missing and not gap.vanished:
            continue
        name = str(numbered[-1].body["event"]["name"]) if numbered else ""
        lost = [one for one in history if one.id in gap.missing]
        changes = [Change(one.id, one.event, target, one.user, one.at, kind, name, one.detail, one.address) for one in lost]
        what = [
            f"{len(some)} {word}" for word, some in (("missing in the feed", gap.missing), ("vanished", gap.vanished)) if some
        ]
        first = (*gap.missing, *gap.vanished)[0]
        reason = f"events of {target}: {', '.join(what)}, the first is {first}; what was missing is told now, marked as late"
        done.gaps.append((target, reason))
        held.lease  # noqa: B018 - raises
        open_incident(agreed, f"{journey}.gap", target, AUDIT_GAP, reason)
        if changes:
            ledger().append([_registered(agreed, PARKED, target)])
            _number(agreed, changes, late=True)
        _tell(agreed, siem, [target], patience, done)


# --------------------------------------------------------------------------------------------- what people see


def report_audit(done: Audited) -> State:
    """A table of what was refused and what is missing, and the run's final state."""
    rows = [(what, *one) for what, some in (("refused", done.refused), ("gap", done.gaps)) for one in some]
    if rows:
        table = [{"what": what, "object": literal(target), "reason": literal(reason)} for what, target, reason in rows[:SHOWN]]
        create_table_artifact(table=table, key="audit", description=f"**Audit**: {done.told} events told")
    names = [f"{done.told} told" if done.told else "Nothing new"]
    names += [f"{len(some)} {word}" for word, some in (("refused", done.refused), ("with gaps", done.gaps)) if some]
    return Completed(name=", ".join(names), message=f"{done.told} events told")
