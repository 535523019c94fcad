"""Settle what is in doubt: of a file whose answer was lost only the partner knows, and a person asks them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from blocks.outbound import Destination
from blocks.sender import Settled
from blocks.values import name_b64, shown
from tasks.order import Order, in_hand, sender


@dataclass(frozen=True, slots=True)
class Doubt:
    """A file of which nobody here can tell whether it arrived."""

    destination: int
    """Its place in the package's destinations, from 0."""
    name: bytes


def doubts(order: Order) -> list[Doubt]:
    """What of an order waits for somebody who asks the partner."""
    told = order.last("in-doubt", "closed")
    if told is None or told.kind == "closed":
        return []
    since = {(one.body["destination"], one.body["file_b64"]) for one in order.each("settled") if one.n > told.n}
    waiting = [one for one in told.body.get("unknown", []) if (one["destination"], one["file_b64"]) not in since]
    return [Doubt(one["destination"], base64.b64decode(one["file_b64"])) for one in waiting]


def settle(order: Order, doubt: Doubt, *, arrived: bool, comment: str) -> Settled:
    """Tell the sender what the partner says of a file, and write down who said it. Safe to repeat.

    Raises ``SendRefused`` if the sender is in no doubt about it, or does not take the caller's word; ``LeaseLost`` while a run works
    on the order.
    """
    package = order.matter.package
    place: Destination = package.destinations[doubt.destination]
    with in_hand(order) as held, sender() as asked:
        settled = asked.settle(package.digest, place, doubt.name, arrived=arrived, comment=comment)
        facts = {
            "file": shown(doubt.name),
            "file_b64": name_b64(doubt.name),
            "destination": doubt.destination,
            "to": place.shown,
            "arrived": arrived,
            "said": settled.said.facts,
        }
        resolved = {} if settled.left else {"case": {"state": "resolved"}}
        held.write("settled", {**facts, **resolved}, once=f"settled/{package.digest}/{settled.number}")
    return settled


def wake(order: Order, message: str) -> bool:
    """Let the run that leads an order go on, if it has ended. False if Prefect does not know it any more."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(order.run)).state
            if state is None or state.is_final():
                client.set_flow_run_state(UUID(order.run), Scheduled(message=message[:500]), force=True)
        except ObjectNotFound:
            return False
    return True
