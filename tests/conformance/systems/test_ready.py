"""What each ready system promises beyond the contract: formats to the byte, and what its own answers mean."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.notifying import MailServer
from blocks.systems.base import Answer, Fate, Message, System, persevere
from blocks.systems.collector import EventCollector
from blocks.systems.mail import MailSystem
from blocks.systems.opensearch import OpenSearch
from blocks.systems.syslog import Syslog, SyslogSession
from tests.conformance.systems.enrolment import AT
from tests.sandbox.business import BusinessSandbox
from tests.servers.certificates import make_certificate
from tests.servers.listener import Listener
from tests.servers.mail import mail_server

PATIENCE = timedelta(minutes=3)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusinessSandbox]:
    with pytest.MonkeyPatch.context() as patch, BusinessSandbox(tmp_path_factory.mktemp("business")) as running:
        patch.setenv("READY_TOKEN", running.TOKEN)
        patch.setenv("READY_COLLECTOR", running.COLLECTOR)
        yield running


def tell(system: System, *messages: Message) -> list[Answer]:
    """In the order of the messages."""
    with system.session() as session:
        answers = {answer.key: answer for answer in persevere(session, messages, PATIENCE)}
    return [answers[message.key] for message in messages]


# --------------------------------------------------------------------------------------------- search index


@pytest.fixture
def index(shop: BusinessSandbox) -> OpenSearch:
    return OpenSearch(url=shop.url, auth={"kind": "bearer", "token": "env:READY_TOKEN"}, index="files")  # type: ignore[arg-type]


def entry(id: str, version: int, **document: Any) -> Message:
    return Message(f"{id}/{version}", "index", {"id": id, "version": version, "document": document})


def gone(id: str, version: int) -> Message:
    return Message(f"{id}/{version}", "delete", {"id": id, "version": version})


def test_an_older_message_never_undoes_a_newer_one(shop: BusinessSandbox, index: OpenSearch) -> None:
    newer = entry("a", 2, title="B", readers=["anna"])
    answers = tell(index, newer, entry("a", 1, title="A", readers=["everybody"]), gone("a", 3), newer, gone("never there", 1))
    assert {answer.fate for answer in answers} == {Fate.TAKEN}
    assert shop.books.index["files/a"] == {"_source": None, "_version": 3}, "removed, and not brought back"


def test_a_bulk_whose_answer_is_lost_is_told_again(shop: BusinessSandbox, index: OpenSearch) -> None:
    for fault in ("lost-answer", "cut", "html500-after", "burst503", "busy429"):
        shop.faults.set({f"{fault}@_bulk": 1})
        [answer] = tell(index, entry(fault, 1, title=fault))
        assert answer.fate is Fate.TAKEN and shop.books.index[f"files/{fault}"]["_version"] == 1
        assert shop.faults[f"{fault}@_bulk"] == 0


def test_one_that_the_index_refuses_hinders_no_other(shop: BusinessSandbox, index: OpenSearch) -> None:
    shop.faults.set({"bulk-refuses": 1})
    refused, taken = tell(index, entry("bad", 1, title={"no": "text"}), entry("good", 1, title="x"))
    shop.faults.set({"bulk-refuses": 0})
    assert (refused.fate, refused.code, refused.reason) == (Fate.REFUSED, "status-400", "failed to parse field")
    assert taken.fate is Fate.TAKEN and shop.books.index["files/good"]["_source"] == {"title": "x"}


def test_what_is_too_much_at_once_goes_in_parts_and_only_what_is_too_large_itself_is_refused(
    shop: BusinessSandbox, index: OpenSearch, collector: EventCollector
) -> None:
    shop.faults.set({"largest-body": 2000})
    try:
        entries = [entry(f"part-{number}", 1, title="x" * (3000 if number == 3 else 100)) for number in range(20)]
        events = [event(f"part-{number}", text="x" * (3000 if number == 3 else 100)) for number in range(20)]
        answers = {"index": tell(index, *entries), "collector": tell(collector, *events)}
    finally:
        shop.faults.set({"largest-body": 0})
    for told in answers.values():
        assert [answer.fate for answer in told] == [Fate.REFUSED if number == 3 else Fate.TAKEN for number in range(20)]
        assert told[3].code == "status-413"
    assert sum(place.startswith("files/part-") for place in shop.books.index) == 19
    assert sum(one["event"]["key"].startswith("part-") for one in shop.books.events) == 19


# --------------------------------------------------------------------------------------------- event collector


@pytest.fixture
def collector(shop: BusinessSandbox) -> EventCollector:
    return EventCollector(url=shop.url, token="env:READY_COLLECTOR", index="audit")


def event(key: str, **facts: Any) -> Message:
    return Message(key, "document.read", {"at": AT, **facts})


def test_an_event_says_when_what_and_who(shop: BusinessSandbox, collector: EventCollector) -> None:
    tell(collector, event("say", who="anna", line="a\nb"))
    [told] = [one for one in shop.books.events if one["event"]["key"] == "say"]
    assert told == {
        "time": 1795158930.25,
        "source": "countersign",
        "sourcetype": "_json",
        "index": "audit",
        "event": {"at": AT, "who": "anna", "line": "a\nb", "key": "say", "kind": "document.read"},
    }


def test_an_event_whose_answer_is_lost_comes_at_least_once(shop: BusinessSandbox, collector: EventCollector) -> None:
    for fault, times in (("lost-answer", 2), ("html500-after", 2), ("drop", 1), ("busy429", 1)):
        shop.faults.set({f"{fault}@collector": 1})
        [answer] = tell(collector, event(fault))
        assert answer.fate is Fate.TAKEN
        assert sum(one["event"]["key"] == fault for one in shop.books.events) == times


def test_a_wrong_token_is_a_refusal(shop: BusinessSandbox, monkeypatch: pytest.MonkeyPatch, collector: EventCollector) -> None:
    monkeypatch.setenv("READY_COLLECTOR", "WRONG")
    [answer] = tell(collector, event("w"))
    assert (answer.fate, answer.code) == (Fate.REFUSED, "status-403") and "WRONG" not in str(answer)


# --------------------------------------------------------------------------------------------- syslog


def syslog(port: int = 1, **more: Any) -> Syslog:
    return Syslog(host="127.0.0.1", port=port, **more)


def test_a_message_is_as_rfc_5424_writes_it() -> None:
    facts = {"at": AT, "severity": "warning", "text": "read by ann\u00e9", "who": 'x"]\\y', 'odd =]"': "a\nb", "count": 3}
    frame = SyslogSession(syslog(enterprise=4711)).frame(Message("k 1", "document read", facts))
    size, _, whole = frame.partition(b" ")
    assert int(size) == len(whole), "RFC 5425, 4.3: octet counting"
    assert whole.decode("utf-8") == (
        f"<108>1 2026-11-20T07:15:30.250000Z {socket.gethostname()} countersign {os.getpid()} document_read "
        '[countersign@4711 key="k 1" who="x\\"\\]\\\\y" odd____="a\\\\u000ab" count="3"] \ufeffread by ann\u00e9'
    )


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="no moment"),
        pytest.param({"at": "2026-11-20T08:15:30"}, id="a moment without a zone"),
        pytest.param({"at": AT, "severity": "dreadful"}, id="no such severity"),
        pytest.param({"at": AT, "what": "x" * 40_000}, id="too long"),
    ],
)
def test_what_is_no_event_is_refused(facts: dict[str, Any]) -> None:
    [answer] = syslog().session().send([Message("k", "r", facts)])
    assert answer.fate is Fate.REFUSED and answer.code and answer.reason


@pytest.mark.parametrize("reads", [False, True], ids=["resets the connection", "never ends it"])
def test_a_collector_that_does_not_say_that_it_has_read_all_is_told_again(reads: bool, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path)

    def speak(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)
            if not reads:
                secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            while reads and secure.recv(1024):
                pass
            if reads:
                connection_over.recv(1)  # until the client has lost its patience

    connection_over, over = socket.socketpair()
    with Listener(speak) as port, over, connection_over:
        agreed = syslog(port, ca=certificate.authority, timeout_seconds=2)
        [answer] = agreed.session().send([Message("k", "r", {"at": AT, "text": "x" * 9000})])
        over.send(b"x")
    assert answer.fate is Fate.LATER and "read all" in answer.reason


# --------------------------------------------------------------------------------------------- mail


def mails(port: int) -> MailSystem:
    server = MailServer(host="127.0.0.1", port=port, security="none", sender="countersign@example.com")  # type: ignore[arg-type]
    route = {"to": "erp@example.com", "subject": "Invoice {number} is filed", "text": "Its id is {id}.\n"}
    return MailSystem(server=server, routes={"filed": route})  # type: ignore[dict-item]


def test_a_mail_is_as_its_route_says_and_no_fact_adds_a_receiver() -> None:
    with mail_server() as box:
        [answer] = tell(mails(box.port), Message("k", "filed", {"number": "4711\r\nBcc: all@example.com", "id": 9}))
        [again] = tell(mails(box.port), Message("k", "filed", {"number": "4711\r\nBcc: all@example.com", "id": 9}))
    first, second = box.messages
    assert answer.fate is again.fate is Fate.TAKEN and box.receivers == ["erp@example.com"] * 2
    assert first["Subject"] == "Invoice 4711\\x0d\\x0aBcc: all@example.com is filed" and first["Bcc"] is None
    assert first.get_content().strip() == "Its id is 9." and first["Message-ID"] == second["Message-ID"]


def test_a_mail_whose_answer_was_lost_is_not_sent_again() -> None:
    message = Message("k", "filed", {"number": 1, "id": 9})
    with mail_server() as box:
        box.hang_up = True
        [answer] = tell(mails(box.port), message)
        [broken_off] = tell(mails(box.port), replace(message, doubted=True))
        box.hang_up, box.at_receiver = False, "550 no such user"
        [refused] = tell(mails(box.port), message)
    assert [one.fate for one in (answer, broken_off, refused)] == [Fate.UNKNOWN, Fate.UNKNOWN, Fate.REFUSED]
    assert len(box.messages) == 1
