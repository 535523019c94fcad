"""Reconcile: the sweep. What Prefect tells of every release against what the ledger knows."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.compare import compare, compare_mirrors
from tasks.sweep import redrive, report, tell


@flow(name="reconcile", flow_run_name="sweep", validate_parameters=True)
def reconcile(patience_seconds: float = 60, look_back_hours: float = 24) -> State:
    """Find what went around the sign-off, tell it once, and bring what got stuck on its way again.

    It sends nothing and judges no answer: a run that is woken asks its approvers again.

    Args:
        patience_seconds: How long a run may take to begin, or between two steps, before it counts as stuck.
        look_back_hours: For how long the answers of a finished order are watched.
    """
    patience = timedelta(seconds=patience_seconds)
    stuck = compare(timedelta(hours=look_back_hours), patience)
    return report([*redrive(stuck, patience), *tell(compare_mirrors())])
