"""People's part in the workflows that documents must have been through (``RepositorySession.unreviewed``)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from blocks.repositories.extended_ecm import ExtendedEcmSession


def after(moment: datetime | None) -> None:
    """Wait until dates, which are whole seconds, tell now from this one: within one, nobody can tell what came first."""
    assert moment is not None
    while datetime.now(UTC).replace(microsecond=0) <= moment:
        time.sleep(0.02)


def begin(session: ExtendedEcmSession, name: str, *documents: int) -> int:
    """A process with these documents, each attached after its newest version; its id.

    On return, whatever step it comes to now provably came after the attachments: by the time since it began, which is longer than
    attaching them took, however long that was.
    """
    for document in documents:
        after(session.nodes.versions(document)[-1].created)
    process = session.workflows.start(name, documents)
    begun = datetime.now(UTC)
    told = session.workflows.status(process)
    made = session.workflows.folder_made(told)
    assert made is not None
    attaching = max(one.changed for one in session.workflows.attached(told)) - made
    while datetime.now(UTC) < begun + attaching + timedelta(seconds=1):
        time.sleep(0.02)
    return process


def answer(session: ExtendedEcmSession, process: int, action: str) -> None:
    """Somebody sends the step on at which a process is."""
    session.workflows.complete(session.workflows.status(process).current[0], action)
