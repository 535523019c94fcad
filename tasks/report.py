"""Report: what ops see of a run. A table of every file, events for programs, and a state whose name says the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Completed

from blocks.ledger import Case
from blocks.values import Notice
from tasks.consignment import Agreed, Consignment, Row
from tasks.rules.literal import literal
from tasks.rules.outcome import state_name, summary

SHOWN = 1000
"""Rows in the table artifact: the page of a longer one would not open. The ledger has them all."""


class Stream(Protocol):
    """Whatever events are about: a partner's stream, or a system's handover."""

    @property
    def partner(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def key(self) -> str: ...


def run_name(flow: str, *parameters: str) -> Callable[[], str]:
    """For ``flow_run_name``: the flow and what it was asked about, of these parameters; "all" where it was asked about nothing."""

    def name() -> str:
        asked = flow_run.parameters
        return f"{flow} {'/'.join(str(asked[one]) for one in parameters if asked.get(one)) or 'all'}"

    return name


def report(agreed: Agreed, rows: Sequence[Row], *, dry_run: bool = False) -> State:
    """Publish what became of every file, and give the run's final state."""
    outcomes = [row.outcome for row in rows]
    if rows:
        publish(agreed, rows)
    get_run_logger().info("%s: %s", agreed.key, summary(outcomes))
    name = state_name(outcomes, sum(row.rows_filed for row in rows))
    return Completed(name=f"Dry run: {name}" if dry_run else name, message=summary(outcomes))


def publish(agreed: Agreed, rows: Sequence[Row]) -> None:
    """The table of files, as an artifact of the run."""
    create_table_artifact(
        table=[
            {
                "file": literal(row.file),
                "outcome": row.outcome,
                "reason": literal(row.reason),
                "repository id": literal(row.repository_id),
                "journey": row.journey,
            }
            for row in sorted(rows, key=_attention)[:SHOWN]
        ],
        key=f"intake-{agreed.partner}-{agreed.stream}",
        description=f"**{agreed.key}**: {summary(row.outcome for row in rows)}"
        + (f" (the first {SHOWN} shown)" if len(rows) > SHOWN else ""),
    )


def _attention(row: Row) -> tuple[bool, bool, str, str]:
    """What a person should look at comes first."""
    return row.outcome == "filed", row.outcome != "quarantined", row.outcome, row.file


def announce(consignment: Consignment) -> None:
    """Events: one for all that went well, one for each document that did not."""
    agreed, rows = consignment.agreed, consignment.rows()
    filed = [row for row in rows if row.outcome == "filed"]
    if filed:
        tell(agreed, "filed", {"files": len(filed), "journeys": [row.journey for row in filed][:100]})
    for row in rows:
        if row.outcome in ("quarantined", "duplicate", "vanished"):
            tell(agreed, row.outcome, {"file": row.file, "reason": row.reason, "journey": row.journey})


def announce_notices(agreed: Agreed, notices: Sequence[Notice]) -> None:
    """Events: one for each thing that a look left alone and that a person should know of."""
    for notice in notices:
        tell(agreed, "noticed", {"file": notice.file, "code": notice.code, "reason": notice.message})


def tell_of_case(case: Case, id: UUID) -> None:
    """The one event about a case, for notifications and programs: ``countersign.case.opened``. Its owner is a related resource.

    ``id``: two events of one id are one to Prefect.
    """
    key = "/".join(filter(None, (case.partner, case.stream)))
    emit_event(
        event="countersign.case.opened",
        resource={"prefect.resource.id": f"countersign.case.{case.journey}", "prefect.resource.name": f"{case.code}: {key}"},
        related=[{"prefect.resource.id": f"countersign.owner.{case.owner}", "prefect.resource.role": "owner"}],
        payload={
            "journey": case.journey,
            "partner": case.partner,
            "stream": case.stream,
            "file": case.name,
            "code": case.code,
            "reason": case.reason,
            "owner": case.owner,
            "due": case.due.isoformat() if case.due else None,
        },
        id=id,
    )


def tell(agreed: Stream, what: str, payload: dict[str, object]) -> None:
    """An event for programs: ``countersign.intake.<what>``."""
    run = FlowRunContext.get()
    related = (
        [{"prefect.resource.id": f"prefect.flow-run.{run.flow_run.id}", "prefect.resource.role": "flow-run"}]
        if run and run.flow_run
        else []
    )
    emit_event(
        event=f"countersign.intake.{what}",
        resource={
            "prefect.resource.id": f"countersign.stream.{agreed.partner}.{agreed.stream}",
            "prefect.resource.name": agreed.key,
        },
        related=related,
        payload=payload,
    )
