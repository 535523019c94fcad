"""Telling people: each once, with a link that opens a page, over real SMTP and one of Prefect's own blocks."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock, MattermostWebhook
from prefect.settings import PREFECT_UI_URL, temporary_settings

from blocks.errors import ConfigurationError
from blocks.ledger import Ledger
from blocks.notifying import MailServer, NotifyFile, load_notify
from tasks.notify import notify, notify_again
from tasks.rules.notification import Notification, body, harmless, subject
from tests.ledger.clock import Clock
from tests.servers.certificates import Certificate, make_certificate
from tests.servers.listener import Listener
from tests.servers.mail import Mailbox, mail_server
from tests.servers.prefect import PrefectServer, client_of
from tests.tasks.dock import Dock

RUN = "0193e2a4-0000-4000-8000-000000000001"
DUE = datetime(2030, 3, 1, 13, 0, tzinfo=UTC)
ASKED = Notification(
    "asked/abc", "0193e2a4-0000-7000-8000-000000000001", "acme/prices o-1 waits for your sign-off", {"To": "ACME"}, DUE, RUN
)
ANNA = {"id": "anna", "name": "Anna Berg", "mail": "anna@example.com"}
LOOK_BACK = timedelta(days=2)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def box(dock: Dock) -> Iterator[Mailbox]:
    """A mail server, agreed to in the reviewed files."""
    with mail_server() as box:
        agree(dock, mail=mail(box.port))
        yield box


@pytest.fixture(autouse=True)
def page() -> Iterator[None]:
    with temporary_settings({PREFECT_UI_URL: "http://prefect.example:4200"}):
        yield


def mail(port: int, **more: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "security": "none", "sender": "countersign@example.com", **more}


def agree(dock: Dock, **agreed: Any) -> None:
    people = {"timezone": "Europe/Berlin", "people": [ANNA]}
    (dock.profiles / "people.yaml").write_text(yaml.safe_dump(people))
    (dock.profiles / "notify.yaml").write_text(yaml.safe_dump(agreed))


def swept() -> list[str]:
    """The codes of what a sweep tells."""
    return [finding.code for finding in notify_again.fn(LOOK_BACK)]


def text_of(message: EmailMessage) -> str:
    return str(message.get_content()).replace("\r\n", "\n")


def kinds(dock: Dock, who: str = "anna") -> list[str]:
    return [entry.kind for entry in dock.ledger.journey(ASKED.journey(who))]


# --------------------------------------------------------------------------------------------- the message


def test_each_is_told_once_what_waits_until_when_and_where(dock: Dock, box: Mailbox) -> None:
    for _ in range(2):
        notify(["anna", "prices@example.com", "anna"], ASKED)
    swept()
    assert box.receivers == ["anna@example.com", "prices@example.com"]
    message = box.messages[0]
    assert message["Subject"] == "Countersign: acme/prices o-1 waits for your sign-off"
    assert message["To"] == "anna@example.com" and message["From"] == "Countersign <countersign@example.com>"
    assert message["Auto-Submitted"] == "auto-generated" and message["Message-ID"] != box.messages[1]["Message-ID"]
    text = text_of(message)
    assert f"http://prefect.example:4200/runs/flow-run/{RUN}\n" in text
    assert f"http://prefect.example:4200/v2/runs/flow-run/{RUN}\n" in text
    assert "- To: `ACME`\n" in text and "- Due: 2030-03-01 14:00 (Europe/Berlin)\n" in text
    assert text.count("http") == 2, "there is nothing else to be clicked"
    assert kinds(dock) == ["notification", "attempt", "notified"] and swept() == []


def test_nobody_is_told_where_nothing_was_agreed_about_it(dock: Dock) -> None:
    notify(["anna"], ASKED)
    assert kinds(dock) == [] and swept() == []


def test_what_somebody_sends_just_now_is_left_to_them(dock: Dock, box: Mailbox) -> None:
    box.meanwhile = lambda: (notify(["anna"], ASKED), swept())
    notify(["anna"], ASKED)
    assert len(box.messages) == 1 and kinds(dock) == ["notification", "attempt", "notified"]


HOSTILE = [
    pytest.param("a\r\nBcc: eve@evil.example\r\n\r\nPay now", id="header injection"),
    pytest.param("`[x](http://evil.example)![y](https://evil.example/p.png)`", id="markdown out of its code span"),
    pytest.param("<https://evil.example|the page> <!channel> @here www.evil.example", id="a chat's links and mentions"),
    pytest.param("\u202egnp.exe\u2028<script>\x1b]8;;http://evil.example\x07", id="bidi marks, separators, terminals"),
    pytest.param("\udcff\ufeff\x00", id="bytes that are no text"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_one_line_of_plain_words(dock: Dock, box: Mailbox, text: str) -> None:
    what = Notification("t", "j", f"{text} waits", {"File": text, "Asked for by": text}, None, RUN)
    notify(["anna"], what)
    (message,) = box.messages
    assert box.receivers == ["anna@example.com"] and message["Bcc"] is None and len(message.keys()) == 8, message.keys()
    told = text_of(message)
    lines = told.splitlines()
    assert len(lines) == 9, lines
    assert told.count("://") == 2 and "www." not in told and "@" not in told and "<" not in told and "](" not in told
    for line in lines[2:4]:
        assert line.count("`") == 2 and line.endswith("`")
    assert len(subject(what).splitlines()) == 1


def test_long_text_is_cut_and_no_address_survives() -> None:
    assert len(harmless("x" * 10_000)) == 120
    assert harmless("HTTP://EVIL.example WwW.evil.example") == "HTTP-//EVIL.example WwW-evil.example"
    assert "http" not in body(ASKED, "", "UTC"), "a link to nowhere helps nobody"


# --------------------------------------------------------------------------------------------- a mail server's moods


def test_what_nobody_took_is_tried_again_ever_more_seldom(dock: Dock, box: Mailbox, clock: Clock) -> None:
    box.at_receiver = "451 try later"
    notify(["anna"], ASKED)
    assert swept() == [] and kinds(dock).count("attempt") == 1, "not at once"
    clock.ahead = timedelta(seconds=61)
    assert swept() == [] and kinds(dock).count("attempt") == 2
    box.at_receiver = "250 OK"
    assert swept() == [] and box.messages == [], "the next pause is longer"
    clock.ahead = timedelta(minutes=4)
    assert swept() == [] and swept() == []
    assert len(box.messages) == 1 and kinds(dock)[-1] == "notified"


def test_what_nobody_takes_for_a_day_is_told(dock: Dock, clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    agree(dock, mail=mail(port))
    notify(["anna", "prices@example.com"], ASKED)
    assert kinds(dock) == ["notification", "attempt", "not taken"]
    assert kinds(dock, "prices@example.com") == ["notification"], "who is away is not waited for twice"
    clock.ahead = timedelta(hours=25)
    assert swept() == ["not-notified", "not-notified"] and kinds(dock)[-1] == "not notified"


@pytest.mark.parametrize(("at_receiver", "at_data"), [("550 nobody here", "250 OK"), ("250 OK", "554 no")])
def test_what_is_refused_for_good_is_told_and_not_tried_again(
    dock: Dock, box: Mailbox, clock: Clock, at_receiver: str, at_data: str
) -> None:
    box.at_receiver, box.at_data = at_receiver, at_data
    notify(["anna"], ASKED)
    clock.ahead = timedelta(minutes=5)
    (finding,) = notify_again.fn(LOOK_BACK)
    assert finding.code == "not-notified" and "anna" in finding.message and "55" in finding.message
    assert kinds(dock).count("attempt") == 1


@pytest.mark.parametrize("address", ["joerg@müller.example", "jörg@example.com"])
def test_an_address_that_the_server_cannot_be_told_is_a_finding(dock: Dock, box: Mailbox, address: str) -> None:
    agree(dock, mail=mail(box.port), told={"anna": address})
    notify(["anna"], ASKED)
    assert swept() == ["not-notified"] and kinds(dock)[-1] == "not notified" and box.messages == []


def test_a_lost_answer_is_told_and_the_message_is_not_repeated(dock: Dock, box: Mailbox, clock: Clock) -> None:
    box.hang_up = True
    notify(["anna"], ASKED)
    assert len(box.messages) == 1 and kinds(dock)[-1] == "unknown"
    clock.ahead = timedelta(hours=2)
    assert swept() == ["notice-unknown"] and len(box.messages) == 1


PEOPLE = ["anna", "prices@example.com", "ops@example.com"]


def attempts(dock: Dock) -> int:
    return sum(kinds(dock, who).count("attempt") for who in PEOPLE)


def test_a_mail_server_that_takes_a_message_and_says_nothing_is_waited_for_once_a_round(
    dock: Dock, box: Mailbox, clock: Clock
) -> None:
    agree(dock, mail=mail(box.port, timeout_seconds=1))
    box.silent = True
    notify(PEOPLE, ASKED)
    assert attempts(dock) == 1, "who comes after it waits for the next round"
    swept()
    assert attempts(dock) == 2
    box.silent = False
    agree(dock, mail=mail(box.port))
    clock.ahead = timedelta(minutes=5)
    swept()
    assert sorted(box.receivers) == sorted(["anna@example.com", *PEOPLE[1:]]), "nothing is lost, and nothing comes twice"


def test_a_mail_server_that_is_silent_before_the_message_has_not_taken_it(dock: Dock) -> None:
    called: list[int] = []

    def silent(connection: socket.socket) -> None:
        called.append(1)
        connection.sendall(b"220 here\r\n")
        with connection.makefile("rb") as lines:
            while line := lines.readline():
                if not line.startswith(b"DATA"):
                    connection.sendall(b"250 fine\r\n")

    with Listener(silent) as port:
        agree(dock, mail=mail(port, timeout_seconds=1))
        notify(PEOPLE, ASKED)
    assert kinds(dock) == ["notification", "attempt", "not taken"] and attempts(dock) == len(called) == 1


def test_a_line_that_is_a_dot_ends_no_message(box: Mailbox) -> None:
    told = "a\n.\n..b\n.c\n"
    MailServer(**mail(box.port)).send("anna@example.com", "s", told, "id")
    assert text_of(box.messages[0]) == told


def test_who_is_killed_while_sending_leaves_an_unknown(dock: Dock, box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(NotifyFile, "send", killed)
        notify(["anna"], ASKED)
    assert kinds(dock) == ["notification", "attempt"]
    notify(["anna"], ASKED)
    assert swept() == ["notice-unknown"] and box.messages == []


def test_who_is_killed_before_sending_is_made_up_for(dock: Dock, box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Ledger, "lease", killed)
        notify(["anna"], ASKED)
    assert kinds(dock) == ["notification"]
    assert swept() == [] and len(box.messages) == 1


@pytest.mark.parametrize("at_once", [False, True], ids=["starttls", "tls"])
def test_mail_goes_behind_tls_with_a_log_in(
    dock: Dock, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "of the test")
    with mail_server(certificate, at_once=at_once, login=("us", "of the test")) as box:
        known = {"username": "us", "password": "env:MAIL_PASSWORD", "ca_file": str(certificate.authority)}
        secured = mail(box.port, security="tls" if at_once else "starttls", **known)
        agree(dock, mail=secured)
        notify(["anna"], ASKED)
        assert box.protected == [True], dock.ledger.journey(ASKED.journey("anna"))[-1].body
        monkeypatch.setenv("MAIL_PASSWORD", "another")
        notify(["prices@example.com"], ASKED)
        assert swept() == ["not-notified"] and len(box.messages) == 1, "a password is never tried twice"


def test_a_certificate_of_somebody_else_gets_nothing(dock: Dock, certificate: Certificate) -> None:
    with mail_server(certificate) as box:
        agree(dock, mail=mail(box.port, security="starttls"))
        notify(["anna"], ASKED)
        assert swept() == ["not-notified"] and box.messages == []
        assert "certificate" in notify_again.fn(LOOK_BACK)[0].message


def test_a_server_that_offers_no_tls_gets_nothing(dock: Dock, box: Mailbox) -> None:
    agree(dock, mail=mail(box.port, security="starttls"))
    notify(["anna"], ASKED)
    assert kinds(dock)[-1] == "not taken" and box.messages == []


# --------------------------------------------------------------------------------------------- Prefect's blocks


@contextmanager
def receiver(*statuses: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """An HTTP server that answers with these statuses, one after the other; what it was posted."""
    left, posted = list(statuses), list[dict[str, Any]]()

    def answer(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            length = 0
            while (line := lines.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            posted.append(json.loads(lines.read(length)))
        status = left.pop(0)
        if status:
            connection.sendall(b"HTTP/1.1 %d told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)

    with Listener(answer) as port:
        yield port, posted


def webhook(port: int) -> CustomWebhookNotificationBlock:
    told = {"subject": "{{subject}}", "text": "{{body}}"}
    return CustomWebhookNotificationBlock(name="team", url=f"http://127.0.0.1:{port}/hook", json_data=told)


def test_prefects_own_blocks_send_what_they_are_named_for(dock: Dock, prefect_server: PrefectServer, clock: Clock) -> None:
    agree(dock, told={"anna": "custom-webhook/team", "merchandising": "mattermost-webhook/team"})
    with client_of(prefect_server), receiver(503, 200, 0, 200, 500, 404) as (port, posted):
        webhook(port).save("team", overwrite=True)
        MattermostWebhook(hostname="127.0.0.1", port=port, token="t", secure=False).save("team", overwrite=True)
        notify(["anna"], ASKED)
        assert kinds(dock)[-1] == "not taken"
        clock.ahead = timedelta(seconds=61)
        assert swept() == [] and kinds(dock)[-1] == "notified"
        assert [told["subject"] for told in posted] == ["Countersign: acme/prices o-1 waits for your sign-off"] * 2
        assert f"/runs/flow-run/{RUN}" in posted[1]["text"]
        ends = []
        for number, who in enumerate(["anna", "merchandising", "merchandising", "merchandising"]):
            what = Notification(f"another/{number}", ASKED.about, "something waits")
            notify([who], what)
            ends.append(dock.ledger.journey(what.journey(who))[-1])
        assert [end.kind for end in ends] == ["unknown", "notified", "unknown", "not notified"], [end.body for end in ends]
        assert len(posted) == 6 and "something waits" in posted[3]["text"]


def test_one_block_that_is_away_holds_no_other_back(dock: Dock, prefect_server: PrefectServer) -> None:
    agree(dock, told={"anna": "custom-webhook/team", "merchandising": "mattermost-webhook/team"})
    with client_of(prefect_server), receiver(503, 200) as (port, posted):
        webhook(port).save("team", overwrite=True)
        MattermostWebhook(hostname="127.0.0.1", port=port, token="t", secure=False).save("team", overwrite=True)
        notify(["anna", "merchandising"], ASKED)
    assert kinds(dock)[-1] == "not taken" and kinds(dock, "merchandising")[-1] == "notified" and len(posted) == 2


def test_a_block_that_is_none_is_told(dock: Dock, prefect_server: PrefectServer) -> None:
    agree(dock, told={"anna": "slack-webhook/nobody-made-it"})
    with client_of(prefect_server):
        notify(["anna", "a team"], ASKED)
        told = {finding.message for finding in notify_again.fn(LOOK_BACK)}
    assert any("no such block" in one for one in told) and any("does not say where 'a team'" in one for one in told)


# --------------------------------------------------------------------------------------------- the reviewed file


@pytest.mark.parametrize(
    ("agreed", "why"),
    [
        ({"mail": mail(25, host="mail.example.com")}, "on this machine itself"),
        ({"mail": mail(25, password="secret")}, "never in clear"),
        ({"mail": mail(25, username="us")}, "given together"),
        ({"told": {"anna": "anna@example.com"}}, "no 'mail' server"),
        ({"told": {"anna": "slack"}}, "match"),
        ({"tolled": {}}, "told"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, agreed: dict[str, Any], why: str) -> None:
    (tmp_path / "notify.yaml").write_text(yaml.safe_dump(agreed))
    with pytest.raises(ConfigurationError, match=why):
        load_notify(tmp_path)


def test_a_broken_file_stops_nothing_and_is_told(dock: Dock, box: Mailbox) -> None:
    good = (dock.profiles / "notify.yaml").read_text()
    (dock.profiles / "notify.yaml").write_text("mail: [")
    notify(["anna"], ASKED)
    assert swept() == ["not-notified"] and box.messages == []
    (dock.profiles / "notify.yaml").write_text(good)
    assert swept() == [] and len(box.messages) == 1
