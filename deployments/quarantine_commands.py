"""``countersign quarantine``: what was refused, why, and another try."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from blocks.case_signoff import CaseDecision
    from tasks.consignment import Agreed

AsOption = Annotated[
    str | None, typer.Option("--as", help="Your id in people.yaml, where the stream's 'signoff' wants it proven.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(help="Prove it by an SSH signature with this key (.pub: held by an ssh-agent), not by a code."),
]
CellOption = Annotated[
    list[str] | None, typer.Option(help="One cell: '7, quantity = 12'. The header is row 1. May be given several times.")
]
FileOption = Annotated[str, typer.Option(help="Or the name of the corrected file in the folder 'corrections' of the home.")]

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
    approver: AsOption = None,
    key: KeyOption = None,
) -> None:
    """Let a document through that we could not inspect (such as an encrypted PDF), because you have.

    Where the stream's 'signoff' wants it, you prove that it is you: by the code of your phone, or with --key; once more if the case
    was closed since.

    Example: countersign quarantine release 0193e2a4-... --comment "opened with the password they phoned in; it is the signed copy"
    """
    by = _proven(journey, comment, approver, key)
    _again(journey, comment, release=True, by=by)


@app.command()
def correct(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    comment: Annotated[str, typer.Option(help="How you know what is right; recorded.")],
    cell: CellOption = None,
    file: FileOption = "",
    approver: AsOption = None,
    key: KeyOption = None,
) -> None:
    """Put cells of a refused table right, or give a corrected file; it is checked, and filed if it passes.

    Where the stream's 'signoff' wants it, you prove that it is you: by the code of your phone, or with --key.

    Example: countersign quarantine correct 0193e2a4-... --cell "7, quantity = 12" --comment "they confirmed it by mail"
    """
    by = _proven(journey, comment, approver, key, cell or [], file, correcting=True)
    _again(journey, comment, release=False, cells=cell or [], file=file, by=by)


@app.command()
def sign(
    journey: Annotated[str, typer.Argument(help="The case's journey.")],
    approver: Annotated[str, typer.Option("--as", help="Your id in people.yaml.")],
    key: Annotated[Path, typer.Option(help="Your private key, or the .pub file of one that an ssh-agent holds.")] = Path(
        "~/.ssh/id_ed25519"
    ),
    cell: CellOption = None,
    file: FileOption = "",
) -> None:
    """Sign that a document is released, or with --cell or --file corrected so: the line for the field 'proof' of the case's form.

    Fill in the form within ten minutes, with the same cells or file. A comment is not covered by the signature.

    Example: countersign quarantine sign 0193e2a4-... --as anna
    """
    from blocks.case_signoff import CaseAction

    agreed, decided = _decided(journey, approver, cell or [], file, correcting=bool(cell or file))
    if agreed.terms.signoff is None:
        typer.echo(f"countersign: nobody need prove anything about cases of {agreed.key}: it has no 'signoff'", err=True)
        raise typer.Exit(1)
    typer.echo(f"{decided.action} case {journey} of {agreed.key}, SHA-256 {decided.document or 'never fetched'}", err=True)
    if decided.action is CaseAction.CORRECT:
        typer.echo(f"  to what has SHA-256 {decided.corrected}", err=True)
    typer.echo(_signed(decided, key))


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


def _decided(journey: str, approver: str, cells: list[str], file: str, *, correcting: bool) -> tuple[Agreed, CaseDecision]:
    """What is to be proven, and what was agreed about it."""
    from blocks.case_signoff import CaseAction
    from tasks.case_signoff import agreed_about, decision
    from tasks.connections import ledger
    from tasks.correct import Correction, digest_of

    history = ledger().journey(journey)
    agreed = agreed_about(history)
    action = CaseAction.CORRECT if correcting else CaseAction.RELEASE
    corrected = digest_of(journey, agreed, Correction(approver, "", cells, file)) if correcting else ""
    return agreed, decision(journey, history, agreed, action, approver, corrected)


def _proven(
    journey: str,
    comment: str,
    approver: str | None,
    key: Path | None,
    cells: list[str] | None = None,
    file: str = "",
    *,
    correcting: bool = False,
) -> str:
    """Who does it: whoever has proven so where that is agreed, else the account that runs this. What cannot be done is not proven."""
    from datetime import UTC, datetime
    from uuid import uuid4

    from blocks.errors import ConfigurationError
    from tasks.case_signoff import agreed_about, sign_off
    from tasks.connections import ledger
    from tasks.correct import Correction, unfit
    from tasks.retry import check_releasable
    from tasks.rules.case_form import MOST_CHARACTERS

    agreed = agreed_about(ledger().journey(journey))
    terms = agreed.terms.signoff
    if terms is None:
        return getpass.getuser()
    if approver is None:
        raise ConfigurationError(f"{journey}: --as: say which of {', '.join(terms.groups)} you are; you prove it then")
    if len(comment) > MOST_CHARACTERS:
        raise ConfigurationError(f"{journey}: a comment has at most {MOST_CHARACTERS} characters, this one {len(comment)}")
    if not correcting:
        check_releasable(journey, agreed)
    elif why := unfit(journey, agreed, Correction(approver, comment, cells or [], file)):
        raise ConfigurationError(f"{journey}: {why}")
    _, decided = _decided(journey, approver, cells or [], file, correcting=correcting)
    typed = _signed(decided, key) if key else str(typer.prompt("The code that your phone shows now", hide_input=True))
    refused = sign_off(decided, comment, typed, f"by hand/{uuid4()}", datetime.now(UTC))
    if refused is not None:
        typer.echo(f"countersign: {refused.first_line}", err=True)
        raise typer.Exit(1)
    return approver


def _signed(decided: CaseDecision, key: Path) -> str:
    from datetime import UTC, datetime

    from blocks.case_signoff import CASE_NAMESPACE
    from deployments.signing import ssh_sign

    now = datetime.now(UTC).replace(microsecond=0)
    return ssh_sign(decided.statement(now), key, CASE_NAMESPACE, now)


def _again(journey: str, comment: str, *, release: bool, cells: list[str] | None = None, file: str = "", by: str = "") -> None:
    from flows.review import retry as again

    more: dict[str, object] = {"cells": cells or [], "file": file}
    state = again(journey, comment, by=by or getpass.getuser(), release=release, return_state=True, **more)
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
