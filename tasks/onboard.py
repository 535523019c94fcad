"""Onboard: how each paper of a partner stands is told to a system, each change once and in order; people are reminded before one ends.

::

    papers.<partner>:          paper changed ─ telling ─ told          one journey for each partner; ``to``: its n-th message
                               paper reminded ─ telling ─ told
    papers.<partner>.<paper>:  incident (``paper-unreadable``) ─ resolved | dismissed
    papers.<partner>.message.<n>: incident (``paper-not-told``) ─ resolved | dismissed       closing it gives that message up

What is told is written down first, with all that the message says; so a system that was away is told of every change since, in order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.errors import ConfigurationError
from blocks.ledger import Entry, Holding, Recorded
from blocks.papers import Papers
from blocks.profile import PartnerProfile, load_partner, partners
from blocks.settings import settings
from blocks.system_file import load_system
from blocks.systems.base import Fate, System
from blocks.values import Stage
from tasks.cases import OPS
from tasks.connections import ledger
from tasks.incidents import PAPER_NOT_TOLD, PAPER_UNREADABLE, close_incidents, open_incident
from tasks.notify import notify
from tasks.papers import papers_of
from tasks.report import SHOWN
from tasks.retrying import task
from tasks.rules.literal import literal
from tasks.rules.notification import Notification
from tasks.rules.papers import EXPIRED_DAYS, PaperNow, PaperState, counts, reminder, summary
from tasks.telling import Telling, Trail, holding, last_said, tell_once

CHANGED, REMINDED = "paper changed", "paper reminded"
"""Kinds of entries about what is told."""


class Onboarding:
    """What was agreed about the papers of one partner, and nothing that is open. Its class is opaque to Prefect."""

    def __init__(self, profile: PartnerProfile, terms: Papers, system: System | None) -> None:
        self.profile, self.partner, self.stream, self.system = profile, profile.name, "papers", system
        self.terms = terms.model_copy(update={"owner": terms.owner or profile.owner or OPS})

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    @property
    def journey(self) -> str:
        return f"papers.{self.partner}"

    @property
    def told_to(self) -> str:
        """The system that is told, and by which route; "" if none is."""
        tells = self.terms.tells
        return f"{tells.system}/{tells.route}" if tells is not None else ""


@dataclass(frozen=True, slots=True)
class Row:
    """What a run found and did about one partner."""

    partner: str
    papers: tuple[PaperNow, ...] = ()
    changed: int = 0
    reminded: int = 0
    untold: str = ""
    """Why the system does not know all of it yet; "" if it does."""


def load_onboardings(partner: str = "") -> list[str]:
    """Names of the partners that must provide papers; or the one asked for. Raises ``ConfigurationError`` for one that need not."""
    folder = settings().profiles
    if partner:
        _load(partner)
        return [partner]
    named = []
    for name in partners(folder):
        try:
            provides = load_partner(name, folder).papers is not None
        except ConfigurationError:
            provides = True  # told along with the others, and hinders none of them
        named += [name] if provides else []
    return named


def _load(partner: str) -> Onboarding:
    folder = settings().profiles
    profile = load_partner(partner, folder)
    if profile.papers is None:
        raise ConfigurationError(f"{partner}: its profile says nothing of 'papers'")
    tells = profile.papers.tells
    return Onboarding(profile, profile.papers, None if tells is None else load_system(tells.system, folder))


@task(task_run_name="onboard {partner}")
def onboard(partner: str, patience: timedelta) -> Row:
    """Look how a partner's papers stand, write down what has changed, remind people, and tell the system what it was not told yet.

    ``patience``: longest wait for a system that says "later", or for another run; the rest waits for the next run.
    """
    agreed = _load(partner)
    with holding([agreed.journey], patience) as held:
        if held is None:
            return Row(partner, untold="another run has it in hand")
        return _onboard(agreed, held, patience)


def _onboard(agreed: Onboarding, held: Holding, patience: timedelta) -> Row:
    papers = papers_of(agreed.profile, agreed.terms)
    _ask_about_unreadable(agreed, papers)
    history = ledger().journey(agreed.journey)
    changed = _changes(agreed, papers, history)
    reminded = _reminders(agreed, papers, history)
    fresh = [
        Entry(agreed.journey, kind, {**_about(agreed), **body, "to": str(number)}, stage=Stage.CLEARED)
        for number, (kind, body) in enumerate([*changed, *reminded], _messages(history) + 1)
    ]
    if fresh:
        ledger().append(fresh, held.lease)
    _ask_no_more(agreed)
    untold = _tell(agreed, held, patience) if agreed.system is not None else ""
    return Row(agreed.partner, papers, len(changed), len(reminded), untold)


def _about(agreed: Onboarding) -> dict[str, Any]:
    return {"partner": agreed.partner, "stream": agreed.stream, "name": agreed.key}


def _messages(history: Sequence[Recorded]) -> int:
    return sum(entry.kind in (CHANGED, REMINDED) for entry in history)


# --------------------------------------------------------------------------------------------- what there is to tell


def _changes(agreed: Onboarding, papers: Sequence[PaperNow], history: Sequence[Recorded]) -> list[tuple[str, dict[str, Any]]]:
    """Papers that stand otherwise than was written down last; to a system that was not told before all of them are news."""
    before = {str(entry.body["paper"]): entry for entry in history if entry.kind == CHANGED}
    found = []
    for one in [*papers, *_asked_no_more(before, {one.paper for one in papers})]:
        last = before.get(one.paper)
        if last is None or (last.body["is"], last.body["system"]) != (_identity(one), agreed.told_to):
            was = str(last.body["facts"]["state"]) if last is not None else ""
            found.append((CHANGED, _body(agreed, one, papers, before=was)))
    return found


def _asked_no_more(before: Mapping[str, Recorded], asked: Collection[str]) -> list[PaperNow]:
    """Papers that the profile does not name any more: a system that was told of them is told that too."""
    gone = {paper: str(entry.body["facts"]["paper_title"]) for paper, entry in before.items() if paper not in asked}
    return [PaperNow(paper, title, False, PaperState.ASKED_NO_MORE) for paper, title in gone.items()]


def _identity(one: PaperNow) -> list[str]:
    """What makes it another state: a document that takes the place of one, or is good until another day, does too."""
    return [one.state.value, one.document, one.until.isoformat() if one.until else ""]


def _reminders(agreed: Onboarding, papers: Sequence[PaperNow], history: Sequence[Recorded]) -> list[tuple[str, dict[str, Any]]]:
    """Reminders that are due. People are told first: whoever is killed before it is written down tells nobody twice."""
    found = []
    for one in papers:
        until = one.until.isoformat() if one.until else ""
        told = [
            int(entry.body["days"])
            for entry in history
            if entry.kind == REMINDED and (entry.body["paper"], entry.body["is"][2]) == (one.paper, until)
        ]
        if (due := reminder(one, agreed.terms.days, told)) is not None:
            to = agreed.terms.reminds or (agreed.terms.owner,)
            notify(to, _notification(agreed, one, due))
            found.append((REMINDED, {**_body(agreed, one, papers, days=due), "days": due, "reminds": list(to)}))
    return found


def _body(
    agreed: Onboarding, one: PaperNow, papers: Sequence[PaperNow], *, before: str = "", days: int | None = None
) -> dict[str, Any]:
    counted = counts(papers)
    facts = {
        "partner": agreed.partner,
        "title": agreed.profile.title,
        "paper": one.paper,
        "paper_title": one.title,
        "state": one.state.value,
        "before": before,
        "valid_until": one.until.isoformat() if one.until else "",
        "days_left": one.days_left,
        "document": one.document,
        "reminder": max(days, 0) if days is not None else None,
        "summary": summary(counted),
        "counts": counted,
        "papers": {each.paper: each.state.value for each in papers},
    }
    return {
        "paper": one.paper,
        "is": _identity(one),
        "version": one.version,
        "reason": one.reason,
        "system": agreed.told_to,
        "facts": facts,
    }


def _notification(agreed: Onboarding, one: PaperNow, due: int) -> Notification:
    gone = due == EXPIRED_DAYS
    ends = "has expired" if gone else f"ends in {one.days_left} days" if one.days_left else "ends today"
    facts = {"Partner": agreed.profile.title, "Paper": one.title, "Good until": str(one.until)}
    if gone and one.required and agreed.terms.lacking == "block":
        which = "All releases to it" if agreed.terms.blocks is None else f"Releases of {', '.join(agreed.terms.blocks)}"
        facts["Waits"] = f"{which}, until it is renewed and approved"
    thing = f"paper/{agreed.partner}/{one.paper}/{one.until}/{due}"
    return Notification(thing, agreed.journey, f"{one.title} of {agreed.profile.title} {ends}", facts)


def _ask_about_unreadable(agreed: Onboarding, papers: Sequence[PaperNow]) -> None:
    unreadable = {f"{agreed.journey}.{one.paper}": one for one in papers if one.state is PaperState.UNREADABLE}
    for place, one in unreadable.items():
        open_incident(agreed, place, one.title, PAPER_UNREADABLE, one.reason)
    standing = ledger().cases(partner=agreed.partner, stream=agreed.stream)
    close_incidents(agreed, PAPER_UNREADABLE, {case.journey for case in standing} - unreadable.keys())


# --------------------------------------------------------------------------------------------- telling it


def _tell(agreed: Onboarding, held: Holding, patience: timedelta) -> str:
    """Tell the system what it was not told yet, in order; why it stopped, "" at the end: nothing goes ahead of what came before it."""
    assert agreed.system is not None and agreed.terms.tells is not None  # noqa: S101 - the caller has looked
    history = ledger().journey(agreed.journey)
    with agreed.system.session() as session:
        for entry, place in _untold(agreed, history):
            name = str(entry.body["facts"]["paper_title"])
            trail = Trail(agreed, agreed.journey, name, held, to=str(entry.body["to"]), history=history)
            telling = Telling(trail, agreed.terms.tells.route, entry.body["facts"], stage=Stage.CLEARED)
            [told] = tell_once(session, [telling], patience)
            if told.fate is Fate.REFUSED:
                reason = (
                    f"{agreed.told_to} does not take that {name} is {entry.body['facts']['state']}: {told.code}: {told.reason}"
                )
                open_incident(agreed, place, name, PAPER_NOT_TOLD, reason)
                return reason
            if told.fate is not Fate.TAKEN:
                return told.reason
            close_incidents(agreed, PAPER_NOT_TOLD, [place])
    return ""


def _ask_no_more(agreed: Onboarding) -> None:
    """Close what is asked about messages that are told to nobody any more: another system or route was agreed, or none."""
    waiting = {place for _, place in _untold(agreed, ledger().journey(agreed.journey))}
    standing = ledger().cases(partner=agreed.partner, stream=agreed.stream)
    close_incidents(agreed, PAPER_NOT_TOLD, {case.journey for case in standing} - waiting)


def _untold(agreed: Onboarding, history: Sequence[Recorded]) -> Iterator[tuple[Recorded, str]]:
    """What this system was not told yet, the oldest first, and where an incident about it would be."""
    told = {entry.body.get("to") for entry in history if entry.kind == "told"}
    for entry in history:
        if entry.kind in (CHANGED, REMINDED) and entry.body["to"] not in told and entry.body["system"] == agreed.told_to:
            place = f"{agreed.journey}.message.{entry.body['to']}"
            said = last_said(ledger().journey(place))
            if said is None or said.kind != "dismissed":
                yield entry, place


def onboard_each(partners: Sequence[str], patience: timedelta) -> list[Row | Exception]:
    """What became of each, one after the other; an error of one hinders no other."""
    states: list[Any] = [onboard(partner, patience, return_state=True) for partner in partners]
    return [state.result(raise_on_failure=False) for state in states]


def report_papers(results: Sequence[Row | Exception]) -> State:
    """A table of all papers, and the run's final state. Raises what kept a partner from being looked at."""
    rows = [one for one in results if isinstance(one, Row)]
    table: list[Mapping[str, Any]] = [
        {
            "partner": row.partner,
            "paper": literal(one.title),
            "state": one.state.value,
            "good until": str(one.until or ""),
            "document": literal(one.document),
        }
        for row in rows
        for one in row.papers
    ]
    if table:
        create_table_artifact(table=[dict(one) for one in table[:SHOWN]], key="papers", description="**Papers of partners**")
    for row in rows:
        said = f"{row.untold}; the rest is told by the next run" if row.untold else summary(counts(row.papers))
        get_run_logger().info("%s: %s", row.partner, said)
    if broken := [one for one in results if isinstance(one, Exception)]:
        raise broken[0]
    changed, waits = sum(row.changed for row in rows), sum(bool(row.untold) for row in rows)
    parts = [f"{changed} changed"] if changed else []
    parts += [f"{reminded} reminded"] if (reminded := sum(row.reminded for row in rows)) else []
    parts += [f"{waits} waits"] if waits else []
    said = "; ".join(f"{row.partner}: {summary(counts(row.papers))}" for row in rows)
    return Completed(name=", ".join(parts) or "Nothing new", message=said[:1000])
