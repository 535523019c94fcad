"""Governance: flags in, holds out to the repositories, and what retention and holds let go."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.approvals import approve, report_approvals, with_approvals
from tasks.audit import audit_watches, report_audit
from tasks.catalogue import catalogue_watches, report_catalogue
from tasks.clean_up import (
    clear_outbox,
    clear_what_was_held,
    collect_spool,
    each,
    hear_flags,
    purge_quarantine,
    remove_what_has_ended,
    report,
    tell_holds,
)
from tasks.connections import hang_up
from tasks.govern import govern_all, report_flags
from tasks.onboard import load_onboardings, onboard_each, report_papers
from tasks.reduce import reduce_closed
from tasks.report import run_name


@flow(name="govern", flow_run_name="govern", validate_parameters=True)
def govern() -> State:
    """Have in force what governance systems have flagged (holds, retention): here at once, then at the repositories; lift what they lift.

    While one gives no whole answer, nothing that it may have flagged is removed, and this fails.
    """
    try:
        found = govern_all()
    finally:
        hang_up()
    return report_flags(found)


@flow(name="audit", flow_run_name=run_name("audit", "watch"), validate_parameters=True)
def audit(watch: str = "", everything: bool = False, patience_seconds: float = 60) -> State:
    """Tell the SIEM what happened in watched folders: each event at least once, an object's in order, and look for gaps.

    Args:
        watch: Name of one watch's file in the folder ``watches`` of the profiles; left out: all that name a SIEM.
        everything: Compare the histories of all that is there with what was told, and not only of what had an event just now.
        patience_seconds: Longest wait for a SIEM that says "later"; the next run goes on there.
    """
    try:
        done = audit_watches(watch, everything, timedelta(seconds=patience_seconds))
    finally:
        hang_up()
    return report_audit(done)


@flow(name="clean-up", flow_run_name="clean-up", validate_parameters=True)
def clean_up(spool_hours: float = 24, quarantine_days: float = 90) -> State:
    """Hear flags, tell the repositories of holds they do not know yet; then let go what need not be kept and is certainly not on hold.

    Last, closed journeys of streams that say so are exported and reduced to tombstones. A step that breaks off hinders none behind it;
    what the others did is reported, and then this one fails.

    Args:
        spool_hours: Bytes in the spool that no open journey needs go after so long.
        quarantine_days: Bytes of resolved cases go after so long; what was found and decided stays in the ledger.
    """
    try:
        swept, broken = each(
            {
                "flags": hear_flags,
                "holds told": tell_holds,
                "spool": lambda: collect_spool(timedelta(hours=spool_hours)),
                "outbox": clear_outbox,
                "quarantine": lambda: purge_quarantine(timedelta(days=quarantine_days)),
                "documents": remove_what_has_ended,
                "originals": clear_what_was_held,
                "journeys": reduce_closed,
            }
        )
    finally:
        hang_up()
    state = report(swept)
    if broken:
        raise broken[0]
    return state


@flow(name="onboarding", flow_run_name=run_name("onboarding", "partner"), validate_parameters=True)
def onboarding(partner: str = "", patience_seconds: float = 60) -> State:
    """Look how the papers stand that partners must provide: tell their systems what has changed, and remind people.

    Run it again at any moment: nothing is told twice, and what was missed on a day is told by the next run.

    Args:
        partner: One partner; left out: all whose profile says something of ``papers``.
        patience_seconds: Longest wait for a system that says "later"; the rest waits for the next run.
    """
    try:
        looked = onboard_each(load_onboardings(partner), timedelta(seconds=patience_seconds))
    finally:
        hang_up()
    return report_papers(looked)


@flow(name="catalogue", flow_run_name=run_name("catalogue", "watch"), validate_parameters=True)
def catalogue(watch: str = "", patience_seconds: float = 60) -> State:
    """Tell search indexes what is known of the documents in watched folders: metadata only, restricted ones as agreed.

    Run it again at any moment: it goes on where it stopped. A run fails where an index or a repository is away; others are told before.

    Args:
        watch: One watch, by its file in the folder ``watches`` of the profiles; left out: all that say something of ``index``.
        patience_seconds: Longest wait for an index that says "later"; the rest waits for the next run.
    """
    try:
        tally = catalogue_watches(watch, timedelta(seconds=patience_seconds))
    finally:
        hang_up()
    return report_catalogue(tally)


@flow(name="approvals", flow_run_name=run_name("approvals", "watch"), validate_parameters=True)
def approvals(watch: str = "") -> State:
    """Have sensitive changes in watched folders signed off by the people who were agreed; a change while they are asked begins anew.

    Run it again at any moment: an approval is begun once for each version, and goes on where it stopped.

    Args:
        watch: Name of a watch's file in the folder ``watches`` of the profiles; left out: all that say something of ``approval``.
    """
    try:
        rows = [row for one in with_approvals(watch) for row in approve(one)]
    finally:
        hang_up()
    return report_approvals(rows)
