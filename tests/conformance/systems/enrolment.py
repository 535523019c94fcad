"""Which systems the suite asks, how their far side is started, and which differences we tolerate, with the reason."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from blocks.notifying import MailServer
from blocks.systems.base import Message, System
from blocks.systems.collector import EventCollector
from blocks.systems.http import HttpSystem
from blocks.systems.mail import MailSystem
from blocks.systems.opensearch import OpenSearch
from blocks.systems.syslog import Syslog
from tests.sandbox.business import BusinessSandbox
from tests.servers.mail import mail_server
from tests.servers.rsyslog import rsyslog_server

AT = "2026-11-20T08:15:30.250000+01:00"


@dataclass(frozen=True, slots=True)
class Started:
    """A system whose far side runs."""

    system: System
    seen: Callable[[int], list[str]]
    """Keys that the far side has taken, in order and as often as it took them, once there are at least so many."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    kind: type[System]
    start: Callable[[Path], AbstractContextManager[Started]]
    message: Callable[[str], Message]
    """One that is taken, under a key."""
    refused: Callable[[str], Message]
    """One that is not."""
    tolerated: Mapping[str, str] = field(default_factory=dict)
    """Name of a check -> why this system need not keep it."""


def _with(kind: type[System], **fields: Any) -> Callable[[BusinessSandbox], System]:
    return lambda shop: kind(url=shop.url, **fields)


def _business(
    system: Callable[[BusinessSandbox], System], seen: Callable[[BusinessSandbox], list[str]]
) -> Callable[[Path], AbstractContextManager[Started]]:
    @contextmanager
    def start(place: Path) -> Iterator[Started]:
        with pytest.MonkeyPatch.context() as patch, BusinessSandbox(place) as shop:
            patch.setenv("CONFORMANCE_TOKEN", shop.TOKEN)
            patch.setenv("CONFORMANCE_COLLECTOR", shop.COLLECTOR)
            yield Started(system(shop), lambda _: seen(shop))

    return start


@contextmanager
def _syslog(place: Path) -> Iterator[Started]:
    place.mkdir()
    with rsyslog_server(place) as server:

        def seen(least: int) -> list[str]:
            """It has read them; they are in its file a moment later."""
            limit = time.monotonic() + 120
            while len(server.understood()) < least and time.monotonic() < limit:
                time.sleep(0.05)
            return [re.findall(r'key="([^"]*)"', one["fields"])[0] for one in server.understood()]

        system = Syslog(host="127.0.0.1", port=server.port, ca=server.certificate.authority, certificate=server.client.path)
        yield Started(system, seen)


@contextmanager
def _mail(place: Path) -> Iterator[Started]:
    with mail_server() as box:
        server = MailServer(host="127.0.0.1", port=box.port, security="none", sender="countersign@example.com")  # type: ignore[arg-type]
        routes = {"filed": {"to": "erp@example.com", "subject": "{key}", "text": "Filed as {id}"}}
        system = MailSystem(server=server, routes=routes)  # type: ignore[arg-type]
        yield Started(system, lambda _: [str(message["Subject"]) for message in box.messages])


_AUTH = {"kind": "bearer", "token": "env:CONFORMANCE_TOKEN"}
_ROUTE = {"path": "/api/invoices", "body": {"reference": "{key}"}, "key_header": "Idempotency-Key", "id": "id"}

ENROLLED: Mapping[str, Enrolment] = {
    "http": Enrolment(
        HttpSystem,
        _business(
            _with(HttpSystem, auth=_AUTH, routes={"invoice": _ROUTE}),
            lambda shop: [thing["reference"] for thing in shop.books.things.get("invoices", {}).values()],
        ),
        lambda key: Message(key, "invoice"),
        lambda key: Message(key, "no-such-route"),
    ),
    "opensearch": Enrolment(
        OpenSearch,
        _business(
            _with(OpenSearch, auth=_AUTH, index="files"), lambda shop: [place.partition("/")[2] for place in shop.books.index]
        ),
        lambda key: Message(key, "index", {"id": key, "version": 1, "document": {"title": "Price list"}}),
        lambda key: Message(key, "index", {"id": key, "version": 1}),
    ),
    "event-collector": Enrolment(
        EventCollector,
        _business(
            _with(EventCollector, token="env:CONFORMANCE_COLLECTOR"),
            lambda shop: [one["event"]["key"] for one in shop.books.events],
        ),
        lambda key: Message(key, "document.read", {"at": AT, "who": "anna"}),
        lambda key: Message(key, "document.read", {"who": "anna"}),
        {"told twice is taken once": "events come at least once; each carries its key, by which repeats are dropped"},
    ),
    "syslog": Enrolment(
        Syslog,
        _syslog,
        lambda key: Message(key, "document.read", {"at": AT, "who": "anna"}),
        lambda key: Message(key, "document.read", {"at": AT, "severity": "dreadful"}),
        {"told twice is taken once": "syslog knows no keys; events come at least once, and each carries its key"},
    ),
    "mail": Enrolment(
        MailSystem,
        _mail,
        lambda key: Message(key, "filed", {"id": "4711"}),
        lambda key: Message(key, "filed", {}),
        {"told twice is taken once": "a mail server takes what it is given; mail programs show one Message-ID once"},
    ),
}
