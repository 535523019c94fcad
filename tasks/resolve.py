"""Resolve: close the cases of documents that came through after all, or whose corrected file did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from blocks.errors import JourneyMoved
from blocks.ledger import CaseState, Entry, Recorded
from tasks.cases import RETURNED, state_of
from tasks.connections import ledger, quarantine, spool
from tasks.consignment import Consignment, Item, Steps
from tasks.correct import under_way
from tasks.doctypes import find
from tasks.let_go_on import CORRECTS, PARTED
from tasks.rules.completes import CUT, completes
from tasks.rules.tabular import TRUNCATED
from tasks.tell_partner import TOLD

CORRECTED = "corrected"
"""Kind of the entry about a refused file whose partner sent it again under its name, as it should be."""


def resolve(consignment: Consignment) -> Consignment:
    """A case whose document was filed (or is a duplicate of one that was) needs nobody any more; nor does one that was corrected."""
    steps = Steps(consignment)
    through = [item for item in consignment.items if item.filed or item.duplicate_of]
    for item in through:
        if item.recorded("quarantined"):
            steps.add(item, "resolved", {"case": {"state": "resolved"}}, once=f"{item.journey}/resolved/{item.round}")
    _close_corrected(consignment, through)
    return steps.write(ledger().append)


def _close_corrected(consignment: Consignment, through: list[Item]) -> None:
    """Close the cases of earlier files of the same name whose partner was asked for this one, or that were cut, and are complete in it.

    A note asks, or a person. Elsewhere the same name may mean tomorrow's file.
    """
    agreed = consignment.agreed
    by_name = {item.arrival.file.shown: item for item in through}
    cases = ledger().cases(partner=agreed.partner, stream=agreed.stream) if through else []
    pairs = [(case.journey, item) for case in cases if (item := by_name.get(case.name or "")) and case.journey < item.journey]
    histories = ledger().journeys(list(dict.fromkeys([one for journey, item in pairs for one in (journey, item.journey)])))
    for journey, item in pairs:
        document = {"document": item.filed.id} if item.filed else {}
        body = {**agreed.about(item.arrival), "by": item.journey, **document, "case": {"state": "resolved"}}
        entry = Entry(journey, CORRECTED, body, once=f"{journey}/{CORRECTED}")
        while _corrects(item, journey, histories):
            try:
                ledger().append([entry], behind=len(histories[journey]))
            except JourneyMoved:  # a person may have put it right meanwhile, or be about to
                histories[journey] = ledger().journey(journey)
                continue
            break


def _corrects(item: Item, journey: str, histories: Mapping[str, Sequence[Recorded]]) -> bool:
    """True if an earlier file's open case is over with this one."""
    history = histories[journey]
    if state_of(history) is CaseState.RESOLVED or under_way(history) is not None:
        return False
    # A duplicate brings nothing of what was asked for, unless it is one because all of its rows are filed.
    corrects = [one for entry in histories[item.journey] for one in entry.body.get(CORRECTS, ())]
    asked_for = any(entry.kind in (TOLD, PARTED, RETURNED) for entry in history)
    return (item.filed is not None or journey in corrects) and (asked_for or _completes(item, journey, histories))


def _completes(item: Item, journey: str, histories: Mapping[str, Sequence[Recorded]]) -> bool:
    """True if an earlier file was cut, and this one has all of its rows in their order, and as many as its control line had told."""
    refused = next((entry.body for entry in reversed(histories[journey]) if entry.kind == "quarantined"), None)
    cut, digest = quarantine().content(journey), item.arrival.digest
    if refused is None or refused["case"]["code"] not in CUT or cut is None or digest is None or not spool().holds(digest):
        return False
    judged = next((entry.body for entry in reversed(histories[item.journey]) if entry.kind == "judged"), {})
    told = [int(one["value"]) for one in refused["findings"] if one["code"] == TRUNCATED and one.get("value", "").isdecimal()]
    if judged.get("doctype") != refused["doctype"] or any(rows != int(judged["facts"].get("rows", -1)) for rows in told):
        return False
    table = find(str(judged["doctype"])).table
    with spool().path(digest).open("rb") as whole, cut.open("rb") as part:
        return completes(whole, part, table.trailer.start if table and table.trailer else None)
