"""``countersign quarantine``: what was refused, why, and another try."""

from __future__ import annotations

import getpass
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="Refused documents, their findings, and what a person does about them.")


@app.command("list")
def list_cases(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
) -> None:
    """Open cases of every kind, oldest first: refused documents, incidents, what is overdue or stuck, bypasses.

    Example: countersign quarantine list --partner acme
    """
    from blocks.values import shown
    from tasks.connections import ledger

    table = Table("journey", "partner/stream", "file", "reason", "owner", "due (UTC)", "state")
    for case in ledger().cases(partner=partner, stream=stream, open_only=not everything):
        due = f"{case.due:%Y-%m-%d %H:%M}" if case.due else ""
        key = f"{case.partner}/{case.stream}" if case.stream else case.partner or ""
        table.add_row(case.journey, key, case.name, shown(case.reason or ""), case.owner or "", due, case.state)
    Console(markup=False, highlight=False).print(table)


@app.command()
def show(journey: Annotated[str, typer.Argument(help="The case's journey.")]) -> None:
    """Whose it is, by when, what was done about it; of a document also its origin, every finding, and where its bytes are.

    Example: countersign quarantine show 0193e2a4-...
    """
    from tasks.cases import moments
    from tasks.connections import ledger, quarantine

    found, about = ledger().cases(journey=journey, open_only=False), quarantine().about(journey)
    if not found:
        typer.echo(f"countersign: {journey}: no such case; see 'countersign quarantine list'", err=True)
        raise typer.Exit(1)
    [case] = found
    told = {
        "case": {
            "code": case.code,
            "reason": case.reason,
            "state": case.state.value,
            "owner": case.owner,
            "due": case.due.isoformat() if case.due else None,
            "opened": case.opened.isoformat(),
        },
        "history": [
            {"at": one.at.isoformat(), "what": one.what, "state": one.state, "by": one.by, "said": one.said}
            for one in moments(ledger().journey(journey))
        ],
    }
    if about is not None:
        kept = quarantine().content(journey)
        told |= {**about, "bytes": str(kept) if kept else "left at the source, never fetched"}
    typer.echo(json.dumps(told, indent=2))


@app.command()
def assign(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    to: Annotated[str, typer.Option(help="A person's id, or a group, of people.yaml.")],
    comment: Annotated[str, typer.Option(help="What they should know; recorded.")] = "",
) -> None:
    """Give a case to a person or a group. Example: countersign quarantine assign 0193e2a4-... --to anna"""
    from tasks import cases

    cases.assign(journey, to, comment, by=getpass.getuser())
    typer.echo(f"{journey}: assigned to {to}")


@app.command()
def comment(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    text: Annotated[str, typer.Argument(help="What is to be remembered; recorded.")],
) -> None:
    """Add a remark to a case. Example: countersign quarantine comment 0193e2a4-... "called them, they look into it" """
    from tasks import cases

    cases.remark(journey, text, by=getpass.getuser())
    typer.echo(f"{journey}: recorded")


@app.command()
def retry(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    comment: Annotated[str, typer.Option(help="Why it should go through now; recorded.")],
) -> None:
    """Check it again with the rules as they are now.

    Example: countersign quarantine retry 0193e2a4-... --comment mended
    """
    _again(journey, comment, release=False)


@app.command()
def release(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    comment: Annotated[str, typer.Option(help="What you have seen in it, and why it may be filed; recorded.")],
) -> None:
    """Let a document through that we could not inspect (such as an encrypted PDF), because you have.

    Example: countersign quarantine release 0193e2a4-... --comment "opened with the password they phoned in; it is the signed copy"
    """
    _again(journey, comment, release=True)


@app.command()
def correct(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    comment: Annotated[str, typer.Option(help="How you know what is right; recorded.")],
    cell: Annotated[
        list[str] | None, typer.Option(help="One cell: '7, quantity = 12'. The header is row 1. May be given several times.")
    ] = None,
    file: Annotated[str, typer.Option(help="Or the name of the corrected file in the folder 'corrections' of the home.")] = "",
) -> None:
    """Put cells of a refused table right, or give a corrected file; it is checked, and filed if it passes.

    Example: countersign quarantine correct 0193e2a4-... --cell "7, quantity = 12" --comment "they confirmed it by mail"
    """
    _again(journey, comment, release=False, cells=cell or [], file=file)


@app.command("return")
def return_(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    comment: Annotated[str, typer.Option(help="What they were told; recorded.")],
) -> None:
    """Reject it to the partner, who is to send it again: the right file under the same name closes the case.

    A note goes to them where the stream has 'notes', none went yet, and the original still stands there.

    Example: countersign quarantine return 0193e2a4-... --comment "called them, they send it again today"
    """
    from tasks import retry as cases

    cases.return_to_partner(journey, comment, by=getpass.getuser())
    typer.echo(f"{journey}: waits for the partner")


def _again(journey: str, comment: str, *, release: bool, cells: list[str] | None = None, file: str = "") -> None:
    from flows.review import retry as again

    more: dict[str, object] = {"cells": cells or [], "file": file}
    state = again(journey, comment, by=getpass.getuser(), release=release, return_state=True, **more)
    typer.echo(f"{state.name}: {state.message}")
    went_through = state.is_completed() and ("Filed" in str(state.name) or "duplicate" in str(state.name))
    raise typer.Exit(0 if went_through and "quarantined" not in str(state.name) else 1)


@app.command()
def reject(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    comment: Annotated[str, typer.Option(help="Why it shall not be filed; recorded.")],
) -> None:
    """Close the case: the document is not filed. Its bytes stay in the quarantine, and what waited for it goes on.

    Example: countersign quarantine reject 0193e2a4-... --comment "ACME sends a corrected one"
    """
    from tasks import retry as cases

    cases.reject(journey, comment, by=getpass.getuser())
    typer.echo(f"{journey}: rejected")


@app.command()
def purge(
    older_than_days: Annotated[float, typer.Option(help="Only cases that were resolved so long ago.", min=0.0)] = 90.0,
) -> None:
    """Remove the bytes of resolved cases; what was found and decided stays in the ledger. What is on hold stays.

    Example: countersign quarantine purge --older-than-days 90
    """
    from datetime import timedelta

    from tasks.clean_up import purge_quarantine

    swept = purge_quarantine.fn(timedelta(days=older_than_days))
    typer.echo(f"{swept.gone} cases purged, {swept.freed_bytes / 1024**2:.1f} MiB freed")
    for journey, reason in swept.kept:
        Console(markup=False, highlight=False, stderr=True).print(f"{journey} stays: {reason}", soft_wrap=True)
