"""Set aside: keep what was refused, with its findings, and open a case for a person."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from blocks.ledger import Entry
from blocks.values import Stage
from tasks.connections import ledger, quarantine
from tasks.consignment import Consignment, Item, Steps
from tasks.in_sequence import overtaken
from tasks.retrying import task
from tasks.rules.filing import case_of
from tasks.rules.judge import as_facts

DUE = timedelta(days=2)
ILLEGAL = "illegal-name"


@task(task_run_name="set aside what was refused")
def set_aside(consignment: Consignment) -> Consignment:
    """Move refused documents to the quarantine. Each becomes a case with a reason code, an owner and a date."""
    consignment = _told_before(consignment)
    steps, due = Steps(consignment), ledger().now() + DUE
    for item in consignment.at(Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED):
        if item.verdict is None or item.verdict.accepted:
            continue
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
        case = {
            "code": _code(item),
            "reason": item.verdict.reason,
            "owner": consignment.agreed.terms.owner,
            "due": due.isoformat(),
            "state": "resolved" if overtaken(consignment.agreed, item.journey, _code(item)) else "new",
        }
        facts = {"digest": item.arrival.digest, "case": case, "kept": item.document is not None, "place": place.name, **verdict}
        steps.add(item, "quarantined", facts, once=f"{item.journey}/quarantined/{item.round}", stage=Stage.QUARANTINED)
    return steps.write(ledger().append)


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
