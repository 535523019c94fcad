"""Review: a quarantine case, and what a person decides about it."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.check import check
from tasks.clear_source import clear_source
from tasks.file_away import file_away
from tasks.in_sets import waiting_for
from tasks.let_go_on import let_go_on
from tasks.pick_up import pick_up
from tasks.report import report
from tasks.resolve import resolve
from tasks.retry import reopened
from tasks.set_aside import set_aside
from tasks.tell_partner import tell_partner


@flow(name="retry", flow_run_name="retry {journey}")
def retry(
    journey: str, comment: str, by: str = "as stated by nobody", release: bool = False, facts: dict[str, str] | None = None
) -> State:
    """Take a quarantined document through the checks again, with the rules as they are now.

    Args:
        journey: The case's journey, as ``countersign quarantine list`` shows it.
        comment: Why; recorded.
        by: Who asks, as stated; recorded.
        facts: What this person tells about the document, where its name and content do not.
        release: This person has looked into a document that we could not inspect, and lets it through.
    """
    with reopened(journey, comment, by, release, facts or {}) as consignment:
        checked = check(pick_up(consignment))
        aside = tell_partner(set_aside(file_away(let_go_on(checked))))
        cleared = clear_source(resolve(aside))
    for asked in waiting_for(cleared):
        retry(**asked, return_state=True)  # what comes of it is a run of its own
    return report(cleared.agreed, cleared.rows())
