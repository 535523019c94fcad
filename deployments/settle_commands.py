"""``countersign signoff settle``: a person says what became of a delivery of which no server tells any more; and ``hide``: a person
ends what people outside are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.order import Order
    from tasks.settle_doubt import Doubt


def settle(
    what: Annotated[
        str, typer.Argument(help="An order's id, or a run's id as in its address.", metavar="ORDER", show_default=False)
    ],
    file: Annotated[
        list[str], typer.Option(help="The file's name at the partner, as 'signoff show' prints it; several times for several.")
    ],
    comment: Annotated[str, typer.Option(help="Whom you asked and what they said; it stands in the certificate.")],
    destination: Annotated[
        int | None,
        typer.Option(min=1, help="Which of the package's destinations, from 1; needed if it is in doubt at several."),
    ] = None,
    arrived: Annotated[
        bool | None,
        typer.Option(
            "--arrived/--send-again", help="What the partner says: they have it, or they have not.", show_default=False
        ),
    ] = None,
) -> None:
    """Say what became of a file whose delivery is in doubt, after the partner was asked. For operations only.

    The answer to its rename was lost and it stands there under no name of ours: it was collected at once, or never came. '--arrived'
    ends the doubt (a weak tick: "a person says it arrived"), '--send-again' lets exactly this file be sent once more. The release
    goes on by itself when no file is in doubt any more. Exit code 1: nothing of that order is in doubt under one of these names; then
    nothing was changed.

    Example: countersign signoff settle autumn-2026 --file prices.csv --arrived --comment "Ms Ito, ACME, by phone: has it"
    """
    from blocks.errors import ConfigurationError
    from blocks.values import shown
    from tasks import settle_doubt

    if arrived is None:
        raise ConfigurationError("say what the partner says: --arrived or --send-again")
    if not comment.strip():
        raise ConfigurationError("--comment: say whom you asked and what they said")
    chosen = [_one(what, name, destination) for name in dict.fromkeys(file)]
    left: dict[str, int] = {}
    for order, doubt in chosen:
        settled = settle_doubt.settle(order, doubt, arrived=arrived, comment=comment)
        typer.echo(f"{shown(doubt.name)}: {'it arrived' if arrived else 'it is sent again'}, says {settled.said.by}")
        left[order.id] = settled.left
        if settled.left:
            continue
        if settle_doubt.wake(order, f"{settled.said.by} settled what was in doubt"):
            typer.echo(f"run {order.run} goes on")
        else:
            typer.echo(f"run {order.run} is gone; the next sweep gives the order a new one, or order {order.id} again")
    for id, count in left.items():
        if count:
            typer.echo(f"{count} of the package still in doubt; see 'countersign signoff show {id}'")


def hide(
    what: Annotated[
        str, typer.Argument(help="An order's id, or a run's id as in its address.", metavar="ORDER", show_default=False)
    ],
    comment: Annotated[str, typer.Option(help="Why; it stands in the ledger.")],
) -> None:
    """End the shares of what an order has shown to people outside, before their days are over. For operations only.

    What they have downloaded by then they have. The documents stay where they were shown from, for who asks later what that was.
    Exit code 1: there is no such order.

    Example: countersign signoff hide books-2026 --comment "sent to the wrong auditors"
    """
    from blocks.errors import ConfigurationError
    from deployments.signoff_commands import orders
    from tasks import hide_share

    if not comment.strip():
        raise ConfigurationError("--comment: say why")
    found = list(orders(what))
    if len(found) > 1:
        raise ConfigurationError(f"{what}: several streams have an order of that id; give the run's id")
    if not found:
        typer.echo(f"countersign: {what}: no such order or run in the ledger", err=True)
        raise typer.Exit(1)
    for place in hide_share.hide(found[0], comment.strip()):
        typer.echo(f"hidden: {place}")


def _one(what: str, file: str, destination: int | None) -> tuple[Order, Doubt]:
    """The one doubt that is meant."""
    from blocks.errors import ConfigurationError
    from blocks.values import shown
    from deployments.signoff_commands import orders
    from tasks.settle_doubt import doubts

    every = [(order, doubt) for order in orders(what) for doubt in doubts(order)]
    found = [
        (order, doubt) for order, doubt in every if shown(doubt.name) == file and destination in (None, doubt.destination + 1)
    ]
    if len(found) > 1:
        places = ", ".join(f"{order.agreed.key} --destination {doubt.destination + 1}" for order, doubt in found)
        raise ConfigurationError(
            f"{file}: in doubt at several places ({places}); say which, and give the run's id for the stream"
        )
    if not found:
        others = ", ".join(f"{shown(doubt.name)} at destination {doubt.destination + 1}" for _, doubt in every)
        typer.echo(f"countersign: {what}: {file} is in no doubt there (in doubt: {others or 'nothing'})", err=True)
        raise typer.Exit(1)
    return found[0]
