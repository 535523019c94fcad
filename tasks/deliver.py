"""Deliver: look once more whether what was signed still is what would be sent, and ask the sender to send it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger

from blocks.errors import (
    ConfigurationError,
    DocumentChanged,
    DocumentMissing,
    RepositoryUnreachable,
    SenderError,
    SendRefused,
    SpoolCorrupt,
    SpoolMissing,
    TransferIncomplete,
)
from blocks.outbound import Package, PackageFile, Policies, Vote
from blocks.repositories.base import RepositorySession
from blocks.sender import Arrived, Seen, delivered_facts
from blocks.spool import Batch, Unkept
from blocks.values import Kept, name_b64, shown
from tasks.connections import repository_session, spool
from tasks.order import NOT_DELIVERED, Order, sender
from tasks.personality import Place, remember
from tasks.retrying import task
from tasks.rules.kits import fits
from tasks.rules.packing import AtRepository, Voided, admitted, changed_values, freshness, sensitive
from tasks.rules.reconcile import PAPERS_LACKING, PARTNER_FULL

_AT_ONCE = 8
"""Documents that are read again at a time, where a repository lets us wait for them."""
_QUICK_SECONDS = 0.001
"""For a document of a repository that does not: threads would wait for each other, and take up to three times as long."""


@task(task_run_name="deliver {order.id}")
def deliver(order: Order) -> list[Arrived]:
    """Bring the package to its destinations; empty if it may not go, and then the order says why.

    Called again after a break, it goes on: the sender never sends a file twice, and what it says is complete stays so.
    """
    if (before := order.arrived) is not None:
        _resolve(order)  # a pass that was killed may have left its case open
        return before
    package = order.matter.package
    now = order.standing()
    looked = _look_while_prepared(order, package.kept(now.left_out), package)
    void = _voided(order, package, looked)
    if void is not None and order.last("sending") is None:
        order.void(void)
        return []
    order.write("sending", {"left_out": list(now.left_out)}, once=f"sending/{package.digest}")
    try:
        with sender() as sending:
            arrived = sending.send(package, order.policies, order.votes, [one.told for one in looked])
    except SendRefused as error:
        if void is not None:
            order.void(void)
        else:
            order.end("Not sent", str(error), fault=True)
            order.tell("not-sent", reason=str(error))
        return []
    _remember(order, arrived)
    return _arrived(order, arrived)


# --------------------------------------------------------------------------------------------- still the same


@dataclass(frozen=True, slots=True)
class _Looked:
    """A document as the repository has it now."""

    seen: Seen
    changed: str = ""
    """Sensitive attributes that have other values than when the package was frozen."""

    @property
    def told(self) -> Seen:
        """What the sender is told. It knows no values: what has others than those that were signed is not there any more.

        It is asked even so, for only it knows whether all of the package stands at the partner already.
        """
        return replace(self.seen, newest=None) if self.changed else self.seen


@task(task_run_name="look again {order.id}")
def still_the_same(order: Order) -> None:
    """Void a package that waits for its sign-offs, if the repository has changed what it is about: nobody shall sign that any more.

    Without reading bytes; before anything is sent all of it is asked once more. A repository that is away keeps nobody from signing.
    """
    if order.last("round") is None or order.last("sending") is not None:
        return  # frozen a moment ago, or on its way
    package = order.matter.package
    try:
        looked = _look(order, package.files, ())
    except RepositoryUnreachable as error:
        get_run_logger().warning("%s: the documents are looked at again before anything is sent", error)
        return
    if (void := _voided(order, package, looked)) is not None:
        order.void(void)


def _look_while_prepared(order: Order, files: Sequence[PackageFile], package: Package) -> list[_Looked]:
    """Look, while the sender copies what the spool holds of it; what the spool lost is kept from the repository once more."""
    order.write("preparing", {}, once=f"preparing/{package.digest}")
    votes, policies = order.votes, order.policies
    with ThreadPoolExecutor(1) as aside:
        preparing = aside.submit(copy_context().run, _prepare, package, policies, votes)
        looked = _look(order, package.files, files)
    if (lacking := preparing.result()) is None:
        lacking = frozenset(file.sha256 for file in files)
    lost = [file for file in files if file.sha256 in lacking and not _spooled(order, file)]
    if not lost:
        return looked
    again = {one.seen.repository_id: one for one in _look(order, lost, lost, keep=True)}
    return [again.get(one.seen.repository_id, one) for one in looked]


def _prepare(package: Package, policies: Policies, votes: Sequence[Vote]) -> frozenset[str] | None:
    """The digests that the sender does not find in the spool; None if it does not tell: then we look, and it is asked to send even so."""
    try:
        with sender() as preparing:
            return preparing.prepare(package, policies, votes)
    except (SenderError, ConfigurationError) as error:
        get_run_logger().warning("the sender has not prepared package %s: %s", package.digest[:12], error)
        return None


def _look(order: Order, files: Sequence[PackageFile], go: Sequence[PackageFile], *, keep: bool = False) -> list[_Looked]:
    """What the repository says of every document now, and of those that ``go`` the digest of the approved version, read again.

    No repository of ours tells a version's digest, and bytes that were changed below its API leave dates and sizes as they were. So
    it costs one more download for each document. The spool is to ``keep`` the bytes of what it lost: each
    document by itself, so that a worker that is killed on the way does not begin with the first one again.
    """
    goes, terms = {file.repository_id for file in go}, order.agreed.terms
    slots, frozen = terms.slots(order.kit), order.frozen.body.get("sensitive", {})
    today = order.agreed.people.day(datetime.now(UTC))
    compared = Unkept(spool())

    def begin() -> AbstractContextManager[Batch]:
        return spool().batch() if keep else nullcontext(compared)

    with repository_session(order.source) as session:

        def look(file: PackageFile) -> _Looked:
            id, slot = file.repository_id, slots.get(file.slot)
            found = _found(session, file, begin if id in goes else None)
            if found is None:
                return _Looked(Seen(id, None))
            kept, digest = found
            may = isinstance(admitted(kept, terms.gather, terms.freshness, today), int) and (slot is None or fits(kept, slot))
            changed = changed_values(frozen.get(id, {}), sensitive(kept, terms.gather))
            return _Looked(Seen(id, kept.version, may, digest), changed)

        looked = _each(look, files)
        review = terms.gather.review
        if review is None or order.frozen.body.get("from_record"):
            return looked
        may = {one.seen.repository_id for one in looked if one.seen.newest is not None and one.seen.admitted}
        versions = {file.repository_id: file.version for file in files if file.repository_id in may}
        lacking = session.unreviewed(versions, review.map, review.step)
    return [
        replace(one, seen=replace(one.seen, admitted=False)) if one.seen.repository_id in lacking else one for one in looked
    ]


def _each(look: Callable[[PackageFile], _Looked], files: Sequence[PackageFile]) -> list[_Looked]:
    """Look at each document, in their order: several at a time as soon as one has to be waited for."""
    looked: list[_Looked] = []
    began = time.monotonic()
    while len(looked) < len(files) and time.monotonic() - began <= _QUICK_SECONDS * (len(looked) + _AT_ONCE):
        looked.append(look(files[len(looked)]))
    if len(looked) == len(files):
        return looked
    with ThreadPoolExecutor(_AT_ONCE) as readers:
        return [*looked, *readers.map(look, files[len(looked) :])]


def _found(
    session: RepositorySession, file: PackageFile, begin: Callable[[], AbstractContextManager[Batch]] | None
) -> tuple[Kept, str | None] | None:
    """A document as it stands in the repository, and the digest of the approved version if that is read; None if either is gone."""
    try:
        if begin is None:
            return session.get(file.repository_id), None
        with begin() as batch:
            kept, spooled = session.examine(file.repository_id, file.version, batch)
    except (DocumentMissing, DocumentChanged):
        # It is gone or no longer ours to see, or the version that was approved is.
        return None
    return kept, spooled.digest


def _spooled(order: Order, file: PackageFile) -> bool:
    """True if the spool still holds what was approved."""
    try:
        spool().verify(file.sha256)
    except SpoolCorrupt as error:
        # Nobody but us writes there: whoever did is worth an alarm, even if the right bytes can be had again.
        order.write("spool-changed", {"document": file.shown, "reason": str(error)})
        order.tell("spool-changed", document=file.shown, reason=str(error))
    except SpoolMissing:
        pass
    else:
        return True
    return False


def _voided(order: Order, package: Package, looked: Sequence[_Looked]) -> Voided | None:
    agreed = order.agreed
    told = {
        one.seen.repository_id: AtRepository(one.seen.newest, one.seen.admitted, one.seen.sha256, one.changed) for one in looked
    }
    # A child package goes where its parent would have gone: the moment of the root order counts.
    destinations = agreed.destinations(package.root_order, order.due, package.kit)
    found = freshness(package, told, agreed.terms, destinations=destinations, frozen=order.policies, policies=agreed.policies)
    return found if isinstance(found, Voided) else None


# --------------------------------------------------------------------------------------------- how far it came


def _remember(order: Order, arrived: Sequence[Arrived]) -> None:
    """What the sender found out about the partner's servers: nobody else can sign in there."""
    for one in arrived:
        endpoint = order.agreed.profile.endpoints.get(one.endpoint)
        if endpoint is not None and one.personality is not None:
            place = Place(order.agreed.partner, one.endpoint, endpoint, order.agreed.terms.owner)
            for change in remember(place, one.personality):
                get_run_logger().warning("%s is not as it was: %s", endpoint.address, change.text)


def _arrived(order: Order, arrived: list[Arrived]) -> list[Arrived]:
    """Record what stands at the partner. Raises ``TransferIncomplete`` for what may do better at once."""
    places = order.matter.package.destinations
    asker = order.matter.requester
    named = {id for vote in order.standing().votes for id in (vote.approver, vote.on_behalf_of) if id}
    involved = order.people.only(named | ({asker.id} if asker else set()))
    for one in arrived:
        if one.complete:
            order.write(
                "delivered",
                {
                    "destination": one.destination,
                    "to": places[one.destination].shown,
                    "files": [delivered_facts(file) for file in one.files],
                    "people": involved.model_dump(mode="json"),
                },
                once=f"delivered/{order.matter.package.digest}/{one.destination}",
            )
    if unknown := [name for one in arrived for name in one.unknown]:
        reason = "; ".join(one.problem for one in arrived if one.unknown)
        doubts = [
            {"destination": one.destination, "file": shown(name), "file_b64": name_b64(name)}
            for one in arrived
            for name in one.unknown
        ]
        _ask_a_person(order, "delivery-unknown", reason, unknown=doubts)
        order.end(
            f"In doubt, {len(unknown)} unknown",
            f"{', '.join(map(shown, unknown[:5]))}: ask the partner, then say so: countersign signoff settle {order.id} ...",
            fault=False,
        )
        return []
    if problems := [one for one in arrived if not one.complete]:
        said = "; ".join(one.problem for one in problems)
        if all(one.worth_retrying for one in problems):
            raise TransferIncomplete(said)
        if any(one.withheld for one in problems):
            _ask_a_person(order, PAPERS_LACKING, said)
            order.end("Waits for the partner's papers", f"{said}. It is tried again by itself")
            return []
        if all(one.full or one.worth_retrying for one in problems):
            _ask_a_person(order, PARTNER_FULL, said)
            order.end("Waits for room at the partner", f"{said} It is tried again by itself, and goes on where it stopped")
            return []
        _ask_a_person(order, NOT_DELIVERED, said)
        order.end("Not delivered", said, fault=True)
        return []
    _resolve(order)
    return arrived


def _resolve(order: Order) -> None:
    """Close the case of a delivery that has come through; what was in doubt about single files, a person has settled."""
    asked = order.last("in-doubt", "resolved", "settled")
    if (
        asked is not None
        and asked.kind == "in-doubt"
        and asked.body["case"]["code"] in (NOT_DELIVERED, PARTNER_FULL, PAPERS_LACKING)
    ):
        order.write("resolved", {"reason": "it has been delivered", "case": {"state": "resolved"}})


def _ask_a_person(order: Order, code: str, reason: str, **facts: Any) -> None:
    """Open the case of an order that gets no further; one that stands for the same thing already is enough."""
    asked = order.last("in-doubt", "resolved", "settled")
    if asked is not None and asked.kind == "in-doubt" and asked.body["case"]["code"] == code and not facts:
        return
    case = order.case(code, reason)
    order.write("in-doubt", {"reason": reason, "case": case, **facts})
    order.tell(code, reason=reason)
