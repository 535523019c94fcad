"""Check: judge the documents of a consignment by name, bytes, structure and every cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blocks.case_signoff import CaseAction
from blocks.values import Document, Finding, Stage, Verdict, shown
from tasks import tables
from tasks.case_signoff import signed_off
from tasks.connections import ledger
from tasks.consignment import Agreed, Consignment, Item, Steps
from tasks.correct import under_way
from tasks.retrying import task
from tasks.returns import skip_our_own
from tasks.rules.judge import accepting, as_facts, from_facts
from tasks.rules.naming import text
from tasks.rules.triage import told
from tasks.triage import rules


@task(task_run_name="check ({consignment.size})")
def check(consignment: Consignment) -> Consignment:
    """Judge each document once. What the ledger already holds as judged stands, also if a rule has changed since."""
    consignment = skip_our_own(consignment)
    steps, unjudged = Steps(consignment), []
    for item in consignment.at(Stage.FETCHED, Stage.JUDGED):
        recorded = item.recorded("judged")
        if item.document is None:
            continue
        if recorded and (recorded.body["digest"], recorded.body["round"]) == (item.arrival.digest, item.round):
            document = replace(item.document, sniffed=recorded.body["media_type"])
            verdict = from_facts(item.journey, recorded.body)
            steps.changed[item.journey] = replace(item, stage=Stage.JUDGED, document=document, verdict=verdict)
        else:
            unjudged.append(item)
    documents = [item.document for item in unjudged if item.document]
    judged = tables.judge(documents, consignment.agreed.terms, _told(consignment, unjudged))
    for item, (document, verdict) in zip(unjudged, judged, strict=True):
        if (released := _released(consignment.agreed, item, document)) is not None:
            verdict = accepting(verdict, shown(released), consignment.agreed.terms.releasable)
        if verdict.accepted and _put_right(item):
            verdict = replace(verdict, findings=(_not_as_it_is(document), *verdict.findings))
        facts = judgement(item, document, verdict, consignment.agreed)
        steps.add(item, "judged", facts, stage=Stage.JUDGED, document=document, verdict=verdict)
    return steps.write(ledger().append)


def judgement(item: Item, document: Document, verdict: Verdict, agreed: Agreed) -> dict[str, Any]:
    """What the ledger keeps of a verdict, and by what it was reached."""
    facts = {"digest": item.arrival.digest, "round": item.round, "profile": agreed.digest, "media_type": document.sniffed}
    return facts | as_facts(verdict)


def _released(agreed: Agreed, item: Item, document: Document) -> str | None:
    """Who lets these very bytes through, in this try; None if nobody does, or has not proven it where that is agreed.

    Proven it is whoever did so, and not whoever has started the flow with that.
    """
    asked = item.recorded("retried")
    if asked is None or not asked.body.get("released"):
        return None
    if agreed.terms.signoff is None:
        return str(asked.body["by"])
    signoff = signed_off(item.journey, agreed, CaseAction.RELEASE, document.digest)
    return signoff.approver if signoff else None


def _put_right(item: Item) -> bool:
    """True if a person puts it right in this try, or what one put right before is filed, or may be."""
    asked = item.recorded("retried")
    return (asked is not None and bool(asked.body.get("corrected"))) or under_way(item.history) is not None


def _not_as_it_is(document: Document) -> Finding:
    """Whatever comes of a correction, also after a kill: nobody has asked for the partner's own bytes to be filed."""
    return Finding(
        code="put-right",
        message="A person put it right, so it is not filed as the partner wrote it",
        file=document.shown,
        rule="Of a document and its correction one is filed",
        fix="Correct it again, or 'countersign quarantine retry', which goes on with a correction that broke off, or files it as it is",
    )


def _told(consignment: Consignment, items: list[Item]) -> dict[str, tables.Told]:
    """What people said of these documents: of one in its own case, or, two of them, of all of its pattern."""
    agreed = consignment.agreed
    if not agreed.terms.triage or not items:
        return {}
    known = rules(agreed.partner, agreed.stream)
    found: dict[str, tables.Told] = {}
    for item in items:
        facts, notes = told(text(item.arrival.file.name), known, agreed.terms.triage)
        for entry in item.history:
            if entry.kind == "retried":  # anybody who may start the flow can write other facts beside these
                told_now = entry.body.get("facts") or {}
                facts |= {fact: value for fact, value in told_now.items() if fact in agreed.terms.triage}
        found[item.journey] = (facts, notes)
    return found
