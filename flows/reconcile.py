"""Reconcile: the sweep (what Prefect tells of every release against what the ledger knows), and the ledger's daily seal."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.acknowledge import add_acknowledgements
from tasks.carry_standing import carry_standing
from tasks.case_record import keep_case_records
from tasks.checkpoint import checkpoint
from tasks.compare import compare, compare_mirrors
from tasks.compare_sender import compare_with_sender
from tasks.notify import notify_again
from tasks.previews import delete_previews
from tasks.review_again import review_again
from tasks.side_doors import look_for_side_doors
from tasks.sweep import begin_again, redrive, report, tell
from tasks.tell_cases import tell_cases


@flow(name="reconcile", flow_run_name="sweep", validate_parameters=True)
def reconcile(patience_seconds: float = 60, look_back_hours: float = 24) -> State:
    """Find what went around the sign-off, tell it once, and bring what got stuck on its way again; add what has come to records.

    Acknowledgements and records of cases are filed, what the sender knows of sign-offs beforehand is written down, messages to people
    that nobody took are sent again, previews that nobody needs go. It sends nothing to partners and judges no answer: a run that is
    woken asks its approvers again.

    Args:
        patience_seconds: How long a run may take to begin, or between two steps, before it counts as stuck.
        look_back_hours: For how long the answers of a finished order are watched, and (at most two) whether runs were tampered with.
    """
    patience = timedelta(seconds=patience_seconds)
    look_back = timedelta(hours=look_back_hours)
    stuck = compare(look_back, patience)
    around = [*compare_mirrors(), *look_for_side_doors(look_back), *compare_with_sender(look_back), *add_acknowledgements()]
    around += [*keep_case_records(), *notify_again(look_back)]
    rows = [*redrive(stuck, patience), *begin_again(look_back, patience), *tell(around)]
    carry_standing()
    tell_cases()
    review_again()
    delete_previews()
    return report(rows)


@flow(name="checkpoint", flow_run_name="checkpoint", validate_parameters=True)
def seal() -> State:
    """Seal the ledger as it stands, by the sender, and file the seal where whoever can edit the ledger cannot reach."""
    kept = checkpoint()
    name = "Nothing to seal" if kept.sealed is None else f"Sealed, checkpoint {kept.sealed.number}"
    place = f"{len(kept.filed)} filed at {kept.place}" if kept.place else "filed nowhere: say where in repositories.yaml"
    return Completed(name=name, message=f"{kept.sealed.hash}; {place}" if kept.sealed else place)
