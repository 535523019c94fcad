"""``countersign sign``: an approver's signature, made on their own machine over what they fetched and hashed themselves.

Prefect only tells which package is asked about. Nothing it says is believed: the statement carries the digest of the package that was
printed, and the sender takes it for no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from blocks.outbound import Answer, Package, Round
    from blocks.spool import Batch, Spool

Choice = TypeVar("Choice", bound=StrEnum)

MOST_SKEW_SECONDS = 90
"""A clock that is further off than this makes statements that the sender takes for ones of another time."""


def sign(
    what: Annotated[str, typer.Argument(help="The run that asks, as in its address, or the order's id.", metavar="RUN|ORDER")],
    approver: Annotated[
        str | None,
        typer.Option("--as", help="Your id in people.yaml; 'bea for ann' if bea signs for ann; else it asks for it."),
    ] = None,
    decision: Annotated[
        str | None, typer.Option(help="approve, 'approve all but the listed', reject, 'request changes'; else it asks for it.")
    ] = None,
    meaning: Annotated[
        str | None, typer.Option(help="What your signature means: authorship, review, approval, release; else it asks for it.")
    ] = None,
    left_out: Annotated[
        list[int] | None, typer.Option(help="Number of a document that stays here; several times.", min=1)
    ] = None,
    key: Annotated[Path, typer.Option(help="Your private key, or the .pub file of one that an ssh-agent holds.")] = Path(
        "~/.ssh/id_ed25519"
    ),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to sign.")] = False,
) -> None:
    """Sign a release on your own machine: fetches every document, hashes it, prints what goes where, and signs exactly that.

    It needs the Prefect API, the repository, the reviewed files and your key; the sender's and the workers' secrets it does not.
    Paste the line that it prints on stdout into the form's field 'proof', with the same decision, meaning and list. A comment is not
    covered by the signature: type it into the form.

    Exit code 2: what stands in the repository is not what is asked about, or something is missing; nothing was signed.

    Example: countersign sign 0198c0de-7a2b-7cc3-9d51-1f0e8a6b2c3d --as anna --decision approve --meaning release
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        run = _run(client, what)
        asked, package = _asked(client, run)
        time = _now(client)
    _print(package, asked)
    _verify(package)
    answer = _answer(package, approver, decision, meaning, left_out or [])
    _warn(answer, key, time)
    if not yes:
        typer.confirm(f"{answer.decision.value}, as {answer.meaning.value}: sign this?", abort=True, err=True)
    line = _signature(answer, package, asked, key)
    _say(f"\nFill in the form of run {asked.run} with exactly this, and paste the line into 'proof':")
    _say(f"  decision  {answer.decision.value}\n  approver  {answer.seat.text}\n  meaning   {answer.meaning.value}")
    _say(f"  package   {package.digits}" + "".join(f"\n  left_out  {label}" for label in answer.left_out))
    typer.echo(line)


def _say(text: str) -> None:
    """To the person; stdout has the line alone."""
    typer.echo(text, err=True)


# --------------------------------------------------------------------------------------------- what is asked


def _run(client: SyncPrefectClient, what: str) -> FlowRun:
    """The run of this id, or the one that asks about this order."""
    from uuid import UUID

    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.exceptions import ObjectNotFound

    from blocks.errors import ConfigurationError

    try:
        return client.read_flow_run(UUID(what))
    except ObjectNotFound as error:
        raise ConfigurationError(f"{what}: Prefect knows no such run") from error
    except ValueError:
        pass
    waits = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=waits, name=FlowRunFilterName(like_=f" {what}: ")))
    if len(found) != 1:
        runs = ", ".join(f"{run.id} ({run.name})" for run in found)
        raise ConfigurationError(
            f"order {what[:100]!r}: " + (f"several runs ask about it; name one: {runs}" if runs else "no run waits for it")
        )
    return found[0]


def _asked(client: SyncPrefectClient, run: FlowRun) -> tuple[Round, Package]:
    """The round that is open, and the package that it is about."""
    import re

    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    from blocks.errors import ConfigurationError
    from blocks.outbound import Round
    from tasks.rules.dialog import as_package, package_key

    key = str(run.state.state_details.pause_key) if run.state is not None and run.state.is_paused() else ""
    found = re.fullmatch(r"signoff-([1-9][0-9]{0,5})-([0-9a-f]{16})-[0-9a-f]{8}", key)
    if found is None:
        raise ConfigurationError(f"run {run.id} ({run.name}) does not wait for a sign-off just now")
    kept = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[package_key(found[2])])), limit=20)
    packages = [package for package in (as_package(str(one.data)) for one in kept) if package is not None]
    package = next((package for package in packages if package.digest.startswith(found[2])), None)
    if package is None:
        raise ConfigurationError(
            f"run {run.id}: Prefect does not hold the package that it asks about; sign in the form instead"
        )
    return Round(int(found[1]), key, str(run.id), package.digest), package


def _now(client: SyncPrefectClient) -> datetime:
    """This machine's time. Raises ``ConfigurationError`` if the Prefect server's clock is another: the sender goes by its time."""
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    from blocks.errors import ConfigurationError

    told = client.hello().headers.get("date")
    now = datetime.now(UTC)
    off = (now - parsedate_to_datetime(told)).total_seconds() if told else 0.0
    if abs(off) > MOST_SKEW_SECONDS:
        raise ConfigurationError(
            f"this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the Prefect server's: a signature made "
            "now would be refused. Let it set its clock by itself (NTP)"
        )
    return now


# --------------------------------------------------------------------------------------------- what is seen


def _print(package: Package, asked: Round) -> None:
    from blocks.profile import load_partner
    from blocks.settings import settings
    from blocks.values import shown
    from tasks.rules.dialog import size

    title = load_partner(package.partner, settings().profiles).title
    _say(
        f"Package {package.digits} for {shown(title)} ({package.partner}/{package.stream}), order {package.order}, round {asked.n}"
    )
    _say(f"  SHA-256 {package.digest}")
    for place in package.destinations:
        _say(f"  to {place.shown}, key {shown(place.key_fingerprint or 'none')}")
    for label, file in zip(package.labels, package.files, strict=True):
        _say(f"  {label}, {size(file.size)}, version {file.version} of {shown(file.repository_id)}")
    _say(f"  {len(package.files)} document{'' if len(package.files) == 1 else 's'}, {size(package.size)}")


def _verify(package: Package) -> None:
    """Fetch every document in the version of the package, and hash it. Raises ``RepositoryError`` that names what is not the same."""
    import tempfile

    from blocks.errors import ConfigurationError, RepositoryError
    from blocks.profile import load_partner, load_repositories
    from blocks.settings import settings
    from blocks.spool import Spool

    terms = load_partner(package.partner, settings().profiles).outbound.get(package.stream)
    if terms is None:
        raise ConfigurationError(f"{package.partner}: the reviewed profile in {settings().profiles} has no {package.stream!r}")
    repository = load_repositories(settings().profiles)[terms.gather.repository]
    with (
        tempfile.TemporaryDirectory(prefix="countersign-") as folder,
        repository.session() as session,
        _progress(package.size) as advance,
    ):
        spool = Spool(Path(folder), floor_bytes=0)
        for label, file in zip(package.labels, package.files, strict=True):
            with _watched(spool, advance) as batch:
                done = session.fetch(file.repository_id, file.version, batch)
            spool.place(done.digest).unlink()
            if (done.digest, done.size) != (file.sha256, file.size):
                raise RepositoryError(
                    f"{label}: the repository holds other bytes than are asked about (SHA-256 {done.digest[:16]}…, not "
                    f"{file.sha256[:16]}…); nothing was signed. Tell operations"
                )
    _say(f"  fetched from {repository.address} and hashed: the same bytes, all of them")


def _watched(spool: Spool, advance: Callable[[int], None]) -> Batch:
    """A batch that tells of every piece that is written into it."""
    from blocks.spool import Batch

    class Watched(Batch):
        def reserve(self, count: int) -> None:
            super().reserve(count)
            advance(count)

    return Watched(spool)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr that is moved by so many bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("  fetching and hashing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.update(task, advance=count)


# --------------------------------------------------------------------------------------------- what is decided


def _answer(package: Package, approver: str | None, decision: str | None, meaning: str | None, left_out: list[int]) -> Answer:
    """As the form will say it. What is not told is asked for, now that the package was seen."""
    from blocks.errors import ConfigurationError
    from blocks.outbound import Answer, Decision, Meaning, Seat

    seat = Seat.parse((approver or str(typer.prompt("Who are you (id in people.yaml)", err=True))).strip())
    decided = _chosen(Decision, decision, "Decision")
    if decided is Decision.APPROVE_BUT and not left_out:
        typed = str(typer.prompt("Numbers of the documents that stay here, as in 1,3", err=True))
        left_out = [int(number) for number in typed.replace(",", " ").split() if number.isdigit()]
    if left_out and decided is not Decision.APPROVE_BUT:
        raise ConfigurationError(f"--left-out goes only with the decision '{Decision.APPROVE_BUT.value}'; nothing was signed")
    if (decided is Decision.APPROVE_BUT and not left_out) or any(not 0 < n <= len(package.choices) for n in left_out):
        raise ConfigurationError(f"--left-out: numbers from 1 to {len(package.choices)} are wanted; nothing was signed")
    labels = tuple(package.choices[n - 1] for n in sorted(set(left_out)))
    meant = _chosen(Meaning, meaning, "Meaning of your signature")
    return Answer(decided, seat, meant, package.digits, "", labels)


def _chosen(kind: type[Choice], told: str | None, question: str) -> Choice:
    """One of the words of a list: as told, or asked for until it is one."""
    from blocks.errors import ConfigurationError

    words = ", ".join(kind)
    if told is not None and told not in list(kind):
        raise ConfigurationError(f"{told[:80]!r} is none of: {words}; nothing was signed")
    while told not in list(kind):
        told = str(typer.prompt(f"{question} ({words})", err=True)).strip()
    return kind(told)


def _warn(answer: Answer, key: Path, now: datetime) -> None:
    """Say early what the sender would refuse, as far as the reviewed files on this machine tell."""
    from blocks.outbound import on
    from blocks.settings import settings
    from deployments.people import load_people

    people = load_people(settings().profiles)
    person, place = people.get(answer.seat.approver), key.expanduser()
    public = place if place.suffix == ".pub" else place.with_name(f"{place.name}.pub")
    if person is None:
        _say(f"Careful: nobody has the id {answer.seat.approver[:80]!r} in people.yaml; the sender will refuse it")
    elif public.exists():
        ours = public.read_text(encoding="utf-8", errors="replace").split()[:2]
        keys = [one for one in person.keys if one.key.split(" ")[:2] == ours]
        if not any(on(people.day(now), one.valid_from, one.valid_until) for one in keys):
            _say(f"Careful: {public} is not among {person.id}'s keys of today in people.yaml; the sender will refuse it")


def _signature(answer: Answer, package: Package, asked: Round, key: Path) -> str:
    from datetime import UTC, datetime

    from blocks.outbound import NAMESPACE, Matter
    from deployments.signing import ssh_sign
    from tasks.rules.signing import statement

    # By this machine's clock, at the moment of signing. It stands in the line, and the sender takes it from the asking to the answer.
    made = statement(answer, Matter(package, asked.run, None), asked, datetime.now(UTC))
    return ssh_sign(made.text, key, NAMESPACE, made.time)
