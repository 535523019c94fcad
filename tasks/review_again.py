"""Review again: an open case whose run failed, was cancelled or was deleted gets another run, three times; then a person is told.

::

    review begun ─ (the run is over or gone, the case is open) ─ review begun ─ ... ─ reviews.broken-off: incident ``nobody-asked``

A run that waits for an answer or for a worker is left alone, however long it takes; one at work for six hours is taken for killed. What
Prefect does not tell now, the next sweep asks again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings
from prefect.states import Crashed

from blocks.database import chunks
from blocks.errors import JourneyMoved
from blocks.ledger import CaseState, Entry, Recorded
from blocks.values import Stage
from tasks.cases import OPS, find_case, opened, openings, state_of
from tasks.compare import known_runs
from tasks.connections import ledger
from tasks.incidents import NOBODY_ASKED
from tasks.retrying import task
from tasks.tell_cases import REVIEW_BEGUN, REVIEW_ENDED, alone, by_itself, create_review, review_deployment

BROKEN_OFF = "reviews.broken-off"
"""The journey of the one incident about cases that nobody can be asked about."""
PAUSES = (timedelta(0), timedelta(minutes=10), timedelta(hours=1))
"""So long after a run was begun there may be another one, each time: what broke one run mostly breaks the next."""
_AGAIN_AND_AGAIN = timedelta(days=1)
"""Runs of a case that were begun further apart than that did not break off for one reason."""
_STALLED = timedelta(hours=6)
"""A run at work for so long was killed with its machine: no pass takes that long, and while people think none is at work."""
_PAGE, _PAGES = 200, 5
"""Runs that Prefect is asked for at once, and how often in a sweep; where there are more, a random part each time."""
MOST = 50
"""Runs that one sweep begins."""


@task(task_run_name="review again")
def review_again() -> int:
    """Give open cases another run whose own one is over or gone. How many got one."""
    with alone() as lease:
        if lease is None or not get_current_settings().api.url:
            return 0
        pages = list(chunks(_asked(), _PAGE))
        begun = 0
        try:
            with get_client(sync_client=True) as client:
                deployment = review_deployment(client) if pages else None
                if deployment is None:
                    return 0
                again = _Again(client, deployment, _dismissed())
                for page in random.sample(pages, min(_PAGES, len(pages))):
                    runs = known_runs(client, [str(asked.body["run"]) for asked in page])
                    for asked in page:
                        with by_itself(asked.journey):
                            if begun < MOST and again.is_over(runs.get(str(asked.body["run"]))):
                                begun += again.begin(asked)
                again.tell()
        except (httpx.HTTPError, PrefectException) as error:
            get_run_logger().warning("reviews that broke off are left to the next sweep: %s: %s", type(error).__name__, error)
        return begun


def _asked() -> list[Recorded]:
    """The newest entry about the run of each open case that has one."""
    newest = {entry.journey: entry for entry in ledger().in_open_cases(REVIEW_BEGUN, REVIEW_ENDED)}
    return [entry for entry in newest.values() if entry.kind == REVIEW_BEGUN]


def _dismissed() -> int:
    """The number of the entry by which a person last said that it is mended; 0 if nobody did."""
    return next((entry.seq for entry in reversed(ledger().journey(BROKEN_OFF)) if entry.kind == "dismissed"), 0)


def tries(begun: Sequence[tuple[datetime, str]]) -> int:
    """How many runs were begun one after the other in the place of a first one, of these (when, and its id), oldest first."""
    ids, before = set[str](), None
    for at, run in reversed(begun):
        if before is not None and before - at > _AGAIN_AND_AGAIN:
            break
        ids.add(run)
        before = at
    return max(0, len(ids) - 1)


@dataclass
class _Again:
    """One sweep's look at runs that ask about cases."""

    client: SyncPrefectClient
    deployment: DeploymentResponse
    mended: int
    """Number of an entry of the ledger; what broke off before it does not count."""
    given_up: list[str] = field(default_factory=list)
    """Journeys of cases whose runs broke off too often."""

    def is_over(self, run: FlowRun | None) -> bool:
        """True if nobody will ask any more in this run. None: somebody has deleted it."""
        if run is None:
            return True
        if run.state is None or run.state.is_final():
            return run.state is not None
        if (run.state.is_running() or run.state.is_pending()) and ledger().now() - run.state.timestamp > _STALLED:
            stalled: State[Any] = Crashed(message="The sweep: it was at work for too long, and is taken for killed")
            self.client.set_flow_run_state(run.id, stalled, force=True)
            return True
        return False

    def begin(self, asked: Recorded) -> bool:
        """Begin another run for a case, unless it is too soon for it, or no use any more. True if one was begun."""
        history = ledger().journey(asked.journey)
        begun = [entry for entry in history if entry.kind == REVIEW_BEGUN]
        if state_of(history) is CaseState.RESOLVED or begun[-1].seq != asked.seq:
            return False  # something has happened since we looked
        since = max(openings(history)[-1].seq, self.mended)
        count = tries([(entry.at, str(entry.body["run"])) for entry in begun if entry.seq > since])
        if count >= len(PAUSES):  # a person may have begun more by hand
            self.given_up.append(asked.journey)
            return False
        if ledger().now() < asked.at + PAUSES[count]:
            return False
        run = create_review(
            self.client, self.deployment, find_case(asked.journey), f"{REVIEW_BEGUN}/{asked.journey}/again/{len(begun)}"
        )
        facts = {"run": run, "instead_of": asked.body["run"]}
        try:
            ledger().append([Entry(asked.journey, REVIEW_BEGUN, facts)], behind=len(history))
        except JourneyMoved:
            return False  # somebody has begun another one, which asks: ours ends itself; or ours has said so itself
        return True

    def tell(self) -> None:
        """One incident for all cases that nobody is asked about any more, until a person says that it is mended."""
        history = ledger().journey(BROKEN_OFF)
        cases = [journey for journey in self.given_up if journey != BROKEN_OFF]
        if not cases or state_of(history) not in (None, CaseState.RESOLVED):
            return
        reason = (
            f"the run that asks about a case broke off {len(PAUSES) + 1} times, and is not begun any more: that of {len(cases)} cases, "
            f"such as journey {cases[0]}. See what these runs say and have it mended; once this is closed they are begun anew"
        )
        body = {"name": "review/case", "case": opened(NOBODY_ASKED, reason, OPS)}
        number = sum(entry.kind == "incident" for entry in history)
        ledger().append([Entry(BROKEN_OFF, "incident", body, f"{BROKEN_OFF}/incident/{number}", Stage.CLEARED)])
