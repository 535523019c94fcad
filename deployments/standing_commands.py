"""``countersign standing``: sign off a stream's releases beforehand, within the bounds of its terms, and end that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.sender_commands import SocketOption

if TYPE_CHECKING:
    from blocks.sender import Sender

app = typer.Typer(no_args_is_help=True, help="Sign off a stream's releases beforehand, see that, end it.")
WhatArgument = Annotated[str, typer.Argument(help="Partner and outbound stream.", metavar="PARTNER/STREAM")]


@app.command()
def sign(
    what: WhatArgument,
    approver: Annotated[str, typer.Option("--as", help="Your id in people.yaml.")],
    key: Annotated[Path, typer.Option(help="Your SSH key (.pub: held by an ssh-agent).")] = Path("~/.ssh/id_ed25519"),
    days: Annotated[int | None, typer.Option(min=1, help="For how long. Default: as long as the terms allow.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether you have read it.")] = False,
    socket: SocketOption = None,
) -> None:
    """Sign that what goes out on a stream, under its terms of today and within their bounds, goes without asking you.

    Shows what you sign. With any change of the terms, and when the days are over, you are asked about each release again. It runs where
    the reviewed files and the sender's socket are.

    Exit codes: 0 it counts; 1 it was refused.

    Example: countersign standing sign acme/catalogue --as anna --days 30
    """
    from datetime import UTC, datetime, timedelta

    from blocks.errors import ConfigurationError
    from blocks.outbound import STANDING_NAMESPACE, Refusal, StandingSignoff
    from blocks.profile import load_partner, policies_of
    from blocks.sender import Sender
    from blocks.settings import settings
    from deployments.people import find_person, load_people
    from deployments.signing import ssh_sign

    folder, (partner, _, stream) = settings().profiles, what.partition("/")
    profile, person = load_partner(partner, folder), find_person(approver, folder)
    terms = profile.outbound.get(stream)
    bounds = terms.signoff.standing if terms else None
    if terms is None or bounds is None:
        raise ConfigurationError(
            f"{what}: no such outbound stream, or its terms let nothing be signed off beforehand ('standing:')"
        )
    now = datetime.now(UTC).replace(microsecond=0)
    policies = policies_of(profile, stream, load_people(folder))
    signed = StandingSignoff(
        partner=partner,
        stream=stream,
        profile=policies.profile,
        terms=policies.terms,
        approver=person.id,
        # A minute less: the sender counts from its own now, which its clock says.
        until=now + timedelta(days=bounds.days if days is None else days) - timedelta(minutes=1),
        time=now,
    )
    typer.echo(f"To {profile.title}, stream {what}, without asking you:")
    for place in terms.destinations:
        typer.echo(f"  to {profile.place(place).address}, folder {place.folder}")
    for bound in bounds.told:
        typer.echo(f"  {bound}")
    if terms.routine and not bounds.doctypes:
        typer.echo(f"  only documents of type {' or '.join(terms.routine)}")
    typer.echo(
        f"  until {signed.until:%Y-%m-%d %H:%M} UTC; terms {signed.terms[:12]}, which stand in {partner}.yaml: read them"
    )
    if not yes:
        typer.confirm("Do you sign that?", abort=True, err=True)
    proof = ssh_sign(signed.text, key, STANDING_NAMESPACE, now)
    with Sender(socket or settings().sender_socket) as sender:
        outcome = sender.sign_beforehand(signed, proof)
    if isinstance(outcome, Refusal):
        typer.echo(f"countersign: {outcome.first_line}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{what}: signed off beforehand by {person.id} until {signed.until:%Y-%m-%d %H:%M} UTC")


@app.command()
def show(
    what: Annotated[
        str | None,
        typer.Argument(help="Partner and outbound stream; left out: every stream that lets something be signed beforehand."),
    ] = None,
    socket: SocketOption = None,
) -> None:
    """Who signed what beforehand, until when, for how many releases it was used, what is left, and whether it is good today.

    Example: countersign standing show acme/catalogue
    """
    from blocks.profile import load_partner, partners
    from blocks.sender import Sender
    from blocks.settings import settings

    folder = settings().profiles
    every = ((name, load_partner(name, folder).outbound.items()) for name in (() if what else partners(folder)))
    found = [f"{name}/{stream}" for name, streams in every for stream, terms in streams if terms.signoff.standing]
    with Sender(socket or settings().sender_socket) as sender:
        for one in [what] if what else found:
            _show(one, sender)
    if not what and not found:
        typer.echo("no stream's terms let anything be signed off beforehand ('standing:')")


def _show(what: str, sender: Sender) -> None:
    from datetime import UTC, datetime

    from blocks.profile import load_partner, policies_of
    from blocks.settings import settings
    from deployments.people import load_people
    from tasks.rules.beforehand import state

    folder, (partner, _, stream) = settings().profiles, what.partition("/")
    profile, people, now = load_partner(partner, folder), load_people(folder), datetime.now(UTC)
    terms, book = profile.outbound.get(stream), sender.standing(partner, stream)
    bounds = terms.signoff.standing if terms else None
    if bounds is not None:
        left = max(0, bounds.per_day - book.today)
        typer.echo(f"{what}: {'; '.join(bounds.told)}; {left} of {bounds.per_day} releases left now")
    for held in book.held:
        signed = held.signed
        good = (
            state(held, terms, policies_of(profile, stream, people), people, now) if terms else "void: there is no such stream"
        )
        typer.echo(
            f"{signed.approver}  signed {signed.time:%Y-%m-%d %H:%M}  until {signed.until:%Y-%m-%d %H:%M} UTC  "
            f"used for {held.used} releases  {good}"
        )
    if not book.held:
        typer.echo(f"{what}: nothing was signed off beforehand")


@app.command()
def end(
    what: WhatArgument,
    approver: Annotated[str, typer.Option("--as", help="Your id in people.yaml.")],
    key: Annotated[Path, typer.Option(help="Your SSH key (.pub: held by an ssh-agent).")] = Path("~/.ssh/id_ed25519"),
    socket: SocketOption = None,
) -> None:
    """End what you have signed beforehand for a stream, at once: you are asked again. Signed with your key, as it was.

    A release for which it counted already, and of which nothing has left, is not sent either.

    Exit codes: 0 it is ended; 1 it was refused, or there is nothing to end.

    Example: countersign standing end acme/catalogue --as anna
    """
    from datetime import UTC, datetime

    from blocks.outbound import STANDING_NAMESPACE, Refusal, StandingEnd
    from blocks.sender import Sender
    from blocks.settings import settings
    from deployments.signing import ssh_sign

    (partner, _, stream), now = what.partition("/"), datetime.now(UTC).replace(microsecond=0)
    with Sender(socket or settings().sender_socket) as sender:
        held = sender.standing(partner, stream).held
        mine = sorted(one.signed.id for one in held if one.signed.approver == approver and not one.ended)
        ending = StandingEnd(partner=partner, stream=stream, approver=approver, ends=tuple(mine), time=now)
        outcome = sender.end_standing(ending, ssh_sign(ending.text, key, STANDING_NAMESPACE, now))
    if isinstance(outcome, Refusal):
        typer.echo(f"countersign: {outcome.first_line}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{what}: {outcome} ended; you are asked about each release again")


@app.command()
def revoke(
    what: WhatArgument,
    approver: Annotated[str, typer.Option("--of", help="Whose; left out: everybody's.")] = "",
    socket: SocketOption = None,
) -> None:
    """End what others have signed beforehand, at once: people are asked again. For ops of the sender (its --ops-uid).

    A release for which it counted already, and of which nothing has left, is not sent either. Who has signed ends that with
    'countersign standing end'.

    Example: countersign standing revoke acme/catalogue --of anna
    """
    from blocks.sender import Sender
    from blocks.settings import settings

    partner, _, stream = what.partition("/")
    with Sender(socket or settings().sender_socket) as sender:
        typer.echo(f"{what}: {sender.revoke_standing(partner, stream, approver)} revoked")
