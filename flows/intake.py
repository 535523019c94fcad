"""Intake: partner -> check -> classify -> file -> receipt -> clear the source."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from tasks.agreed import load_stream
from tasks.case_record import keep_case_records
from tasks.check import check
from tasks.close import close
from tasks.consignment import Consignment
from tasks.desk import Desk
from tasks.file_or_set_aside import file_or_set_aside
from tasks.look import look
from tasks.pick_up import pick_up
from tasks.rehearse import rehearse
from tasks.report import report
from tasks.retrying import NO_RESULTS
from tasks.tell_cases import tell_cases
from tasks.tell_partner import tell_partner
from tasks.threads import Threads


@flow(
    name="intake",
    flow_run_name="intake {partner}/{stream}",
    task_runner=Threads(max_workers=16),  # type: ignore[arg-type]
    validate_parameters=True,
    persist_result=False,
    result_storage=NO_RESULTS,
)
def intake(partner: str, stream: str, dry_run: bool = False, patience_seconds: float = 60) -> State:
    """Bring in everything a partner has left for us on one stream.

    Run it again at any moment: it goes on where it stopped, and two runs at once share the work.

    Args:
        partner: Name of the partner's file in the profiles folder.
        stream: One of the partner's inbound streams.
        dry_run: Say what would happen to every file, and write nothing anywhere.
        patience_seconds: Longest wait in this run for files that may still be being written; the rest waits for the next run.
    """
    agreed = load_stream(partner, stream)
    if dry_run:
        return report(agreed, rehearse(agreed), dry_run=True)

    readiness = look(agreed, timedelta(seconds=patience_seconds))
    with Desk(agreed, readiness) as desk:
        before: list[PrefectFuture[Consignment]] = []
        for consignment in desk:
            picked = pick_up.submit(consignment)
            checked = check.submit(picked)
            filed = file_or_set_aside.submit(checked, wait_for=before)
            told = tell_partner.submit(filed) if agreed.terms.tells_partner else filed
            desk.follow(picked, checked, filed, told, close.submit(told))
            before = [filed] if agreed.terms.ordered else []
    tell_cases(partner, stream)
    if agreed.records_cases:
        keep_case_records(partner, stream)
    return report(agreed, desk.rows)
