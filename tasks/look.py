"""Look: see what a partner has left for us, and which of it is finished being written."""

from __future__ import annotations

import time
from datetime import timedelta

from prefect import get_run_logger

from blocks.values import shown
from tasks.connections import endpoint_session, ledger, recall
from tasks.consignment import Agreed
from tasks.personality import Place, known, remember
from tasks.retrying import task
from tasks.rules.settle import Readiness, ready


@task(task_run_name="look in {agreed.key}")
def look(agreed: Agreed, patience: timedelta) -> Readiness:
    """List the stream's folder, remember what was seen, and say which files are ready.

    A server may list a file while its sender is still writing it, so one look is never enough: where a second one within
    ``patience`` can tell, we wait for it instead of for the next run.
    """
    readiness = _once(agreed)
    now = ledger().now()
    if readiness.earliest is not None and readiness.earliest - now <= patience:
        pause = max(timedelta(0), readiness.earliest - now)
        get_run_logger().info(
            "%d may still be being written: looking again in %.1f s", readiness.waiting, pause.total_seconds()
        )
        time.sleep(pause.total_seconds())
        readiness = _once(agreed)
    _tell(readiness)
    return readiness


def _tell(readiness: Readiness) -> None:
    """What is not touched is not kept quiet about: an old temporary name is a broken upload, a lone marker a missing file."""
    for what, sightings in (
        ("temporary names", readiness.excluded),
        ("links, folders or devices", readiness.not_files),
        ("done files without their file", readiness.lone_markers),
    ):
        if sightings:
            get_run_logger().info("left alone: %d %s, such as %s", len(sightings), what, sightings[0].file.shown)


def _once(agreed: Agreed) -> Readiness:
    place = Place(agreed.partner, agreed.terms.endpoint, agreed.endpoint, agreed.terms.owner)
    if (before := known(place)) is not None:
        recall(agreed.endpoint, before.personality)
    with endpoint_session(agreed.endpoint) as session:
        ledger().sight(agreed.partner, agreed.stream, session.look(agreed.terms.folder))
        if session.unread.count:
            get_run_logger().warning(
                "%d lines of the server's listing of %s cannot be read and became no files, such as %s",
                session.unread.count,
                shown(agreed.terms.folder),
                session.unread.examples[0],
            )
        seen = session.personality
    # What a server cannot do any more it is not asked for: nothing that changes here makes it unsafe to go on.
    for change in remember(place, seen):
        get_run_logger().warning("%s is not as it was: %s", place.endpoint.address, change.text)
    sightings = ledger().sightings(agreed.partner, agreed.stream)
    return ready(sightings, agreed.terms.settle, agreed.terms.patterns, ledger().now())
