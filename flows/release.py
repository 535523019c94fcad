"""Release: gather -> check -> sign-off -> deliver -> prove -> certificate -> record."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run

from tasks.ask import ask, count_standing
from tasks.certify import certify, finish, part
from tasks.conclude import conclude
from tasks.deliver import deliver, still_the_same
from tasks.gather import check_outbound, freeze, gather
from tasks.order import load_release, take
from tasks.record import keep_record
from tasks.settle_round import settle_round, waiting


@flow(name="release", flow_run_name="release {partner}/{stream}", validate_parameters=True)
def release(
    partner: str, stream: str, order: str | None = None, requester: str = "", ids: list[str] | None = None, kit: str = ""
) -> State:
    """Send a partner what was ordered, once the people who must agree have signed exactly these bytes.

    While they are asked no process waits: the run is suspended, and begins anew at the top with each answer. Run it again at
    any moment: it goes on where the ledger says it stopped.

    Args:
        partner: Name of the partner's file in the profiles folder.
        stream: One of the partner's outbound streams.
        order: What is asked for, under an id: letters, digits, '.', '_', '-'. Empty: derived from the scheduled time.
        requester: Id of who asks for it; they never sign it themselves. Empty: a schedule or an event asks.
        ids: The documents, where the stream takes them from the order.
        kit: Which of the stream's kits, where it has any.
    """
    agreed = load_release(partner, stream)
    with take(agreed, order, requester, ids or [], kit) as work:
        if work.open and work.package is None:
            freeze(check_outbound(gather(work)))
        if work.open:
            settle_round(work)
        if waiting(work):
            still_the_same(work)
        if waiting(work):
            count_standing(work)
        if waiting(work):
            asking = ask(work)
            # Only ever with a fresh key: one that has fired would answer by itself. What comes back is read by the next pass.
            suspend_flow_run(wait_for_input=asking.form, key=asking.key, timeout=None)
        if work.open and (arrived := deliver(work)):
            certify(work, arrived)
            part(work)
            if keep_record(work, arrived):
                finish(work, arrived)
        return conclude(work)
