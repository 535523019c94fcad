"""``countersign incident``: what is wrong beside the documents, and the word of a person that it needs nobody."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

app = typer.Typer(
    no_args_is_help=True, help="What is late, half there or changed at a partner, and what a person says about it."
)


@app.command("list")
def list_incidents(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream's.")] = None,
) -> None:
    """Open incidents, oldest first. Example: countersign incident list --partner acme"""
    from blocks.values import shown
    from tasks.connections import ledger
    from tasks.incidents import CODES

    table = Table(Column("journey", no_wrap=True), "code", "partner/stream", "about", "reason", "owner", "since (UTC)")
    for case in ledger().cases(partner=partner, stream=stream):
        if case.code in CODES:
            since = f"{case.changed:%Y-%m-%d %H:%M}"
            key = f"{case.partner}/{case.stream}"
            table.add_row(case.journey, case.code, key, case.name, shown(case.reason or ""), case.owner or "", since)
    Console(markup=False, highlight=False).print(table)


@app.command()
def close(
    journey: Annotated[str, typer.Argument(help="The incident's journey.")],
    comment: Annotated[str, typer.Option(help="Why it needs nobody any more; recorded.")],
) -> None:
    """Close an incident: the same is not told again, and no later file of its stream waits for that one any more.

    Most end by themselves when their reason is gone; this is for those whose reason stays.

    Example: countersign incident close expected.acme.prices.20261121T0630Z --comment "a holiday at ACME"
    """
    from blocks.errors import ConfigurationError
    from tasks import incidents

    if not comment.strip():
        raise ConfigurationError("--comment: say why it needs nobody any more")
    code = incidents.close(journey, comment, by=getpass.getuser())
    typer.echo(f"{journey}: {code} closed")
