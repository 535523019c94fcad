"""``countersign hold``: legal holds on a journey's document and all copies of it."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="Legal holds: while there is one, no copy of a document is deleted.")

Journey = Annotated[str, typer.Argument(help="A journey's id, as every report and table shows it.")]
Name = Annotated[str, typer.Argument(help="The hold's name, as legal gave it.")]
Comment = Annotated[str, typer.Option(help="Why; recorded.")]


@app.command("list")
def list_holds(
    journey: Annotated[str | None, typer.Argument(help="Only of this journey, and what its repository says.")] = None,
) -> None:
    """Holds that were set with this command, and flags; or all that a journey's document is under. Example: countersign hold list"""
    from tasks.govern import rules_here
    from tasks.holds import holds_here, holds_there, untold

    table = Table("journey", "hold", "where", "comment", "set by")
    for hold in holds_here():
        if journey in (None, hold.journey):
            there = "here and in its repository" if hold.told else "here"  # a document that was never filed is in none
            where = "here; a repository does not know yet" if untold(hold) else there
            table.add_row(hold.journey, hold.name, where, hold.comment, hold.by)
    for rule in rules_here():
        if journey in (None, rule.journey):
            told = "here and in its repository" if rule.told else "here; a repository does not know yet"
            table.add_row(rule.journey, f"{rule.days} days in {rule.folder}", told, rule.comment, rule.by)
    for place, holds in holds_there(journey).items() if journey else ():
        for found in holds:
            table.add_row(str(journey), found.name, f"{place.repository}, document {place.id}", found.comment, "")
    Console(markup=False, highlight=False).print(table)


@app.command()
def apply(journey: Journey, name: Name, comment: Comment) -> None:
    """Put a document on hold. In force here at once, also while its repository is away; that is told as soon as it answers.

    Example: countersign hold apply 0193e2a4-... "Miller ./. ACME" --comment "letter of counsel, 2026-11-20"
    """
    from tasks.holds import apply_hold

    problems = apply_hold(journey, name, comment, by=getpass.getuser())
    typer.echo(f"{journey}: on hold ({name}); no clean-up removes a copy of it")
    for problem in problems:
        typer.echo(f"countersign: not told yet, the nightly clean-up tries again: {problem}", err=True)
    raise typer.Exit(1 if problems else 0)


@app.command()
def lift(journey: Journey, name: Name, comment: Comment) -> None:
    """Lift a hold, in the repository first: while that is away, the hold stays.

    Example: countersign hold lift 0193e2a4-... "Miller ./. ACME" --comment "settled, counsel agrees"
    """
    from tasks.govern import lift as lift_it

    lift_it(journey, name, comment, by=getpass.getuser())
    typer.echo(f"{journey}: not on hold by {name} any more")
