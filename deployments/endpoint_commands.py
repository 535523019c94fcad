"""``countersign endpoint``: look at a partner's server, and trust it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from blocks.errors import ConfigurationError, CountersignError

if TYPE_CHECKING:
    from blocks.profile import PartnerProfile
    from tasks.personality import Place

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

    Nothing is sent to the server but the handshake. Compare the fingerprint with what the partner tells you by another way. Jump
    hosts on the way come first, each by itself, and are signed in to once they are pinned.

    Exit code 0: it is pinned (now); 1: it is not.

    Example: countersign endpoint trust acme drop --write
    """
    from blocks.endpoints.ftp import Ftps, certificate_fingerprint
    from blocks.endpoints.sftp import Sftp
    from blocks.endpoints.ssh import host_fingerprint
    from blocks.profile import load_partner, partner_path
    from blocks.reviewed import nearest
    from blocks.settings import settings

    profile, path = load_partner(partner, settings().profiles), partner_path(partner, settings().profiles)
    agreed = profile.endpoints.get(endpoint)
    if agreed is None:
        raise ConfigurationError(f"{partner} has no endpoint {endpoint!r}; {nearest(endpoint, profile.endpoints)}")
    place, wish = f"partner.endpoints.{endpoint}", _Wish(write, keep, yes)
    if isinstance(agreed, Sftp):
        jump = list(agreed.jump)
        for number, hop in enumerate(jump):
            shows = host_fingerprint(hop.host, hop.port, agreed.timeout_seconds, tuple(jump[:number]))
            shown = _Shown(f"jump host {hop.host}:{hop.port}", "host_keys", shows, hop.host_keys)
            if not _settled(shown, f"{place}.jump, entry {number + 1}", path, wish, endpoint, number):
                continue
            if yes:
                typer.echo("What lies behind it was not compared yet: say this again to see it.")
                raise typer.Exit(1)
            jump[number] = hop.model_copy(update={"host_keys": (shows,)})
        shows = host_fingerprint(agreed.host, agreed.port, agreed.timeout_seconds, tuple(jump))
        shown = _Shown(agreed.address, "host_keys", shows, agreed.host_keys)
    elif isinstance(agreed, Ftps):
        pins = tuple(pinned.upper() for pinned in agreed.certificates)
        shown = _Shown(agreed.address, "certificates", certificate_fingerprint(agreed), pins)
    else:
        raise ConfigurationError(f"{partner}/{endpoint} is a {agreed.protocol} endpoint: it has no key to trust")
    if not _settled(shown, place, path, wish, endpoint):
        typer.echo(f"The {shown.what} is pinned: nothing to do.")


class _Wish(NamedTuple):
    """What was asked for."""

    write: bool
    keep: bool
    yes: bool


class _Shown(NamedTuple):
    """What a server shows, and what is pinned of it."""

    who: str
    under: str
    shows: str
    pins: tuple[str, ...]

    @property
    def what(self) -> str:
        return "key" if self.under == "host_keys" else "certificate"


def _settled(shown: _Shown, place: str, path: Path, wish: _Wish, endpoint: str, jump: int | None = None) -> bool:
    """Show it beside its pins. False if it is pinned; True if it was just now. Else it is left to a person: exit code 1."""
    from deployments.pinning import pin

    who, under, shows, pins = shown
    typer.echo(f"{who} shows   {shows}")
    for pinned in pins:
        typer.echo(f"{path} pins   {pinned}")
    if shows in pins:
        return False
    if pins:
        typer.echo(
            f"NOT THE PINNED {shown.what.upper()}. Nothing moves until a person decides. Was a change announced? "
            "Ask the partner by another way."
        )
    if not wish.write:
        typer.echo(f"If it is the right one, write under {place} in {path}:\n      {under}:\n        - {shows}")
        raise typer.Exit(1)
    if not wish.yes and not typer.confirm("Does it equal the fingerprint that you were told by another way?"):
        typer.echo("Nothing was written.")
        raise typer.Exit(1)
    pin(path, endpoint, (*pins, shows) if wish.keep else (shows,), under, jump=jump)
    typer.echo(f"Pinned in {path}. Have the change reviewed, and commit it.")
    return True


@app.command()
def show(
    partner: Annotated[str, typer.Argument(help="The partner: deployments/PARTNER.yaml", metavar="PARTNER")],
    endpoint: Annotated[str, typer.Argument(help="One of the partner's endpoints.", metavar="ENDPOINT")],
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Also try what only writing can tell, in this folder at the partner; all of it is removed again.",
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Connect to nothing: what the ledger knows.")] = False,
    accept: Annotated[
        str | None,
        typer.Option(metavar="COMMENT", help="Close the case of a change: you have looked at it, and this is why it is fine."),
    ] = None,
) -> None:
    """Show how a partner's server behaves: how it lists, what it can do, what it makes of names, and what has changed.

    Signs in and looks at the streams' folders, without writing anything there, and keeps in the ledger what it sees. An endpoint
    whose credential only the sender has is shown as the sender found it when it delivered.

    Exit code 0: as it was; 1: something changed, and nobody has accepted it yet.

    Example: countersign endpoint show acme drop --probe /tests
    """
    import getpass

    from blocks.profile import load_partner
    from blocks.reviewed import nearest
    from blocks.settings import settings
    from deployments.checking import absent_credential
    from tasks.personality import Place, open_case
    from tasks.personality import accept as accepted

    profile = load_partner(partner, settings().profiles)
    agreed = profile.endpoints.get(endpoint)
    if agreed is None:
        raise ConfigurationError(f"{partner} has no endpoint {endpoint!r}; {nearest(endpoint, profile.endpoints)}")
    owner = next((stream.owner for stream in profile.streams.values() if getattr(stream, "endpoint", "") == endpoint), "")
    place = Place(partner, endpoint, agreed, owner)
    typer.echo(f"{partner}/{endpoint}   {agreed.address}")
    try:
        if accept is not None:
            typer.echo("Closed." if accepted(place, accept, getpass.getuser()) else "There is no open case.")
        elif not offline and (missing := absent_credential(agreed)):
            typer.echo(f"Not signed in: {missing} is not here, as it should be away from the sender.")
        elif not offline:
            _visit(place, profile, probe)
    except CountersignError:
        _print(place)
        raise
    _print(place)
    if (case := open_case(place)) is not None:
        typer.echo(
            f"CHANGED: {case.reason}\nIf that is as it should be: countersign endpoint show {partner} {endpoint} --accept ..."
        )
        raise typer.Exit(1)


def _visit(place: Place, profile: PartnerProfile, probe: str | None) -> None:
    """See what the server tells, or try it out, and keep it."""
    from blocks.errors import EndpointError
    from blocks.profile import segments
    from blocks.values import RemoteFile
    from tasks.personality import STEM, look_after, remember, try_out
    from tasks.rules.settle import belongs

    streams = {name: stream for name, stream in profile.inbound.items() if stream.endpoint == place.name}
    if probe is not None:
        for name, stream in streams.items():
            if segments(stream.folder) == segments(probe) and belongs(
                RemoteFile(probe, STEM, 1, None), stream.settle, stream.patterns
            ):
                raise ConfigurationError(f"the stream {name} would pick up what is tried in {probe}; name another folder")
        remember(place, try_out(place, probe))
        return
    look_after(place)
    folders = {stream.folder for stream in streams.values()}
    folders |= {told.folder for out in profile.outbound.values() for told in out.destinations if told.endpoint == place.name}
    with place.endpoint.session() as session:
        for folder in sorted(folder for folder in folders if "{" not in folder):
            try:
                next(iter(session.look(folder)), None)
            except EndpointError as error:
                typer.echo(f"PROBLEM: {error}", err=True)
        seen = session.personality
    remember(place, seen)


def _print(place: Place) -> None:
    from tasks.personality import known
    from tasks.rules.personality import TRAITS, TRIED, words

    found = known(place)
    if found is None:
        typer.echo("Nothing is known of it yet.")
        return
    typer.echo(f"As it is known since {found.since:%Y-%m-%d %H:%M} UTC:")
    for trait, label in TRAITS.items():
        value = getattr(found.personality, trait)
        if value is not None or trait in TRIED:
            typer.echo(f"  {label:<28} {words(trait, value)}")
