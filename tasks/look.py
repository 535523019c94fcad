"""Look: see what a partner has left for us, and which of it is finished being written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property

from prefect import get_run_logger

from blocks.endpoints.base import EndpointSession
from blocks.errors import HostKeyChanged
from blocks.ledger import Entry
from blocks.values import Notice, RemoteFile, Stage, name_b64, shown
from tasks.connections import endpoint_session, ledger, recall
from tasks.consignment import Agreed
from tasks.in_sets import tell_refused_sets
from tasks.incidents import after_look, other_server
from tasks.personality import Place, known, remember
from tasks.report import announce_notices
from tasks.retrying import task
from tasks.rules.naming import illegal
from tasks.rules.notice import notices
from tasks.rules.settle import Readiness, ready


@task(task_run_name="look in {agreed.key}")
def look(agreed: Agreed, patience: timedelta) -> Readiness:
    """List the stream's folder, remember what was seen, and say which files are ready.

    A server may list a file while its sender is still writing it, so one look is never enough: where a second one within
    ``patience`` can tell, we wait for it instead of for the next run.
    """
    readiness, told = _once(agreed)
    now = ledger().now()
    # Where files are suddenly missing, a second look at once would most likely be as wrong, and would be believed.
    doubted = any(notice.code == "folder-emptied" for notice in told)
    if not doubted and readiness.earliest is not None and readiness.earliest - now <= patience:
        pause = max(timedelta(0), readiness.earliest - now)
        get_run_logger().info(
            "%d may still be being written: looking again in %.1f s", readiness.waiting, pause.total_seconds()
        )
        time.sleep(pause.total_seconds())
        readiness, more = _once(agreed)
        told = [*told, *more]
    _tell(readiness)
    if not doubted:
        after_look(agreed, readiness)
        tell_refused_sets(agreed)
    return replace(readiness, notices=tuple(told))


def _tell(readiness: Readiness) -> None:
    """What is not touched is not kept quiet about: an old temporary name is a broken upload, a lone marker a missing file."""
    for what, sightings in (
        ("temporary names", readiness.excluded),
        ("links, folders or devices", readiness.not_files),
        ("done files without their file", readiness.lone_markers),
    ):
        if sightings:
            get_run_logger().info("left alone: %d %s, such as %s", len(sightings), what, sightings[0].file.shown)
    if readiness.later:
        get_run_logger().info(
            "%d of %d ready files are taken now, the oldest first; %d wait for the next run (run_files)",
            len(readiness.ready),
            len(readiness.ready) + readiness.later,
            readiness.later,
        )


@contextmanager
def _known_server(agreed: Agreed) -> Iterator[EndpointSession]:
    try:
        with endpoint_session(agreed.endpoint) as session:
            yield session
    except HostKeyChanged as error:
        other_server(agreed, error)
        raise


def _once(agreed: Agreed) -> tuple[Readiness, list[Notice]]:
    """One look, and what of it nobody was told before."""
    terms = agreed.terms
    place = Place(agreed.partner, terms.endpoint, agreed.endpoint, terms.owner)
    if (before := known(place)) is not None:
        recall(agreed.endpoint, before.personality)
    with _known_server(agreed) as session:
        listed = (file for folder in terms.folders for file in _believed(session, folder))
        tally = ledger().sight(agreed.partner, agreed.stream, listed)
        unread, seen = session.unread, session.personality
    if unread.count:
        get_run_logger().warning(
            "%d lines of the server's listing of %s cannot be read and became no files, such as %s",
            unread.count,
            shown(terms.folder),
            unread.examples[0],
        )
    # What a server cannot do any more it is not asked for: nothing that changes here makes it unsafe to go on.
    for change in remember(place, seen):
        get_run_logger().warning("%s is not as it was: %s", place.endpoint.address, change.text)
    now = ledger().now()
    sightings = ledger().sightings(agreed.partner, agreed.stream)
    readiness = ready(sightings, terms.settle, terms.patterns, now, terms.run_files)
    found = notices(readiness, unread, tally.doubted, terms, now, _Told(agreed))
    return readiness, _told_first(agreed, found)


def _believed(session: EndpointSession, folder: str) -> Iterator[RemoteFile]:
    """The listing, without what it says about names that no file can have: else each other size would be another arrival."""
    for file in session.look(folder):
        yield file if illegal(file.name) is None else replace(file, size=0, modified=None)


class _Told:
    """Keys of the notices of a stream that were told; looked up only if there is something to tell."""

    def __init__(self, agreed: Agreed) -> None:
        self._agreed = agreed

    def __contains__(self, key: object) -> bool:
        return _once_key(self._agreed, str(key)) in self._keys

    @cached_property
    def _keys(self) -> set[str | None]:
        return {entry.once for entry in ledger().journey(_journey(self._agreed))}


def _told_first(agreed: Agreed, found: Sequence[Notice]) -> list[Notice]:
    """Write the notices down; those that nobody wrote down before are told to people and programs."""
    recorded = ledger().append([_entry(agreed, notice) for notice in found]) if found else []
    fresh = [notice for notice, entry in zip(found, recorded, strict=True) if entry.fresh]
    for notice in fresh:
        get_run_logger().warning("%s: %s", notice.code, notice.message)
    announce_notices(agreed, fresh)
    return fresh


def _entry(agreed: Agreed, notice: Notice) -> Entry:
    facts = {"partner": agreed.partner, "stream": agreed.stream, "code": notice.code, "reason": notice.message}
    if notice.name:
        facts["name_b64"] = name_b64(notice.name)
    return Entry(_journey(agreed), "noticed", facts, once=_once_key(agreed, notice.key), stage=Stage.CLEARED)


def _journey(agreed: Agreed) -> str:
    return f"look.{agreed.partner}.{agreed.stream}"


def _once_key(agreed: Agreed, key: str) -> str:
    return f"noticed/{agreed.key}/{key}"
