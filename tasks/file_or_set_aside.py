"""File or set aside: each judged document goes to the repository, or to the quarantine."""

from __future__ import annotations

from tasks.consignment import Consignment
from tasks.file_away import file_away
from tasks.let_go_on import let_go_on
from tasks.retrying import task
from tasks.set_aside import set_aside


@task(task_run_name="file away or set aside ({consignment.size})")
def file_or_set_aside(consignment: Consignment) -> Consignment:
    """File what was accepted, and the good rows of tables that were refused; set all else aside, each as a case for a person.

    One task: each costs Prefect and its server more than most consignments do here. Tried again it does nothing twice, and goes on
    behind the filing if that was done.
    """
    if consignment.filed is None:
        consignment.filed = file_away.fn(let_go_on(consignment))
    return set_aside.fn(consignment.filed)
