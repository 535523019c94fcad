"""The operator's command line: ``countersign``.

Exit codes: 0 as asked; 1 looked, and something is wrong; 2 could not: a wrong call or a known error, told in one message.
What is heavy (Prefect, the back-ends) is imported inside the commands, so that help and completion are quick.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from blocks.errors import CountersignError
from deployments import (
    deploying,
    endpoint_commands,
    evidence_commands,
    hold_commands,
    incident_commands,
    partner_commands,
    people_commands,
    quarantine_commands,
    record_commands,
    request_commands,
    run_commands,
    selftest_commands,
    sender_commands,
    settle_commands,
    sign_commands,
    signoff_commands,
    spool_commands,
    standing_commands,
    triage_commands,
    verify_commands,
)


class OneMessage(TyperGroup):
    """Tells a known error as one message on stderr, without a traceback; a surprise keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CountersignError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"countersign: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    name="countersign",
    cls=OneMessage,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Carries documents between trading partners and governed repositories; what goes out, named people have signed off.",
)


@app.callback()
def countersign(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error came from.")] = False,
) -> None:
    """Options for all commands. Example: countersign --debug partner check acme"""


app.add_typer(partner_commands.app, name="partner")
app.add_typer(endpoint_commands.app, name="endpoint")
app.add_typer(run_commands.app, name="run")
app.add_typer(record_commands.journey_app, name="journey")
app.add_typer(record_commands.ledger_app, name="ledger")
app.add_typer(evidence_commands.app, name="evidence")
app.add_typer(quarantine_commands.app, name="quarantine")
app.add_typer(triage_commands.app, name="triage")
app.add_typer(incident_commands.app, name="incident")
app.add_typer(spool_commands.app, name="spool")
app.add_typer(hold_commands.app, name="hold")
app.add_typer(people_commands.app, name="people")
app.add_typer(standing_commands.app, name="standing")
sender_commands.signoff_app.command("show")(signoff_commands.show)
sender_commands.signoff_app.command("settle")(settle_commands.settle)
sender_commands.signoff_app.command("hide")(settle_commands.hide)
app.add_typer(sender_commands.signoff_app, name="signoff")
app.command()(request_commands.request)
app.command()(sign_commands.sign)
app.command()(sender_commands.sender)
app.command("verify-signoff")(verify_commands.verify_signoff)
app.command()(deploying.deploy)
app.command()(selftest_commands.selftest)


if __name__ == "__main__":
    app()
