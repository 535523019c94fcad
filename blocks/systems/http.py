"""A described system: any HTTP interface that takes JSON or documents, told in its file and not in code.

A message goes on one of its ``routes``: a method, a path, and templates over the message's facts; ``{key}`` is the message's key.

What a lost answer means, the route says:

=========================  =====================================================================================
``key_header``             the system knows the key: the same call is made again, and nothing is doubled
``look``                   a question that shows what was made; if it shows nothing, nobody can tell, and a person looks
PUT or DELETE              doing it twice is doing it once (RFC 9110, 9.2.2), unless the file says ``repeatable: false``
none of these              a person looks
=========================  =====================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from blocks.errors import SystemRefused, SystemUnreachable
from blocks.spool import Batch, Spooled
from blocks.systems.base import Answer, Fate, Message, SystemSession
from blocks.systems.templates import BadFact, PathTemplate, Template, facts_in, fill, fill_path, fill_text, well_formed
from blocks.systems.web import PAUSE_SECONDS, AnswerLost, NotNow, Reply, WebSystem, Wire
from blocks.values import Slug, Terms, shown

KEY, ID = "key", "id"
"""Facts of every message: its key; and, in ``poll``, what the system calls it."""
Scalar = None | bool | int | float | str

Place = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
"""Where in a JSON answer: ``data.id``, ``results.0.number``."""


class Question(Terms):
    """A call that changes nothing."""

    path: PathTemplate = Field(description="Below the system's url: '/invoices/{key}'")
    query: Mapping[str, Template] = Field(default_factory=dict, description="What follows the question mark, by name")


class Look(Question):
    """A question that shows what a message made, if it was carried out."""

    id: Place = Field(description="Where in the answer the id stands; nothing there means: not seen")


class Poll(Question):
    """A question for the last word about a message that was taken; ``{id}`` is what the system calls it."""

    field: Place = Field(description="Where in the answer its state stands")
    done: tuple[Scalar, ...] = Field(min_length=1, description="States that are the last word, and good")
    failed: tuple[Scalar, ...] = Field(default=(), description="States that are the last word: it was refused after all")
    every: timedelta = Field(default=timedelta(seconds=5), gt=timedelta(0), description="How often it is asked")


class Success(Terms):
    """What means that a message was taken."""

    status: tuple[int, ...] = Field(default=(200, 201, 202, 204), min_length=1, description="Status of the answer")
    where: Mapping[Place, Scalar] = Field(default_factory=dict, description="Values that must stand in the answer: {ok: true}")
    later: tuple[int, ...] = Field(default=(), description="Further answers that say: not carried out, try again. 409, say")


class Route(Terms):
    """One thing that the system can be told."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"] = Field(default="POST")
    path: PathTemplate = Field(description="Below the system's url: '/invoices'")
    query: Mapping[str, Template] = Field(default_factory=dict, description="What follows the question mark, by name")
    headers: Mapping[str, Template] = Field(default_factory=dict, description="Further headers")
    body: Annotated[Any, AfterValidator(well_formed)] = Field(
        default=None, description="JSON, its texts templates; left out: no body, or the document"
    )
    document: bool = Field(default=False, description="true: the body is a document's bytes")
    key_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header for the key, where the system honours one: Idempotency-Key",
    )
    repeatable: bool | None = Field(default=None, description="Doing it twice is doing it once; default: of PUT and DELETE")
    look: Look | None = Field(default=None, description="How to see whether a message was carried out")
    success: Success = Field(default_factory=Success)
    id: Place | None = Field(default=None, description="Where in the answer stands what the system calls it")
    poll: Poll | None = Field(default=None, description="If its first answer is not its last word")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.document and self.body is not None:
            raise ValueError("'document: true' has no other body")
        if self.poll is not None and self.id is None:
            raise ValueError("'poll' needs 'id'")
        return self

    @property
    def may_be_repeated(self) -> bool:
        by_method = self.method in ("PUT", "DELETE") if self.repeatable is None else self.repeatable
        return self.key_header is not None or by_method


class HttpSystem(WebSystem):
    """A system that is told in its file."""

    _block_type_name = "HTTP system"

    kind: ClassVar[str] = "http"
    carries_documents: ClassVar[bool] = True

    routes: Mapping[Slug, Route] = Field(default_factory=dict, description="What it can be told, by a short name")

    def has_route(self, route: str) -> bool:
        return route in self.routes

    def needs(self, route: str) -> frozenset[str]:
        told = self.routes[route]
        asked = [] if told.look is None else [told.look.path, dict(told.look.query)]
        return facts_in([told.path, dict(told.query), dict(told.headers), told.body, *asked]) - {KEY}

    def takes_document(self, route: str) -> bool:
        return self.routes[route].document

    def session(self) -> HttpSession:
        return HttpSession(self)


class HttpSession(SystemSession):
    def __init__(self, system: HttpSystem) -> None:
        self._routes, self._wire = system.routes, Wire(system)

    def close(self) -> None:
        self._wire.close()

    # ------------------------------------------------------------------------------------------------- telling

    def wait_seconds(self, route: str) -> float:
        return self._wire.rest_seconds(route)

    def sign_in(self) -> None:
        self._wire.sign_in()

    def send(self, messages: Iterable[Message]) -> Iterator[Answer]:
        for message in messages:
            try:
                yield self._send(message)
            except BadFact as bad:
                yield Answer(message.key, Fate.REFUSED, code=bad.code, reason=bad.reason)
            except NotNow as error:
                yield Answer(message.key, Fate.LATER, message.id or "", reason=str(error), after_seconds=error.after_seconds)

    def _send(self, message: Message) -> Answer:
        route = self._routes.get(message.route)
        if route is None:
            raise BadFact("no-such-route", f"the system's file has no route {message.route!r}")
        facts = {**message.facts, KEY: message.key}
        if message.id is not None and route.poll is not None:
            return self._ask_for_last_word(message, route, route.poll, message.id)
        if message.doubted and not route.may_be_repeated:
            return self._look(message, route, "an earlier attempt was broken off")
        path, headers, content = (
            fill_path(route.path, facts),
            self._headers(message, route, facts),
            self._content(message, route, facts),
        )
        query = {name: fill_text(template, facts) for name, template in route.query.items()}
        try:
            reply = self._wire.call(message.route, route.method, path, query=query, headers=headers, content=content)
        except AnswerLost as error:
            return self._doubted(message, route, error)
        return self._judge(message, route, reply)

    def _judge(self, message: Message, route: Route, reply: Reply) -> Answer:
        rules, told = route.success, reply.json
        if reply.status in rules.later:
            return Answer(message.key, Fate.LATER, reason=f"{reply.status}: {reply.text}", after_seconds=PAUSE_SECONDS)
        if reply.status not in rules.status:
            return Answer(
                message.key, Fate.REFUSED, code=f"status-{reply.status}", reason=reply.text or f"status {reply.status}"
            )
        if told is None and (rules.where or route.id):
            # Half an answer, or another's page: success was said, of what nobody can tell.
            return self._doubted(
                message, route, AnswerLost(f"{message.route}: {reply.status} without a JSON answer", PAUSE_SECONDS)
            )
        for place, wanted in rules.where.items():
            if (found := at(told, place)) != wanted or type(found) is not type(wanted):
                return Answer(message.key, Fate.REFUSED, code=f"not-{place}", reason=f"{place} is not {wanted!r}: {reply.text}")
        id = _name(at(told, route.id)) if route.id else ""
        if route.id and not id:
            return self._doubted(message, route, AnswerLost(f"{message.route}: an answer without {route.id!r}", PAUSE_SECONDS))
        if route.poll is not None:
            return Answer(message.key, Fate.PENDING, id, after_seconds=min(1.0, route.poll.every.total_seconds()))
        return Answer(message.key, Fate.TAKEN, id)

    def _doubted(self, message: Message, route: Route, error: AnswerLost) -> Answer:
        """What comes of a call whose answer was lost."""
        if route.may_be_repeated:
            return Answer(message.key, Fate.LATER, reason=str(error), after_seconds=error.after_seconds)
        return self._look(message, route, str(error))

    def _look(self, message: Message, route: Route, why: str) -> Answer:
        if route.look is None:
            reason = f"{why}; look in the system for {message.key!r} before it is sent again"
            return Answer(message.key, Fate.UNKNOWN, reason=reason)
        try:
            found = _name(at(self.ask(f"{message.route}-look", route.look, {**message.facts, KEY: message.key}), route.look.id))
        except SystemUnreachable as error:
            reason = f"{why}; and looking for it failed: {error}"
            return Answer(
                message.key, Fate.LATER, reason=reason, after_seconds=max(PAUSE_SECONDS, error.after_seconds), doubted=True
            )
        except SystemRefused as error:
            return Answer(message.key, Fate.UNKNOWN, reason=f"{why}; and looking for it failed: {error}")
        if not found:
            return Answer(message.key, Fate.UNKNOWN, reason=f"{why}; it is not seen there, and may still come")
        if route.poll is not None:
            return Answer(message.key, Fate.PENDING, found, after_seconds=min(1.0, route.poll.every.total_seconds()))
        return Answer(message.key, Fate.TAKEN, found)

    def _ask_for_last_word(self, message: Message, route: Route, poll: Poll, id: str) -> Answer:
        every = poll.every.total_seconds()
        try:
            told = self.ask(f"{message.route}-poll", poll, {**message.facts, KEY: message.key, ID: id})
        except SystemUnreachable as error:
            return Answer(message.key, Fate.PENDING, id, reason=str(error), after_seconds=max(every, error.after_seconds))
        except SystemRefused as error:
            return Answer(message.key, Fate.UNKNOWN, id, reason=str(error))
        state = at(told, poll.field)
        if state in poll.done:
            return Answer(message.key, Fate.TAKEN, id)
        if state in poll.failed:
            return Answer(message.key, Fate.REFUSED, id, f"state-{state}", f"{poll.field} is {shown(str(state))}")
        return Answer(message.key, Fate.PENDING, id, reason=f"{poll.field} is {shown(str(state))}", after_seconds=every)

    def _headers(self, message: Message, route: Route, facts: Mapping[str, Any]) -> dict[str, str]:
        told = {name: fill_text(template, facts) for name, template in route.headers.items()}
        if route.key_header is not None:
            told[route.key_header] = message.key
        for name, value in told.items():
            if not value.isascii() or not value.isprintable():
                raise BadFact("bad-fact", f"{shown(value)[:80]} cannot stand in the header {name}")
        if route.document:
            told.setdefault("Content-Type", "application/octet-stream")
            if message.path is not None:
                told["Content-Length"] = str(message.path.stat().st_size)
        elif route.body is not None:
            told["Content-Type"] = "application/json"
        return told

    def _content(self, message: Message, route: Route, facts: Mapping[str, Any]) -> bytes | Pieces | None:
        if route.document:
            if message.path is None:
                raise BadFact("no-document", f"route {message.route!r} takes a document")
            return Pieces(message.path)
        if route.body is None:
            return None
        return json.dumps(fill(route.body, facts), ensure_ascii=False).encode()

    # ------------------------------------------------------------------------------------------------- asking

    def ask(self, what: str, question: Question, facts: Mapping[str, Any]) -> Any:
        """What a question is answered, as JSON. Raises ``SystemUnreachable`` and ``SystemRefused``."""
        path, query = _question(question, facts)
        reply = self._wire.call(what, "GET", path, query=query)
        if reply.status != 200:
            raise SystemRefused(f"{path}: {reply.status} {reply.text}")
        if (told := reply.json) is None:
            raise SystemUnreachable(f"{path}: a page instead of a JSON answer", PAUSE_SECONDS)
        return told

    def fetch(self, what: str, question: Question, facts: Mapping[str, Any], into: Batch, largest: int) -> Spooled:
        """Bring a document into a spool batch. Raises ``SystemUnreachable`` and ``SystemRefused``."""
        path, query = _question(question, facts)
        return self._wire.fetch(what, path, query, into, largest)


@dataclass(frozen=True, slots=True)
class Pieces:
    """A file's bytes, from the start each time they are asked for."""

    path: Path

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while piece := file.read(256 * 1024):
                yield piece


def at(told: Any, place: str) -> Any:
    """What stands at a place in a JSON answer; None where there is nothing."""
    for step in place.split("."):
        if isinstance(told, dict):
            told = told.get(step)
        elif isinstance(told, list) and step.isdigit() and int(step) < len(told):
            told = told[int(step)]
        else:
            return None
    return told


def _name(id: Any) -> str:
    """An id as text; empty for what is none."""
    return str(id)[:200] if isinstance(id, str | int) and not isinstance(id, bool) else ""


def _question(question: Question, facts: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    try:
        return fill_path(question.path, facts), {name: fill_text(template, facts) for name, template in question.query.items()}
    except BadFact as bad:
        raise SystemRefused(f"{question.path}: {bad.reason}") from None
