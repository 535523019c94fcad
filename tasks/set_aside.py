"""Set aside: keep what was refused, with its findings, and open a case for a person."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from blocks.ledger import CaseState, Entry
from blocks.values import Stage
from tasks.cases import opened, state_of
from tasks.connections import ledger, quarantine
from tasks.consignment import Agreed, Consignment, Item, Steps
from tasks.file_away import note_unknown
from tasks.in_sequence import overtaken
from tasks.retrying import task
from tasks.rules.filing import case_of
from tasks.rules.judge import as_facts
from tasks.rules.passing import PASSING, PERHAPS_FILED, perhaps_filed
from tasks.rules.sequence import UNKNOWN

ILLEGAL = "illegal-name"


@task(task_run_name="set aside what was refused")
def set_aside(consignment: Consignment) -> Consignment:
    """Move refused documents to the quarantine. Each becomes a case with a reason code, an owner and a date."""
    consignment = _told_before(consignment)
    steps = Steps(consignment)
    for item in consignment.at(Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED):
        if item.verdict is None or item.verdict.accepted:
            continue
        item = _perhaps_filed(item, steps)
        assert item.verdict is not None  # noqa: S101 - it was refused
        verdict = as_facts(item.verdict)
        agreed = consignment.agreed
        known = {**item.verdict.facts, "partner": agreed.partner, "stream": agreed.stream}
        if about := case_of(agreed.terms.target, known, item.arrival.first_seen):
            verdict["workspace"] = about
        place = quarantine().keep(
            item.journey,
            item.document.path if item.document else None,
            {"origin": consignment.agreed.origin(item.arrival), "digest": item.arrival.digest, **verdict},
        )
        case = _case(item, agreed)
        facts = {"digest": item.arrival.digest, "case": case, "kept": item.document is not None, "place": place.name, **verdict}
        steps.add(item, "quarantined", facts, once=f"{item.journey}/quarantined/{item.round}", stage=Stage.QUARANTINED)
    return steps.write(ledger().append)


def _perhaps_filed(item: Item, steps: Steps) -> Item:
    """Say so of what was refused after it had begun to pass through, if its case is not about that alone.

    It is recorded like any other attempt whose outcome nobody knows: nothing that we hold of it goes before a person has decided.
    """
    begun = item.recorded(PASSING)
    if begun is None or item.verdict is None or _code(item) == UNKNOWN:
        return item
    note = perhaps_filed(begun.body, item.arrival.file.shown)
    note_unknown(item, note.message, steps)
    return replace(item, verdict=replace(item.verdict, findings=(note, *item.verdict.findings)))


def _case(item: Item, agreed: Agreed) -> dict[str, Any]:
    """A new case; what a person had tried again, and is refused again, stays with whom it was given to, and due when it was."""
    assert item.verdict is not None  # noqa: S101 - it was refused
    told = {"code": _code(item), "reason": item.verdict.reason}
    if any(finding.code == PERHAPS_FILED for finding in item.verdict.findings):
        told["reason"] += ". And the repository may hold it: see the case"
    if state_of(item.history) in (None, CaseState.RESOLVED):
        told = opened(told["code"], told["reason"], agreed.terms.owner, agreed.terms.resolve_within)
    over = overtaken(agreed, item.journey, told["code"])
    return told | ({"state": CaseState.RESOLVED.value} if over else {})


def _told_before(consignment: Consignment) -> Consignment:
    """One case per illegal name: a server may list it with another size each time, or leave it out every other time."""
    named = [item for item in consignment.at(Stage.CLAIMED) if _code(item) == ILLEGAL]
    if not named:
        return consignment
    agreed, steps = consignment.agreed, Steps(consignment)
    entries = [
        Entry(
            item.journey,
            "refused",
            {**agreed.about(item.arrival), "code": ILLEGAL},
            once=f"{ILLEGAL}/{agreed.key}/{hashlib.sha256(item.arrival.file.name).hexdigest()}",
        )
        for item in named
    ]
    for item, holder in zip(named, ledger().append(entries, consignment.lease), strict=True):
        if holder.journey != item.journey:
            reason = f"its name was refused before, as journey {holder.journey}"
            steps.add(item, "left", {"reason": reason}, stage=Stage.LEFT, verdict=None, note=reason)
    return steps.write(ledger().append)


def _code(item: Item) -> str:
    return item.verdict.reason.partition(":")[0] if item.verdict else ""
