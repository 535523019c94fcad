"""Governance: holds out to the repositories, and what retention and holds let go."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.clean_up import (
    clear_outbox,
    clear_what_was_held,
    collect_spool,
    purge_quarantine,
    remove_what_has_ended,
    report,
    tell_holds,
)
from tasks.connections import hang_up
from tasks.reduce import reduce_closed


@flow(name="clean-up", flow_run_name="clean-up", validate_parameters=True)
def clean_up(spool_hours: float = 24, quarantine_days: float = 90) -> State:
    """Tell the repositories of holds they do not know yet; then let go what need not be kept, and is certainly not on hold.

    Last, closed journeys of streams that say so are exported and reduced to tombstones.

    Args:
        spool_hours: Bytes in the spool that no open journey needs go after so long.
        quarantine_days: Bytes of resolved cases go after so long; what was found and decided stays in the ledger.
    """
    try:
        swept = [
            tell_holds(),
            collect_spool(timedelta(hours=spool_hours)),
            clear_outbox(),
            purge_quarantine(timedelta(days=quarantine_days)),
            *remove_what_has_ended(),
            *clear_what_was_held(),
            *reduce_closed(),
        ]
    finally:
        hang_up()
    return report(swept)
