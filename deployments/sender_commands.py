"""``countersign sender`` runs the process that alone sends; ``countersign signoff unlock`` lets a locked approver try again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

signoff_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Sign-offs under way.")

SocketOption = Annotated[
    Path | None,
    typer.Option("--socket", help="Unix socket of the sender; default: COUNTERSIGN_SENDER_SOCKET, or in the home folder."),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="The sender's own folder; default: COUNTERSIGN_SENDER_STATE, or in the home folder."),
]


@signoff_app.callback()
def signoff() -> None:
    """Sign-offs under way. Example: countersign signoff unlock anna"""


def sender(
    socket: SocketOption = None,
    state: StateOption = None,
    profiles: Annotated[
        Path | None, typer.Option(help="The sender's own copy of the reviewed files; workers must not be able to write it.")
    ] = None,
    spool: Annotated[Path | None, typer.Option(help="The workers' spool; the sender only reads it.")] = None,
    worker_uid: Annotated[
        list[int] | None, typer.Option(help="User id that may ask; several times for several. Default: your own.")
    ] = None,
    ops_uid: Annotated[list[int] | None, typer.Option(help="User id that may unlock approvers. Default: your own.")] = None,
    group: Annotated[int | None, typer.Option(help="Group id of the socket, if workers run as another user.")] = None,
    forget_checkpoint: Annotated[
        bool,
        typer.Option(
            "--forget-checkpoint",
            help="Once, after ledger or sender was restored from a backup: seal the next one as it comes.",
        ),
    ] = False,
) -> None:
    """Run the process that judges proofs, sends and seals. It alone needs the outbound credentials; end it with SIGTERM.

    Run it as a user of its own. Under the workers' own user it guards against mistakes, and not against whoever controls them.

    Example: countersign sender --worker-uid 1001 --ops-uid 1002 --group 1001 --profiles /srv/countersign/reviewed
    """
    import os

    from blocks.settings import settings
    from deployments.sender.process import run

    own = os.geteuid()
    ours = settings()
    workers, operators = worker_uid or [own], ops_uid or [own]
    folder, place = state or ours.sender_state, socket or ours.sender_socket
    typer.echo(f"sender: {place}, state in {folder}, workers {workers}, operations {operators}", err=True)
    if own in workers:
        typer.echo("sender: it runs as the workers' own user: whoever controls a worker can read its secrets", err=True)
    run(
        place,
        folder,
        profiles=profiles or ours.profiles,
        spool=spool or ours.spool,
        allowed=workers,
        ops=operators,
        group=group,
        floor_bytes=ours.spool_floor_bytes,
        forget_checkpoint=forget_checkpoint,
    )


@signoff_app.command()
def unlock(
    approver: Annotated[str, typer.Argument(help="Id in people.yaml.", metavar="ID")],
    socket: SocketOption = None,
) -> None:
    """Let an approver who gave five wrong proofs try again. Ask them first whether it was they. For operations only.

    Exit code 1: nothing was counted against them.

    Example: countersign signoff unlock anna
    """
    from blocks.sender import Sender
    from blocks.settings import settings
    from deployments.people import find_person

    person = find_person(approver, settings().profiles)
    with Sender(socket or settings().sender_socket) as client:
        unlocked = client.unlock(person.id)
    typer.echo(f"{person.name} ({person.id}) can sign again." if unlocked else f"{person.id} was not locked, nor near it.")
    if not unlocked:
        raise typer.Exit(1)


@signoff_app.command()
def key(socket: SocketOption = None) -> None:
    """Print the sender's public key: what 'countersign verify-signoff --key' wants. Keep it where auditors find it.

    Example: countersign signoff key
    """
    import base64

    from blocks.sender import Sender
    from blocks.settings import settings

    with Sender(socket or settings().sender_socket) as client:
        typer.echo(base64.b64encode(client.health().public).decode())
