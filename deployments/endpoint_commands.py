"""``countersign endpoint``: look at a partner's server, and trust it."""

from __future__ import annotations

from typing import Annotated

import typer

from blocks.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at a partner's servers and trust them.")


@app.callback()
def endpoint() -> None:
    """Look at a partner's servers and trust them."""


@app.command()
def trust(
    partner: Annotated[str, typer.Argument(help="The partner: deployments/PARTNER.yaml", metavar="PARTNER")],
    endpoint: Annotated[str, typer.Argument(help="One of the partner's endpoints.", metavar="ENDPOINT")],
    write: Annotated[bool, typer.Option("--write", help="Put the pin into the partner's file, after a question.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="With --write: keep the pins that are there beside it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprint was compared already.")] = False,
) -> None:
    """Show the key (SFTP) or certificate (FTPS) of a partner's server, compare it with the pinned ones, and say how to trust it.

    Nothing is sent to the server but the handshake. Compare the fingerprint with what the partner tells you by another way.

    Exit code 0: it is pinned (now); 1: it is not.

    Example: countersign endpoint trust acme drop --write
    """
    from blocks.endpoints.ftp import Ftps, certificate_fingerprint
    from blocks.endpoints.sftp import Sftp, host_fingerprint
    from blocks.profile import load_partner, partner_path
    from blocks.reviewed import nearest
    from blocks.settings import settings
    from deployments.pinning import pin

    profile, path = load_partner(partner, settings().profiles), partner_path(partner, settings().profiles)
    agreed = profile.endpoints.get(endpoint)
    if agreed is None:
        raise ConfigurationError(f"{partner} has no endpoint {endpoint!r}; {nearest(endpoint, profile.endpoints)}")
    if isinstance(agreed, Sftp):
        under, pins = "host_keys", agreed.host_keys
        shows = host_fingerprint(agreed.host, agreed.port, agreed.timeout_seconds)
    elif isinstance(agreed, Ftps):
        under, pins = "certificates", tuple(pinned.upper() for pinned in agreed.certificates)
        shows = certificate_fingerprint(agreed)
    else:
        raise ConfigurationError(f"{partner}/{endpoint} is a {agreed.protocol} endpoint: it has no key to trust")
    what = "key" if under == "host_keys" else "certificate"
    typer.echo(f"{agreed.address} shows   {shows}")
    for pinned in pins:
        typer.echo(f"{path} pins   {pinned}")
    if shows in pins:
        typer.echo(f"The {what} is pinned: nothing to do.")
        return
    if pins:
        typer.echo(
            f"NOT THE PINNED {what.upper()}. Nothing moves until a person decides. Was a change announced? "
            "Ask the partner by another way."
        )
    if not write:
        typer.echo(
            f"If it is the partner's, write under partner.endpoints.{endpoint} in {path}:\n      {under}:\n        - {shows}"
        )
        raise typer.Exit(1)
    if not yes and not typer.confirm("Does it equal the fingerprint that the partner told you?"):
        typer.echo("Nothing was written.")
        raise typer.Exit(1)
    pin(path, endpoint, (*pins, shows) if keep else (shows,), under)
    typer.echo(f"Pinned in {path}. Have the change reviewed, and commit it.")
