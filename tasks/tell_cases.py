"""Tell of cases: each once, to whoever it belongs to; each gets a run in which a person decides it, and that run ends with it.

::

    (opened) ─ case told ─ review begun ─ ... ─ (resolved) ─ review ended

An intake tells of what it opened, and the sweep of all else, and of what was left by a run that was killed in between. The event has the
case's own id, by which Prefect takes it once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import get_current_settings
from prefect.states import Completed

from blocks.ledger import Case, Entry, Lease, Recorded
from blocks.settings import settings
from tasks.cases import OPS, openings
from tasks.connections import ledger
from tasks.notify import notify_all
from tasks.report import tell_of_case
from tasks.retrying import task
from tasks.rules.notification import Notification
from tasks.side_doors import as_reviewed

CASE_TOLD, REVIEW_BEGUN, REVIEW_ENDED = "case told", "review begun", "review ended"
"""Kinds of entries: its owner was told; a run asks a person; that run is over."""
_OPENS = ("incident", "quarantined")
"""Kinds of entries that may open a case of a journey once more, after it was over."""
MOST = 100
"""Cases of which one pass tells, the oldest; the next one goes on."""
LOOKS_BACK = timedelta(days=7)
"""So long after its case was resolved a run that still asks about it is ended; an older one ends itself once somebody answers."""


@task(task_run_name="tell of cases")
def tell_cases(partner: str | None = None, stream: str | None = None) -> int:
    """Tell of open cases that nobody was told of, and begin their reviews; end the reviews of cases that are over. How many were told."""
    if not (_without(REVIEW_BEGUN, partner, stream) or _over() or _without(CASE_TOLD, partner, stream)):
        return 0  # as after most runs: nobody need be kept from it
    with alone() as lease:
        if lease is None:
            return 0  # somebody else does it just now; what came in meanwhile is told by the sweep
        unasked = _without(REVIEW_BEGUN, partner, stream)[:MOST]
        over = _over()[:MOST]
        # On a command line without a Prefect server nobody can be asked there.
        if (unasked or over) and get_current_settings().api.url:
            _ask(unasked, over)  # first, so that who is told of a case is told where they are asked
        return _tell(_without(CASE_TOLD, partner, stream)[:MOST])


def _without(kind: str, partner: str | None, stream: str | None) -> list[Case]:
    """Open cases, oldest first, without an entry of this kind since they were last opened."""
    found = ledger().cases_without(kind, since=_OPENS, partner=partner, stream=stream)
    histories = ledger().journeys([case.journey for case in found]) if found else {}
    return [case for case in found if not _is_there(kind, histories[case.journey])]


def _over() -> list[str]:
    """Journeys of cases that are over and about which a run still asks somebody."""
    return ledger().cases_left(REVIEW_BEGUN, REVIEW_ENDED, since=ledger().now() - LOOKS_BACK)


def _is_there(kind: str, history: Sequence[Recorded]) -> bool:
    opened = openings(history)[-1].n
    return any(entry.kind == kind and entry.n > opened for entry in history)


@contextmanager
def alone() -> Iterator[Lease | None]:
    """One at a time, so that nothing is told twice."""
    seconds = settings().lease_seconds
    lease = ledger().lease(["cases"], owner=f"{socket.gethostname()}/{os.getpid()}", seconds=seconds)
    if lease is None:
        yield None
        return
    with ledger().holding(lease, seconds):
        yield lease


def _tell(cases: Sequence[Case]) -> int:
    # First told, then written: whoever is killed in between has it told again, under the same id.
    histories = ledger().journeys([case.journey for case in cases])
    keys = {case.journey: f"{CASE_TOLD}/{case.journey}/{_opened(histories[case.journey])}" for case in cases}
    for case in cases:
        tell_of_case(case, uuid5(NAMESPACE_URL, keys[case.journey]))
    notify_all(([case.owner or OPS], _notification(case, histories[case.journey])) for case in cases)
    facts = [(case.journey, {"owner": case.owner, "code": case.code}) for case in cases]
    ledger().append([Entry(journey, CASE_TOLD, told, once=keys[journey]) for journey, told in facts])
    return len(cases)


def _opened(history: Sequence[Recorded]) -> int:
    """How often the case of a journey was opened anew."""
    return len(openings(history))


def _notification(case: Case, history: Sequence[Recorded]) -> Notification:
    begun = next((entry for entry in reversed(history) if entry.kind == REVIEW_BEGUN), None)
    stream = "/".join(filter(None, (case.partner, case.stream)))
    facts = {
        "Case": case.code or "",
        "Why": case.reason or "",
        "About": case.name or "",
        "Stream": stream,
        "Journey": case.journey,
    }
    return Notification(
        thing=f"case/{case.journey}/{_opened(history)}",
        about=case.journey,
        subject=f"{stream}: a case of yours is open",
        facts=facts,
        due=case.due,
        run=str(begun.body["run"]) if begun else "",
    )


# --------------------------------------------------------------------------------------------- the run that asks


def _ask(unasked: Sequence[Case], over: Sequence[str]) -> None:
    """Begin the reviews of these cases, and end those of these journeys. What Prefect does not do now is the sweep's."""
    try:
        with get_client(sync_client=True) as client:
            deployment = review_deployment(client) if unasked else None
            if deployment is not None:  # else nothing was deployed: the command line decides cases
                for case in unasked:
                    with by_itself(case.journey):
                        _begin(client, deployment, case)
            for journey in over:
                with by_itself(journey):
                    _end(client, journey)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("reviews of cases are left to the next sweep: %s: %s", type(error).__name__, error)


@contextmanager
def by_itself(journey: str) -> Iterator[None]:
    """What Prefect refuses about one case keeps nobody from the next. That Prefect is away does: the others need not be tried."""
    try:
        yield
    except (httpx.HTTPStatusError, PrefectException) as error:
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code >= 500:
            raise
        get_run_logger().warning("%s: its review is left to the next sweep: %s", journey, error)


def _begin(client: SyncPrefectClient, deployment: DeploymentResponse, case: Case) -> None:
    key = f"{REVIEW_BEGUN}/{case.journey}/{_opened(ledger().journey(case.journey))}"
    ledger().append([Entry(case.journey, REVIEW_BEGUN, {"run": create_review(client, deployment, case, key)}, once=key)])


def create_review(client: SyncPrefectClient, deployment: DeploymentResponse, case: Case, key: str) -> str:
    """A run that asks about a case; its id. Asked twice with one key, it is the same run."""
    run = client.create_flow_run_from_deployment(
        deployment.id, parameters={"journey": case.journey}, idempotency_key=key, tags=[f"case:{case.code}"]
    )
    return str(run.id)


def review_deployment(client: SyncPrefectClient) -> DeploymentResponse | None:
    """The deployment of the flow that asks people about cases, as it was reviewed; None if there is none."""
    found = as_reviewed(client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=["review"])), limit=200))
    return next(iter(found), None)


def _end(client: SyncPrefectClient, journey: str) -> None:
    """Nobody shall answer any more: the case is over."""
    history = ledger().journey(journey)
    begun = next(entry for entry in reversed(history) if entry.kind == REVIEW_BEGUN)
    with suppress(ObjectNotFound):
        run = client.read_flow_run(UUID(str(begun.body["run"])))
        if run.state is None or not run.state.is_final():
            over: State[Any] = Completed(name="Resolved", message="the case is over, and not by an answer here")
            client.set_flow_run_state(run.id, over, force=True)
    review_ended(journey, begun)


def review_ended(journey: str, begun: Recorded) -> None:
    """Write down that a run asks nobody any more."""
    ledger().append([Entry(journey, REVIEW_ENDED, {"run": begun.body["run"]}, once=f"{REVIEW_ENDED}/{begun.body['run']}")])
