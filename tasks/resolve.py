"""Resolve: close the cases of documents that came through after all, or whose corrected file did."""

from __future__ import annotations

from blocks.ledger import Entry
from tasks.connections import ledger
from tasks.consignment import Consignment, Item, Steps
from tasks.let_go_on import CORRECTS, PARTED
from tasks.retrying import task
from tasks.tell_partner import TOLD

CORRECTED = "corrected"
"""Kind of the entry about a refused file whose partner was told what to mend, and sent it again under its name."""


@task(task_run_name="resolve what came through")
def resolve(consignment: Consignment) -> Consignment:
    """A case whose document was filed (or is a duplicate of one that was) needs nobody any more; nor does one that was corrected."""
    steps = Steps(consignment)
    through = [item for item in consignment.items if item.filed or item.duplicate_of]
    for item in through:
        if item.recorded("quarantined"):
            steps.add(item, "resolved", {"case": {"state": "resolved"}}, once=f"{item.journey}/resolved/{item.round}")
    if consignment.agreed.terms.notes is not None:
        _close_corrected(consignment, through)
    return steps.write(ledger().append)


def _close_corrected(consignment: Consignment, through: list[Item]) -> None:
    """Close the cases of earlier files of the same name whose notes asked for this one.

    Elsewhere the same name may mean tomorrow's file, so only a note makes a later one a correction.
    """
    agreed, entries = consignment.agreed, []
    by_name = {item.arrival.file.shown: item for item in through}
    cases = ledger().cases(partner=agreed.partner, stream=agreed.stream) if through else []
    pairs = [(case.journey, item) for case in cases if (item := by_name.get(case.name or "")) and case.journey < item.journey]
    histories = ledger().journeys(list(dict.fromkeys([one for journey, item in pairs for one in (journey, item.journey)])))
    for journey, item in pairs:
        # A duplicate brings nothing of what was asked for, unless it is one because all of its rows are filed.
        corrects = [one for entry in histories[item.journey] for one in entry.body.get(CORRECTS, ())]
        if (item.filed or journey in corrects) and any(entry.kind in (TOLD, PARTED) for entry in histories[journey]):
            body = {**agreed.about(item.arrival), "by": item.journey, "case": {"state": "resolved"}}
            entries.append(Entry(journey, CORRECTED, body, once=f"{journey}/{CORRECTED}"))
    ledger().append(entries)
