"""Resolve: close the cases of documents that came through after all."""

from __future__ import annotations

from tasks.connections import ledger
from tasks.consignment import Consignment, Steps
from tasks.retrying import task


@task(task_run_name="resolve what came through")
def resolve(consignment: Consignment) -> Consignment:
    """A case whose document was filed (or is a duplicate of one that was) needs nobody any more."""
    steps = Steps(consignment)
    for item in consignment.items:
        if item.recorded("quarantined") and (item.filed or item.duplicate_of):
            steps.add(item, "resolved", {"case": {"state": "resolved"}}, once=f"{item.journey}/resolved/{item.round}")
    return steps.write(ledger().append)
