"""``countersign partner``: draft, list and check what was agreed with partners."""

from __future__ import annotations

import json
from importlib import resources
from typing import Annotated

import typer

from blocks.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Draft, list and check partners' files.")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Short name: small letters, digits, dashes.", metavar="NAME")],
    title: Annotated[str, typer.Option(help="As people call the partner; default: the name.")] = "",
) -> None:
    """Write a commented file to start a new partner from.

    Example: countersign partner new globex --title "Globex Ltd"
    """
    from blocks.profile import partner_path
    from blocks.settings import settings

    path = partner_path(name, settings().profiles)
    draft = resources.files("deployments").joinpath("templates/partner.yaml").read_text(encoding="utf-8")
    draft = draft.replace("NAME_UPPER", name.upper().replace("-", "_")).replace("PARTNER_NAME", name)
    draft = draft.replace("PARTNER_TITLE", json.dumps(title or name, ensure_ascii=False))  # a JSON string is a YAML one
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(draft)
    except FileExistsError as error:
        raise ConfigurationError(f"{path}: is there already; it was not touched") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from error
    typer.echo(
        f"{path} written. Next: fill it in, then\n  countersign endpoint trust {name} drop\n  countersign partner check {name}"
    )


@app.command("list")
def list_() -> None:
    """Say which partners there are, and which of their files are in order.

    Example: countersign partner list
    """
    from blocks.profile import load_partner, partners
    from blocks.settings import settings

    broken = False
    for name in partners(settings().profiles):
        try:
            profile = load_partner(name, settings().profiles)
        except ConfigurationError as error:
            broken = True
            typer.echo(f"{name}\tNOT IN ORDER: countersign partner check {name} says more ({str(error).splitlines()[0]})")
        else:
            typer.echo(f"{name}\t{profile.title}\t{', '.join(profile.streams)}\t{profile.digest[:12]}")
    raise typer.Exit(1 if broken else 0)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="The partner: deployments/NAME.yaml", metavar="NAME")],
    offline: Annotated[bool, typer.Option("--offline", help="Check the file only; connect to nothing.")] = False,
) -> None:
    """Check a partner's file, then connect to its endpoints and repositories and say what matches. Writes nothing anywhere.

    Exit code 0: all is well; 1: something is wrong.

    Example: countersign partner check acme
    """
    from blocks.settings import settings
    from deployments.checking import check_partner

    sound = True
    for result in check_partner(name, settings().profiles, offline=offline):
        sound = sound and result.good
        typer.echo(("" if result.good else "PROBLEM: ") + result.text, err=not result.good)
    raise typer.Exit(0 if sound else 1)


@app.command()
def schema() -> None:
    """Print the JSON schema of partner files, for editors. It is kept in deployments/partner.schema.json.

    Example: countersign partner schema > deployments/partner.schema.json
    """
    from blocks.profile import editor_schema

    typer.echo(json.dumps(editor_schema(), indent=1, ensure_ascii=False))
