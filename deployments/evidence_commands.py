"""``countersign evidence``: what proves a journey, for somebody who has nothing of ours, and its verifier."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="What proves a journey, to hand on; and its verifier.")


@app.command()
def export(
    to: Annotated[Path, typer.Option(help="A folder that is not there yet, or a name that ends in .zip.")],
    what: Annotated[
        list[str] | None, typer.Argument(help="Journeys by id, orders by theirs; several.", metavar="JOURNEY|ORDER")
    ] = None,
    partner: Annotated[str | None, typer.Option(help="All journeys of a partner, or only orders of this partner.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only of this stream of the partner.")] = None,
    since: Annotated[datetime | None, typer.Option(help="First seen at or after, UTC: 2026-11-20.")] = None,
    until: Annotated[datetime | None, typer.Option(help="First seen before, UTC.")] = None,
    with_bytes: Annotated[
        bool, typer.Option("--with-bytes", help="With the documents themselves, not only their digests.")
    ] = False,
) -> None:
    """Write a bundle of evidence: ledger entries under the sender's seal, certificates, records, a page to print, bytes if wanted.

    Exit code 1: there is no such journey, or bytes that were wanted could not be had (they are named; all else is there).

    Example: countersign evidence export autumn-2026 --with-bytes --to autumn-2026.zip
    """
    from datetime import UTC

    from blocks.errors import ConfigurationError
    from tasks.export_evidence import chosen, meant
    from tasks.export_evidence import export as write

    if not what and partner is None:
        raise ConfigurationError("name a journey or an order, or a partner with --partner")
    if what and (stream or since or until):
        raise ConfigurationError("--stream, --since and --until go with --partner alone, not with journeys or orders")
    journeys: list[str] = []
    for one in what or []:
        found = meant(one, partner)
        if not found:
            typer.echo(f"countersign: {one[:100]!r}: no such journey or order; see 'countersign ledger search'", err=True)
            raise typer.Exit(1)
        journeys += found
    if not what:
        zone = UTC
        journeys = chosen(
            partner, stream, since.replace(tzinfo=zone) if since else None, until.replace(tzinfo=zone) if until else None
        )
    if not journeys:
        typer.echo("countersign: no journey fits; see 'countersign ledger search'", err=True)
        raise typer.Exit(1)
    told = write(list(dict.fromkeys(journeys)), to, with_bytes=with_bytes, by=getpass.getuser())
    typer.echo(f"{to}: journeys: {told.journeys}, entries: {told.entries}, documents: {told.documents}; open index.html")
    for lacking in told.lacking:
        typer.echo(f"without the bytes of {lacking}", err=True)
    raise typer.Exit(1 if told.lacking else 0)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(exists=True, help="The bundle.", metavar="FOLDER|ZIP")],
    key: Annotated[
        list[str], typer.Option(help="The sender's public key, base64, from a source other than the bundle; several.")
    ],
    filed: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A checkpoint, fetched from where they are filed: the bundle's must go with it; several.",
        ),
    ] = None,
    all_checks: Annotated[bool, typer.Option("--all", help="Tell every check, not only what fails.")] = False,
) -> None:
    """Check a bundle of evidence: every byte of every member, every entry, seal and certificate. Exit code 0 only if all holds.

    Offline: nothing is asked but the files and the key. What was changed, added or removed is named.

    Example: countersign evidence verify autumn-2026.zip --key 6tB0...=
    """
    from blocks.errors import ChainBroken, ConfigurationError
    from blocks.ledger import Checkpoint
    from blocks.seals import key_id
    from deployments.ssh_signatures import signature_holds
    from deployments.verify_commands import public_key
    from tasks.verify_evidence import verify_evidence

    keys = {key_id(public): public for public in map(public_key, key)}
    kept = []
    for path in filed or []:
        try:
            kept.append(Checkpoint.parse(path.read_text(encoding="ascii")))
            kept[-1].prove(keys)
        except (ValueError, ChainBroken) as error:
            raise ConfigurationError(f"{path}: {error}") from error
    passed = failed = 0
    for check in verify_evidence(bundle, keys, signature_holds, kept):
        passed, failed = passed + check.passed, failed + (not check.passed)
        if all_checks or not check.passed or "/" not in check.name:
            typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.told}")
    typer.echo(f"{passed} checks passed, {failed} failed" if failed else f"whole: {passed} checks passed")
    raise typer.Exit(1 if failed or not passed else 0)


@app.command()
def key() -> None:
    """Print the public key that seals evidence here: what 'countersign evidence verify --key' wants. Give it out apart from bundles.

    It is the sender's; where there is no sender it is this installation's own, which is said beside it.

    Example: countersign evidence key
    """
    import base64

    from tasks.checkpoint import public_key

    found, whose = public_key()
    typer.echo(base64.b64encode(found).decode())
    typer.echo(f"key: {whose}", err=True)
