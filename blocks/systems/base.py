"""The contract of a system: a line-of-business application that is told of things, or asked about them.

A ``System`` is a Prefect block; ``with system.session() as session`` begins to speak with it. Every back-end keeps every promise
below; ``tests/conformance/systems`` asks it of each.

- Each message has a key, the same for ever. What became of a message is a value, an ``Answer``: one for each, in the order given.
- A message is never repeated blindly. Where an answer was lost, it is made again only if the key or the protocol says that nothing
  is doubled by that; else the system is looked at; where looking cannot tell, the answer is ``UNKNOWN``, and a person decides.
- A route that is told to wait (429, Retry-After) waits alone: messages on other routes go on.
- A system that fails again and again is left alone for a while (a circuit breaker): its messages are ``LATER``, and nothing is sent.

Errors, of questions only: ``SystemUnreachable``, ``SystemRefused``; and ``ConfigurationError`` for a credential that is not there.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import Field

from blocks.closing import Closing


@dataclass(frozen=True, slots=True)
class Message:
    """Something that a system is to be told once."""

    key: str
    """Idempotency key: ASCII without blanks, at most 200 characters."""
    route: str
    """Which of the system's routes; a system with one way of being told takes any word."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values, for the route's templates."""
    path: Path | None = None
    """The bytes of a document, where the route takes one."""
    doubted: bool = False
    """An earlier attempt may have been carried out: its answer was lost, or never written down."""
    id: str | None = None
    """What the system calls it, from an earlier answer that was not the last word: it is asked for that, and nothing is sent."""


class Fate(StrEnum):
    """What became of a message."""

    TAKEN = "taken"  # for good
    PENDING = "pending"  # taken, and the system has not said its last word: ask again, with its id
    REFUSED = "refused"  # it was not taken, and will not be as it is
    LATER = "later"  # nothing is doubled if it is made again, after so many seconds
    UNKNOWN = "unknown"  # it may have been carried out, and nobody can tell: a person looks


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one message."""

    key: str
    fate: Fate
    id: str = ""
    """What the system calls what it was told; empty where it has no name for it."""
    code: str = ""
    """Of a refusal: ``missing-fact``, ``status-422``, ..."""
    reason: str = ""
    after_seconds: float = 0.0
    """Of ``LATER`` and ``PENDING``: not before then, counted from now."""
    doubted: bool = False
    """Of ``LATER``: it may have been carried out, and is not sent again before a look has told. The next attempt says so."""


class SystemSession(Closing):
    """Speaking with one system, between ``__enter__`` and ``__exit__``. For one thread."""

    @abstractmethod
    def send(self, messages: Iterable[Message]) -> Iterator[Answer]:
        """Tell the system each message, once and without waiting for one that it does not take now."""

    def wait_seconds(self, route: str) -> float:
        """For how long nothing is sent on a route, as it was told to or after failures; 0 if a message may go. Asking changes nothing."""
        return 0.0

    def sign_in(self) -> None:
        """Have what every message needs, before anybody means to send one: it is told nothing, and nothing is in doubt.

        Raises ``SystemUnreachable``, and ``ConfigurationError`` for a credential that is not there.
        """
        return

    @abstractmethod
    def close(self) -> None:
        """End all connections. Safe to call twice."""


class System(Block, ABC):
    """A line-of-business system. Parsed from ``systems/<name>.yaml``; connects only when asked."""

    kind: ClassVar[str]
    """The word in the file that chooses this back-end."""

    carries_documents: ClassVar[bool] = False
    """Its messages may have bytes of a document with them."""

    timeout_seconds: float = Field(default=30.0, gt=0, description="Longest wait for any single answer, in seconds")

    def has_route(self, route: str) -> bool:
        """True if messages can go on it; of a system with one way of being told, of any."""
        return True

    def needs(self, route: str) -> frozenset[str]:
        """The facts that every message on a route must have, as far as its file tells."""
        return frozenset()

    def takes_document(self, route: str) -> bool:
        """True if a message on this route has the bytes of a document with it."""
        return False

    @abstractmethod
    def session(self) -> SystemSession:
        """Begin to speak with it."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where this is, for people and for the ledger. Holds no secret."""


def persevere(
    session: SystemSession,
    messages: Iterable[Message],
    patience: timedelta,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Answer]:
    """Send, and again what is ``LATER`` or ``PENDING``, each when it may be; an answer for each as soon as it is the last one.

    What would only be due when ``patience`` is over is answered as it stands. Answers come in any order.
    """
    end = clock() + patience.total_seconds()
    waiting = [(clock(), message) for message in messages]
    while waiting:
        now = clock()
        due = [message for moment, message in waiting if moment <= now]
        waiting = [(moment, message) for moment, message in waiting if moment > now]
        for message, answer in zip(due, session.send(due), strict=True):
            moment = clock() + answer.after_seconds
            if answer.fate not in (Fate.LATER, Fate.PENDING) or moment > end:
                yield answer
            else:
                known = answer.id if answer.fate is Fate.PENDING else message.id
                waiting.append((moment, replace(message, id=known, doubted=message.doubted or answer.doubted)))
        if waiting:
            sleep(max(0.0, min(moment for moment, _ in waiting) - clock()))
