"""Review: a quarantine case, and what a person decides about it."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run

from tasks.ask_about import ask_about, concluded, settle_answer, settle_try, take_case
from tasks.check import check
from tasks.close import close
from tasks.correct import Correction, correct
from tasks.file_or_set_aside import file_or_set_aside
from tasks.in_sets import waiting_for
from tasks.pick_up import pick_up
from tasks.report import report
from tasks.retry import reopened
from tasks.tell_partner import tell_partner


@flow(name="retry", flow_run_name="retry {journey}")
def retry(
    journey: str,
    comment: str,
    by: str = "as stated by nobody",
    release: bool = False,
    facts: dict[str, str] | None = None,
    cells: list[str] | None = None,
    file: str = "",
) -> State:
    """Take a quarantined document through the checks again, with the rules as they are now.

    Args:
        journey: The case's journey, as ``countersign quarantine list`` shows it.
        comment: Why; recorded.
        by: Who asks, as stated; recorded.
        facts: What this person tells about the document, where its name and content do not.
        release: This person has looked into a document that we could not inspect, or whose refusal the stream lets people overrule,
            and lets it through.
        cells: Cells of the table as this person puts them right: "7, quantity = 12".
        file: Name of the corrected file in the folder ``corrections`` of the workers' home.
    """
    with reopened(journey, comment, by, release, facts or {}, corrected=bool(cells or file)) as consignment:
        checked = correct(check(pick_up(consignment)), Correction(by, comment, cells or [], file))
        closed = close(tell_partner(file_or_set_aside(checked)))
    for asked in waiting_for(closed):
        retry(**asked, return_state=True)  # what comes of it is a run of its own
    return report(closed.agreed, closed.rows())


@flow(name="review", flow_run_name="review {journey}", validate_parameters=True)
def review(journey: str) -> State:
    """Ask people what shall become of a case, until it is over.

    While they are asked no process waits: the run is suspended, and begins anew at the top with each answer.

    Args:
        journey: The case's journey, as ``countersign quarantine list`` shows it.
    """
    case = take_case(journey)
    settle_answer(case)
    if case.again is not None:
        settle_try(case, retry(**case.again, return_state=True))
    if case.open:
        asking = ask_about(case)
        # Only ever with a fresh key: one that has fired would answer by itself. What comes back is read by the next pass.
        suspend_flow_run(wait_for_input=asking.form, key=asking.key, timeout=None)
    return concluded(case)
