"""Sweep: tell what differs, once, and bring orders that got stuck on their way again. It sends nothing and judges no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Scheduled

from blocks.ledger import Entry, Lease, Recorded
from blocks.settings import settings
from blocks.values import Stage
from tasks.compare import InForce, Watched, begun_without_order, found_key, look_again, watch
from tasks.connections import hang_up, ledger
from tasks.found_cases import close_found_cases, look_for_stuck_files, open_found_case
from tasks.notify import notify
from tasks.retrying import task
from tasks.rules.literal import literal
from tasks.rules.notification import Notification
from tasks.rules.reconcile import Finding, Remedy, state_name, untaken
from tasks.side_doors import as_reviewed

MIRRORS, RUNS = "sweep.mirrors", "sweep.runs"
"""The journeys of findings that belong to no order: about mirrors, and about runs that had not taken theirs."""
SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of what a sweep found."""

    order: str
    run: str
    finding: Finding
    done: str


@task(task_run_name="redrive")
def redrive(journeys: Sequence[str], patience: timedelta) -> list[Row]:
    """Look again at these orders, one at a time and while nobody else works on them; tell what differs, and set it right."""
    rows: list[Row] = []
    in_force = InForce()
    try:
        with get_client(sync_client=True) as client:
            for journey in journeys:
                with _held(journey) as lease:
                    # Somebody works on it: then it is not stuck, and what else there is can be told by the next sweep.
                    if lease is not None:
                        for order in watch([journey]):
                            rows += _set_right(client, order, look_again(client, order, patience, in_force), lease)
    finally:
        hang_up()
    return rows


@task(task_run_name="begin again")
def begin_again(look_back: timedelta, patience: timedelta) -> list[Row]:
    """Runs that were killed before they had taken their order: the ledger cannot know of them, and nobody else would wake them."""
    # A run may wait for the order's lease before it writes anything.
    patience = max(patience, timedelta(seconds=2 * settings().lease_seconds)) if patience else patience
    rows = []
    with _held(RUNS) as lease, get_client(sync_client=True) as client:
        for run in begun_without_order(client, look_back) if lease is not None else ():
            redriven = sum(e.kind == "redrive" and e.body["run"] == run.id for e in ledger().journey(RUNS))
            finding = untaken(run, redriven, ledger().now(), patience)
            if finding is None:
                continue
            fresh = _tell(finding, {}, RUNS, run.id, lease).fresh
            if finding.remedy is Remedy.WAKE:
                body = {"code": finding.code, "reason": finding.message, "run": run.id}
                ledger().append([Entry(RUNS, "redrive", body, once=f"redrive/{finding.key}", stage=Stage.CLEARED)], lease)
                _schedule(client, run.id, finding)
            if fresh:
                rows.append(Row("", run.id, finding, finding.remedy.value))
    return rows


@contextmanager
def _held(journey: str) -> Iterator[Lease | None]:
    seconds = settings().lease_seconds
    lease = ledger().lease([f"journey:{journey}"], owner="sweep", seconds=seconds)
    if lease is None:
        yield None
        return
    with ledger().holding(lease, seconds):
        yield lease


def _set_right(client: SyncPrefectClient, order: Watched, findings: Sequence[Finding], lease: Lease) -> list[Row]:
    rows = []
    for finding in findings:
        if finding.to:  # before the row: whoever is killed between the two comes here again, and nobody is sent it twice
            waits = f"{order.name} still waits for your sign-off"
            notify(finding.to, Notification(finding.key, order.journey, waits, due=order.due, run=order.run))
        fresh = _tell(finding, order.ordered, order.journey, order.run, lease).fresh
        if finding.remedy is Remedy.NONE:
            done = "reported"
        elif finding.remedy is Remedy.ANEW:
            done = _anew(client, order, finding, lease)
        else:
            done = _wake(client, order, finding, lease)
        if fresh:
            rows.append(Row(order.name, order.run, finding, done))
    return rows


def _wake(client: SyncPrefectClient, order: Watched, finding: Finding, lease: Lease) -> str:
    """Let the run begin again at the top. The row comes first: by it the run knows that nobody has answered its open round."""
    keys = [entry.body["key"] for entry in order.history if entry.kind == "round"][-1:]
    void = {"key": keys[0]} if keys and finding.remedy is Remedy.ASK else {}
    _redriven(order, finding, lease, {"run": order.run, **void})
    if not _schedule(client, order.run, finding):
        return "the run was deleted meanwhile; the next sweep gives its order a new one"
    return finding.remedy.value


def _schedule(client: SyncPrefectClient, run: str, finding: Finding) -> bool:
    """False: the run is gone."""
    message = f"The sweep: {finding.message}"
    try:
        client.set_flow_run_state(UUID(run), Scheduled(message=message[:500]), force=True)
    except ObjectNotFound:
        return False
    return True


def _anew(client: SyncPrefectClient, order: Watched, finding: Finding, lease: Lease) -> str:
    """Give the order a run of its own again. Asked twice, it is the same run."""
    told = order.ordered
    deployment = deployment_of(client, str(told["partner"]), str(told["stream"]))
    if deployment is None:
        return "no deployment of the flow 'release' as it was reviewed is there to start it: run 'countersign deploy'"
    run = client.create_flow_run_from_deployment(
        deployment.id,
        parameters={name: told[name] for name in ("partner", "stream", "order", "requester", "ids")},
        idempotency_key=f"redrive/{order.journey}/{order.run}",
    )
    _redriven(order, finding, lease, {"run": str(run.id), "instead_of": order.run, "anew": True})
    if finding.code == "diverted":
        _cancel(client, order.run, finding)
    return f"new run {run.id}"


def _cancel(client: SyncPrefectClient, run: str, finding: Finding) -> None:
    """Nobody shall answer there any more."""
    with suppress(ObjectNotFound):
        client.set_flow_run_state(UUID(run), Cancelled(message=f"The sweep: {finding.message}"[:500]), force=True)


def deployment_of(client: SyncPrefectClient, partner: str, stream: str) -> DeploymentResponse | None:
    """The stream's own deployment of a release, else one that is made for no stream in particular."""
    found = as_reviewed(client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=["release"])), limit=200))

    def meant(deployment: DeploymentResponse, **wanted: str | None) -> bool:
        parameters = deployment.parameters or {}
        return all(parameters.get(name) == value for name, value in wanted.items())

    own = [one for one in found if meant(one, partner=partner, stream=stream)]
    any_stream = [one for one in found if meant(one, stream=None) and (one.parameters or {}).get("partner") in (None, partner)]
    return next(iter([*own, *any_stream]), None)


# --------------------------------------------------------------------------------------------- telling


def _redriven(order: Watched, finding: Finding, lease: Lease, facts: dict[str, Any]) -> None:
    body = {**_about(order.ordered), "code": finding.code, "reason": finding.message, **facts}
    # After a kill between the row and the state the row is there, and the run is woken by the next sweep.
    ledger().append([Entry(order.journey, "redrive", body, once=f"redrive/{finding.key}")], lease)


def _tell(finding: Finding, about: Any, journey: str, run: str, lease: Lease | None) -> Recorded:
    """One event for programs, a case where a person must look, and one entry in the ledger; nothing of what is there.

    The event comes first: whoever is killed between the two tells it again, and about an order that is the same event once more.
    """
    facts = {**_about(about), "code": finding.code, "reason": finding.message, "remedy": finding.remedy.value, "run": run}
    stage = Stage.CLEARED if journey in (MIRRORS, RUNS) else None
    if not finding.told and ledger().holder(found_key(finding)) is None:
        _emit(finding, about, journey, run)
    open_found_case(finding, _about(about), journey)
    return ledger().append([Entry(journey, "found", facts, once=found_key(finding), stage=stage)], lease)[0]


def _about(about: Any) -> dict[str, Any]:
    return {name: about[name] for name in ("partner", "stream", "order") if name in about}


def _emit(finding: Finding, about: Any, journey: str, run: str) -> None:
    place = f"stream.{about['partner']}.{about['stream']}" if about else "installation"
    emit_event(
        id=uuid5(NAMESPACE_URL, f"{journey}/{finding.key}") if about else uuid4(),
        event=f"countersign.signoff.{finding.code}",
        resource={"prefect.resource.id": f"countersign.{place}", "prefect.resource.name": place.removeprefix("stream.")},
        related=[{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}] if run else [],
        payload={
            "order": about.get("order", ""),
            "journey": journey,
            "reason": finding.message,
            "remedy": finding.remedy.value,
        },
    )


@task(task_run_name="tell")
def tell(findings: Sequence[Finding]) -> list[Row]:
    """What differs and belongs to no order, and files that get no further; and end the cases of orders that were stuck."""
    close_found_cases()
    look_for_stuck_files()
    return [Row("", "", finding, finding.remedy.value) for finding in findings if _tell(finding, {}, MIRRORS, "", None).fresh]


def tell_at_once(finding: Finding) -> None:
    """What differs and belongs to no order, outside of a sweep; the next one does not tell it again."""
    _tell(finding, {}, MIRRORS, "", None)


def report(rows: Sequence[Row]) -> State:
    """A table of what is new, and a final state whose name says how much that is."""
    name = state_name(len(rows))
    if rows:
        create_table_artifact(
            table=[
                {
                    "order": literal(row.order),
                    "finding": row.finding.code,
                    "what": literal(row.finding.message),
                    "done": literal(row.done),
                    "run": row.run,
                }
                for row in rows[:SHOWN]
            ],
            key="sweep",
            description=f"**Sweep**: {name}" + (f" (the first {SHOWN} shown)" if len(rows) > SHOWN else ""),
        )
    for row in rows:
        get_run_logger().warning("%s: %s: %s (%s)", row.order, row.finding.code, row.finding.message, row.done)
    return Completed(name=name)
