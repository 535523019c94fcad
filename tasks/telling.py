"""Telling: a system is told one message exactly once, under a journey of the ledger.

::

    telling (an intent) ─ told              it has it; also where a person has closed the incident about a doubt
                        ─ not told          it was not carried out: refused, or "later"; the next attempt is a new intent
                        ─ pending           it has it, and its last word is still to come; it is asked, not told again
                        ─ in doubt          nobody can tell: an incident for each doubt, and nothing is sent before it is closed

So it is used, by whoever has something to tell; run again at any moment, it goes on where it stopped::

    with holding([journey], patience) as held:                   None: somebody else has it in hand
        trail = Trail(agreed, journey, name, held, to="claims")  ``to``: one journey may tell several destinations
        [told] = tell_once(session, [Telling(trail, route, facts)], patience)
    told.fate   TAKEN: for good. REFUSED: with code and reason, told anew at the next call: whether there is one is the caller's to say.
                LATER, PENDING: call again, not before ``after_seconds``. UNKNOWN: a person is asked.

Many tellings of one system go in one call, on one session: one that is told to wait holds up none of another route.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from blocks.errors import SystemUnreachable
from blocks.ledger import JOURNEY, Entry, Holding, Recorded
from blocks.settings import settings
from blocks.systems.base import Answer, Fate, Message, SystemSession
from blocks.values import Stage
from tasks.connections import ledger
from tasks.incidents import TELLING_IN_DOUBT, About, open_incident

IN_DOUBT = "in doubt"
ASKED = "a person is asked about it; when its incident is closed it is tried again"


@contextmanager
def holding(journeys: Sequence[str], patience: timedelta) -> Iterator[Holding | None]:
    """The journeys while we hold their lease; None where somebody else has one of them for longer than we wait."""
    seconds, end = settings().lease_seconds, time.monotonic() + patience.total_seconds()
    owner = f"{socket.gethostname()}/{os.getpid()}"
    wanted = [f"{JOURNEY}{journey}" for journey in journeys]
    while (lease := ledger().lease(wanted, owner=owner, seconds=seconds)) is None:
        if time.monotonic() > end:
            yield None
            return
        time.sleep(0.2)
    with ledger().holding(lease, seconds) as held:
        yield held


class Trail:
    """A journey's entries, and what we add to them while we hold its lease; of one destination, where it has several.

    ``to``: the destination's short name; without one the entries are those that name none. ``place``: what the journeys of the
    incidents about its doubts begin with.
    """

    def __init__(
        self,
        agreed: About,
        journey: str,
        name: str,
        held: Holding,
        *,
        to: str = "",
        history: Sequence[Recorded] | None = None,
        place: str = "",
        code: str = TELLING_IN_DOUBT,
    ) -> None:
        self.agreed, self.journey, self.name, self.held, self.to = agreed, journey, name, held, to
        self._place, self._code = place or ".".join(filter(None, ("telling", journey, to))), code
        self._history = [entry for entry in (ledger().journey(journey) if history is None else history) if self._is_mine(entry)]

    def _is_mine(self, entry: Recorded) -> bool:
        return bool(entry.body.get("to", "") == self.to)

    @property
    def key(self) -> str:
        """The same for ever: by it a system knows what it is told again."""
        return f"{self.journey}.{self.to}" if self.to else self.journey

    def last(self, *kinds: str) -> Recorded | None:
        """The newest entry of these kinds."""
        return next((entry for entry in reversed(self._history) if entry.kind in kinds), None)

    def count(self, kind: str) -> int:
        return sum(entry.kind == kind for entry in self._history)

    def write(self, kind: str, facts: Mapping[str, Any], *, once: str | None = None, stage: Stage | None = None) -> Recorded:
        about = {"partner": self.agreed.partner, "stream": self.agreed.stream, **({"to": self.to} if self.to else {})}
        entry = Entry(self.journey, kind, {**about, **facts}, once and f"{self.key}/{once}", stage)
        [recorded] = ledger().append([entry], self.held.lease)
        self._history.append(recorded)
        return recorded

    # ------------------------------------------------------------------------------------------------- in doubt

    def doubt(self, reason: str) -> None:
        """Nobody can tell what became of something: a person is asked, and closes the incident once it is known."""
        self.write(IN_DOUBT, {"reason": reason})
        self._ask(reason)

    @property
    def asked(self) -> bool:
        """True while a person is asked about the newest doubt."""
        doubt = self.last(IN_DOUBT)
        if doubt is None:
            return False
        if (said := self._said()) is None:
            self._ask(str(doubt.body["reason"]))  # we broke off before we had asked
        return said is None or said.kind != "dismissed"

    def looked_at_since(self, before: Recorded) -> bool:
        """True if a person has closed the incident about a doubt that came after an entry."""
        doubt, said = self.last(IN_DOUBT), self._said()
        return doubt is not None and doubt.seq > before.seq and said is not None and said.kind == "dismissed"

    def _ask(self, reason: str) -> None:
        open_incident(self.agreed, self._doubted_at(), self.name, self._code, reason)

    def _said(self) -> Recorded | None:
        """The newest entry about the newest doubt; None while nobody has been asked."""
        return last_said(ledger().journey(self._doubted_at()))

    def _doubted_at(self) -> str:
        return f"{self._place}.{self.count(IN_DOUBT)}"


def last_said(about: Sequence[Recorded]) -> Recorded | None:
    """What was last done about an incident: "incident" (opened), "resolved" or "dismissed"; None if there is none."""
    return next((entry for entry in reversed(about) if entry.kind in ("incident", "resolved", "dismissed")), None)


@dataclass(frozen=True, slots=True)
class Telling:
    """One message, to be told once."""

    trail: Trail
    route: str
    facts: Mapping[str, Any]
    path: Path | None = None
    """The bytes of a document, where the route takes one."""
    stage: Stage | None = None
    """Where the journey is moved when it is told."""
    lane: str = ""
    """Those of one lane are told in the order given: while the system does not take one, none behind it goes."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a telling; it is in the ledger."""

    telling: Telling
    fate: Fate
    id: str = ""
    """What the system calls it."""
    code: str = ""
    """Of ``REFUSED``: ``missing-fact``, ``status-422``, ..."""
    reason: str = ""
    after_seconds: float = 0.0
    """Of ``LATER`` and ``PENDING``: not before then, counted from now."""


def tell_once(session: SystemSession, tellings: Iterable[Telling], patience: timedelta = timedelta(0)) -> Iterator[Told]:
    """Tell a system each message that it was not told yet; what became of each, in any order, as soon as it is known.

    ``patience``: longest wait for what is ``LATER`` or ``PENDING``; what would be due after that is answered as it stands.
    """
    waiting, end = dict[str, _Waiting](), time.monotonic() + patience.total_seconds()
    for telling in tellings:
        if telling.trail.key in waiting:
            raise ValueError(f"{telling.trail.key}: told twice in one call; give each destination a name of its own")
        if (settled := _settled(telling)) is not None:
            yield settled
        else:
            waiting[telling.trail.key] = _Waiting(telling)
    while waiting:
        going = _foremost(waiting.values())
        time.sleep(max(0.0, min(one.due for one in going) - time.monotonic()))
        for told in _tell(session, [one.telling for one in going if one.due <= time.monotonic()]):
            key, again = told.telling.trail.key, time.monotonic() + told.after_seconds
            if told.fate in (Fate.LATER, Fate.PENDING) and again <= end:
                waiting[key] = _Waiting(told.telling, again, told.fate is Fate.PENDING)
                continue
            del waiting[key]
            yield told
            for behind in _held_up(told, waiting.values()):
                del waiting[behind.telling.trail.key]
                yield behind


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A telling that is to be made, and not before a moment of the monotonic clock."""

    telling: Telling
    due: float = 0.0
    taken: bool = False
    """The system has it already, and is asked for its last word: nobody waits for that."""


def _foremost(waiting: Iterable[_Waiting]) -> list[_Waiting]:
    """Those that wait for no earlier one of their lane."""
    lanes, found = set[str](), list[_Waiting]()
    for one in waiting:
        if not one.telling.lane or one.telling.lane not in lanes:
            found.append(one)
        if not one.taken:
            lanes.add(one.telling.lane)
    return found


def _held_up(told: Told, waiting: Iterable[_Waiting]) -> list[Told]:
    """What is behind a telling that the system does not take now."""
    lane = told.telling.lane
    if told.fate is not Fate.LATER or not lane:
        return []
    reason = f"waits for an earlier one: {told.reason}"
    behind = [one.telling for one in waiting if one.telling.lane == lane and not one.taken]
    return [Told(one, Fate.LATER, reason=reason, after_seconds=told.after_seconds) for one in behind]


def _settled(telling: Telling) -> Told | None:
    """What is known without telling the system anything; None if it is to be told."""
    trail = telling.trail
    if (told := trail.last("told")) is not None:
        return Told(telling, Fate.TAKEN, str(told.body.get("as", "")))
    if trail.asked:
        return Told(telling, Fate.UNKNOWN, reason=ASKED)
    begun = _begun(trail)
    if begun is None or not trail.looked_at_since(begun):
        return None
    facts = {"route": telling.route, "by": "a person, who has closed the incident"}
    trail.write("told", facts, once="told", stage=telling.stage)
    return Told(telling, Fate.TAKEN)


def _begun(trail: Trail) -> Recorded | None:
    """The intent, or the first word, of an attempt that may have been carried out; None where there is none, or it surely was not."""
    before = trail.last("telling", "not told", "pending")
    return before if before is not None and before.kind != "not told" else None


def _known(trail: Trail) -> str | None:
    """What the system calls what it has, where its last word is still to come."""
    begun = _begun(trail)
    return str(begun.body["as"]) if begun is not None and begun.kind == "pending" else None


def _tell(session: SystemSession, tellings: Sequence[Telling]) -> Iterator[Told]:
    """One attempt at each: the intent before, what came of it after."""
    paused, doubted = list[Told](), set[str]()
    going = {telling.trail.key: telling for telling in tellings}
    for answer in session.send(_begin(session, tellings, paused, doubted)):
        telling = going[answer.key]
        _record(telling, answer, doubted=answer.key in doubted)
        yield Told(telling, answer.fate, answer.id, answer.code, answer.reason, answer.after_seconds)
    yield from paused


def _begin(session: SystemSession, tellings: Iterable[Telling], paused: list[Told], doubted: set[str]) -> Iterator[Message]:
    """Messages, each with its intent, and only while the lease holds: a worker that was stalled tells nothing more.

    Of a route that is to wait, or while we cannot sign in, no intent is written, and nothing is sent: thousands may wait for weeks.
    Raises ``ConfigurationError`` for a credential that is not there.
    """
    for one in tellings:
        trail = one.trail
        if _begun(trail) is not None:
            doubted.add(trail.key)
        elif (later := _not_yet(session, one)) is not None:
            paused.append(later)
            continue
        else:
            trail.write("telling", {"route": one.route})
        trail.held.lease  # noqa: B018 - raises
        yield Message(trail.key, one.route, one.facts, one.path, trail.key in doubted, _known(trail))


def _not_yet(session: SystemSession, telling: Telling) -> Told | None:
    """That a telling is to wait, before anything is meant by it; None if it may go."""
    if (wait := session.wait_seconds(telling.route)) > 0:
        return Told(
            telling, Fate.LATER, reason=f"{telling.route} waits, as it was told to or after failures", after_seconds=wait
        )
    try:
        session.sign_in()
    except SystemUnreachable as error:
        return Told(telling, Fate.LATER, reason=str(error), after_seconds=error.after_seconds)
    return None


def _record(telling: Telling, answer: Answer, *, doubted: bool) -> None:
    """``doubted``: an earlier attempt may have been carried out, whatever became of this one."""
    trail, facts = telling.trail, {"route": telling.route}
    if answer.fate is Fate.TAKEN:
        trail.write("told", {**facts, "as": answer.id}, once="told", stage=telling.stage)
    elif answer.fate is Fate.UNKNOWN:
        trail.doubt(f"whether the system was told nobody can tell: {answer.reason}")
    elif answer.fate is Fate.PENDING:
        if _known(trail) is None:
            trail.write("pending", {**facts, "as": answer.id})
    elif answer.fate is Fate.REFUSED or not (doubted or answer.doubted):
        trail.write("not told", {**facts, "code": answer.code or str(answer.fate), "reason": answer.reason})
