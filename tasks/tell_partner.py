"""Tell the partner: a note beside each refused file's findings, which the sender makes and places, once."""

from __future__ import annotations

from dataclasses import asdict, replace

from blocks.errors import ConfigurationError, SenderError, SendRefused
from blocks.ledger import Entry
from blocks.sender import MessageKind, Sender, ServiceMessage
from blocks.settings import settings
from blocks.values import Stage, shown
from tasks.connections import ledger
from tasks.consignment import Consignment, Item, Steps
from tasks.doctypes import find
from tasks.report import tell
from tasks.retrying import task
from tasks.rules.note import lines, worth_telling

TELLING, TOLD, NOT_TOLD = "telling", "told", "not told"
"""Kinds of entries: before the sender is asked, and what became of it."""
_PATIENCE_SECONDS = 300.0


@task(task_run_name="tell the partner what to mend")
def tell_partner(consignment: Consignment) -> Consignment:
    """Have a note sent for each refused file that the partner can mend. Nothing else waits for it.

    Only while a file stands at the partner can the sender see that it is theirs. So where it cannot be asked just now, or the partner
    does not take the note, the original is left for the next run, which tries again.
    """
    if consignment.agreed.terms.notes is None:
        return consignment
    due = [item for item in consignment.at(Stage.QUARANTINED) if _due(item)]
    if not due:
        return consignment
    ledger().append([_intent(item, consignment) for item in due], consignment.lease)
    steps, away = Steps(consignment), ""
    with Sender(settings().sender_socket, sending_seconds=_PATIENCE_SECONDS) as sender:
        for item in due:
            consignment.lease  # noqa: B018 - raises: whoever has these items now tells of them
            if away:
                steps.changed[item.journey] = replace(item, untold=away)
            else:
                away = _tell(item, sender, steps)
    return steps.write(ledger().append)


def _due(item: Item) -> bool:
    """Refused for what the partner can mend, its original still there, and neither told nor given up."""
    known = item.recorded(TOLD) or item.recorded(NOT_TOLD) or item.gone
    return item.verdict is not None and not known and worth_telling(item.verdict.findings)


def _intent(item: Item, consignment: Consignment) -> Entry:
    """By the message's own id: so the sweep knows which messages our flows have asked for."""
    return Entry(
        item.journey, TELLING, consignment.agreed.about(item.arrival), once=f"{TELLING}/{_message(item, consignment).id}"
    )


def _tell(item: Item, sender: Sender, steps: Steps) -> str:
    """Ask for one note, and record what became of it. Answers why asking for others is of no use just now; "" if it may be."""
    problem, away = "", ""
    try:
        arrived = sender.tell(_message(item, steps.consignment))
    except SendRefused as error:
        return _give_up(item, str(error), steps)
    except (SenderError, ConfigurationError) as error:
        problem, away = str(error), str(error) if error.worth_retrying else ""
    else:
        if arrived.unknown:
            return _give_up(item, arrived.problem, steps)
        if not arrived.problem:
            names = [shown(file.name) for file in arrived.files]
            steps.add(item, TOLD, {"notes": names, "proof": sorted({str(file.proof) for file in arrived.files})})
            return ""
        problem, away = arrived.problem, arrived.problem if arrived.worth_retrying or arrived.full else ""
    steps.changed[item.journey] = replace(item, untold=problem)
    _announce(item, f"{problem}; the next run tries again", steps)
    return away


def _give_up(item: Item, problem: str, steps: Steps) -> str:
    """Nothing that we can do brings this note to the partner: a person tells them."""
    steps.add(item, NOT_TOLD, {"reason": problem})
    _announce(item, problem, steps)
    return ""


def _announce(item: Item, problem: str, steps: Steps) -> None:
    facts: dict[str, object] = {"file": item.arrival.file.shown, "reason": problem, "journey": item.journey}
    tell(steps.consignment.agreed, "untold", facts)


def _message(item: Item, consignment: Consignment) -> ServiceMessage:
    agreed, verdict = consignment.agreed, item.verdict
    assert verdict is not None  # noqa: S101 - only such are due
    told, more = lines(verdict.findings, find(verdict.doctype) if verdict.doctype else None)
    facts = {"doctype": verdict.doctype, "lines": [asdict(line) for line in told], "more": more}
    return ServiceMessage(MessageKind.NOTE, agreed.partner, agreed.stream, item.arrival.file, item.arrival.digest, facts)
