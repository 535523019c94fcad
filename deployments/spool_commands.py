"""``countersign spool``: the bytes in transit."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The bytes in transit.")


@app.callback()
def spool() -> None:
    """The bytes in transit. Example: countersign spool collect"""


@app.command()
def collect(
    older_than_hours: Annotated[float, typer.Option(help="Only what has rested this long.", min=1.0)] = 24.0,
) -> None:
    """Free the disk of bytes that no open journey needs. What is on hold stays, and what nobody can tell about.

    Example: countersign spool collect --older-than-hours 48
    """
    from tasks.clean_up import collect_spool
    from tasks.connections import spool as our_spool

    swept = collect_spool.fn(timedelta(hours=older_than_hours))
    typer.echo(f"{swept.freed_bytes / 1024**2:.1f} MiB freed in {our_spool().folder}")
    if swept.kept:
        typer.echo(f"{len(swept.kept)} kept: on hold, or nobody can tell whether they are", err=True)
