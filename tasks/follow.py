"""Follow: what happens in a watched folder of a repository, told to each reader at least once and in order.

::

    for changes in follow(agreed, "audit"):     one reader of a watch: a name of its own, a place in the feed of its own
        ...                                     asking for the next ones says that these are done

    watch.<name>.<reader>:  followed ─ followed ─ ...      the journey that keeps the place

What breaks off in the middle is told the same changes again: so what a reader does with a change, it may do twice. One follows for a
reader at a time; the next one is told nothing, and need not be: the first goes on to the end of the feed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from itertools import islice

from prefect import get_run_logger

from blocks.errors import ConfigurationError
from blocks.ledger import JOURNEY, Entry
from blocks.profile import load_repositories
from blocks.repositories.base import Repository
from blocks.reviewed import nearest
from blocks.settings import settings
from blocks.values import Change, Stage
from blocks.watch_file import Watch, load_watch_file
from tasks.connections import ledger, repository_session

FOLLOWED = "followed"
MOST_CHANGES = 100
"""Told at once; so many are told again at most."""


class Watching:
    """What was agreed about one watch, and nothing that is open. Its class is opaque to Prefect."""

    stream = "watch"
    """A watch stands where a partner does: its name is none's, nor a system's."""

    def __init__(self, name: str, terms: Watch, repository: Repository, digest: str) -> None:
        self.partner, self.terms, self.repository, self.digest = name, terms, repository, digest

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    @property
    def folder(self) -> tuple[str, ...]:
        """Below the repository's root."""
        return tuple(self.terms.folder.split("/"))


def load_watch(name: str) -> Watching:
    """A watch with its repository. Raises ``ConfigurationError`` that says what to mend."""
    folder = settings().profiles
    file = load_watch_file(name, folder)
    repositories = load_repositories(folder)
    repository = repositories.get(file.watch.repository)
    if repository is None:
        raise ConfigurationError(
            f"watch {name}: no repository '{file.watch.repository}' in repositories.yaml; "
            f"{nearest(file.watch.repository, repositories)}"
        )
    return Watching(name, file.watch, repository, file.digest)


def follow(agreed: Watching, reader: str) -> Generator[tuple[Change, ...]]:
    """What happened in the watched folder since the reader last asked, in bundles; asking for the next says that one is done.

    Nothing while another run follows for this reader. Raises ``RepositoryError`` where the repository cannot tell, ``DocumentMissing``
    where the folder is not there, and ``LeaseLost`` where somebody else has taken over: the bundle is told to them again.
    """
    journey = f"watch.{agreed.partner}.{reader}"
    place = {"repository": agreed.repository.address, "folder": agreed.terms.folder}
    seconds = settings().lease_seconds
    lease = ledger().lease([f"{JOURNEY}{journey}"], owner=f"{socket.gethostname()}/{os.getpid()}", seconds=seconds)
    if lease is None:
        get_run_logger().info("%s: another run follows it for %s", agreed.key, reader)
        return
    with ledger().holding(lease, seconds) as held, repository_session(agreed.repository) as session:
        last = ledger().newest(journey)
        known = last is not None and place.items() <= last.body.items()
        feed = session.changes(agreed.folder, str(last.body["since"]) if last and known else "0")
        while changes := tuple(islice(feed, MOST_CHANGES)):
            yield changes
            facts = {
                "partner": agreed.partner,
                "stream": agreed.stream,
                **place,
                "since": changes[-1].id,
                "changes": len(changes),
            }
            ledger().append([Entry(journey, FOLLOWED, facts, stage=Stage.CLEARED)], held.lease)
