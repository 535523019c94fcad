"""Resend: documents of an order that was delivered, once more: the same bytes to the same places, signed for anew; or corrected.

Nothing is gathered, checked or judged again. What was signed then is taken from the record's copies, else from the repository in
the version that was approved, and must have the digest that was signed. It becomes a package of its own that says what it repeats
and why; a run of the stream's release asks for it, and the sender sends it only if it sent just that before.

A correction is another thing: a new order for the newest versions of the same documents, which are gathered, checked and signed for
as any others are. It says which order it corrects, to those who sign and to the partner, and holds nothing that the partner has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed

from blocks.errors import ConfigurationError, DocumentChanged, DocumentMissing
from blocks.ledger import Entry, Recorded, new_journey
from blocks.outbound import FourEyes, Package, PackageFile, sha256
from blocks.values import shown
from tasks.connections import ledger, repository_session, spool
from tasks.gather import still_there
from tasks.order import CORRECTION, Agreed, Order, documents, find_order, in_hand, order_key, sent
from tasks.retrying import task
from tasks.rules.literal import literal
from tasks.rules.packing import sensitive
from tasks.side_doors import as_reviewed
from tasks.sweep import deployment_of


@dataclass(frozen=True, slots=True)
class Repeat:
    """One document that is to go once more."""

    file: PackageFile
    """As it is packed now: where its bytes are taken from may be another place than then."""
    problem: str = ""
    """Why it cannot go; "" if it can."""


class Recalled:
    """What was delivered, and what of it is asked for again. Opaque to Prefect, like the order."""

    def __init__(
        self, order: Order, repeats: Sequence[Repeat], from_record: bool, problem: str, sensitive: Mapping[str, Any]
    ) -> None:
        self.order, self.repeats, self.from_record = order, tuple(repeats), from_record
        self.problem = problem
        """Why none of it can go; "" if it can."""
        self.sensitive = sensitive
        """The values whose change voids it, as they are now, by repository id."""

    @property
    def attempt(self) -> int:
        """Of the next redelivery."""
        return _next_attempt(self.order)


@task(task_run_name="recall {order}")
def recall(agreed: Agreed, order: str, files: Sequence[str]) -> Recalled:
    """Bring the bytes that were signed back into the spool: all of the order's, or those of these names. Nothing is sent.

    Raises ``ConfigurationError`` for an order that was never delivered, and for names that are not in its package.
    """
    work = _delivered(agreed, order)
    if (repeated := work.matter.package.redelivery) is not None:
        raise ConfigurationError(f"order {order} sent something again itself; name the order that it repeats: {repeated.order}")
    chosen = _chosen(work, files)
    copies = _copies(work, chosen)
    repeats = [_repeat(work, file, copies.get(file.sha256)) for file in chosen]
    if copies and any(one.problem for one in repeats):
        originals = [_repeat(work, file, None) for file in chosen]
        if not any(one.problem for one in originals):
            copies, repeats = {}, originals
    problem = _unproven(work) or _elsewhere(work)
    return Recalled(work, repeats, bool(copies), problem, {} if copies else _sensitive(work, repeats))


def _delivered(agreed: Agreed, order: str) -> Order:
    entries = find_order(agreed, order)
    if not entries:
        raise ConfigurationError(f"{agreed.key}: there is no order {shown(order[:80])}; see 'countersign ledger search'")
    work = Order(agreed, order, entries[0].journey, "", None)
    if work.arrived is None:
        raise ConfigurationError(f"{agreed.key}: order {order} was not delivered everywhere, so there is nothing to send again")
    return work


def _chosen(work: Order, files: Sequence[str]) -> list[PackageFile]:
    """The documents of these names among those that an order sent; all of them where none is named."""
    went = sent(work.history)
    wanted = set(files) or {file.shown for file in went}
    if strange := wanted - {file.shown for file in went}:
        raise ConfigurationError(
            f"order {work.id} did not send {', '.join(sorted(map(shown, strange)))}; it sent: {_names(work)}"
        )
    return [file for file in went if file.shown in wanted]


def _copies(work: Order, files: Sequence[PackageFile]) -> dict[str, dict[str, Any]]:
    """By digest, the copies beside the record; none unless all stand where the profile of today has records filed.

    A package's documents are taken from one repository, so either all come from there, or all from where they were taken then.
    """
    copied = work.last("copied")
    copies = copied.body["copies"] if copied else {}
    here = all(copies.get(file.sha256, {}).get("repository") == work.agreed.recording.address for file in files)
    return dict(copies) if here else {}


def _names(work: Order) -> str:
    return ", ".join(file.shown for file in work.matter.package.files[:20])


def _repeat(work: Order, file: PackageFile, copy: dict[str, Any] | None) -> Repeat:
    packed = replace(file, repository_id=copy["id"], version=copy["version"]) if copy else file
    with repository_session(work.agreed.recording if copy else work.agreed.repository) as session:
        try:
            with spool().batch() as batch:
                digest = session.fetch(packed.repository_id, packed.version, batch).digest
        except (DocumentMissing, DocumentChanged) as error:
            return Repeat(packed, str(error))
    return Repeat(packed, "" if digest == file.sha256 else "other bytes stand there than were signed then")


def _sensitive(work: Order, repeats: Sequence[Repeat]) -> dict[str, Any]:
    """As of today: what was changed since then was changed before anybody is asked to sign this."""
    gather = work.agreed.terms.gather
    with repository_session(work.agreed.repository) as session:
        kept = {one.file.repository_id: still_there(session, one.file.repository_id) for one in repeats}
    found = {id: sensitive(document, gather) for id, document in kept.items() if document is not None}
    return {id: values for id, values in found.items() if values}


def _unproven(work: Order) -> str:
    """Why nobody would be asked: who asks for a redelivery is as stated."""
    if work.agreed.terms.signoff.four_eyes is FourEyes.AS_STATED:
        return ""
    return (
        "this stream releases only what somebody has proved to ask for, and a redelivery is asked for as stated; "
        "ask for a new order by 'countersign request'"
    )


def _elsewhere(work: Order) -> str:
    """Why what is sent today would not go where it went then."""
    package = work.matter.package
    today = work.agreed.destinations(package.root_order, work.due, package.kit)
    if today == package.destinations:
        return ""
    places = ", ".join(place.shown for place in today)
    return f"the profile of today sends to {places} (host, user, folder and key count), not to where it went; order it anew"


# --------------------------------------------------------------------------------------------- what it comes to


def preview(recalled: Recalled) -> State:
    """What would be sent again, where to, and whether it can be: as a table, and in the state's name. Nothing is written."""
    package = recalled.order.matter.package
    rows = [
        {
            "document": literal(one.file.shown),
            "bytes": one.file.size,
            "SHA-256": one.file.sha256,
            "to": literal(place.shown),
            "can go": literal(one.problem or recalled.problem or "yes"),
        }
        for one in recalled.repeats
        for place in package.destinations
    ]
    title = f"**Redelivery of order {literal(package.root_order)}**, attempt {recalled.attempt}: nothing was sent"
    create_table_artifact(table=rows, key=f"resend-{recalled.order.journey}", description=title)
    able = sum(not one.problem for one in recalled.repeats) if not recalled.problem else 0
    size = sum(one.file.size for one in recalled.repeats)
    problems = [problem for problem in (recalled.problem, *(one.problem for one in recalled.repeats)) if problem]
    return Completed(
        name=f"Preview: {'all' if able == len(recalled.repeats) else f'{able} of'} {len(recalled.repeats)} can go",
        message=f"attempt {recalled.attempt}, {size:,} bytes to {len(package.destinations)} destinations"
        + (f"; {'; '.join(dict.fromkeys(problems))}" if problems else ""),
    )


def order_again(recalled: Recalled, comment: str, by: str) -> State:
    """Freeze the package that repeats it, and have a run of the stream's release ask for its sign-off.

    Asked again for the same while that is not ended, it is the same attempt. Raises ``ConfigurationError`` that says why not.
    """
    if not comment.strip():
        raise ConfigurationError("say why it is to be sent again: the comment stands in the form and in the certificate")
    problems = [recalled.problem, *(f"{one.file.shown}: {one.problem}" for one in recalled.repeats if one.problem)]
    if problem := next(filter(None, problems), ""):
        raise ConfigurationError(f"order {recalled.order.id} cannot be sent again: {problem}")
    with in_hand(recalled.order) as order:
        _go_on(order)
        package, entry = _attempt(order, recalled, comment.strip(), by.strip())
        _freeze(order, package, entry)
        run = _asked(order, package.order, package.digest)
    again = package.redelivery
    assert again is not None  # noqa: S101 - made just above
    return Completed(
        name=f"Asked, attempt {again.attempt}",
        message=f"order {package.order}: run {run} asks for its sign-off; {len(package.files)} documents, {package.size:,} bytes",
    )


def _go_on(order: Order) -> None:
    """Have the attempts asked for whose request broke off before any run was given them: nobody else would, and they bar others."""
    asked = {entry.body["child"] for entry in order.each("parted")}
    for entry in order.each("again"):
        package = Package.parse(entry.body["package"])
        if package.digest not in asked:
            _freeze(order, package, entry)
            _asked(order, package.order, package.digest)


def _family(order: Order) -> Iterator[Sequence[Recorded]]:
    """The order that somebody made, with its remainders: what they sent again is counted together."""
    history: Sequence[Recorded] = order.history
    while parent := history[0].body.get("parent"):
        history = ledger().journey(str(parent))
    found = [history]
    while found:
        yield (history := found.pop())
        children = [str(entry.body["child_order"]) for entry in history if entry.kind == "parted"]
        found += [entries for child in children if (entries := find_order(order.agreed, child))]


def _next_attempt(order: Order) -> int:
    return 2 + sum(entry.kind == "again" for history in _family(order) for entry in history)


def _attempt(order: Order, recalled: Recalled, comment: str, by: str) -> tuple[Package, Recorded]:
    """The package of this attempt: the one that is under way for the very same, else the next one, written down."""
    files = [one.file for one in recalled.repeats]
    for entry in order.each("again"):
        before = Package.parse(entry.body["package"])
        history = ledger().journey(before.journey)
        if any(step.kind == "closed" for step in history):
            continue
        why = before.redelivery
        assert why is not None  # noqa: S101 - only such packages are written there
        if (before.files, why.reason, why.by) == (tuple(files), comment, by):
            return before, entry
        if {file.name for file in before.files} & {file.name for file in files}:
            raise ConfigurationError(
                f"order {order.id}: attempt {why.attempt} is under way (order {before.order}); let it be signed or rejected first"
            )
    facts = {
        "policies": order.agreed.policies.facts,
        "reason": comment,
        "by": by,
        "from_record": recalled.from_record,
        "sensitive": recalled.sensitive,
    }
    attempt = _next_attempt(order)
    while True:
        package = order.matter.package.again(files, attempt, comment, by, order.agreed.policies)
        key = f"again/{order.agreed.key}/{package.root_order}/{attempt}"
        entry = order.write("again", {**facts, "package": package.text}, once=key)
        if entry.body["package"] == package.text:
            return package, entry
        attempt += 1  # somebody who asked for another order of the family at the same moment has that number


def _freeze(order: Order, package: Package, entry: Recorded) -> None:
    """Write down an order of its own, frozen already. Whoever asks for it never signs it, nor who asked for the order."""
    about = {"partner": package.partner, "stream": package.stream, "name": package.order, "order": package.order}
    from_record, asked_then = entry.body["from_record"], order.requester.id if order.requester else ""
    frozen = {
        **order.frozen.body,
        **about,
        "package": package.text,
        "package_digest": package.digest,
        "policies": entry.body["policies"],
        "requester": entry.body["by"],
        "editors": sorted({*order.frozen.body["editors"], *filter(None, [entry.body["by"], asked_then])}),
        "from_record": from_record,
        "sensitive": entry.body["sensitive"],
    }
    ordered = {**about, "requester": entry.body["by"], "ids": [], "run": "", "parent": order.journey, "again": True}
    source = order.agreed.recording if from_record else order.agreed.repository
    ledger().append(
        [
            Entry(package.journey, "ordered", ordered, once=order_key(package.partner, package.stream, package.order)),
            Entry(package.journey, "frozen", frozen, once=f"frozen/{package.journey}"),
            *documents(package, source.address),
        ]
    )


def _asked(order: Order, child: str, key: str) -> str:
    """The run that asks for an order made of this one; asked twice with one key, it is the same run."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run_from_deployment(
            _deployment(client, order),
            parameters={"partner": order.agreed.partner, "stream": order.agreed.stream, "order": child},
            idempotency_key=key,
        )
    facts = {"child": key, "child_order": child, "child_run": str(run.id)}
    order.write("parted", facts, once=f"parted/{key}")
    return str(run.id)


# --------------------------------------------------------------------------------------------- a correction


def order_latest(agreed: Agreed, order: str, files: Sequence[str], comment: str, by: str) -> State:
    """Order the newest versions of documents that were delivered, in place of those that were: gathered, checked, signed for anew.

    Asked again for the same while that is not ended, it is the same order. Raises ``ConfigurationError`` that says why not.
    """
    if not comment.strip():
        raise ConfigurationError("say why it is corrected: the comment stands in the form and in the certificate")
    first = _delivered(agreed, order)
    while first.corrects is not None:  # a correction that was wrong, too: what is corrected is the first order
        first = _delivered(agreed, first.corrects.order)
    chosen = _chosen(first, files)
    if first.matter.package.kit:
        raise ConfigurationError(f"order {first.id} is a kit, which goes as a whole: order it anew")
    if problem := _unproven(first) or _elsewhere(first) or _untold(agreed):
        raise ConfigurationError(f"order {first.id} cannot be corrected: {problem}")
    with in_hand(first) as held:
        _go_on_correcting(held)
        told = _corrections(held)
        entry = _begun(held, told, chosen, comment.strip(), by.strip()) or _begin(
            held, told, chosen, comment.strip(), by.strip()
        )
        run = _corrected(held, entry)
    return Completed(
        name="Asked, correction",
        message=f"order {entry.body['child_order']}: run {run} gathers the newest versions and asks for their sign-off; what the "
        "partner has already does not go",
    )


def _untold(agreed: Agreed) -> str:
    """Why the partner could not tell a correction from an order like any other."""
    lacking = [place.place for place in agreed.terms.destinations if place.manifest is None]
    return f"the manifest tells a partner what is corrected, and none is agreed for {', '.join(lacking)}" if lacking else ""


def _corrections(order: Order) -> list[tuple[Recorded, list[Recorded]]]:
    """What was asked for to correct an order, with its history, oldest first."""
    return [(entry, ledger().journey(str(entry.body["journey"]))) for entry in order.each(CORRECTION)]


def _go_on_correcting(order: Order) -> None:
    """Have the corrections asked for whose request broke off before any run was given them: nobody else would, and they bar others."""
    asked = {entry.body["child_order"] for entry in order.each("parted")}
    for entry, history in _corrections(order):
        if entry.body["child_order"] not in asked and not any(step.kind == "closed" for step in history):
            _corrected(order, entry)


def _corrected(order: Order, entry: Recorded) -> str:
    """The run that gathers a correction and asks for it; one more each time that it was refused."""
    ledger().append([_ordered(order, entry)])
    refused = sum(step.kind == "refused" for step in ledger().journey(str(entry.body["journey"])))
    return _asked(order, entry.body["child_order"], f"{entry.body['journey']}/{refused}")


def _begun(
    order: Order, told: Sequence[tuple[Recorded, list[Recorded]]], files: Sequence[PackageFile], comment: str, by: str
) -> Recorded | None:
    """The correction that is under way for the very same."""
    names = [file.shown for file in files]
    for entry, history in told:
        if any(step.kind == "closed" for step in history):
            continue
        if (entry.body["files"], entry.body["reason"], entry.body["by"]) == (names, comment, by):
            return entry
        if set(entry.body["files"]) & set(names):
            raise ConfigurationError(
                f"order {order.id}: a correction is under way (order {entry.body['child_order']}); let it be signed or rejected first"
            )
    return None


def _begin(
    order: Order, told: Sequence[tuple[Recorded, list[Recorded]]], files: Sequence[PackageFile], comment: str, by: str
) -> Recorded:
    names = {file.name for file in files}
    last = next((history for _, history in reversed(told) if names <= {file.name for file in sent(history)}), order.history)
    frozen = next(entry for entry in reversed(last) if entry.kind == "frozen")
    package, number = Package.parse(frozen.body["package"]), len(told) + 1
    facts = {
        "journey": new_journey(),
        "child_order": f"{package.root_order}~{sha256(f'correction {order.journey} {number}')[:12]}",
        "files": [file.shown for file in files],
        "ids": [file.repository_id for file in files],
        "of": {"order": package.order, "package": package.digest},
        "due": order.due.isoformat(),
        "reason": comment,
        "by": by,
    }
    return order.write(CORRECTION, facts, once=f"{CORRECTION}/{order.journey}/{number}")


def _ordered(order: Order, entry: Recorded) -> Entry:
    """The new order, for the run that will gather it; asked for by whoever asks for the correction."""
    told, agreed = entry.body, order.agreed
    body = {
        "partner": agreed.partner,
        "stream": agreed.stream,
        "name": told["child_order"],
        "order": told["child_order"],
        "requester": told["by"],
        "ids": told["ids"],
        "run": "",
        "parent": order.journey,
        "corrects": {**told["of"], "reason": told["reason"], "by": told["by"]},
        "due": told["due"],
    }
    return Entry(str(told["journey"]), "ordered", body, once=order_key(agreed.partner, agreed.stream, told["child_order"]))


# --------------------------------------------------------------------------------------------- who asks


def _deployment(client: SyncPrefectClient, order: Order) -> UUID:
    """That of the run which delivered it, while it is there as it was reviewed; else the stream's own, as it was reviewed."""
    runs = [str(entry.body["run"]) for entry in reversed(order.history) if entry.body.get("run")]
    for run in runs:
        with suppress(ObjectNotFound):
            if (found := client.read_flow_run(UUID(run)).deployment_id) is not None:
                known = as_reviewed([client.read_deployment(found)])
                if known:
                    return known[0].id
    own = deployment_of(client, order.agreed.partner, order.agreed.stream)
    if own is None:
        raise ConfigurationError(
            f"{order.agreed.key}: no deployment of its release is there as it was reviewed; run 'countersign deploy'"
        )
    return own.id
