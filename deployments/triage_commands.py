"""``countersign triage``: files of which a fact is missing that only a person can tell, and the rules that come of what people told."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tasks.rules.triage import Taught

app = typer.Typer(
    no_args_is_help=True,
    help="Files that lack a fact (such as the project): a person tells it, and once a second one agrees, for all of the kind.",
)
Rule = Annotated[str, typer.Argument(help="The rule, as 'triage rules' shows it: acme/certificates/1", metavar="RULE")]


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
    once: Annotated[bool, typer.Option("--once", help="Only for this file; nothing is proposed for later ones.")] = False,
) -> None:
    """Tell what is missing: this file goes on, and for later ones of its kind a rule is proposed, to which another person agrees.

    Example: countersign triage assign 0193e2a4-... --fact project=P-4711 --comment "their certificate for the bridge"
    """
    from flows.review import retry as again
    from tasks.rules.triage import RuleState
    from tasks.triage import may_tell, propose

    facts = {name: value for name, _, value in (one.partition("=") for one in fact)}
    may_tell(journey, facts, once=once)
    by = getpass.getuser()
    if not once:
        rule, rehearsal = propose(journey, facts, by, comment)
        if rule.state is RuleState.LIVE:
            typer.echo(f"rule {rule.id} says so of all files {rule.pattern} already")
        else:
            typer.echo(f"proposed for all files {rule.pattern}, as rule {rule.id}: {rehearsal.in_words()}")
            typer.echo(_next(rule))
    state = again(journey, comment, by=by, facts=facts, return_state=True)
    typer.echo(f"{state.name}: {state.message}")
    raise typer.Exit(0 if state.is_completed() and "quarantined" not in str(state.name) else 1)


@app.command("rules")
def list_rules(
    partner: Annotated[str | None, typer.Argument(help="Only this partner's.")] = None,
    stream: Annotated[str | None, typer.Argument(help="Only this stream's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that were refused or retracted, too.")] = False,
) -> None:
    """What people told, who agreed, and what each proposal would have done so far. Example: countersign triage rules acme"""
    from blocks.values import shown
    from tasks.rules.triage import RuleState
    from tasks.triage import rehearse, rules_of

    for rule in rules_of(partner, stream):
        proposed = rule.state is RuleState.PROPOSED
        if not everything and not proposed and rule.state is not RuleState.LIVE:
            continue
        typer.echo(f"{rule.id}  {rule.state}")
        typer.echo(f"  names    {shown(rule.pattern)}")
        typer.echo(f"  facts    {rule.told}")
        typer.echo(f"  told     by {shown(rule.by)}: {shown(rule.comment)}")
        if proposed:
            typer.echo(f"  so far   {rehearse(rule).in_words()}")
            typer.echo(f"  next     {_next(rule)}")
        else:
            verb = "agreed" if rule.state is RuleState.LIVE else rule.state.value
            typer.echo(f"  {verb:<8} by {shown(rule.decided_by)}: {shown(rule.why)}")


def _next(rule: Taught) -> str:
    from blocks.values import shown

    return f"somebody else than {shown(rule.by)} says 'countersign triage agree {rule.id} --comment ...', or 'refuse'"


@app.command()
def agree(rule: Rule, comment: Annotated[str, typer.Option(help="How you know, too; recorded.")]) -> None:
    """The proposal is live: from now on such files need nobody. Its proposer cannot do that.

    Example: countersign triage agree acme/certificates/1 --comment "asked ACME's quality manager"
    """
    from tasks import triage

    live, rehearsal = triage.agree(rule, getpass.getuser(), comment)
    typer.echo(f"{rule}: live; every file {live.pattern} gets {live.told}. Before it, {rehearsal.in_words()}")
    for journey in triage.waiting(live):
        typer.echo(f"waits, and has all it needs now: countersign quarantine retry {journey} --comment ...")


@app.command()
def refuse(rule: Rule, comment: Annotated[str, typer.Option(help="Why; recorded.")]) -> None:
    """The proposal never becomes live; such files come to triage, as before.

    Example: countersign triage refuse acme/certificates/1 --comment "their names do not tell the project"
    """
    from tasks import triage

    triage.refuse(rule, getpass.getuser(), comment)
    typer.echo(f"{rule}: refused")


@app.command()
def retract(rule: Rule, comment: Annotated[str, typer.Option(help="Why; recorded.")]) -> None:
    """A live rule ends: such files come to triage again; what it told before stays. One person suffices.

    Example: countersign triage retract acme/certificates/1 --comment "now P-78"
    """
    from tasks import triage

    triage.retract(rule, getpass.getuser(), comment)
    typer.echo(f"{rule}: retracted")
