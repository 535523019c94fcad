"""A system is told each message once, whatever happens between the intent and the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.credentials import Reference
from blocks.errors import ConfigurationError, LedgerUnreachable
from blocks.ledger import new_journey
from blocks.systems.base import Fate
from blocks.systems.http import HttpSystem
from blocks.systems.traffic import traffic_of
from blocks.values import Owned
from tasks import incidents
from tasks.telling import Telling, Told, Trail, holding, tell_once
from tests.ledger.full import no_room_for
from tests.sandbox.business import BusinessSandbox
from tests.tasks.dock import Dock

NOW, MINUTES = timedelta(0), timedelta(minutes=3)


@dataclass
class Stream:
    """What the tellings of these tests belong to."""

    partner: str = "erp"
    stream: str = "claims"
    key: str = "erp/claims"
    terms: Owned = field(default_factory=lambda: Owned(owner="claims@example.com"))


@dataclass
class Desk:
    """A system with a route that knows keys, one that does not, and a few journeys."""

    system: HttpSystem
    shop: BusinessSandbox

    def tell(self, *wanted: tuple[str, str, str], patience: timedelta = NOW, lane: str = "", **facts: Any) -> dict[str, Told]:
        """Journey, destination and route of each; answered by destination, in the order in which it is known."""
        journeys = sorted({journey for journey, _, _ in wanted})
        with holding(journeys, NOW) as held, self.system.session() as session:
            assert held is not None
            tellings = [
                Telling(Trail(Stream(), journey, "claim 1", held, to=to), route, {"type": to, **facts}, lane=lane)
                for journey, to, route in wanted
            ]
            return {told.telling.trail.to: told for told in tell_once(session, tellings, patience)}

    def fates(self, *wanted: tuple[str, str, str], **more: Any) -> dict[str, Fate]:
        return {to: told.fate for to, told in self.tell(*wanted, **more).items()}


@pytest.fixture
def desk(dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("TOLD_TOKEN", BusinessSandbox.TOKEN)
    traffic_of.cache_clear()  # another test's system may have had this one's port, and have been told to wait
    body = {"type": "{type}"}
    routes = {
        "claims": {"path": "/claims", "key_header": "Idempotency-Key", "body": body, "id": "id"},
        "orders": {"path": "/orders", "key_header": "Idempotency-Key", "body": body, "id": "id"},
        "letters": {"path": "/letters", "body": body, "id": "id"},
        "refusals": {"path": "/claims", "body": {"refuse": "{type}"}, "id": "id"},
    }
    with BusinessSandbox(tmp_path / "erp") as shop:
        auth = {"kind": "bearer", "token": Reference("env:TOLD_TOKEN")}
        breaker = {"failures": 1000}
        yield Desk(
            HttpSystem.model_validate({"url": f"{shop.url}/api", "auth": auth, "routes": routes, "breaker": breaker}), shop
        )


@contextmanager
def broken_off(dock: Dock, kind: str) -> Iterator[None]:
    with no_room_for(dock.ledger, kind), pytest.raises(LedgerUnreachable):
        yield


def test_a_journey_tells_each_of_its_destinations_once(desk: Desk, dock: Dock) -> None:
    journey = new_journey()
    wanted = (journey, "pim", "claims"), (journey, "erp", "orders")
    assert desk.fates(*wanted) == {"pim": Fate.TAKEN, "erp": Fate.TAKEN} == desk.fates(*wanted)
    assert desk.shop.books.writes == {"claims": 1, "orders": 1}
    told = {entry.body["to"]: entry.body["as"] for entry in dock.ledger.journey(journey) if entry.kind == "told"}
    assert told == {"pim": "claim-1", "erp": "order-1"}


def test_a_route_that_is_told_to_wait_holds_up_none_of_another(desk: Desk) -> None:
    waits, goes, later = new_journey(), new_journey(), new_journey()
    desk.shop.faults.set({"busy429@claims": 1, "retry-after": 3600})
    told = desk.tell((waits, "first", "claims"), (goes, "second", "orders"), (later, "third", "claims"))
    assert {to: one.fate for to, one in told.items()} == {"first": Fate.LATER, "second": Fate.TAKEN, "third": Fate.LATER}
    assert told["first"].after_seconds == 3600 and desk.shop.stats["POST /api/claims"] == 1


def test_while_a_route_waits_nothing_is_written_about_what_waits_for_it(desk: Desk, dock: Dock) -> None:
    desk.shop.faults.set({"busy429@claims": 1, "retry-after": 3600})
    first, waits = new_journey(), new_journey()
    for _ in range(3):
        assert desk.fates((first, "first", "claims"), (waits, "second", "claims")) == {
            "first": Fate.LATER,
            "second": Fate.LATER,
        }
    assert [entry.kind for entry in dock.ledger.journey(first)] == ["telling", "not told"] and not dock.ledger.journey(waits)


def test_those_of_one_lane_are_told_in_order_and_hold_up_no_other(desk: Desk) -> None:
    journeys = [new_journey() for _ in range(4)]
    wanted = [(journey, f"version-{number}", "claims") for number, journey in enumerate(journeys)]
    desk.shop.faults.set({"drop@claims": 1})
    assert desk.fates(*wanted[:3], lane="d-1") == dict.fromkeys([to for _, to, _ in wanted[:3]], Fate.LATER)
    assert not desk.shop.books.writes and desk.shop.stats["POST /api/claims"] == 1, "one is tried, the others wait for it"
    desk.shop.faults.set({"drop@claims": 1})
    assert desk.fates(*wanted, lane="d-1", patience=MINUTES) == dict.fromkeys([to for _, to, _ in wanted], Fate.TAKEN)
    told = desk.shop.books.things["claims"].values()
    assert [thing["type"] for thing in told] == [to for _, to, _ in wanted]


def test_what_is_refused_in_a_lane_holds_up_none_behind_it(desk: Desk) -> None:
    first, second = (new_journey(), "first", "refusals"), (new_journey(), "second", "claims")
    assert desk.fates(first, second, lane="d-1") == {"first": Fate.REFUSED, "second": Fate.TAKEN}


def test_what_is_told_later_is_told_within_the_patience(desk: Desk) -> None:
    desk.shop.faults.set({"busy429@claims": 1, "burst503@claims": 1, "lost-answer@claims": 1})
    assert desk.fates((new_journey(), "erp", "claims"), patience=MINUTES) == {"erp": Fate.TAKEN}
    assert desk.shop.books.writes == {"claims": 1}


def test_what_is_refused_says_why_and_is_told_anew_when_it_is_asked_for_again(desk: Desk) -> None:
    journey = new_journey()
    told = desk.tell((journey, "erp", "refusals"))["erp"]
    assert (told.fate, told.code) == (Fate.REFUSED, "status-422") and "not acceptable" in told.reason
    assert desk.fates((journey, "erp", "claims")) == {"erp": Fate.TAKEN}


@pytest.mark.parametrize("kind", ["telling", "told"])
def test_broken_off_at_any_step_it_is_told_once(kind: str, desk: Desk, dock: Dock) -> None:
    wanted = (new_journey(), "erp", "claims")
    with broken_off(dock, kind):
        desk.tell(wanted)
    assert desk.fates(wanted) == {"erp": Fate.TAKEN} and desk.shop.books.writes == {"claims": 1}


def test_each_destination_has_its_own_doubts_and_a_closed_incident_says_that_the_system_knows(desk: Desk, dock: Dock) -> None:
    """A route without a key and without a look."""
    journey = new_journey()
    first, second, sure = (journey, "first", "letters"), (journey, "second", "letters"), (journey, "sure", "claims")
    with broken_off(dock, "told"):
        desk.tell(first)
    desk.shop.faults.set({"lost-answer@letters": 1})
    with broken_off(dock, "incident"):
        desk.tell(second)
    doubted = {"first": Fate.UNKNOWN, "second": Fate.UNKNOWN, "sure": Fate.TAKEN}
    assert desk.fates(first, second, sure) == doubted == desk.fates(first, second, sure)
    cases = {case.journey.split(".")[2]: case.journey for case in dock.cases("telling-in-doubt")}
    assert sorted(cases) == ["first", "second"] and {case.owner for case in dock.cases()} == {"claims@example.com"}
    incidents.close(cases["first"], "it is there", "ann")
    assert desk.fates(first, second) == {"first": Fate.TAKEN, "second": Fate.UNKNOWN}
    assert desk.shop.books.writes == {"letters": 2, "claims": 1}


def test_what_a_missing_credential_has_kept_from_being_sent_is_in_no_doubt(
    desk: Desk, dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (new_journey(), "erp", "letters")
    monkeypatch.delenv("TOLD_TOKEN")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="TOLD_TOKEN"):
            desk.tell(wanted)
    monkeypatch.setenv("TOLD_TOKEN", BusinessSandbox.TOKEN)
    assert desk.fates(wanted) == {"erp": Fate.TAKEN} and not dock.cases()
    assert desk.shop.books.writes == {"letters": 1}


def test_nothing_is_told_by_two_at_once(desk: Desk) -> None:
    journey = new_journey()
    with holding([journey], NOW) as held, holding([journey], NOW) as other:
        assert held is not None and other is None


def test_two_messages_of_one_name_are_a_mistake_and_not_one_message(desk: Desk) -> None:
    journey = new_journey()
    with pytest.raises(ValueError, match="a name of its own"):
        desk.tell((journey, "erp", "claims"), (journey, "erp", "orders"))
    assert not desk.shop.books.writes
