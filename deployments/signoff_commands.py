"""``countersign signoff show``: what is asked, who has signed, who may, until when; from the ledger, which Prefect cannot alter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from blocks.ledger import Recorded
    from blocks.outbound import Vote
    from tasks.order import Order

MOST_FILES = 20
"""Documents that are listed; the package may hold thousands."""


def show(
    what: Annotated[str, typer.Argument(help="An order's id, or a run's id as in its address.", metavar="RUN|ORDER")],
) -> None:
    """Show a release: what is asked, who has signed and who may, until when, the package's digest, and what has arrived.

    It is read from the ledger, with the people of today; Prefect is not asked. Exit code 1: there is no such order.

    Example: countersign signoff show autumn-2026
    """
    found = list(orders(what))
    for order in found:
        for line in _lines(order):
            typer.echo(line)
    if not found:
        typer.echo(
            f"countersign: {what[:100]!r}: no such order or run in the ledger; an order is there once its run began", err=True
        )
        raise typer.Exit(1)


def orders(what: str) -> Iterator[Order]:
    """Every order of that id (each stream has its own ids), or the one that this run works on."""
    from tasks.connections import ledger
    from tasks.order import Order, load_release

    # The index knows orders by name, and not the runs that led them: those are looked for in the orders themselves, newest first.
    found = ledger().search(name=what, limit=1000) or ledger().search(limit=1000)
    for entries in ledger().journeys([one.journey for one in found]).values():
        first = entries[0]
        if first.kind == "ordered" and (first.body["order"] == what or what in _runs(entries)):
            agreed = load_release(first.body["partner"], first.body["stream"])
            yield Order(agreed, first.body["order"], first.journey, _last_run(entries), None)


def _runs(entries: list[Recorded]) -> set[str]:
    return {str(entry.body["run"]) for entry in entries if entry.body.get("run")}


def _last_run(entries: list[Recorded]) -> str:
    return next((str(entry.body["run"]) for entry in reversed(entries) if entry.body.get("run")), "")


def _lines(order: Order) -> Iterator[str]:
    """Plain text; what came from outside is made harmless."""
    from blocks.values import shown

    yield f"release {order.agreed.key}, order {order.id}: {_state(order)}"
    yield _line("run", order.run or "none yet")
    asker = order.requester
    yield _line(
        "asked for",
        f"{order.ordered.at:%Y-%m-%d %H:%M} UTC by {f'{shown(asker.id)} ({asker.in_words})' if asker else 'a schedule or event'}",
    )
    if refused := order.last("refused"):
        yield _line("checks", shown(refused.body["reason"]))
    if order.package is not None:
        yield from _package(order)
        yield from _signatures(order)
        yield from _arrivals(order)
        yield from _record(order)


def _state(order: Order) -> str:
    if closed := order.last("closed"):
        return f"{closed.body['state']} ({closed.body['reason']})"
    if order.package is None:
        return "nothing is frozen yet"
    now = order.standing()
    return f"{now.status.value}, {now.progress} signed" if now.open else f"{now.status.value}, not ended yet"


def _package(order: Order) -> Iterator[str]:
    from tasks.rules.dialog import size

    package = order.matter.package
    yield _line("package", f"{package.digits} (type these eight digits); SHA-256 {package.digest}")
    for place in package.destinations:
        yield _line("to", f"{place.shown}, key {place.key_fingerprint or 'none'}")
    yield _line("documents", f"{len(package.files)}, {size(package.size)}")
    for n, file in enumerate(package.files[:MOST_FILES], 1):
        yield f"  {n:>3}. {file.shown}, {size(file.size)}, SHA-256 {file.sha256}"
    if len(package.files) > MOST_FILES:
        yield f"       and {len(package.files) - MOST_FILES} more: countersign journey show {order.journey}"


def _signatures(order: Order) -> Iterator[str]:
    now = order.standing()
    for vote in now.votes:
        yield _line("signed", _signed(vote))
    for vote, reason in now.lost:
        yield _line("lost", f"{vote.seat.text}: {reason.first_line}")
    if order.last("closed"):
        return
    if now.open:
        yield _line("may sign", ", ".join(seat.text for seat in now.may_sign) or "nobody: see 'countersign people check'")
        if now.may_veto:
            yield _line("may reject", ", ".join(seat.text for seat in now.may_veto))
        if order.matter.deadline:
            yield _line("until", f"{order.matter.deadline:%Y-%m-%d %H:%M} UTC; then it expires, unsent")
    if order.refusal:
        yield _line("last answer", order.refusal.first_line)


def _signed(vote: Vote) -> str:
    from blocks.outbound import BEFOREHAND

    words = f"{vote.seat.text}: {vote.decision.value}, as {vote.meaning.value}, by {vote.proof.value}"
    return f"{vote.at:%Y-%m-%d %H:%M} UTC {words}" + (f", {BEFOREHAND}" if vote.standing else "")


def _arrivals(order: Order) -> Iterator[str]:
    """approved = read = sent = found, and how we know."""
    from blocks.sender import delivered_of
    from blocks.values import shown
    from tasks.rules.certificate import link_words, ticks, weakest
    from tasks.settle_doubt import doubts

    withdrawn = order.last("withdrawn")  # it tells of all that stands there, complete destinations and others
    entries = [withdrawn] if withdrawn and withdrawn.body.get("files") else order.each("delivered")
    files = [delivered_of(file) for entry in entries for file in entry.body["files"]]
    for file in files:
        told = ticks(file)
        marks = " ".join(
            f"{word} {'✓' if holds else '–'}"
            for word, holds in (("approved", True), ("read", told.read), ("sent", told.sent), ("found", told.found))
        )
        yield _line("arrived", f"{marks}  {shown(file.name)}: {link_words(file)}")
        if file.said:
            yield _line("", f"{shown(file.said.by)} says so: {shown(file.said.comment)}")
    if files:
        yield _line("weakest", weakest(files))
    for doubt in doubts(order):
        where = order.matter.package.destinations[doubt.destination].shown
        yield _line("in doubt", f"{shown(doubt.name)} at destination {doubt.destination + 1}, {where}: ask the partner, then")
        yield _line(
            "", f"countersign signoff settle {order.id} --file ... --destination {doubt.destination + 1} --arrived|--send-again"
        )


def _record(order: Order) -> Iterator[str]:
    """Where the transmission record is, and how often it was sent again."""
    from blocks.outbound import Package
    from blocks.values import shown
    from tasks.await_answer import answered
    from tasks.order import CORRECTION

    if (recorded := order.last("recorded")) is not None:
        told = recorded.body
        where = f"{told['folder']}/{told['filed_as']} at {told['repository']}"
        yield _line("record", f"{shown(where)}, id {shown(told['repository_id'])}, version {told['version']}")
        yield _line("partner", answered(order))
    for entry in order.each("again"):
        package = Package.parse(entry.body["package"])
        if (again := package.redelivery) is not None:
            yield _line("again", f"attempt {again.attempt}, order {package.order}: {shown(again.reason)}")
    for entry in order.each(CORRECTION):
        yield _line("corrected", f"by order {entry.body['child_order']}: {shown(entry.body['reason'])}")


def _line(word: str, text: str) -> str:
    return f"  {word:<11} {text}"
