"""Acknowledge: what a partner says afterwards, in files of its own, becomes part of the record of what it speaks of.

Where it says nothing, and that is agreed, what the sender sees at the partner does: a document that stood there and is gone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from blocks.errors import ConfigurationError, LeaseLost, RepositoryError, SenderError, SenderUnreachable
from blocks.ledger import Entry, Recorded
from blocks.outbound import Package, sha256
from blocks.profile import load_partner, partners
from blocks.settings import settings
from blocks.values import Collision, shown
from tasks.await_answer import acknowledgements, await_again, behind, look_for_answers, to_be_picked_up
from tasks.connections import ledger
from tasks.evidence import file_evidence
from tasks.order import Agreed, Order, find_order, in_hand, load_release, sender
from tasks.record import piece, recorded_text
from tasks.retrying import task
from tasks.rules.naming import text
from tasks.rules.reconcile import Finding
from tasks.rules.transmission import Acknowledgement, acknowledged, answer

WITHIN = timedelta(days=7)
"""So long after it was first seen an acknowledgement still finds its order by itself, if no sweep ran meanwhile."""
REACHES_BACK = timedelta(days=90)
"""So long after an order was made an acknowledgement finds it by the name of a document; by the order's id it always does."""
_PAGE = 500
NO = frozenset({"no", "false"})
"""What the fact ``acknowledged`` says where the partner does not take what was sent."""


@dataclass(frozen=True, slots=True)
class Said:
    """An acknowledgement that was filed, and what its name told."""

    journey: str
    facts: dict[str, str]
    told: Acknowledgement


@task(task_run_name="add acknowledgements")
def add_acknowledgements() -> list[Finding]:
    """Add what has come to the records, each as a new version; tell of what speaks of nothing that we know, or cannot be added now."""
    folder, found = settings().profiles, list[Finding]()
    for name in partners(folder):
        try:
            profile = load_partner(name, folder)
            streams = [key for key, stream in profile.outbound.items() if stream.recording.acknowledged_by]
            for stream in streams:
                found += _of_stream(load_release(name, stream))
        except ConfigurationError:
            continue  # told where the mirrors are compared
    return [*found, *_look_for_pickups(), *look_for_answers()]


def _look_for_pickups() -> Iterator[Finding]:
    """What the sender has seen gone is written down, once its name stands at none of the destinations."""
    for order in to_be_picked_up():
        if behind(order):
            yield from _write_down(order)
            continue
        try:
            with sender() as asked:
                told = asked.picked_up(Package.parse(str(order.frozen.body["package"])))
        except SenderUnreachable:
            return  # told by whoever needs it; looked at again with the next sweep
        except SenderError as error:
            yield Finding("acknowledgement", f"pickup/{order.journey}", f"order {order.id} is not looked for: {error}")
            continue
        names: dict[str, list[datetime | None]] = {}
        for file in told.files:
            names.setdefault(shown(file.name), []).append(file.gone)
        for name, seen in names.items():
            gone = [at for at in seen if at is not None]
            if len(gone) == len(seen):
                yield from _write_down(order, Acknowledgement.of_pickup(name, max(gone)))


def _write_down(order: Order, told: Acknowledgement | None = None) -> Iterator[Finding]:
    """``None``: what was written down already, and could not be filed yet."""
    try:
        with in_hand(order) as held:
            if told is None:
                _file(held)
            else:
                _add(held, told, f"picked up {told.document}")
    except LeaseLost:
        return  # a run works on it just now; the next sweep adds it
    except RepositoryError as error:
        message = f"a pickup could not be added to the record of order {order.id} yet; that is tried again ({error})"
        yield Finding("acknowledgement", f"pickup/{order.journey}/waits", message)


def _of_stream(agreed: Agreed) -> Iterator[Finding]:
    speaking = agreed.terms.recording.acknowledged_by
    assert speaking is not None  # noqa: S101 - only such streams are asked about
    for said in _filed(agreed.partner, speaking):
        order = _meant(agreed, said)
        if order is None:
            message = f"{said.told.name} acknowledges nothing that {agreed.key} has sent; look at what its name should tell"
            yield Finding("acknowledgement", f"acknowledgement/{said.journey}", message)
            continue
        try:
            with in_hand(order) as held:
                _add(held, said.told, said.journey)
            about = {"partner": agreed.partner, "stream": speaking, "order": order.id}
            ledger().append([Entry(said.journey, "attached", about, once=f"attached/{said.journey}")])
        except LeaseLost:
            continue  # a run works on it just now; the next sweep adds it
        except RepositoryError as error:
            message = (
                f"{said.told.name} could not be added to the record of order {order.id} yet; that is tried again ({error})"
            )
            yield Finding("acknowledgement", f"acknowledgement/{said.journey}/waits", message)


def _filed(partner: str, stream: str) -> Iterator[Said]:
    near = ledger().search(partner=partner, stream=stream, since=ledger().now() - WITHIN, limit=1000)
    for journey, history in ledger().journeys([one.journey for one in near if "." not in one.journey]).items():
        last = {entry.kind: entry for entry in history}
        filed, judged = last.get("filed"), last.get("judged")
        if filed is None or judged is None or "attached" in last:
            continue
        body = filed.body
        told = Acknowledgement(
            str(body["name"]), str(body["digest"]), filed.at, str(body["repository"]), str(body["repository_id"])
        )
        facts = {key: str(value) for key, value in judged.body["facts"].items()}
        document = "" if facts.get("order") else facts.get("document", "")
        told = replace(told, document=document, positive=facts.get("acknowledged", "yes").casefold() not in NO)
        yield Said(journey, facts, told)


def _meant(agreed: Agreed, said: Said) -> Order | None:
    """The order that it speaks of: by its id, else the last one that sent a document of that name."""
    if id := said.facts.get("order"):
        return _recorded(agreed, find_order(agreed, id))
    document = said.facts.get("document")
    if not document:
        return None
    for history in _orders(agreed, said.told.received):
        sent = (file["name"] for entry in history if entry.kind == "delivered" for file in entry.body["files"])
        # As the partner knows it: a template may have given it another name than it has in the repository.
        if document in {shown(text(base64.b64decode(name))) for name in sent} and (order := _recorded(agreed, history)):
            return order
    return None


def _orders(agreed: Agreed, until: datetime) -> Iterator[Sequence[Recorded]]:
    """What the stream was asked to send, newest first, as far back as an acknowledgement may reach by a document's name."""
    since = until - REACHES_BACK
    while page := ledger().search(partner=agreed.partner, stream=agreed.stream, since=since, until=until, limit=_PAGE):
        histories = ledger().journeys([one.journey for one in page if "." not in one.journey])
        yield from (histories[one.journey] for one in page if one.journey in histories)
        reached = page[-1].opened + timedelta(milliseconds=1)  # those of the same moment come twice: none is left out
        if len(page) < _PAGE or reached >= until:
            return
        until = reached


def _recorded(agreed: Agreed, history: Sequence[Recorded]) -> Order | None:
    order = Order(agreed, history[0].body["order"], history[0].journey, "", None) if history else None
    return order if order is not None and order.last("recorded") else None


def _add(order: Order, said: Acknowledgement, key: str) -> None:
    """Write it down, then file the record anew with all that was written down: a version more, whoever is killed between."""
    # Below a key of its own: the order's journey is found by its own name, not by that of the last file about it.
    order.write("acknowledged", {"said": said.facts}, once=f"acknowledged/{order.journey}/{key}")
    if not said.positive:
        await_again(order)
    if behind(order):
        _file(order)


def _file(order: Order) -> None:
    """The record's next version, with all that was written down. Raises ``RepositoryError``."""
    told = acknowledgements(order)
    record = acknowledged(recorded_text(order), told)
    target = order.agreed.terms.recording.model_copy(update={"collision": Collision.NEW_VERSION})
    (filed,) = file_evidence(order, target, order.agreed.recording, [piece(order, record, f"record/{len(told)}")])
    before = order.last("recorded")
    assert before is not None  # noqa: S101 - only recorded orders get here
    facts = {
        **before.body,
        "record": sha256(record),
        "repository_id": filed.id,
        "version": filed.version,
        "acknowledgements": len(told),
        "state": answer(recorded_text(order), told).value,
    }
    order.write("recorded", facts, once=f"recorded/{order.matter.package.digest}/{len(told)}")
