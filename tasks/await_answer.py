"""Await the partner's answer: what was delivered is acknowledged, in time, or a person is told; so is a person where the answer is no.

::

    delivered ─ awaited ─┬─ acknowledged ────────────────────────────────▶ over
                         ├─ overdue: case ``not-acknowledged`` ─ acknowledged ─▶ over
                         └─ no: case ``answered-no`` ─ sent again and delivered, or acknowledged after all, ─▶ over
                                                       or what corrects it is acknowledged

Each order and each remainder has a journey for that, ``acknowledgement.<the order's>``: its own is closed when all stands at the partner.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from blocks.errors import ConfigurationError
from blocks.ledger import Entry, Recorded
from blocks.outbound import Package, iso
from blocks.values import Stage, shown
from tasks.connections import ledger
from tasks.incidents import ANSWERED_NO, NOT_ACKNOWLEDGED
from tasks.order import CORRECTION, Order, find_order, load_release
from tasks.record import recorded_text
from tasks.rules.reconcile import Finding
from tasks.rules.transmission import Acknowledgement, Answer, answer, documents_at_partner

_AWAITED = "awaited"


def acknowledgements(order: Order) -> list[Acknowledgement]:
    """What has come about an order, and is written down."""
    return [Acknowledgement.parse(entry.body["said"]) for entry in order.each("acknowledged")]


def behind(order: Order) -> bool:
    """An acknowledgement is written down that the filed record does not hold yet."""
    done = order.last("recorded")
    return done is not None and len(order.each("acknowledged")) > done.body.get("acknowledgements", 0)


def answered(order: Order) -> Answer:
    """How far the partner has acknowledged an order that was delivered."""
    return answer(recorded_text(order), _heard(order))


def _heard(order: Order) -> list[Acknowledgement]:
    """All that the partner has said of an order.

    What it says of a whole order by its id, it says of the remainders as well that had been recorded by then. What it says of what
    was sent again, or in place of it, it says of the documents of then.
    """
    text, root = recorded_text(order), find_order(order.agreed, order.id.partition("~")[0]) if "~" in order.id else []
    told = acknowledgements(order)
    if root:
        made = datetime.fromisoformat(json.loads(text)["made"])
        whole = acknowledgements(Order(order.agreed, root[0].body["order"], root[0].journey, "", None))
        told += [one for one in whole if one.positive and not one.document and one.received >= made]
    for history in ledger().journeys(_later(order)).values():
        told += _of_those_of_then(text, history)
    return told


def _later(order: Order) -> list[str]:
    """Journeys of what was sent again of an order, or corrected it, in the ledger's order; of a correction, those since too."""
    again = [(entry.seq, Package.parse(entry.body["package"]).journey) for entry in order.each("again")]
    parent = ledger().journey(str(order.ordered.body["parent"])) if order.corrects else order.history
    corrections = [(entry.seq, str(entry.body["journey"])) for entry in parent if entry.kind == CORRECTION]
    own = next((seq for seq, journey in corrections if journey == order.journey), 0)
    return [journey for seq, journey in sorted([*again, *corrections]) if seq > own]


def _of_those_of_then(text: str, history: Sequence[Recorded]) -> Iterator[Acknowledgement]:
    """What was said of a later order's documents, as said of those that a record tells of by the same names in the repository."""
    recording = next((entry for entry in history if entry.kind == "recording"), None)
    if recording is None:
        return
    then, now = documents_at_partner(text), documents_at_partner(str(recording.body["text"]))
    for entry in history:
        if entry.kind == "acknowledged":
            said = Acknowledgement.parse(entry.body["said"])
            meant = [name for name, at_partner in now.items() if not said.document or said.document in at_partner]
            yield from (replace(said, document=one) for name in meant for one in then.get(name, ()))


def await_answer(order: Order) -> None:
    """Begin to wait, where an acknowledgement is agreed, or that its pickup is seen."""
    terms = order.agreed.terms.recording
    if not terms.awaited or order.ordered.body.get("again"):
        return  # a redelivery is the same once more: its order is awaited
    within = terms.acknowledged_within or terms.picked_up_within
    until = ledger().now() + within if within else None
    body = {**_about(order), "state": Answer.TO_ACK.value, "until": iso(until) if until else None, "journey": order.journey}
    ledger().append([Entry(_journey(order.journey), _AWAITED, body, f"{_AWAITED}/{order.journey}")])


def await_again(order: Order) -> None:
    """A no that comes when it was over already is looked at like any other; of what was sent again, it is its order's."""
    if order.ordered.body.get("again"):
        parent = ledger().journey(str(order.ordered.body["parent"]))
        order = Order(order.agreed, parent[0].body["order"], parent[0].journey, "", None)
    journey, count = _journey(order.journey), sum(not one.positive for one in _heard(order))
    history = ledger().journey(journey)
    if count and history and any(entry.stage is Stage.CLEARED for entry in history):
        body = {**_about(order), "state": answered(order).value}
        ledger().append([Entry(journey, "awaited again", body, f"{journey}/again/{count}", Stage.CLAIMED)])


def look_for_answers() -> list[Finding]:
    """Open and close the cases of what is awaited; what was opened now."""
    told = [_look(order, history) for order, history in _all_awaited()]
    return [one for one in told if one is not None]


def to_be_picked_up() -> Iterator[Order]:
    """What was delivered, redeliveries too, and has not been seen to be picked up, where that is what was agreed."""
    for order, _ in _all_awaited():
        if order.agreed.terms.recording.picked_up_within is None:
            continue
        over = answered(order) is Answer.ACKED
        for one in _deliveries(order):
            if behind(one) or not (over or answer(recorded_text(one), acknowledgements(one)) is Answer.ACKED):
                yield one


def _deliveries(order: Order) -> list[Order]:
    """An order and its redeliveries, as far as they were delivered and recorded."""
    again = [Package.parse(entry.body["package"]) for entry in order.each("again")]
    each = [order, *(Order(order.agreed, package.order, package.journey, "", None) for package in again)]
    return [one for one in each if one.last("recorded")]


def _all_awaited() -> Iterator[tuple[Order, list[Recorded]]]:
    """Each order with the journey in which its answer is awaited."""
    for history in ledger().journeys(ledger().begun(_AWAITED, ledger().now())).values():
        first = history[0].body
        try:
            agreed = load_release(str(first["partner"]), str(first["stream"]))
        except ConfigurationError:
            continue  # told where the mirrors are compared
        yield Order(agreed, str(first["order"]), str(first["journey"]), "", None), history


def _look(order: Order, history: list[Recorded]) -> Finding | None:
    state, journey = answered(order), history[0].journey
    if state is Answer.ACKED and order.agreed.terms.recording.picked_up_within and any(map(behind, _deliveries(order))):
        return None  # nothing else would have the record filed
    if state is Answer.ACKED or (state is Answer.NACKED and _sent_again(order)):
        ledger().append(
            [Entry(journey, "resolved", {**_about(order), "state": state.value, **_over(history)}, stage=Stage.CLEARED)]
        )
        return None
    until = history[0].body["until"]
    if state is Answer.NACKED:
        last = max((one for one in _heard(order) if not one.positive), key=lambda one: one.received)
        what = f"its document {shown(last.document)}" if last.document else "it"
        about = f"--partner {order.agreed.partner} --stream {order.agreed.stream} --order {order.id}"
        reason = (
            f"the partner does not take {what} as it is ({shown(last.name)}); have it corrected and approved and send that: "
            f"countersign run resend --latest {about}; or the same once more, without --latest"
        )
        return _open(order, history, ANSWERED_NO, reason, state)
    if until is not None and iso(ledger().now()) > until:
        seen = "seen to be picked up" if order.agreed.terms.recording.picked_up_within else "acknowledged"
        return _open(
            order, history, NOT_ACKNOWLEDGED, f"it should have been {seen} by {until[:19]} UTC; ask the partner", state
        )
    return None


def _open(order: Order, history: list[Recorded], code: str, reason: str, state: Answer) -> Finding | None:
    """Once for each thing that is wrong."""
    message = f"order {order.id} on {order.agreed.key}: {reason}"
    case = order.case(code, message)
    count = sum(not one.positive for one in _heard(order))
    body = {**_about(order), "state": state.value, "case": case}
    (entry,) = ledger().append([Entry(history[0].journey, "incident", body, f"{history[0].journey}/{code}/{count}")])
    return Finding(code, f"{history[0].journey}/{code}/{count}", message) if entry.fresh else None


def _over(history: list[Recorded]) -> dict[str, Any]:
    return {"case": {"state": "resolved"}} if any("case" in entry.body for entry in history) else {}


def _sent_again(order: Order) -> bool:
    """It was sent once more after the partner's last no, and stands at the partner."""
    heard = [order.history, *ledger().journeys(_later(order)).values()]
    said = max(entry.seq for history in heard for entry in history if entry.kind == "acknowledged")
    orders = [Package.parse(entry.body["package"]).journey for entry in order.each("again") if entry.seq > said]
    return any(entry.kind == "certified" for history in ledger().journeys(orders).values() for entry in history)


def _about(order: Order) -> dict[str, Any]:
    return {"partner": order.agreed.partner, "stream": order.agreed.stream, "name": order.id, "order": order.id}


def _journey(order: str) -> str:
    return f"acknowledgement.{order}"
