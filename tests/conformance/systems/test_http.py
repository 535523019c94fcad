"""A described HTTP system: what is sent, what an answer means, and a fault on each side of each call."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import ConfigurationError, SystemRefused, SystemUnreachable
from blocks.spool import Spool
from blocks.system_file import load_system
from blocks.systems.base import Answer, Fate, Message, persevere
from blocks.systems.http import HttpSystem, Question
from blocks.systems.traffic import Breaker, Rate, Traffic
from tests.sandbox import ROOT, sandbox
from tests.sandbox.business import AFTER, BEFORE, BusinessSandbox
from tests.servers.certificates import make_certificate
from tests.servers.listener import Listener

PATIENCE = timedelta(minutes=3)
KEYED = {"path": "/api/{kind}", "body": {"total": "{total}"}, "key_header": "Idempotency-Key", "id": "id"}
BODY = {"reference": "{key}", "total": "{total}"}
LOOKED = {"path": "/api/{kind}", "body": BODY, "id": "id"} | {
    "look": {"path": "/api/{kind}", "query": {"reference": "{key}"}, "id": "results.0.id"}
}
BARE = {"path": "/api/{kind}", "body": BODY, "id": "id"}
PUT = {"method": "PUT", "path": "/api/{kind}/{key}", "body": BODY, "id": "id"}
ROUTES = {"keyed": KEYED, "looked": LOOKED, "bare": BARE, "put": PUT}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusinessSandbox]:
    with BusinessSandbox(tmp_path_factory.mktemp("business")) as running:
        yield running


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSWORD", "TOKEN", "SECRET"):
        monkeypatch.setenv(f"SHOP_{name}", getattr(BusinessSandbox, name))


def system(shop: BusinessSandbox, **more: Any) -> HttpSystem:
    """Signed in with the bearer token, and with a breaker that lets each test do its own."""
    agreed: dict[str, Any] = {
        "auth": {"kind": "bearer", "token": "env:SHOP_TOKEN"},
        "breaker": {"failures": 1000},
        "routes": ROUTES,
    }
    return HttpSystem(url=shop.url, **agreed | more)


def send(system: HttpSystem, *messages: Message, patience: timedelta = PATIENCE) -> dict[str, Answer]:
    with system.session() as session:
        return {answer.key: answer for answer in persevere(session, messages, patience)}


def message(key: str, route: str = "keyed", kind: str = "invoices", **more: Any) -> Message:
    return Message(key, route, {"kind": kind, "total": 12.5}, **more)


# --------------------------------------------------------------------------------------------- faults

BEFORE_IT = tuple(fault for fault in BEFORE if fault != "token-ends")
AFTER_IT = tuple(fault for fault in AFTER if fault not in ("trickle", "stall"))
ONCE = dict.fromkeys((*BEFORE_IT, *AFTER_IT), ("taken", 1))
TOLD_WHEN = {
    "keyed": ONCE,
    "put": ONCE,
    "looked": ONCE | dict.fromkeys(("burst503", "html500", "drop"), ("unknown", 0)),
    "bare": ONCE | dict.fromkeys(("burst503", "html500", "drop"), ("unknown", 0)) | dict.fromkeys(AFTER_IT, ("unknown", 1)),
}
"""Route -> fault -> what becomes of a message that meets it, and how often the thing was made."""


@pytest.mark.parametrize("route", ROUTES)
def test_a_fault_on_either_side_of_a_call_loses_nothing_and_doubles_nothing(route: str, shop: BusinessSandbox) -> None:
    # Each fault strikes calls about its own kind of thing, so that one round of sending meets them all.
    kinds = {fault: f"{fault}-of-{route}s" for fault in TOLD_WHEN[route]}
    shop.faults.set({f"{fault}@{kind}": 1 for fault, kind in kinds.items()})
    answers = send(system(shop), *(message(fault, route, kind) for fault, kind in kinds.items()))
    seen = {fault: (str(answers[fault].fate), shop.books.writes[kind]) for fault, kind in kinds.items()}
    assert seen == TOLD_WHEN[route]
    assert all(shop.faults[f"{fault}@{kind}"] == 0 for fault, kind in kinds.items())  # each has struck


def test_an_answer_that_never_ends_is_lost_and_asked_for_again(shop: BusinessSandbox) -> None:
    shop.faults.set({"stall@stalled": 1, "trickle@dripping": 1, "trickle-seconds": 0.3})
    answers = send(system(shop, timeout_seconds=1), message("1", kind="stalled"), message("2", kind="dripping"))
    assert {answer.fate for answer in answers.values()} == {Fate.TAKEN}
    assert (shop.books.writes["stalled"], shop.books.writes["dripping"]) == (1, 1)
    assert shop.stats["POST /api/stalled"] >= 2 <= shop.stats["POST /api/dripping"]


def test_retry_after_is_kept_to_and_other_routes_go_on_meanwhile(shop: BusinessSandbox) -> None:
    shop.faults.set({"busy429@claims": 1, "retry-after": 3600})
    agreed = system(shop, routes=ROUTES | {"claim": KEYED})
    try:
        first = send(
            agreed, message("a", "claim", "claims"), message("b", "claim", "claims"), message("c"), patience=timedelta(0)
        )
    finally:
        shop.faults.set({"retry-after": 0})
    assert {key: str(answer.fate) for key, answer in first.items()} == {"a": "later", "b": "later", "c": "taken"}
    assert first["a"].after_seconds == 3600 and 3000 < first["b"].after_seconds <= 3600
    assert shop.stats["POST /api/claims"] == 1, "the second was not even tried"


def test_after_that_time_it_is_told_by_itself(shop: BusinessSandbox) -> None:
    shop.faults.set({"busy429@returns": 1, "retry-after": 1})
    answers = send(system(shop), message("a", kind="returns"))
    shop.faults.set({"retry-after": 0})
    assert answers["a"].fate is Fate.TAKEN and shop.books.writes["returns"] == 1


def test_a_system_that_fails_again_and_again_is_left_alone(shop: BusinessSandbox) -> None:
    shop.faults.set({"html500@broken": 1000})
    with system(shop, breaker={"failures": 3, "rest": "PT1H"}).session() as session:
        answers = list(session.send([*(message(str(n), kind="broken") for n in range(10)), message("other")]))
    shop.faults.set({"html500@broken": 0})
    assert {answer.fate for answer in answers} == {Fate.LATER} and "waits" in answers[-1].reason
    assert shop.stats["POST /api/broken"] == 3 and answers[-1].after_seconds > 3000


def traffic(rate: Rate | None = None) -> tuple[Traffic, list[float]]:
    """With a clock that stands until it is set."""
    clock = [100.0]
    return Traffic(rate, Breaker(failures=2, rest=timedelta(seconds=30)), clock=lambda: clock[0]), clock


def test_after_its_rest_one_call_tries_a_system_and_the_others_wait_for_what_it_tells() -> None:
    told, clock = traffic()
    told.failed()
    assert told.wait_seconds("a") == 0, "once is no reason"
    told.failed()
    assert (told.wait_seconds("a"), told.wait_seconds("b")) == (30, 30)
    clock[0] += 31
    assert (told.wait_seconds("a"), told.wait_seconds("a"), told.wait_seconds("b")) == (0, 30, 30)
    told.failed()
    assert told.wait_seconds("a") == 30
    clock[0] += 31
    assert told.wait_seconds("b") == 0
    told.answered()
    assert (told.wait_seconds("a"), told.wait_seconds("b")) == (0, 0)


def test_a_route_waits_alone() -> None:
    told, clock = traffic()
    told.pause("a", 10)
    told.pause("a", 5)  # an older answer changes nothing
    assert (told.wait_seconds("a"), told.wait_seconds("b")) == (10, 0)
    clock[0] += 10
    assert told.wait_seconds("a") == 0


def test_calls_are_spread_evenly_over_a_rate() -> None:
    told, clock = traffic(Rate(calls=2, per=timedelta(seconds=1)))
    assert [told.turn_seconds() for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    clock[0] += 60
    assert told.turn_seconds() == 0.0


# --------------------------------------------------------------------------------------------- what is told


def test_a_repeated_key_is_the_same_thing_and_other_words_under_it_are_refused(shop: BusinessSandbox) -> None:
    one, again = send(system(shop), message("k-1", kind="orders")), send(system(shop), message("k-1", kind="orders"))
    other = send(system(shop), Message("k-1", "keyed", {"kind": "orders", "total": 99}))
    assert one["k-1"].id == again["k-1"].id == "order-1"
    assert (other["k-1"].fate, other["k-1"].code) == (Fate.REFUSED, "status-422")
    assert shop.books.things["orders"]["order-1"]["total"] == 12.5, "a number stays a number"


def test_what_was_broken_off_is_looked_for_before_it_is_told_again(shop: BusinessSandbox) -> None:
    agreed = system(shop)
    made = send(agreed, message("there", "looked", "quotes"))
    answers = send(
        agreed,
        message("there", "looked", "quotes", doubted=True),
        message("not-there", "looked", "quotes", doubted=True),
        message("bare", "bare", "quotes", doubted=True),
    )
    assert answers["there"] == made["there"] and shop.books.writes["quotes"] == 1
    assert (answers["not-there"].fate, answers["bare"].fate) == (Fate.UNKNOWN, Fate.UNKNOWN)


def test_a_look_that_fails_is_no_look(shop: BusinessSandbox) -> None:
    """The answer is lost, and the first look's too: nothing is told again, and the next look finds it."""
    shop.faults.set({"lost-answer@leads": 2})
    answers = send(system(shop), message("l", "looked", "leads"))
    assert answers["l"].fate is Fate.TAKEN and shop.books.writes["leads"] == 1
    assert (shop.stats["POST /api/leads"], shop.stats["GET /api/leads"]) == (1, 2)


def test_it_is_asked_until_it_has_said_its_last_word(shop: BusinessSandbox) -> None:
    poll = {"path": "/api/jobs/{id}", "field": "state", "done": ["done"], "failed": ["failed"], "every": "PT0.05S"}
    job = {"path": "/api/jobs", "body": {"ends": "{ends}"}, "key_header": "Idempotency-Key", "id": "id", "poll": poll}
    agreed = system(shop, routes={"job": job})
    shop.faults.set({"job-looks": 2})
    answers = send(agreed, Message("good", "job", {"ends": "done"}), Message("bad", "job", {"ends": "failed"}))
    assert (answers["good"].fate, answers["bad"].fate, answers["bad"].code) == (Fate.TAKEN, Fate.REFUSED, "state-failed")
    # A run that ended in between goes on asking, and does not tell it again.
    calls = shop.stats["POST /api/jobs"]
    assert send(agreed, Message("good", "job", {}, id=answers["good"].id))["good"].fate is Fate.TAKEN
    assert shop.stats["POST /api/jobs"] == calls


@pytest.mark.parametrize(
    ("route", "facts", "code"),
    [
        pytest.param("keyed", {"kind": "notes"}, "missing-fact", id="a fact is missing"),
        pytest.param("keyed", {"kind": "..", "total": 1}, "bad-fact", id="a fact would climb a level"),
        pytest.param("keyed", {"kind": {"a": 1}, "total": 1}, "bad-fact", id="an object where a text is due"),
        pytest.param("header", {"note": "a\r\nX-Evil: 1"}, "bad-fact", id="a fact would end a header"),
        pytest.param("no-route", {}, "no-such-route", id="no such route"),
        pytest.param("document", {}, "no-document", id="a document is missing"),
        pytest.param("strict", {"total": 1}, "not-state", id="the answer says something else"),
    ],
)
def test_what_is_not_taken_says_why(route: str, facts: dict[str, Any], code: str, shop: BusinessSandbox) -> None:
    more = {
        "header": {"path": "/api/notes", "headers": {"X-Note": "{note}"}},
        "document": {"path": "/api/notes", "document": True},
        "strict": {"path": "/api/orders-of-it", "body": {"total": "{total}"}, "success": {"where": {"state": "booked"}}},
    }
    [answer] = send(system(shop, routes=ROUTES | more), Message("n", route, facts)).values()
    assert (answer.fate, answer.code) == (Fate.REFUSED, code)


def test_a_fact_is_one_step_of_a_path_whatever_it_says(shop: BusinessSandbox) -> None:
    [answer] = send(system(shop), Message("x/../y?z#ü", "put", {"kind": "odd", "total": 1})).values()
    assert answer.id == "x/../y?z#ü" and list(shop.books.things["odd"]) == ["x/../y?z#ü"]


def test_documents_go_out_and_come_in_whole(shop: BusinessSandbox, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    (tmp_path / "scan.tif").write_bytes(content)
    agreed = system(shop, routes={"scan": {"method": "PUT", "path": "/api/scans/{key}", "document": True, "id": "id"}})
    [answer] = send(agreed, Message("s1", "scan", path=tmp_path / "scan.tif")).values()
    assert answer.fate is Fate.TAKEN and shop.books.things["scans"]["s1"]["size"] == len(content)

    shop.offer("made", content)
    spool, what = Spool(tmp_path / "spool", floor_bytes=0), Question(path="/api/documents/{key}/content")
    with agreed.session() as session, spool.batch() as batch:
        found = session.fetch("document", what, {"key": "made"}, batch, 10**7)
        with pytest.raises(SystemRefused, match="more than 1,000 bytes"):
            session.fetch("document", what, {"key": "made"}, batch, 1000)
        with pytest.raises(SystemRefused, match="404"):
            session.fetch("document", what, {"key": "not made"}, batch, 1000)
    assert spool.path(found.digest).read_bytes() == content


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        pytest.param("Connection: close", b"%PDF-1.7 half of", "tell where it ends", id="ends with the connection"),
        pytest.param("Content-Length: 4\r\nContent-Encoding: gzip", b"\x1f\x8b\x08\x00", "not asked for", id="encoded"),
        pytest.param("Content-Length: 40", b"%PDF-1.7 half of", "the answer was lost", id="shorter than was said"),
    ],
)
def test_a_document_of_which_nobody_can_tell_whether_all_came_is_not_taken(
    headers: str, body: bytes, told: str, tmp_path: Path
) -> None:
    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode() + body)

    spool, what = Spool(tmp_path / "spool", floor_bytes=0), Question(path="/content")
    with (
        Listener(speak) as port,
        HttpSystem(url=f"http://127.0.0.1:{port}").session() as session,
        spool.batch() as batch,
        pytest.raises((SystemRefused, SystemUnreachable), match=told),
    ):
        session.fetch("document", what, {}, batch, 1000)
    digest = hashlib.sha256(body).hexdigest()
    assert not spool.holds(digest)


def test_a_third_system_is_one_file(shop: BusinessSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_TICKETS_PASSWORD", shop.PASSWORD)
    shop.faults.set({"job-looks": 0})
    ours = (ROOT / "deployments" / "systems" / "tickets.yaml").read_text("utf-8")
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "tickets.yaml").write_text(ours.replace("http://127.0.0.1:8090", shop.url))
    agreed = load_system("tickets", tmp_path)
    with agreed.session() as session:
        facts = {"document": "4711", "reason": "price exception"}
        answers = list(persevere(session, [Message("t-1", "approval", facts)] * 2, PATIENCE))
    assert [answer.fate for answer in answers] == [Fate.TAKEN] * 2 and len({answer.id for answer in answers}) == 1
    [ticket] = [job for job in shop.books.things["jobs"].values() if job.get("title") == "Approve 4711"]
    assert ticket["because"] == "price exception"


# --------------------------------------------------------------------------------------------- signing in


@pytest.mark.parametrize("kind", ["basic", "bearer", "oauth2"])
def test_it_signs_in(kind: str, shop: BusinessSandbox) -> None:
    auth = {
        "basic": {"username": "user", "password": "env:SHOP_PASSWORD"},
        "bearer": {"token": "env:SHOP_TOKEN"},
        "oauth2": {"token_url": f"{shop.url}/oauth2/token", "client_id": "client", "client_secret": "env:SHOP_SECRET"},
    }[kind]
    agreed = system(shop, auth={"kind": kind, **auth})
    [answer] = send(agreed, message(f"by-{kind}")).values()
    assert answer.fate is Fate.TAKEN


def test_a_token_is_fetched_once_and_anew_when_it_has_ended(shop: BusinessSandbox) -> None:
    auth = {
        "kind": "oauth2",
        "token_url": f"{shop.url}/oauth2/token",
        "client_id": "client",
        "client_secret": "env:SHOP_SECRET",
    }
    before = shop.stats["POST /oauth2/token"]
    shop.faults.set({"token-ends@memos-2": 1, "busy429@oauth2": 1})
    answers = send(system(shop, auth=auth), *(message(f"m{n}", kind=f"memos-{n}") for n in range(4)))
    assert {answer.fate for answer in answers.values()} == {Fate.TAKEN}
    assert shop.stats["POST /oauth2/token"] == before + 3  # refused for a moment, given, ended and given
    assert sum(shop.books.writes[f"memos-{n}"] for n in range(4)) == 4


def test_wrong_credentials_are_said_and_never_shown(shop: BusinessSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "WRONG-s3cret")
    monkeypatch.setenv("SHOP_SECRET", "WRONG-s3cret")
    [answer] = send(system(shop), message("w")).values()
    assert answer.code == "status-401" and "WRONG" not in str(answer)
    auth = {
        "kind": "oauth2",
        "token_url": f"{shop.url}/oauth2/token",
        "client_id": "client",
        "client_secret": "env:SHOP_SECRET",
    }
    with pytest.raises(ConfigurationError, match="refused the client 'client'") as told:
        send(system(shop, auth=auth), message("w"))
    assert "WRONG" not in str(told.value)
    assert "WRONG" not in system(shop).model_dump_json()


def test_mutual_tls(tmp_path: Path) -> None:
    server, ours = make_certificate(tmp_path / "server"), make_certificate(tmp_path / "ours", "countersign")
    with BusinessSandbox(tmp_path / "data", certificate=server.path, clients=ours.authority) as shop:
        agreed = {"auth": None, "ca": server.authority}
        [answer] = send(system(shop, **agreed, certificate=ours.path), message("m")).values()
        assert answer.fate is Fate.TAKEN
        # Without ours, and where the server's is from somebody else: nothing is told.
        [without] = send(system(shop, **agreed), message("n"), patience=timedelta(0)).values()
        [stranger] = send(system(shop, ca=ours.authority), message("o"), patience=timedelta(0)).values()
        assert (without.fate, stranger.fate) == (Fate.LATER, Fate.LATER) and "CERTIFICATE_VERIFY_FAILED" in stranger.reason
        assert shop.books.writes["invoices"] == 1


def test_it_is_served_as_a_process_too(tmp_path: Path) -> None:
    with sandbox("business", data=tmp_path, options=("--mutual-tls",), faults={"lost-answer@invoices": 1}) as services:
        about = services["business"]
        trust = {"ca": about["ca_file"], "certificate": about["client_certificate"]}
        [answer] = send(HttpSystem(url=about["url"], routes=ROUTES, **trust), message("k")).values()
    assert (answer.fate, answer.id) == (Fate.TAKEN, "invoice-1")


def test_a_system_that_is_away_is_told_later(tmp_path: Path) -> None:
    shop = BusinessSandbox(tmp_path)
    agreed = system(shop)
    shop.start().stop()
    [answer] = send(agreed, message("a", "bare"), patience=timedelta(0)).values()
    assert answer.fate is Fate.LATER and "nothing was sent" in answer.reason


def test_what_was_taken_survives_a_restart(tmp_path: Path) -> None:
    with BusinessSandbox(tmp_path) as shop:
        first = send(system(shop), message("k"))
    with BusinessSandbox(tmp_path) as shop:
        assert send(system(shop), message("k")) == first and shop.books.writes["invoices"] == 1


def test_several_sessions_share_what_they_were_told(shop: BusinessSandbox) -> None:
    """A thread that is told to wait holds back the others of its process."""
    shop.faults.set({"busy429@shared": 1, "retry-after": 3600})
    agreed = system(shop, routes={"shared": KEYED})
    done: list[Answer] = []
    for n in range(2):
        thread = threading.Thread(
            target=lambda n=n: done.extend(send(agreed, message(str(n), "shared", "shared"), patience=timedelta(0)).values())  # type: ignore[misc]
        )
        thread.start()
        thread.join()
    shop.faults.set({"retry-after": 0})
    assert [answer.fate for answer in done] == [Fate.LATER] * 2 and shop.stats["POST /api/shared"] == 1
