"""Papers: how each document stands that a partner must provide, and what follows from that. Time is an argument: the partner's day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from blocks.outbound import Admission
from blocks.papers import Paper, Papers
from blocks.values import Kept, shown
from tasks.rules.kits import fits
from tasks.rules.packing import values

EXPIRED_DAYS = -1
"""In place of a number of days: the "reminder" of what is not good any more."""


class PaperState(StrEnum):
    """How a paper stands. Of several documents that fit, the best one counts: the first state of these."""

    APPROVED = "approved"
    EXPIRING = "expiring"  # approved, and the day of the first reminder has come
    UNREADABLE = "unreadable"  # approved, and nobody can read until when: a person mends that
    WAITING = "waiting for approval"
    REJECTED = "rejected"
    EXPIRED = "expired"
    MISSING = "missing"
    ASKED_NO_MORE = "asked for no more"  # told once of what the profile does not name any more; no paper of it is in this state

    @property
    def good(self) -> bool:
        return self in (PaperState.APPROVED, PaperState.EXPIRING)


_BEST_FIRST = tuple(PaperState)


@dataclass(frozen=True, slots=True)
class PaperNow:
    """How one paper stands on a day."""

    paper: str
    """Its short name in the profile."""
    title: str
    required: bool
    state: PaperState
    document: str = ""
    """Id of the document in the repository that counts."""
    version: int = 0
    until: date | None = None
    """The last day on which it is good."""
    days_left: int | None = None
    reason: str = ""
    """Why it is unreadable."""

    @property
    def told(self) -> str:
        """In a few words, for people."""
        when = f" on {self.until}" if self.until is not None and self.state in (PaperState.EXPIRED, PaperState.EXPIRING) else ""
        return f"{self.title}: {self.state}{when}"


def papers_now(papers: Papers, found: Sequence[Kept], today: date) -> tuple[PaperNow, ...]:
    """How every paper stands, in the profile's order."""
    return tuple(_now(name, paper, papers, found, today) for name, paper in papers.required.items())


def _now(name: str, paper: Paper, papers: Papers, found: Sequence[Kept], today: date) -> PaperNow:
    ones = [_document(name, paper, papers, kept, today) for kept in found if fits(kept, paper)]
    missing = PaperNow(name, paper.title, paper.required, PaperState.MISSING)
    return min(ones, key=_worth, default=missing)


def _worth(one: PaperNow) -> tuple[int, int, str]:
    """The best first; among equals what is good for longest."""
    return _BEST_FIRST.index(one.state), -(one.until.toordinal() if one.until else 0), one.document


def _document(name: str, paper: Paper, papers: Papers, kept: Kept, today: date) -> PaperNow:
    def so(state: PaperState, until: date | None = None, reason: str = "") -> PaperNow:
        left = None if until is None else (until - today).days
        return PaperNow(name, paper.title, paper.required, state, kept.id, kept.version, until, left, reason)

    if papers.rejected is not None and _has(kept, papers.rejected):
        return so(PaperState.REJECTED)
    if not _has(kept, papers.approved):
        return so(PaperState.WAITING)
    if not paper.expires or papers.valid_until is None:
        return so(PaperState.APPROVED)
    place, told = papers.valid_until, values(kept, papers.valid_until)
    until = _day(next(iter(told))) if len(told) == 1 else None
    if until is None:
        said = ", ".join(sorted(shown(one)[:40] for one in told)) or "nothing"
        reason = f"{place.category} / {place.attribute} of {shown(kept.name)} says {said}, and one day (YYYY-MM-DD) is wanted"
        return so(PaperState.UNREADABLE, reason=reason)
    if until < today:
        return so(PaperState.EXPIRED, until)
    soon = bool(papers.days) and (until - today).days <= papers.days[0]
    return so(PaperState.EXPIRING if soon else PaperState.APPROVED, until)


def _has(kept: Kept, wanted: Admission) -> bool:
    return bool(set(wanted.values) & values(kept, wanted))


def _day(text: str) -> date | None:
    """A day, also where the repository writes its midnight beside it; None for anything else."""
    try:
        return datetime.fromisoformat(text.strip()).date() if "T" in text else date.fromisoformat(text.strip())
    except ValueError:
        return None


# --------------------------------------------------------------------------------------------- what follows


def counts(papers: Iterable[PaperNow]) -> dict[str, int]:
    """How many papers are in each state, the best first; states that none is in are left out."""
    found = Counter(one.state for one in papers)
    return {state.value: found[state] for state in PaperState if found[state]}


def summary(counted: Mapping[str, int]) -> str:
    """
    >>> summary({"approved": 3, "expiring": 1})
    '3 approved, 1 expiring'
    """
    return ", ".join(f"{count} {state}" for state, count in counted.items())


def lacks(papers: Iterable[PaperNow]) -> str:
    """Which required papers are not good, in one line; "" if all are."""
    return "; ".join(one.told for one in papers if one.required and not one.state.good)


def reminder(paper: PaperNow, days: Sequence[int], reminded: Iterable[int]) -> int | None:
    """The reminder that is due, and none of those before it: after a day on which nobody looked only the last one is told.

    ``reminded``: those that were told about this last day of it. ``EXPIRED_DAYS`` once it is over; None if nothing is due.
    """
    if paper.days_left is None or paper.state not in (PaperState.EXPIRING, PaperState.EXPIRED):
        return None
    passed = [one for one in days if paper.days_left <= one]
    due = EXPIRED_DAYS if paper.state is PaperState.EXPIRED else min(passed, default=None)
    return None if due is None or any(one <= due for one in reminded) else due
