"""People or programs that are told by mail: the one mail server of ``notifying``, and what each message says.

A mail carries no document. Where it goes stands in the file, and no fact can add a receiver. A mail whose answer was lost is not sent
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import ClassVar

from pydantic import Field

from blocks.errors import NoticeDelayed, NoticeRefused, NoticeUnknown
from blocks.notifying import MailServer
from blocks.systems.base import Answer, Fate, Message, System, SystemSession
from blocks.systems.templates import BadFact, Template, facts_in, fill_text
from blocks.values import Slug, Terms, shown

PAUSE_SECONDS = 1.0


class MailRoute(Terms):
    """One kind of mail."""

    to: str = Field(description="The address that it goes to", pattern=r"^\S+@\S+$")
    subject: Template = Field(min_length=1, description="Template: 'Invoice {number} is filed'")
    text: Template = Field(min_length=1, description="Template")


class MailSystem(System):
    """A mail server, and what is told by it."""

    _block_type_name = "Mail"

    kind: ClassVar[str] = "mail"

    server: MailServer
    routes: Mapping[Slug, MailRoute] = Field(default_factory=dict, description="What can be told, by a short name")

    @property
    def address(self) -> str:
        return f"mail server {self.server.host}:{self.server.port}"

    def has_route(self, route: str) -> bool:
        return route in self.routes

    def needs(self, route: str) -> frozenset[str]:
        return facts_in([self.routes[route].subject, self.routes[route].text]) - {"key"}

    def session(self) -> MailSession:
        return MailSession(self)


class MailSession(SystemSession):
    def __init__(self, system: MailSystem) -> None:
        self._server, self._routes = system.server, system.routes

    def close(self) -> None:
        """Nothing is held between calls."""

    def send(self, messages: Iterable[Message]) -> Iterator[Answer]:
        for message in messages:
            yield self._send(message)

    def _send(self, message: Message) -> Answer:
        route = self._routes.get(message.route)
        if route is None:
            return Answer(message.key, Fate.REFUSED, code="no-such-route", reason=f"the file has no route {message.route!r}")
        if message.doubted:
            return Answer(message.key, Fate.UNKNOWN, reason="an earlier attempt was broken off; ask whether the mail has come")
        facts, id = {**message.facts, "key": message.key}, sha256(message.key.encode()).hexdigest()
        try:
            subject, text = shown(fill_text(route.subject, facts)), fill_text(route.text, facts)
            self._server.send(route.to, subject, text, id)
        except BadFact as bad:
            return Answer(message.key, Fate.REFUSED, code=bad.code, reason=bad.reason)
        except NoticeDelayed as error:
            return Answer(message.key, Fate.LATER, reason=str(error), after_seconds=PAUSE_SECONDS)
        except NoticeRefused as error:
            return Answer(message.key, Fate.REFUSED, code="mail-refused", reason=str(error))
        except NoticeUnknown as error:
            return Answer(message.key, Fate.UNKNOWN, reason=str(error))
        return Answer(message.key, Fate.TAKEN, id)
