"""Cases: what a person is to resolve. Whose it is, by when, what was done about it so far, and who was told.

::

    new ─ assigned ─ waiting for partner ─ resolved          the newest state that an entry of its journey tells

Whoever finds something wrong opens the case in an entry of the journey (``opened``), and whoever finds it over closes it. What people say
in between are entries of the same journey. Nothing about a case stands anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from blocks import reviewed
from blocks.case_signoff import SIGNED_OFF
from blocks.errors import ConfigurationError, JourneyMoved
from blocks.ledger import Case, CaseState, Entry, Recorded
from blocks.outbound import PeopleFile
from blocks.settings import settings
from blocks.values import DUE_WITHIN
from tasks.connections import ledger
from tasks.rules.case_form import MOST_CHARACTERS

OPS = "ops"
"""Whose a case is where neither its stream nor its partner names anybody."""
ASSIGNED, COMMENTED, RETURNED = "assigned", "commented", "returned"
"""Kinds of entries about what people say: whose it is now; a remark; that the partner is to send it again, right."""
_OF_PEOPLE = frozenset({ASSIGNED, COMMENTED, RETURNED, SIGNED_OFF, "retried", "told", "not told"})
"""Kinds of entries that belong to a case's history and may change nothing of it."""


def opened(code: str, reason: str, owner: str, within: timedelta = DUE_WITHIN) -> dict[str, Any]:
    """A new case, for the body of an entry."""
    due = (ledger().now() + within).isoformat()
    return {"code": code, "reason": reason, "owner": owner or OPS, "due": due, "state": CaseState.NEW.value}


def state_of(history: Iterable[Recorded]) -> CaseState | None:
    """How far the case of a journey is; None if it never had one."""
    told = [entry.body["case"] for entry in history if isinstance(entry.body.get("case"), Mapping)]
    states = [one["state"] for one in told if one.get("state")]
    return CaseState(states[-1]) if states else CaseState.NEW if told else None


def openings(history: Iterable[Recorded]) -> list[Recorded]:
    """The entries by which the case of a journey was opened: the first one, and one more each time after it was over."""
    found, state = list[Recorded](), CaseState.RESOLVED
    for entry in history:
        if isinstance(case := entry.body.get("case"), Mapping):
            before, state = state, CaseState(case.get("state") or (state if found else CaseState.NEW))
            if before is CaseState.RESOLVED and state is not CaseState.RESOLVED:
                found.append(entry)
    return found


def find_case(journey: str) -> Case:
    """A case, resolved ones too. Raises ``ConfigurationError`` for a journey that never had one."""
    found = ledger().cases(journey=journey, open_only=False)
    if not found:
        raise ConfigurationError(f"{journey}: no such case; see 'countersign quarantine list'")
    return found[0]


# --------------------------------------------------------------------------------------------- its history


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a case's life."""

    at: datetime
    what: str
    """The entry's kind."""
    state: str
    """From then on; "" if that did not change."""
    by: str
    """Who, as stated; "" if it was no person."""
    said: str
    """A comment or a reason; "" if there is none."""


def moments(history: Iterable[Recorded]) -> list[Moment]:
    """What the ledger tells of the case of one journey, oldest first."""
    return [_moment(entry) for entry in history if entry.kind in _OF_PEOPLE or isinstance(entry.body.get("case"), Mapping)]


def _moment(entry: Recorded) -> Moment:
    body = entry.body
    case: Mapping[str, Any] = body.get("case") or {}
    said = str(body.get("comment") or body.get("reason") or case.get("reason") or "")
    if entry.kind == ASSIGNED:
        said = f"to {case['owner']}: {said}"
    return Moment(entry.at, entry.kind, str(case.get("state") or ""), str(body.get("by") or ""), said)


# --------------------------------------------------------------------------------------------- what people say
#
# ``once``: by which the same answer, carried out again after a kill, is written once.


def owners() -> list[str]:
    """Whom a case may be given to: everybody in people.yaml by id, and their groups. Raises ``ConfigurationError`` without that file."""
    return sorted(reviewed.load(settings().profiles / "people.yaml", PeopleFile).known)


def assign(journey: str, to: str, comment: str, by: str, once: str | None = None) -> None:
    """Give an open case to a person or a group. Raises ``ConfigurationError`` for a case that is over, and for nobody we know."""
    if to not in (known := owners()):
        raise ConfigurationError(f"{to[:80]!r} is no person and no group of people.yaml; {reviewed.nearest(to, known)}")
    _say(journey, ASSIGNED, comment, by, {"owner": to, "state": CaseState.ASSIGNED.value}, once)


def remark(journey: str, comment: str, by: str, once: str | None = None) -> None:
    """Add a comment to an open case. Raises ``ConfigurationError`` for one that is over, and for an empty comment."""
    if not comment.strip():
        raise ConfigurationError(f"{journey}: an empty comment says nothing")
    _say(journey, COMMENTED, comment, by, {}, once)


def wait_for_partner(journey: str, comment: str, by: str, once: str | None = None) -> None:
    """The partner is to send it again, right: what comes under the same name and is filed closes the case."""
    _say(journey, RETURNED, comment, by, {"state": CaseState.WAITING.value}, once)


def _say(journey: str, kind: str, comment: str, by: str, case: Mapping[str, Any], once: str | None) -> None:
    if len(comment) > MOST_CHARACTERS:
        raise ConfigurationError(f"{journey}: a comment has at most {MOST_CHARACTERS} characters, this one {len(comment)}")
    body = {"by": by, "comment": comment, **({"case": dict(case)} if case else {})}
    while True:
        history = open_history(journey)
        try:
            ledger().append([Entry(journey, kind, body, once)], behind=len(history))
        except JourneyMoved:
            continue  # whatever came in between may have closed it
        return


def open_history(journey: str) -> Sequence[Recorded]:
    """What the ledger tells of the journey of an open case. Raises ``ConfigurationError`` for one that is over, or never was."""
    history = ledger().journey(journey)
    state = state_of(history)
    if state is None:
        raise ConfigurationError(f"{journey}: no such case; see 'countersign quarantine list'")
    if state is CaseState.RESOLVED:
        raise ConfigurationError(f"{journey}: is resolved already; see 'countersign quarantine show {journey}'")
    return history
