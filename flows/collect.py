"""Collect: transfers that other programs made -> sets of document, log and acknowledgement -> one record each -> clear the source."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.agreed import load_transfers
from tasks.clear_source import clear_source
from tasks.desk import Desk
from tasks.file_away import file_away
from tasks.look import look
from tasks.match import match
from tasks.pick_up import pick_up
from tasks.record_transfers import record_transfers
from tasks.report import report
from tasks.retrying import NO_RESULTS
from tasks.rules.transfers import in_sets
from tasks.set_aside import set_aside
from tasks.tell_cases import tell_cases
from tasks.threads import Threads


@flow(
    name="collect",
    flow_run_name="collect {partner}/{stream}",
    task_runner=Threads(max_workers=16),  # type: ignore[arg-type]
    validate_parameters=True,
    persist_result=False,
    result_storage=NO_RESULTS,
)
def collect(partner: str, stream: str, patience_seconds: float = 60) -> State:
    """Keep a record of every transfer that another program made, from where it leaves its files, its logs and what came back.

    Run it again at any moment: it goes on where it stopped. A set of which something is missing waits, and becomes a case.

    Args:
        partner: Name of the partner's file in the profiles folder.
        stream: One of the partner's inbound streams that says ``transfers``.
        patience_seconds: Longest wait in this run for files that may still be being written; the rest waits for the next run.
    """
    agreed = load_transfers(partner, stream)
    readiness = look(agreed, timedelta(seconds=patience_seconds))
    with Desk(agreed, readiness, in_sets(readiness.ready, agreed.terms)) as desk:
        for consignment in desk:
            picked = pick_up.submit(consignment)
            matched = match.submit(picked)
            filed = file_away.submit(matched)
            kept = record_transfers.submit(filed)
            aside = set_aside.submit(kept)
            desk.follow(picked, matched, filed, kept, aside, clear_source.submit(aside))
    tell_cases(partner, stream)
    return report(agreed, desk.rows)
