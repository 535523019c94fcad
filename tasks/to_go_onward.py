"""To go onward: a journey of its own for each document that systems are to be given, begun before the document is filed.

Begun before, so that no crash in between loses it; nothing goes before its file's journey says that it was filed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from blocks.ledger import Entry, Recorded
from tasks.connections import ledger
from tasks.consignment import Consignment, Item

ONWARD = "onward"
"""Kind of the entry that such a journey begins with."""
ROUTED = "routed"
"""Kind of the one that says where it goes."""
LEFT = "left"
"""Kind of the one that says that it goes nowhere, or not to one of its destinations."""


def journey_of(partner: str, stream: str, file: str) -> str:
    """The journey by which a document goes onward; ``file`` is the one by which it came."""
    return f"{beginning(partner, stream)}{file}"


def beginning(partner: str, stream: str) -> str:
    """What the journeys of one stream begin with."""
    return f"onward.{partner}.{stream}."


def to_go_onward(consignment: Consignment, items: Iterable[Item]) -> None:
    """Begin it for documents that are about to be filed, if anything was agreed."""
    agreed = consignment.agreed
    if agreed.terms.onward is None:
        return
    begun = [(item, journey_of(agreed.partner, agreed.stream, item.journey)) for item in items]
    ledger().append(
        [Entry(one, ONWARD, {**agreed.about(item.arrival), "file": item.journey}, once=f"{one}/begun") for item, one in begun]
    )


def onward_of(entries: Sequence[Recorded]) -> str:
    """How far a document has come on its way onward, for people: "onward: 1 of 2 delivered (pim, erp not yet), journey ..."

    ``entries``: of the journey by which it came, or by which it goes onward; empty for one that does not go, or about which all waits.
    """
    first = entries[0]
    about = first.body
    journey = (
        first.journey
        if first.kind == ONWARD
        else journey_of(str(about.get("partner")), str(about.get("stream")), first.journey)
    )
    history = entries if first.kind == ONWARD else ledger().journey(journey)
    routed = next((entry for entry in history if entry.kind == ROUTED), None)
    if routed is None:
        return ""
    wanted = list(routed.body["destinations"])
    told = [str(entry.body["to"]) for entry in history if entry.kind == "told"]
    left = [str(entry.body["to"]) for entry in history if entry.kind == LEFT and "to" in entry.body]
    rest = [f"{to} {'left' if to in left else 'not yet'}" for to in wanted if to not in told]
    said = ", ".join([*sorted(told), *rest])
    return f"onward: {len(told)} of {len(wanted)} delivered ({said}), journey {journey}"
