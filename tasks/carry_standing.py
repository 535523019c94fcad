"""Carry standing: what was signed beforehand, refused, ended and used, from the sender's own record into the ledger, each once.

::

    sweep.standing                 how far we have come: the sender's last deed that stands in the ledger
    standing.<partner>.<stream>    signed ─ used ─ used ─ ended | revoked ; refused

The sender need not reach the ledger, and forgets none of it: a sweep that was away carries over all that it has missed.
"""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from prefect import get_run_logger
from prefect.events import emit_event

from blocks.errors import SenderError
from blocks.ledger import Entry
from blocks.outbound import Deed, iso
from blocks.values import Stage
from tasks.connections import ledger
from tasks.order import sender
from tasks.retrying import task

CARRIED = "sweep.standing"


@task(task_run_name="carry over what was signed beforehand")
def carry_standing() -> int:
    """How many deeds are new in the ledger. If the sender does not answer, none: the next sweep carries them over."""
    before = ledger().newest(CARRIED)
    after, count = str(before.body["deed"]) if before else "", 0
    try:
        with sender() as asked:
            while deeds := asked.deeds(after):
                count += _carry(deeds)
                after = deeds[-1].id
    except SenderError as error:
        get_run_logger().warning("what was signed beforehand was not carried over: %s", error)
    return count


def _carry(deeds: tuple[Deed, ...]) -> int:
    entries = []
    for deed in deeds:
        # The event comes first: whoever is killed between the two tells it again, and that is the same event once more.
        if ledger().holder(_once(deed)) is None:
            _tell(deed)
        told = {
            "partner": deed.partner,
            "stream": deed.stream,
            "approver": deed.approver,
            "by_sender": iso(deed.at),
            **deed.facts,
        }
        place = f"standing.{deed.partner}.{deed.stream}"
        entries.append(Entry(place, f"standing-{deed.kind}", told, once=_once(deed), stage=Stage.CLEARED))
    last = deeds[-1].id
    mark = Entry(CARRIED, "carried", {"deed": last}, once=f"carried/{last}", stage=Stage.CLEARED)
    return sum(entry.fresh for entry in ledger().append([*entries, mark])[:-1])


def _once(deed: Deed) -> str:
    return f"standing/{deed.id}"


def _tell(deed: Deed) -> None:
    place = f"{deed.partner}.{deed.stream}"
    emit_event(
        id=uuid5(NAMESPACE_URL, _once(deed)),
        event=f"countersign.signoff.standing-{deed.kind}",
        resource={
            "prefect.resource.id": f"countersign.stream.{place}",
            "prefect.resource.name": f"{deed.partner}/{deed.stream}",
        },
        payload={"approver": deed.approver, "at": iso(deed.at), **{key: deed.facts[key] for key in _TOLD & deed.facts.keys()}},
    )


_TOLD = frozenset({"standing", "order", "package", "by", "code"})
"""Of a deed's facts, those for an event: signatures stand in the ledger."""
