"""``countersign people``: how approvers come to their proofs, see that they work, and lose them.

These commands open the sender's own folder: run them as the sender's user (``sudo -u``). A seed is shown once, on the screen in
front of the person whom it is for, and travels nowhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.sender_commands import StateOption

if TYPE_CHECKING:
    from blocks.outbound import PeopleFile, Person
    from deployments.sender.store import Store

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Approvers and their proofs.")

IdArgument = Annotated[str, typer.Argument(help="Id in people.yaml.", metavar="ID")]


@app.callback()
def people() -> None:
    """Approvers and their proofs. Example: countersign people check"""


@app.command()
def enrol(
    id: IdArgument,
    state: StateOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="There is a seed already, as for a lost phone: make it worthless.")
    ] = False,
) -> None:
    """Give an approver a code generator: shows a QR code for their phone, and keeps it once a code from it was right.

    The person must be in people.yaml and sit in front of this screen.

    Example: countersign people enrol anna
    """
    import segno

    from blocks.errors import ConfigurationError
    from deployments.people import find_person
    from deployments.sender.proofs import enrolment_uri, new_seed

    person = find_person(id, _profiles())
    with _store(state) as store:
        if id in store.enrolled() and not replace:
            raise ConfigurationError(f"{id} has a code generator already; with --replace a new one takes its place")
        seed = new_seed()
        segno.make(enrolment_uri(seed, person.id, person.name), error="m").terminal(compact=True)
        typer.echo(f"For {person.name} ({person.id}). Scan it with an authenticator app, or type this key (30 s, 6 digits):")
        typer.echo(" ".join(seed[place : place + 4] for place in range(0, len(seed), 4)))
        for _ in range(3):
            step = _matching(seed, typer.prompt("The code it shows now"))
            if step is not None:
                store.enrol(person.id, seed, used=step)
                typer.echo(f"It works: {person.name} can sign with codes from now on. This one is used up; wait for the next.")
                return
            typer.echo("Not right: check the code and the phone's clock, then try the next code.")
        typer.echo("Nothing was kept.")
        raise typer.Exit(1)


@app.command()
def check(
    id: Annotated[
        str | None, typer.Argument(help="One person: asks for a code, to see that their proof works.", metavar="[ID]")
    ] = None,
    state: StateOption = None,
) -> None:
    """Show who may sign, with which proofs, and what is wrong; for one person, let them prove that their code works.

    The code of a rehearsal is used up, and a wrong one counts, as in a sign-off.

    Whom no message reaches (notify.yaml) is told, too.

    Exit code 1: somebody cannot sign, or the code was not right.

    Example: countersign people check anna
    """
    from deployments.people import find_person, load_people

    with _store(state) as store:
        file = load_people(_profiles())
        if id is None:
            if not _list(file, store):
                raise typer.Exit(1)
            return
        person = find_person(id, _profiles())
        if not _rehearsed(person, store, typer.prompt("The code that your phone shows now")):
            typer.echo("Not accepted: check the code and the phone's clock, then try the next code.")
            raise typer.Exit(1)
        typer.echo(f"Accepted: {person.name} can sign with codes.")


@app.command()
def revoke(id: IdArgument, state: StateOption = None) -> None:
    """Make an approver's code generator worthless, at once. Works also for somebody who is no longer in people.yaml.

    Public keys are revoked in people.yaml, by their last day or by taking them out.

    Exit code 1: there was none.

    Example: countersign people revoke anna
    """
    with _store(state) as store:
        revoked = store.revoke(id)
    typer.echo(f"{id}: no code of that phone is accepted any more." if revoked else f"{id} has no code generator.")
    if not revoked:
        raise typer.Exit(1)


@app.command()
def inbox(id: IdArgument) -> None:
    """Print the links under which an approver finds the runs that wait for them, for a bookmark: one for each of Prefect's two UIs.

    Example: countersign people inbox anna
    """
    from prefect.settings import PREFECT_UI_URL

    from blocks.errors import ConfigurationError
    from deployments.people import find_person
    from tasks.rules.dialog import inbox as links

    person, address = find_person(id, _profiles()), PREFECT_UI_URL.value()
    if not address:
        raise ConfigurationError("where Prefect's UI is cannot be told: set PREFECT_API_URL, or PREFECT_UI_URL behind a proxy")
    for which, link in zip(("classic", "newer"), links(address, person.id), strict=True):
        typer.echo(f"{which}: {link}")


def _store(state: Path | None) -> Store:
    from blocks.settings import settings
    from deployments.sender.store import Store

    return Store(state or settings().sender_state)


def _profiles() -> Path:
    from blocks.settings import settings

    return settings().profiles


def _matching(seed: str, typed: str) -> int | None:
    from datetime import UTC, datetime

    from deployments.sender.proofs import matching_step, typed_code

    code = typed_code(typed)
    return matching_step(seed, code, datetime.now(UTC)) if code else None


def _rehearsed(person: Person, store: Store, typed: str) -> bool:
    """Judge a code as in a sign-off, for nothing."""
    from datetime import UTC, datetime

    from deployments.sender.proofs import matching_step, typed_code
    from tasks.rules.policy import Attempt, locked

    now, code = datetime.now(UTC), typed_code(typed)
    with store.bench() as bench:
        fresh = code is not None and bench.burn(code, now)
        if refused := locked(person.id, bench.attempts(person.id), now):
            typer.echo(refused.first_line)
            return False
        seed = bench.seed(person.id)
        step = matching_step(seed, code, now) if seed and code and fresh else None
        right = step is not None and bench.spend(person.id, step)
        bench.tried(Attempt(person.id, now, right=right))
    return right


def _list(file: PeopleFile, store: Store) -> bool:
    """Everybody in a table. False if somebody who may sign today has nothing to sign with, or is locked."""
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Table

    from blocks.notifying import load_notify, notify_path
    from blocks.outbound import on
    from tasks.rules.policy import MOST_WRONG

    today, enrolled, wrong = file.day(datetime.now(UTC)), store.enrolled(), store.wrong()
    path, notify = notify_path(_profiles()), load_notify(_profiles())
    table, sound = Table("id", "name", "groups", "code since", "keys valid today", "remark"), True
    for person in file.people:
        keys = [key for key in person.keys if on(today, key.valid_from, key.valid_until)]
        remarks = [] if on(today, person.valid_from, person.valid_until) else ["may not sign today"]
        if not remarks and person.groups and not keys and person.id not in enrolled:
            remarks.append("has nothing to sign with: countersign people enrol")
        if wrong.get(person.id, 0) >= MOST_WRONG:
            remarks.append("locked: countersign signoff unlock")
        sound = sound and (not remarks or remarks == ["may not sign today"])
        if notify is not None and notify.channel(person.id, file) is None:
            remarks.append(f"is told of nothing: {path} has no line for '{person.id}' under 'told', and no 'mail'")
        since = f"{enrolled[person.id]:%Y-%m-%d}" if person.id in enrolled else ""
        fingerprints = "\n".join(key.fingerprint for key in keys)
        table.add_row(person.id, person.name, ", ".join(person.groups), since, fingerprints, "; ".join(remarks))
    Console(markup=False, highlight=False).print(table)
    if notify is None:
        typer.echo(f"Nobody is told what waits for them: there is no {path}.")
    if strangers := sorted(set(enrolled) - {person.id for person in file.people}):
        typer.echo(f"Seeds of people who are not in the file: {', '.join(strangers)} (countersign people revoke)")
    return sound
