"""Place: give each judged document its place, in the repository or in the quarantine."""

from __future__ import annotations

from tasks.consignment import Consignment
from tasks.file_away import file_away
from tasks.let_go_on import let_go_on
from tasks.retrying import task
from tasks.set_aside import set_aside


@task(task_run_name="file away or set aside ({consignment.size})")
def place(consignment: Consignment) -> Consignment:
    """File what was accepted, and the good rows of tables that were refused; set all else aside, each as a case for a person.

    One task: each costs Prefect and its server more than most consignments do here. Tried again it does nothing twice.
    """
    return set_aside.fn(file_away.fn(let_go_on(consignment)))
