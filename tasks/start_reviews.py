"""Start reviews: begin the workflow that was agreed for what was just filed, once for each version.

::

    review.<journey>:   incident (``review-not-started``) ─ dismissed

The case is its own journey's: the document has come through, and so its own cases are over (``resolve``), while its review has not begun.
"""

from __future__ import annotations

from blocks.errors import RepositoryError, SignInRefused
from blocks.ledger import Entry, Recorded
from blocks.values import Stage
from tasks.connections import ledger, repository_session
from tasks.consignment import Consignment, Item
from tasks.incidents import NOT_STARTED, open_incident


def start_reviews(consignment: Consignment) -> Consignment:
    """The repository's workflow for every document that was filed. What was refused, or cannot be told to have begun, is a case."""
    agreed, workflow = consignment.agreed, consignment.agreed.terms.workflow
    filed = [item for item in consignment.at(Stage.FILED) if item.filed is not None]
    if workflow is None or not filed:
        return consignment
    histories = ledger().journeys([item.journey for item in filed])
    wanted = [item for item in filed if not {"review", NOT_STARTED} & {entry.kind for entry in histories[item.journey]}]
    if wanted:
        with repository_session(agreed.repository) as session:
            for item in wanted:
                assert item.filed is not None  # noqa: S101 - only those
                facts = {"workflow": workflow, "repository_id": item.filed.id, "version": item.filed.version}
                intent = _write(consignment, item, "review intended", facts)
                try:
                    process = session.review(item.filed.id, item.filed.version, workflow, resumed=not intent.fresh)
                except RepositoryError as error:
                    if error.worth_retrying or isinstance(error, SignInRefused):
                        raise  # nothing about this document: the next run begins its review
                    consignment.lease  # noqa: B018 - raises
                    open_incident(agreed, f"review.{item.journey}", item.arrival.file.shown, NOT_STARTED, str(error))
                    _write(consignment, item, NOT_STARTED, {**facts, "reason": str(error)})
                else:
                    _write(consignment, item, "review", {**facts, "process": process})
    return consignment


def _write(consignment: Consignment, item: Item, kind: str, facts: dict[str, object]) -> Recorded:
    body = {**consignment.agreed.about(item.arrival), **facts}
    return ledger().append([Entry(item.journey, kind, body, once=f"{item.journey}/{kind}")], consignment.lease)[0]
