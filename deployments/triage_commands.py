"""``countersign triage``: files of which a fact is missing that only a person can tell."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True, help="Files that lack a fact (such as the project): a person tells it, once for all of the kind."
)


@app.command("list")
def list_cases(
    partner: Annotated[str | None, typer.Option(help="Only this partner's.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream's.")] = None,
) -> None:
    """The queue, oldest first. Example: countersign triage list --partner acme"""
    from blocks.values import shown
    from tasks.connections import ledger
    from tasks.rules.triage import TRIAGE

    table = Table("journey", "partner/stream", "file", "reason", "owner")
    for case in ledger().cases(partner=partner, stream=stream):
        if case.code == TRIAGE:
            table.add_row(case.journey, f"{case.partner}/{case.stream}", case.name, shown(case.reason or ""), case.owner or "")
    Console(markup=False, highlight=False).print(table)


@app.command()
def assign(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    fact: Annotated[list[str], typer.Option(help="What is missing: project=P-4711. May be given several times.")],
    comment: Annotated[str, typer.Option(help="How you know; recorded.")],
    once: Annotated[
        bool, typer.Option("--once", help="Only for this file; the next of its kind comes to triage again.")
    ] = False,
) -> None:
    """Tell what is missing; the file goes on, and later ones of the same pattern need nobody.

    Example: countersign triage assign 0193e2a4-... --fact project=P-4711 --comment "their certificate for the bridge"
    """
    from flows.review import retry as again
    from tasks.triage import may_tell, remember

    facts = {name: value for name, _, value in (one.partition("=") for one in fact)}
    may_tell(journey, facts)
    by = getpass.getuser()
    if not once:
        rule = remember(journey, facts, by, comment)
        typer.echo(f"from now on for every file {rule.pattern}")
    state = again(journey, comment, by=by, facts=facts, return_state=True)
    typer.echo(f"{state.name}: {state.message}")
    raise typer.Exit(0 if state.is_completed() and "quarantined" not in str(state.name) else 1)


@app.command("rules")
def list_rules(
    partner: Annotated[str, typer.Argument(help="The partner.")],
    stream: Annotated[str, typer.Argument(help="One of its streams.")],
) -> None:
    """What was told, and by whom. Example: countersign triage rules acme certificates"""
    from blocks.values import shown
    from tasks.triage import rules

    table = Table("names", "facts", "told by")
    for rule in rules(partner, stream):
        table.add_row(
            shown(rule.pattern), ", ".join(f"{name}={shown(value)}" for name, value in rule.facts.items()), shown(rule.by)
        )
    Console(markup=False, highlight=False).print(table)


@app.command()
def forget(
    partner: Annotated[str, typer.Argument(help="The partner.")],
    stream: Annotated[str, typer.Argument(help="One of its streams.")],
    pattern: Annotated[str, typer.Argument(help="The names, as 'triage rules' shows them.")],
    comment: Annotated[str, typer.Option(help="Why; recorded.")],
) -> None:
    """Such files come to triage again. Example: countersign triage forget acme forms 'ISO_\\d+\\.pdf' --comment "now P-78" """
    from tasks import triage

    triage.forget(partner, stream, pattern, getpass.getuser(), comment)
    typer.echo(f"{pattern}: forgotten")
