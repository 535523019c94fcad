"""What the tasks of one process share: the ledger, the spool, the quarantine, and sessions worth keeping open.

Open connections do not travel between processes, so a task is given what was agreed and asks here for a session. A session that
was used without an error is kept for the next task of this process; ``hang_up`` closes them when a run ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from blocks.ledger import Ledger
from blocks.quarantine import Quarantine
from blocks.settings import settings
from blocks.spool import Spool
from blocks.values import Personality

if TYPE_CHECKING:  # they are blocks of Prefect, which takes a second to import: commands that only read the ledger need none
    from blocks.endpoints.base import Endpoint, EndpointSession
    from blocks.repositories.base import Repository, RepositorySession


class _Closable(Protocol):
    def close(self) -> None: ...


Session = TypeVar("Session", bound=_Closable)

_idle: defaultdict[str, list[Any]] = defaultdict(list)
_rehearsed: dict[str, Ledger] = {}
_recalled: dict[str, Personality] = {}
_lock = Lock()


@cache
def ledger() -> Ledger:
    """This installation's ledger, its schema brought up to date."""
    url = settings().ledger
    opened = _rehearsed.get(url) or Ledger(url)
    opened.migrate()
    return opened


def rehearsed(ledger: Ledger, url: str) -> None:
    """Have this one be this installation's ledger, if that has this URL when it is first asked for."""
    _rehearsed[url] = ledger


@cache
def spool() -> Spool:
    return Spool(settings().spool, floor_bytes=settings().spool_floor_bytes)


@cache
def quarantine() -> Quarantine:
    return Quarantine(settings().quarantine)


@contextmanager
def endpoint_session(endpoint: Endpoint) -> Iterator[EndpointSession]:
    """A session at a partner's endpoint, for one thread. It knows what ``recall`` was told of the server."""

    def connect() -> EndpointSession:
        known = _recalled.get(endpoint.address, Personality())
        endpoint.expect(known)
        session = endpoint.session()
        session.recall(known)
        return session

    with _lent(f"endpoint {endpoint.model_dump_json()}", connect) as session:
        yield session


def recall(endpoint: Endpoint, known: Personality) -> None:
    """What the next sessions of this process at an endpoint need not find out for themselves."""
    _recalled[endpoint.address] = known


@contextmanager
def repository_session(repository: Repository) -> Iterator[RepositorySession]:
    """A session at a repository."""
    with _lent(f"repository {repository.model_dump_json()}", repository.session) as session:
        yield session


def hang_up() -> None:
    """Close all sessions that nobody uses."""
    with _lock:
        sessions = [session for kept in _idle.values() for session in kept]
        _idle.clear()
    for session in sessions:
        session.close()


@contextmanager
def _lent(key: str, connect: Callable[[], Session]) -> Iterator[Session]:
    with _lock:
        session = _idle[key].pop() if _idle[key] else None
    session = session or connect()
    try:
        yield session
    except BaseException:
        session.close()
        raise
    with _lock:
        _idle[key].append(session)
