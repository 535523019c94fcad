"""``countersign run``: start a flow, follow it to its end, and tell its outcome by the exit code."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

app = typer.Typer(no_args_is_help=True, help="Start a flow and follow it to its end.")

QUARANTINED = 3
"""Exit code of a run that ended well and left something for a person."""

FOUND = 3
"""Exit code of a sweep that found something."""

WAITS = 4
"""Exit code of a release that waits for a sign-off."""


@app.callback()
def run() -> None:
    """Start a flow and follow it to its end. Example: countersign run intake --partner acme --stream price-lists"""


@app.command()
def intake(
    partner: Annotated[str, typer.Option(help="The partner's name: acme")],
    stream: Annotated[str, typer.Option(help="One of its inbound streams.")],
    local: Annotated[bool, typer.Option("--local", help="In this process instead of on a worker.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; write nothing.")] = False,
) -> None:
    """Bring in what a partner left. Exit code 0: done, 3: done and something was quarantined, 1: failed.

    Example: countersign run intake --partner acme --stream price-lists --local --dry-run
    """
    if local:
        from flows.intake import intake as flow

        state = flow(partner, stream, dry_run=dry_run, return_state=True)
        raise typer.Exit(_told(f"{partner}/{stream}", state))
    name = f"intake {partner}/{stream}"
    raise typer.Exit(_follow(name, f"intake/{partner}-{stream}", {"partner": partner, "stream": stream, "dry_run": dry_run}))


@app.command()
def collect(
    partner: Annotated[str, typer.Option(help="The partner's name: acme")],
    stream: Annotated[str, typer.Option(help="One of its inbound streams that says 'transfers'.")],
    local: Annotated[bool, typer.Option("--local", help="In this process instead of on a worker.")] = False,
) -> None:
    """Keep records of transfers that other programs made. Exit code 0: done, 3: done and something was quarantined, 1: failed.

    Example: countersign run collect --partner acme --stream nightly-jobs --local
    """
    if local:
        from flows.collect import collect as flow

        raise typer.Exit(_told(f"{partner}/{stream}", flow(partner, stream, return_state=True)))
    raise typer.Exit(
        _follow(f"collect {partner}/{stream}", f"collect/{partner}-{stream}", {"partner": partner, "stream": stream})
    )


@app.command()
def handover(
    system: Annotated[str, typer.Option(help="The system's name: erp")],
    stream: Annotated[str, typer.Option(help="One of its handovers.")],
    document: Annotated[
        str, typer.Option(help="Key of the one document that is asked for. Default: all that is offered.")
    ] = "",
    local: Annotated[bool, typer.Option("--local", help="In this process instead of on a worker.")] = False,
) -> None:
    """Keep documents that a system has made, and tell it where. Exit code 0: done, 3: a person is asked about some, 1: failed, or waits.

    Example: countersign run handover --system erp --stream invoices --document INV-4711 --local
    """
    if local:
        from flows.handover import handover as flow

        state: State = flow(system, stream, document, return_state=True)
        raise typer.Exit(_told(f"{system}/{stream}", state, _handed_over))
    parameters: dict[str, object] = {"system": system, "stream": stream, "document": document}
    raise typer.Exit(_follow(f"handover {system}/{stream}", "handover/on-request", parameters, outcome=_handed_over))


def _handed_over(state: State) -> int:
    if not state.is_completed():
        return 1
    name = state.name or ""
    return 1 if "waits" in name else QUARANTINED if "refused" in name or "in doubt" in name else 0


@app.command()
def release(
    partner: Annotated[str, typer.Option(help="The partner's name: acme")],
    stream: Annotated[str, typer.Option(help="One of its outbound streams.")],
    order: Annotated[
        str | None, typer.Option(help="Id of what is asked for; the same id never goes out twice. Default: from the time.")
    ] = None,
    requester: Annotated[
        str, typer.Option(help="Your id in people.yaml: you will not be asked to sign. Stated, not proven.")
    ] = "",
    id: Annotated[
        list[str] | None, typer.Option(help="A document's id in the repository, where the order lists them; several times.")
    ] = None,
    kit: Annotated[str, typer.Option(help="Which of the stream's kits, where it has any.")] = "",
    local: Annotated[
        bool, typer.Option("--local", help="The way to the sign-off in this process; after it a worker goes on.")
    ] = False,
) -> None:
    """Ask for a release, and follow it until it waits for a sign-off or has ended.

    Exit code 4: it waits for a sign-off, at the address that is printed; no process waits with it. 0: delivered. 3: it ended, and
    not as delivered: rejected, expired, void, nothing to release, stopped by checks, in doubt; the last line says which. 1: failed.

    Example: countersign run release --partner acme --stream catalogue --order autumn-2026 --requester rita
    """
    parameters: dict[str, object] = {"partner": partner, "stream": stream, "order": order, "requester": requester, "ids": id}
    parameters |= {"kit": kit} if kit else {}
    name, deployment = f"release {partner}/{stream}", f"release/{partner}-{stream}"
    raise typer.Exit(_follow(name, deployment, parameters, begin=_first_pass if local else None, outcome=_released))


@app.command()
def resend(
    partner: Annotated[str, typer.Option(help="The partner's name: acme")],
    stream: Annotated[str, typer.Option(help="The outbound stream that sent it.")],
    order: Annotated[str, typer.Option(help="The order that was delivered.")],
    comment: Annotated[str, typer.Option(help="Why it goes again; approvers read it, and it stands in the certificate.")],
    file: Annotated[
        list[str] | None, typer.Option(help="A document's name, as 'signoff show' prints it; several times. Default: all.")
    ] = None,
    by: Annotated[str, typer.Option(help="Your id in people.yaml: you will not be asked to sign. Stated, not proven.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent again, and whether that can be.")] = False,
    latest: Annotated[
        bool,
        typer.Option("--latest", help="The newest approved versions, as a correction of what was sent; checked as any order."),
    ] = False,
) -> None:
    """Send documents of a delivered order once more, in this process: the same bytes to the same places, signed for anew.

    Nothing is gathered or checked again, but with --latest. A run of the stream's release asks for the sign-off; nothing leaves
    before it is signed. Exit code 0: it is asked for, or can be; 3: with --dry-run, some of it cannot; 1: it cannot.

    Example: countersign run resend --partner acme --stream catalogue --order autumn-2026 --file prices.csv --comment "ACME lost it"
    """
    from flows.resend import resend as flow

    state: State = flow(partner, stream, order, comment, by, file, dry_run, latest, return_state=True)
    raise typer.Exit(_told(f"resend {partner}/{stream} {order}", state, _recalled))


def _recalled(state: State) -> int:
    if not state.is_completed():
        return 1
    return 0 if (state.name or "").startswith(("Asked", "Preview: all")) else QUARANTINED


@app.command()
def sweep() -> None:
    """Compare Prefect with the ledger and with the sender's own record, in this process, as a user whom no worker can touch.

    A sweep also runs on the workers; but whoever controls the workers can silence that one. Exit code 0: all in order, 3: something
    was found, and told.

    Example: countersign run sweep
    """
    from flows.reconcile import reconcile

    state: State = reconcile(return_state=True)
    raise typer.Exit(_told("sweep", state, _swept))


def _swept(state: State) -> int:
    if not state.is_completed():
        return 1
    return 0 if state.name == "All in order" else FOUND


def _first_pass(client: SyncPrefectClient, run: FlowRun) -> None:
    """Make a run's first pass here. It was created Pending, so that no worker takes it up."""
    from prefect.exceptions import Pause
    from prefect.flow_engine import run_flow

    from flows.release import release as flow

    try:
        run_flow(flow, flow_run=run, parameters=run.parameters, return_type="state")
    except Pause:
        return  # suspended: a worker goes on after the sign-off


def _released(state: State) -> int:
    if state.is_paused():
        return WAITS
    if not state.is_completed():
        return 1
    return 0 if (state.name or "").startswith("Delivered") else QUARANTINED


def _taken_in(state: State) -> int:
    if not state.is_completed():
        return 1
    return QUARANTINED if "quarantined" in (state.name or "") else 0


def _follow(
    name: str,
    deployment: str,
    parameters: dict[str, object],
    *,
    begin: Callable[[SyncPrefectClient, FlowRun], None] | None = None,
    outcome: Callable[[State], int] = _taken_in,
) -> int:
    """Create a run of a deployment and wait for its end, or until it waits for a person; tells each new state."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_UI_URL
    from prefect.states import Pending

    from blocks.errors import ConfigurationError

    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound as error:
            whose = f" {parameters['partner']}" if "partner" in parameters else ""
            raise ConfigurationError(f"{deployment}: not deployed; run 'countersign deploy{whose}'") from error
        first: State | None = Pending() if begin else None
        run = client.create_flow_run_from_deployment(found.id, name=name, parameters=parameters, state=first)
        address = f"{PREFECT_UI_URL.value() or ''}/runs/flow-run/{run.id}"
        typer.echo(f"{run.name}: {address}")
        if begin:
            begin(client, run)
        told = ""
        while True:
            run = client.read_flow_run(run.id)
            state = run.state
            if state is not None and state.is_paused():
                typer.echo(f"{run.name}: waits for a sign-off; sign at {address}")
                return outcome(state)
            if state is not None and state.is_final():
                return _told(run.name, state, outcome)
            if state is not None and state.name != told:
                told = state.name or ""
                typer.echo(f"  {told}")
            time.sleep(0.5)


def _told(what: str, state: State, outcome: Callable[[State], int] = _taken_in) -> int:
    typer.echo(f"{what}: {state.name}" + (f" ({state.message})" if state.message else ""))
    return outcome(state)
