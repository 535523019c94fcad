"""Start reviews: begin the workflow that was agreed for what was just filed, once for each version."""

from __future__ import annotations

from blocks.errors import OutcomeUnknown
from blocks.ledger import Entry
from blocks.values import Stage
from tasks.connections import ledger, repository_session
from tasks.consignment import Consignment, Item

NOT_STARTED = "review-not-started"


def start_reviews(consignment: Consignment) -> Consignment:
    """The repository's workflow for every document that was filed. What cannot be told to have begun is a case."""
    workflow = consignment.agreed.terms.workflow
    filed = [item for item in consignment.at(Stage.FILED) if item.filed is not None]
    if workflow is None or not filed:
        return consignment
    histories = ledger().journeys([item.journey for item in filed])
    wanted = [item for item in filed if not {"review", NOT_STARTED} & {entry.kind for entry in histories[item.journey]}]
    if wanted:
        with repository_session(consignment.agreed.repository) as session:
            for item in wanted:
                assert item.filed is not None  # noqa: S101 - only those
                facts = {"workflow": workflow, "repository_id": item.filed.id, "version": item.filed.version}
                _write(consignment, item, "review intended", facts)
                try:
                    process = session.review(item.filed.id, item.filed.version, workflow)
                except OutcomeUnknown as unknown:
                    case = {
                        "code": NOT_STARTED,
                        "reason": str(unknown),
                        "owner": consignment.agreed.terms.owner,
                        "state": "new",
                    }
                    _write(consignment, item, NOT_STARTED, {**facts, "case": case})
                else:
                    _write(consignment, item, "review", {**facts, "process": process})
    return consignment


def _write(consignment: Consignment, item: Item, kind: str, facts: dict[str, object]) -> None:
    body = {**consignment.agreed.about(item.arrival), **facts}
    ledger().append([Entry(item.journey, kind, body, once=f"{item.journey}/{kind}")], consignment.lease)
