"""Tell the partner: a receipt for each file in each agreed state, a note for each refused one; the sender makes and places them, once."""

from __future__ import annotations

from dataclasses import asdict, replace

from blocks.errors import ConfigurationError, SenderError, SendRefused
from blocks.ledger import CaseState, Entry
from blocks.sender import MessageKind, Sender, ServiceMessage
from blocks.settings import settings
from blocks.values import Inbound, Stage, shown
from tasks.cases import state_of
from tasks.connections import ledger
from tasks.consignment import Consignment, Item, Steps
from tasks.doctypes import find
from tasks.report import tell
from tasks.retrying import task
from tasks.rules.note import lines, worth_telling

TELLING, TOLD, NOT_TOLD = "telling", "told", "not told"
"""Kinds of entries about notes: before the sender is asked (also for a receipt), and what became of it."""
RECEIPT, NO_RECEIPT = "receipt", "no receipt"
"""The same about receipts; ``state`` says which."""
_PATIENCE_SECONDS = 120.0
"""For one message. A sender that takes longer goes on with it, and the next run hears that it is done."""


@task(task_run_name="tell the partner")
def tell_partner(consignment: Consignment) -> Consignment:
    """Have receipts sent as agreed, and a note for each refused file that the partner can mend. No filing waits for it.

    Only while a file stands at the partner can the sender see that it is theirs. So where it cannot be asked just now, or the partner
    does not take the note, the original is left for the next run, which tries again; this one asks for no more, so that it can end.
    """
    due = [(item, kind) for item in consignment.items for kind in _due(item, consignment.agreed.terms)]
    if not due:
        return consignment
    ledger().append([_intent(item, kind, consignment) for item, kind in due], consignment.lease)
    steps, agreed, untold = Steps(consignment), consignment.agreed, dict[str, str]()
    with Sender(settings().sender_socket, sending_seconds=_PATIENCE_SECONDS) as sender:
        for item, kind in due:
            consignment.lease  # noqa: B018 - raises: whoever has these items now tells of them
            if agreed.away:
                untold[item.journey] = agreed.away
            else:
                agreed.away = _tell(item, kind, sender, steps, untold) or agreed.away
    told = steps.write(ledger().append)
    return told.with_changes(
        {one.journey: replace(one, untold=untold[one.journey]) for one in told.items if one.journey in untold}
    )


_ENDS = {
    Stage.FILED: MessageKind.ACCEPTED,
    Stage.DUPLICATE: MessageKind.ACCEPTED,
    Stage.MARKER: MessageKind.ACCEPTED,
    Stage.QUARANTINED: MessageKind.REJECTED,
}


def _due(item: Item, terms: Inbound) -> list[MessageKind]:
    """What the partner has not been told yet of this file."""
    kinds = []
    if terms.receipts is not None and item.stage in (Stage.FETCHED, Stage.JUDGED, *_ENDS):
        states = [MessageKind.RECEIVED] if item.arrival.digest is not None else []
        # A file of which good rows were filed is neither: its note tells of the others, and the corrected file has its own receipt.
        states += [_ENDS[item.stage]] if item.stage in _ENDS and not (item.parted and item.stage is Stage.QUARANTINED) else []
        known = {entry.body["state"] for entry in item.history if entry.kind in (RECEIPT, NO_RECEIPT)}
        kinds += [kind for kind in states if kind.receipt in terms.receipts.states and kind.value not in known]
    if terms.notes is not None and item.stage is Stage.QUARANTINED and _mendable(item):
        kinds.append(MessageKind.NOTE)
    return kinds


def _mendable(item: Item) -> bool:
    """Refused for what the partner can mend, its original still there, and neither told nor given up."""
    known = item.recorded(TOLD) or item.recorded(NOT_TOLD) or item.gone
    return item.verdict is not None and not known and worth_telling(item.verdict.findings)


def _intent(item: Item, kind: MessageKind, consignment: Consignment) -> Entry:
    """By the message's own id: so the sweep knows which messages our flows have asked for."""
    return Entry(
        item.journey, TELLING, consignment.agreed.about(item.arrival), once=f"{TELLING}/{_message(item, kind, consignment).id}"
    )


def _tell(item: Item, kind: MessageKind, sender: Sender, steps: Steps, untold: dict[str, str]) -> str:
    """Ask for one message, and record what became of it; ``untold`` gets why it waits.

    Answers why asking for others is of no use just now; "" if it may be.
    """
    problem, away = "", ""
    try:
        arrived = sender.tell(_message(item, kind, steps.consignment))
    except SendRefused as error:
        return _give_up(item, kind, str(error), steps)
    except (SenderError, ConfigurationError) as error:
        problem, away = str(error), str(error) if error.worth_retrying else ""
    else:
        if arrived.unknown:
            return _give_up(item, kind, arrived.problem, steps)
        if not arrived.problem:
            names = [shown(file.name) for file in arrived.files]
            proof = sorted({str(file.proof) for file in arrived.files})
            if kind is MessageKind.NOTE:
                # What a person has closed meanwhile stays so.
                waits = {} if state_of(item.history) is CaseState.RESOLVED else {"case": {"state": CaseState.WAITING.value}}
                steps.add(item, TOLD, {"notes": names, "proof": proof, **waits})
            else:
                steps.add(item, RECEIPT, {"state": kind.value, "receipts": names, "proof": proof})
            return ""
        problem, away = arrived.problem, arrived.problem if arrived.worth_retrying or arrived.full else ""
    untold[item.journey] = problem
    _announce(item, f"{problem}; the next run tries again", steps)
    return away


def _give_up(item: Item, kind: MessageKind, problem: str, steps: Steps) -> str:
    """Nothing that we can do brings this message to the partner: a person tells them."""
    if kind is MessageKind.NOTE:
        steps.add(item, NOT_TOLD, {"reason": problem})
    else:
        steps.add(item, NO_RECEIPT, {"state": kind.value, "reason": problem})
    _announce(item, problem, steps)
    return ""


def _announce(item: Item, problem: str, steps: Steps) -> None:
    facts: dict[str, object] = {"file": item.arrival.file.shown, "reason": problem, "journey": item.journey}
    tell(steps.consignment.agreed, "untold", facts)


def _message(item: Item, kind: MessageKind, consignment: Consignment) -> ServiceMessage:
    agreed, verdict = consignment.agreed, item.verdict
    if kind is not MessageKind.NOTE:
        return ServiceMessage(kind, agreed.partner, agreed.stream, item.arrival.file, item.arrival.digest, {})
    assert verdict is not None  # noqa: S101 - only such are due
    told, more = lines(verdict.findings, find(verdict.doctype) if verdict.doctype else None, agreed.terms)
    facts = {"doctype": verdict.doctype, "lines": [asdict(line) for line in told], "more": more, "parted": item.parted}
    return ServiceMessage(MessageKind.NOTE, agreed.partner, agreed.stream, item.arrival.file, item.arrival.digest, facts)
