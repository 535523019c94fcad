"""``countersign journey`` and ``countersign ledger``: what happened to a document, and whether the record is whole."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

journey_app = typer.Typer(no_args_is_help=True, help="One document's path through us.")
ledger_app = typer.Typer(no_args_is_help=True, help="The record of all journeys.")


@journey_app.command("show")
def show(journey: Annotated[str, typer.Argument(help="A journey's id, as every report and table shows it.")]) -> None:
    """Every step of one journey, in order. Example: countersign journey show 0193e2a4-..."""
    from blocks.tombstones import REDUCED
    from tasks.connections import ledger
    from tasks.to_go_onward import onward_of

    entries = ledger().journey(journey)
    reduced = entries[-1] if entries and entries[-1].kind == REDUCED else None
    if not entries:
        typer.echo(f"countersign: {journey}: no such journey; search with 'countersign ledger search --name ...'", err=True)
        raise typer.Exit(1)
    console = Console(highlight=False, markup=False)
    for entry in entries:
        if entry is reduced:
            break
        facts = ", ".join(f"{key}={value}" for key, value in entry.body.items() if key not in ("partner", "stream", "findings"))
        console.print(f"{entry.n:>3}  {entry.at:%Y-%m-%d %H:%M:%S}Z  {entry.kind:<12} {facts}", soft_wrap=True)
        for finding in entry.body.get("findings", []):
            console.print(f"       {finding.get('code')}: {finding.get('message')}", soft_wrap=True)
    if reduced is not None:
        export = reduced.body["export"]
        console.print(f"{reduced.n:>3}  {reduced.at:%Y-%m-%d %H:%M:%S}Z  {reduced.kind:<12} to a tombstone", soft_wrap=True)
        console.print(
            f"       what else was recorded stands in {export['name']}, document {export['id']} at {export['repository']}\n"
            f"       SHA-256 {export['digest']}",
            soft_wrap=True,
        )
    if entries and (said := onward_of(entries)):
        console.print(said, soft_wrap=True)


@ledger_app.command()
def search(
    name: Annotated[str | None, typer.Option(help="Part of the file's name; case is ignored.")] = None,
    partner: Annotated[str | None, typer.Option(help="Partner.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream.")] = None,
    digest: Annotated[str | None, typer.Option(help="SHA-256, or how it begins.")] = None,
    repository_id: Annotated[str | None, typer.Option(help="Id in the repository.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="First seen at or after, UTC: 2026-11-20 or 2026-11-20T08:00:00.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="First seen before, UTC.")] = None,
    limit: Annotated[int, typer.Option(help="Most rows.", min=1)] = 100,
) -> None:
    """Find journeys, newest first. Example: countersign ledger search --partner acme --name INV_4711"""
    from datetime import UTC

    from tasks.connections import ledger

    found = ledger().search(
        name=name,
        partner=partner,
        stream=stream,
        digest=digest,
        repository_id=repository_id,
        since=since.replace(tzinfo=UTC) if since else None,
        until=until.replace(tzinfo=UTC) if until else None,
        limit=limit,
    )
    histories = ledger().journeys([row.journey for row in found])
    table = Table("journey", "partner/stream", "file", "last step", "changed (UTC)", "repository id", "digest", "keep until")
    for row in found:
        kept = [entry.body["keep_until"] for entry in histories[row.journey] if "keep_until" in entry.body]
        table.add_row(
            row.journey,
            f"{row.partner}/{row.stream}",
            row.name,
            row.kind,
            f"{row.changed:%Y-%m-%d %H:%M:%S}",
            row.repository_id or "",
            (row.digest or "")[:16],
            kept[-1] if kept else "",
        )
    Console(markup=False, highlight=False).print(table)
    if len(found) == limit:
        typer.echo(f"Only the newest {limit} are shown; ask for more with --limit.", err=True)
    if not found:
        raise typer.Exit(1)


@ledger_app.command()
def verify(
    key: Annotated[
        list[str] | None, typer.Option(help="The sender's public key, base64, besides the one in repositories.yaml; several.")
    ] = None,
    filed: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A filed checkpoint: it must still be among ours.")
    ] = None,
    exports: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Folder with exports fetched from the repository: their texts are read too."
        ),
    ] = None,
) -> None:
    """Read every link of every chain, and every seal; names the first that is broken.

    Seals count that were made with this installation's key, the sender's key in repositories.yaml, or one given by --key. Of a journey
    that was reduced the texts are not here: its tombstone is checked, and with --exports its texts too.

    Example: countersign ledger verify --key 6tB0...= --filed checkpoint-000012.json
    """
    from blocks.tombstones import Exports
    from deployments.verify_commands import public_key
    from tasks.checkpoint import from_file, keys
    from tasks.connections import ledger

    known = keys([public_key(text) for text in key or []])
    found = ledger().verify(
        keys=known, filed=from_file(filed) if filed else None, exports=Exports(exports) if exports else None
    )
    typer.echo(
        f"whole: {found.journeys} journeys, {found.entries} entries, "
        f"{found.checkpoints} checkpoints over {found.sealed} entries ({found.signatures} signatures checked)"
    )
    if found.reduced:
        typer.echo(
            f"reduced: {found.reduced} of these journeys; their texts are not here, their heads are as sealed. "
            f"Read again from exports: {found.reread}, not: {found.reduced - found.reread}"
        )


@ledger_app.command()
def reduce(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be reduced, and why the others stay whole.")
    ] = False,
) -> None:
    """Export closed journeys of streams with 'reduce_after', and leave tombstones of them, as the nightly clean-up does.

    Example: countersign ledger reduce --dry-run
    """
    from tasks.reduce import reduce_closed

    swept = reduce_closed.fn(rehearse=dry_run)
    for one in swept:
        typer.echo(f"{one.what}: {one.gone} {'would be ' if dry_run else ''}reduced, {len(one.kept)} stay whole")
        for journey, reason in one.kept:
            typer.echo(f"  {journey}: {reason}")
    if not swept:
        typer.echo("nothing to reduce")


@ledger_app.command()
def checkpoint() -> None:
    """Seal what is not sealed yet, by the sender where there is one, and file the seals where repositories.yaml says.

    Example: countersign ledger checkpoint
    """
    from tasks.checkpoint import checkpoint as seal

    kept = seal.fn()
    typer.echo("nothing to seal" if kept.sealed is None else f"checkpoint {kept.sealed.number}: {kept.sealed.hash}")
    for name in kept.filed:
        typer.echo(f"filed {name}: {kept.place}")
    if not kept.place:
        typer.echo("filed nowhere: keep that line elsewhere, or say where in repositories.yaml ('checkpoints:')", err=True)
