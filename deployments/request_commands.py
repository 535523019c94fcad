"""``countersign request``: ask for a release as somebody who proves who they are, so that they certainly do not sign it themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.sender_commands import SocketOption

if TYPE_CHECKING:
    from blocks.outbound import Request


def request(
    what: Annotated[str, typer.Argument(help="Partner and outbound stream.", metavar="PARTNER/STREAM")],
    requester: Annotated[str, typer.Option("--as", help="Your id in people.yaml: you will not be asked to sign.")],
    order: Annotated[
        str | None, typer.Option(help="Id of what is asked for; the same id never goes out twice. Default: from the time.")
    ] = None,
    id: Annotated[
        list[str] | None, typer.Option(help="A document's id in the repository, where the order lists them; several times.")
    ] = None,
    kit: Annotated[str, typer.Option(help="Which of the stream's kits, where it has any.")] = "",
    key: Annotated[
        Path | None,
        typer.Option(help="Prove it by an SSH signature with this key (.pub: held by an ssh-agent), not by a code."),
    ] = None,
    socket: SocketOption = None,
    local: Annotated[
        bool, typer.Option("--local", help="The way to the sign-off in this process; after it a worker goes on.")
    ] = False,
) -> None:
    """Ask for a release and prove that it is you, by the code of your phone or with an SSH key. Then it runs as 'run release' does.

    The sender keeps who asked, so nobody can say later that it was somebody else. It runs where the sender's socket is.

    Exit codes are those of 'countersign run release'; 1 also: the request was refused.

    Example: countersign request acme/catalogue --order autumn-2026 --as rita --key ~/.ssh/id_ed25519
    """
    from blocks.outbound import Refusal
    from blocks.sender import Sender
    from blocks.settings import settings
    from deployments.people import find_person
    from deployments.run_commands import release

    asked = _asked(what, find_person(requester, settings().profiles).id, order, id or [], kit)
    with Sender(socket or settings().sender_socket) as sender:
        outcome = sender.request(asked, _signed(asked, key) if key else _typed())
    if isinstance(outcome, Refusal):
        typer.echo(f"countersign: {outcome.first_line}", err=True)
        raise typer.Exit(1)
    typer.echo(f"order {asked.order} on {what}: asked for by {outcome.requester}, proven by {outcome.proof.value}")
    release(asked.partner, asked.stream, asked.order, asked.requester, list(asked.ids), asked.kit, local)


def _asked(what: str, requester: str, order: str | None, ids: list[str], kit: str) -> Request:
    from datetime import UTC, datetime

    from blocks.errors import ConfigurationError
    from blocks.outbound import Request

    partner, _, stream = what.partition("/")
    try:
        return Request(partner, stream, order or f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", tuple(ids), requester, kit)
    except ValueError as error:
        raise ConfigurationError(f"--order: {error}") from error


def _typed() -> str:
    return str(typer.prompt("The code that your phone shows now", hide_input=True))


def _signed(asked: Request, key: Path) -> str:
    from datetime import UTC, datetime

    from blocks.outbound import REQUEST_NAMESPACE
    from deployments.signing import ssh_sign

    now = datetime.now(UTC).replace(microsecond=0)
    return ssh_sign(asked.statement(now), key, REQUEST_NAMESPACE, now)
