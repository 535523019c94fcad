"""Rehearse: say what an intake would do with what is there now, and write nothing but a temporary copy."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from blocks.settings import settings
from blocks.spool import Spool
from blocks.values import Arrival, Document, EmptyFiles, Fetched, Missed, Verdict
from tasks import tables
from tasks.connections import endpoint_session, hang_up
from tasks.consignment import Agreed, Row
from tasks.retrying import task
from tasks.returns import Delivered, origin_of, returned
from tasks.rules.filing import plan
from tasks.rules.judge import before_fetch
from tasks.rules.settle import belongs

MOST = 500
"""Files that a rehearsal looks into."""


@task(task_run_name="rehearse {agreed.key}")
def rehearse(agreed: Agreed) -> list[Row]:
    """Look, fetch into a temporary folder, check, and plan the filing. Ledger, repository and source are not touched."""
    terms, now = agreed.terms, datetime.now(UTC)
    try:
        with tempfile.TemporaryDirectory(prefix="countersign-") as folder, endpoint_session(agreed.endpoint) as session:
            mine = (file for file in session.look(terms.folder) if belongs(file, terms.settle, terms.patterns))
            arrivals = [Arrival(str(n), agreed.partner, agreed.stream, file, now) for n, file in enumerate(islice(mine, MOST))]
            refused = {arrival.journey: found for arrival in arrivals if (found := before_fetch(arrival, terms))}
            spool = Spool(Path(folder), floor_bytes=settings().spool_floor_bytes)
            with spool.batch() as batch:
                wanted = [arrival.file for arrival in arrivals if arrival.journey not in refused]
                answers = {answer.file: answer for answer in session.fetch(wanted, batch)}
            documents = [
                Document(arrival.journey, arrival.file.name, answer.size, answer.digest, spool.path(answer.digest))
                for arrival in arrivals
                if isinstance(answer := answers.get(arrival.file), Fetched)
            ]
            judged = {document.journey: (document, verdict) for document, verdict in tables.judge(documents, terms)}
            sent = returned(agreed, documents)
            return [
                _quarantined(arrival, Verdict(arrival.journey, None, refused[arrival.journey]))
                if arrival.journey in refused
                else _told(agreed, arrival, answers[arrival.file], judged.get(arrival.journey), sent)
                for arrival in arrivals
            ]
    finally:
        hang_up()


def _told(
    agreed: Agreed, arrival: Arrival, answer: Fetched | Missed, judged: tuple[Document, Verdict] | None, sent: Delivered
) -> Row:
    if isinstance(answer, Missed) or judged is None:
        return Row(arrival.file.shown, "waits", answer.reason if isinstance(answer, Missed) else "")
    if answer.size == 0 and agreed.terms.empty is EmptyFiles.MARKER:
        return Row(arrival.file.shown, "marker", "an empty file, which as agreed only says something")
    document, verdict = judged
    if order := sent.orders.get(document.digest):
        return Row(arrival.file.shown, "duplicate", f"same bytes as journey {order}")
    if not verdict.accepted:
        return _quarantined(arrival, verdict)
    if agreed.terms.returns is not None:
        origin = origin_of(agreed, arrival, verdict.doctype, sent)
        if isinstance(origin, Verdict):
            return _quarantined(arrival, origin)
        return Row(arrival.file.shown, "filed", f"would become a version of {origin.shown}, proposed")
    filing = plan(document, verdict, agreed.terms, agreed.partner, agreed.stream, arrival)
    return Row(arrival.file.shown, "filed", f"would become {'/'.join((*filing.folder, filing.name))}")


def _quarantined(arrival: Arrival, verdict: Verdict) -> Row:
    return Row(arrival.file.shown, "quarantined", verdict.reason)
