"""A collector of security events over HTTP: the HTTP Event Collector's format, which Splunk made and others take too.

https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector. Events come at least once: after a lost answer
they are told again, and each carries its key, by which the collector's searches drop repeats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar

from pydantic import Field

from blocks.credentials import Reference, read
from blocks.errors import SystemUnreachable
from blocks.systems.base import Answer, Fate, Message, SystemSession
from blocks.systems.templates import BadFact
from blocks.systems.web import PAUSE_SECONDS, WebSystem, Wire

MOST_MESSAGES = 100
"""In one call."""


class EventCollector(WebSystem):
    """A SIEM that takes events over HTTP."""

    _block_type_name = "HTTP event collector"

    kind: ClassVar[str] = "event-collector"

    token: Reference = Field(description="Its token, as env:NAME or file:/path")
    index: str = Field(default="", description="If events are not for the token's own index")
    source: str = Field(default="countersign", min_length=1, description="What the events are said to come from")

    def session(self) -> EventCollectorSession:
        return EventCollectorSession(self)


class EventCollectorSession(SystemSession):
    """``route`` is the kind of event; the fact ``at`` its moment, all facts together the event."""

    def __init__(self, system: EventCollector) -> None:
        self._system, self._wire = system, Wire(system)

    def close(self) -> None:
        self._wire.close()

    def send(self, messages: Iterable[Message]) -> Iterator[Answer]:
        source = iter(messages)
        while some := list(islice(source, MOST_MESSAGES)):
            yield from self._tell(some)

    def _tell(self, messages: Sequence[Message]) -> Iterator[Answer]:
        try:
            content = "".join(json.dumps(self._event(message)) + "\n" for message in messages).encode()
            headers = {"Authorization": f"Splunk {read(self._system.token)}", "Content-Type": "application/json"}
            reply = self._wire.call("event", "POST", "/services/collector/event", headers=headers, content=content)
        except (BadFact, SystemUnreachable) as error:
            if isinstance(error, BadFact) and len(messages) > 1:
                yield from self._each(messages)
                return
            for message in messages:
                if isinstance(error, BadFact):
                    yield Answer(message.key, Fate.REFUSED, code=error.code, reason=error.reason)
                else:
                    after = max(PAUSE_SECONDS, error.after_seconds)
                    yield Answer(message.key, Fate.LATER, reason=str(error), after_seconds=after)
            return
        told = reply.json
        # One of them is at fault, or it is too much at once: none was taken.
        if reply.status in (400, 413, 422) and len(messages) > 1:
            half = len(messages) // 2
            yield from self._tell(messages[:half])
            yield from self._tell(messages[half:])
        elif reply.status == 200 and isinstance(told, dict) and told.get("code") == 0:
            yield from (Answer(message.key, Fate.TAKEN) for message in messages)
        elif reply.status == 200:
            yield from (Answer(message.key, Fate.LATER, reason=reply.text, after_seconds=PAUSE_SECONDS) for message in messages)
        else:
            code = f"status-{reply.status}"
            yield from (Answer(message.key, Fate.REFUSED, code=code, reason=reply.text) for message in messages)

    def _each(self, messages: Sequence[Message]) -> Iterator[Answer]:
        for message in messages:
            yield from self._tell([message])

    def _event(self, message: Message) -> Mapping[str, Any]:
        system = self._system
        return {
            "time": moment_of(message).timestamp(),
            "source": system.source,
            "sourcetype": "_json",
            **({"index": system.index} if system.index else {}),
            "event": {**message.facts, "key": message.key, "kind": message.route},
        }


def moment_of(message: Message) -> datetime:
    """The fact ``at``. Raises ``BadFact`` where it is no moment with a zone."""
    try:
        moment = datetime.fromisoformat(str(message.facts.get("at")))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadFact("missing-fact", "an event needs {at}, a moment with its zone")
    return moment
