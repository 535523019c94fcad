"""Reconciling: what the ledger tells of an order against what Prefect tells of its run. Prefect is a doorbell that anybody may ring.

Nothing here decides about a package. A run is at most woken, and then it asks again: only the sender judges, and only it sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from blocks.values import shown

MOST_REDRIVES = 3
"""So often in a row a run is woken without getting any further; then a person is needed."""

DOOR = timedelta(seconds=5)
"""An honest answer is stored a moment before the run leaves its wait, and a form a moment after the run enters it."""

PARTNER_FULL = "partner-full"
"""The partner's disk or quota is full: code of the case and of the finding, name of the event."""
RECORD_WAITS = "record-not-filed"
"""All was delivered, and the repository does not take the record of it yet: likewise."""
PAPERS_LACKING = "papers-lacking"
"""A document that the partner must provide is missing, not approved or expired: likewise."""
REMINDER = "reminder"
"""Whoever may still sign is reminded: likewise."""
WAITS = {
    PARTNER_FULL: "the partner had no room for all of it; it is tried again",
    PAPERS_LACKING: "a paper that the partner must provide was lacking; it is tried again",
    RECORD_WAITS: "it was delivered, and the repository did not take the transmission record; that is tried again",
}
"""What an order may wait for as long as it takes, and what the sweep says of it."""
AROUND = frozenset(
    {
        "bypass",
        "planted",
        "edited",
        "terms",
        "diverted",
        "sender",
        "mirror",
        "deployment",
        "overridden",
        "automation",
        "work-pool",
    }
)
"""Codes of what goes around the sign-off, or could: a person finds out who did it."""
STOPPED = frozenset({"stuck", "crashed", "failed", "cancelled"})
"""Codes of orders that get no further; a case where nothing that the sweep does helps."""
_MOST_DOUBLINGS = 6
_FROM_A_TIME = re.compile(r"\d{8}T\d{6}(\.\d{6})?Z")
_LIVE = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")
_SHOWN = 3


class Remedy(StrEnum):
    """What the sweep does about a finding."""

    NONE = "reported"
    WAKE = "woken"
    ASK = "asked again"
    """Woken, and whatever was posted in the open round counts for nothing."""
    ANEW = "new run"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    """As in the event: bypass, planted, edited, terms, changed, deleted, diverted, stuck, partner-full, papers-lacking, record-not-filed,
    reminder, widened, expired, crashed, failed, cancelled; and of no order: mirror, deployment, overridden, automation, work-pool,
    not-notified, notice-unknown."""
    key: str
    """What makes it one: the same thing is told once."""
    message: str
    remedy: Remedy = Remedy.NONE
    told: bool = False
    """The run itself has sent the event."""
    to: tuple[str, ...] = ()
    """People who are sent a message of it."""


@dataclass(frozen=True, slots=True)
class Posted:
    """An answer as Prefect stores it now."""

    answer: str
    """Its hash."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """What Prefect tells about a run."""

    id: str
    state: str
    """The type: SCHEDULED, PENDING, RUNNING, PAUSED, COMPLETED, FAILED, CRASHED, CANCELLED, CANCELLING."""
    name: str
    since: datetime
    pause_key: str | None = None
    """Of the wait in which it is."""
    form: bool = True
    """The form of that wait is stored. Without it nobody can answer."""
    diverted: bool = False
    """Its parameters name another order than the one it leads."""
    waited: frozenset[str] = frozenset()
    """The keys of all waits in which it ever was."""
    posted: Mapping[str, Posted] = field(default_factory=dict)
    """By pause key, or by the whole name of the row where it is no wait's."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the ledger tells about an order."""

    journey: str
    run: str
    """The run that leads it."""
    open_key: str | None = None
    """Of the round that is not settled."""
    answered: Mapping[str, str] = field(default_factory=dict)
    """Hash of the answer by the key of each round that had one."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """The entry's kind by the key of each round that is over."""
    elsewhere: frozenset[str] = frozenset()
    """Keys of rounds that another run asked."""
    deadline: datetime | None = None
    remind: datetime | None = None
    """When whoever may still sign is reminded."""
    widens: datetime | None = None
    """From when on the wider circle may sign too."""
    asked: datetime | None = None
    """When the open round was asked."""
    awaits: tuple[str, ...] = ()
    """Who may sign now, where somebody is to be reminded."""
    closed: bool = False
    waits_for: str = ""
    """One of ``WAITS``, if that is what it waits for. Others have to mend it, and a case says so."""
    paused: bool = False
    """It ended as agreed without being closed, and waits for somebody to mend something."""
    other_terms: str = ""
    """The digest of the terms under which its package was frozen, if the reviewed files say something else."""
    changed: str = ""
    """What the repository has changed of what people are asked to sign; empty: nothing, or nobody could look."""
    redriven: int = 0
    """How often in a row the sweep woke it, without a step of its own since."""


def compare(told: Told, run: Run | None, now: datetime, patience: timedelta) -> list[Finding]:
    """All that differs. At most one finding has a remedy: a run is woken once, however much is wrong.

    ``patience`` is how long a run may take between two steps of which one shows.
    """
    if run is None:
        # History may be purged at any time; only an order that is not finished needs its run.
        return [] if told.closed else [_deleted(told)]
    found = [*_answers(told, run), *_bypasses(told), *_terms(told), *_reminder(told, now)]
    if run.diverted and not told.closed:
        return [*found, _diverted(told)]
    if stopped := _stopped(told, run, now, patience):
        found.append(stopped if stopped.code in WAITS else _bounded(stopped, told.journey, told.redriven))
    return found


def untaken(run: Run, redriven: int, now: datetime, patience: timedelta) -> Finding | None:
    """Why a run that the ledger does not know gets no further: its process was killed before it had taken its order."""
    if run.state != "CRASHED" and (run.state not in ("PENDING", "RUNNING") or now - run.since < patience):
        return None
    return _bounded(_halted(run), run.id, redriven)


# --------------------------------------------------------------------------------------------- answers


def _answers(told: Told, run: Run) -> Iterator[Finding]:
    """Answers that are not those that were judged, or that belong to no round at all."""
    foreign = []
    for key, posted in sorted(run.posted.items()):
        if key in told.answered:
            if posted.answer != told.answered[key]:
                yield Finding(
                    "edited",
                    f"edited/{run.id}/{key}",
                    f"the answer of {_round(key)} was changed in Prefect after it was judged; what was recorded then counts",
                )
        elif key in told.settled:
            if told.settled[key] == "bypass":
                yield _planted(
                    run, key, f"an answer was put behind {_round(key)} after the run had left it; it was never judged"
                )
        elif key != told.open_key and key not in told.elsewhere:
            foreign.append(key)
    if foreign:
        names = ", ".join(shown(key[:80]) for key in foreign[:_SHOWN]) + (", ..." if len(foreign) > _SHOWN else "")
        yield Finding(
            "planted",
            f"planted/{run.id}/foreign",
            f"{len(foreign)} answers lie ready for rounds that nobody asked ({names}); no round will ever read them",
        )


def _planted(run: Run, key: str, message: str, remedy: Remedy = Remedy.NONE) -> Finding:
    return Finding("planted", f"planted/{run.id}/{key}", message, remedy)


def _bypasses(told: Told) -> Iterator[Finding]:
    """What the run itself found when it went on."""
    for key, kind in sorted(told.settled.items()):
        if kind == "bypass":
            yield Finding(
                "bypass",
                f"bypass/{told.journey}/{key}",
                f"the run left {_round(key)} without an answer, and asked again",
                told=True,
            )


def _terms(told: Told) -> Iterator[Finding]:
    """A package under terms that nobody reviewed. The sender, which has its own copy of the files, judges and sends nothing for it."""
    if told.other_terms:
        yield Finding(
            "terms",
            f"terms/{told.journey}/{told.other_terms}",
            "its package was frozen under other terms than the reviewed files have: they were changed since, or a worker read others. "
            "Nothing is sent for it; order it anew",
        )


def _reminder(told: Told, now: datetime) -> Iterator[Finding]:
    """People are asked, and some of them are not heard of."""
    if told.remind is None or told.deadline is None or not told.remind <= now < told.deadline:
        return
    if told.open_key is not None and told.awaits and not told.closed:
        message = f"it expires at {told.deadline:%Y-%m-%d %H:%M} UTC, and waits for {' or '.join(told.awaits)}"
        yield Finding(REMINDER, f"{REMINDER}/{told.journey}", message, to=told.awaits)


def _round(key: str) -> str:
    """'round 2' for 'signoff-2-...'."""
    parts = key.split("-")
    return f"round {parts[1]}" if parts[0] == "signoff" and len(parts) > 1 and parts[1].isdigit() else "a round"


# --------------------------------------------------------------------------------------------- runs


def _deleted(told: Told) -> Finding:
    message = f"run {told.run} was deleted while its order was not finished; nothing was sent for it"
    return Finding("deleted", f"deleted/{told.journey}/{told.run}", message, Remedy.ANEW)


def _diverted(told: Told) -> Finding:
    message = f"the parameters of run {told.run} were changed: it would work on another order than the one it was begun for"
    return Finding("diverted", f"diverted/{told.journey}/{told.run}", message, Remedy.ANEW)


def names(parameters: Mapping[str, Any], ordered: Mapping[str, Any]) -> bool:
    """True if a run with these parameters works on that order. An order without an id takes it from the time it was due.

    >>> names({"partner": "acme", "stream": "prices", "order": None}, {"partner": "acme", "stream": "prices", "order": "o1"})
    False
    """
    order = parameters.get("order")
    same = all(parameters.get(name) == ordered[name] for name in ("partner", "stream"))
    return same and (order == ordered["order"] or (order is None and _FROM_A_TIME.fullmatch(ordered["order"]) is not None))


def _stopped(told: Told, run: Run, now: datetime, patience: timedelta) -> Finding | None:
    """Why an order gets no further, unless it is being worked on or waits as it should."""
    if run.state == "PAUSED":
        return _waits(told, run, now, patience)
    if told.closed:
        return None
    if told.open_key is not None:
        return _left(told, run, told.open_key, now, patience)
    return _between(told, run, now, patience)


def _waits(told: Told, run: Run, now: datetime, patience: timedelta) -> Finding | None:
    gap, moment = min(DOOR, patience), f"{run.id}/{run.since.isoformat()}"
    if told.closed or run.pause_key is None or run.pause_key != told.open_key:
        if now - run.since < patience:
            return None
        return Finding("stuck", f"stuck/{moment}", "the run waits, and no round was asked: nobody can answer it", Remedy.ASK)
    posted = run.posted.get(run.pause_key)
    if posted is not None and now - posted.at >= gap:
        message = f"an answer was put behind {_round(run.pause_key)} and not through its form; nobody could answer any more"
        return _planted(run, run.pause_key, message, Remedy.ASK)
    if not run.form and now - run.since >= gap:
        message = f"{_round(run.pause_key)} has no form in Prefect: nobody could answer it"
        return Finding("stuck", f"stuck/{moment}", message, Remedy.ASK)
    if told.deadline is not None and now >= told.deadline:
        message = f"not signed off until {told.deadline:%Y-%m-%d %H:%M} UTC; the run ends as expired"
        return Finding("expired", f"expired/{told.journey}", message, Remedy.ASK)
    if told.changed:
        message = f"{told.changed}: nobody shall sign that any more"
        return Finding("changed", f"changed/{told.journey}/{told.open_key}", message, Remedy.ASK)
    # An answer that is there goes first: whoever gave it has used up a code.
    if told.widens is not None and told.asked is not None and told.asked < told.widens <= now and posted is None:
        message = f"not signed off until {told.widens:%Y-%m-%d %H:%M} UTC: now the wider circle is asked too"
        return Finding("widened", f"widened/{told.journey}", message, Remedy.ASK)
    return None


def _left(told: Told, run: Run, key: str, now: datetime, patience: timedelta) -> Finding | None:
    """The open round's wait is over, and the run has not settled it."""
    ended, late = run.state not in _LIVE, now - run.since >= patience
    if run.state == "SCHEDULED" or not (ended or late):
        return None  # it goes on by itself, and finds out what happened
    if key in run.waited and key not in run.posted and run.state != "CANCELLED":
        message = f"the run left {_round(key)} without an answer: its state was set to {run.name}"
        return Finding("bypass", f"bypass/{told.journey}/{key}", message, Remedy.ASK)
    if run.state == "CANCELLED" and told.deadline is not None and now >= told.deadline:
        message = f"cancelled, and not signed off until {told.deadline:%Y-%m-%d %H:%M} UTC; the run ends as expired"
        return Finding("expired", f"expired/{told.journey}", message, Remedy.ASK)
    return _halted(run)


def _between(told: Told, run: Run, now: datetime, patience: timedelta) -> Finding | None:
    """No round is open: the run works, or has stopped."""
    if run.state == "SCHEDULED" or now - run.since < patience:
        return None
    if told.waits_for and run.state == "COMPLETED":
        return _waiting(told, run, now, patience)
    if run.state == "COMPLETED" and (told.paused or run.name != "Completed"):
        return None
    return _halted(run)


def _waiting(told: Told, run: Run, now: datetime, patience: timedelta) -> Finding | None:
    """Tried again as long as it takes, at longer and longer intervals: with a patience of a minute, once an hour at last."""
    if now - run.since < patience * 2 ** min(told.redriven, _MOST_DOUBLINGS):
        return None
    code = told.waits_for
    return Finding(code, f"{code}/{run.id}/{run.since.isoformat()}", WAITS[code], Remedy.WAKE, told=True)


def _halted(run: Run) -> Finding:
    moment = f"{run.id}/{run.since.isoformat()}"
    if run.state == "CANCELLED":
        return Finding(
            "cancelled", f"cancelled/{moment}", "the run was cancelled, its order is not finished; retry the run to go on"
        )
    if run.state == "FAILED":
        message = f"the run failed ('{shown(run.name[:80])}'), its order is not finished; mend what it says, then retry the run"
        return Finding("failed", f"failed/{moment}", message)
    if run.state == "CRASHED":
        return Finding("crashed", f"crashed/{moment}", "the run crashed, its order is not finished", Remedy.WAKE)
    message = f"the run is '{shown(run.name[:80])}', and nobody works on its order"
    return Finding("stuck", f"stuck/{moment}", message, Remedy.WAKE)


def _bounded(found: Finding, about: str, redriven: int) -> Finding:
    """A run that stops by itself is not woken for ever. One that somebody else stops is, else he could keep people from deciding."""
    if found.remedy is not Remedy.WAKE or redriven < MOST_REDRIVES:
        return found
    message = f"{found.message}; it was woken {redriven} times and got no further: a person is needed. Look at why, then retry "
    message += "the run in Prefect; cancel it first if it has not ended"
    return Finding(found.code, f"given-up/{about}", message)


def state_name(findings: int) -> str:
    """Of a sweep's final state.

    >>> state_name(0), state_name(1), state_name(3)
    ('All in order', '1 finding', '3 findings')
    """
    return "All in order" if not findings else f"{findings} finding{'s' if findings > 1 else ''}"
