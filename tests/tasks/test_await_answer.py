"""An acknowledgement that is missing, or says no, is one case, and ends when what it asks for is done."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from blocks.ledger import CaseState, Entry
from blocks.values import name_b64
from tasks import incidents
from tasks.await_answer import await_again, await_answer, look_for_answers
from tasks.order import Order, load_release
from tests.rules.signoff.world import package
from tests.tasks.dock import Dock

ORDER = "0193e2a4-0000-7000-8000-000000000001"
NAME = "letter.csv"


@pytest.fixture
def order(dock: Dock) -> Order:
    """One that was delivered, on a stream whose partner acknowledges within a millisecond."""
    agree(dock, acknowledged_within="PT0.001S")
    record = {"transmissions": [{"name_b64": name_b64(NAME.encode())}], "acknowledgements": [], "state": "TO_ACK"}
    write(dock, "ordered", order="o-1", requester="")
    write(dock, "recording", text=json.dumps(record))
    found = Order(load_release("acme", "letters"), "o-1", ORDER, "", None)
    await_answer(found)
    await_answer(found)
    return found


def agree(dock: Dock, **record: Any) -> None:
    letters = {
        "direction": "outbound",
        "gather": {"repository": "kept", "folder": "Letters"},
        "destinations": [{"endpoint": "drop", "folder": "/in"}],
        "freshness": "pinned",
        "signoff": {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"},
        "evidence": {"repository": "kept", "folder": "Evidence"},
        "record": {"repository": "kept", "folder": "Records", "acknowledged_by": "prices", **record},
        "owner": "letters@example.com",
    }
    dock.agree(more={"letters": letters})
    (dock.profiles / "people.yaml").write_text(yaml.safe_dump({"people": []}))


def write(dock: Dock, kind: str, journey: str = ORDER, **body: Any) -> None:
    dock.ledger.append([Entry(journey, kind, {"partner": "acme", "stream": "letters", **body})])


def said(dock: Dock, n: int, *, positive: bool) -> None:
    told = {"name": f"{n}.ack", "sha256": "d", "received": f"2026-11-20T12:00:0{n}Z", "repository": "r", "repository_id": "1"}
    write(dock, "acknowledged", said=told | ({} if positive else {"acknowledged": False}))


def standing(dock: Dock) -> list[tuple[str | None, CaseState, str | None]]:
    return [(case.code, case.state, case.owner) for case in dock.ledger.cases(open_only=False)]


def test_what_is_not_acknowledged_in_time_is_one_case_until_it_is(dock: Dock, order: Order) -> None:
    (found,) = look_for_answers()
    assert found.code == "not-acknowledged" and "o-1" in found.message and look_for_answers() == []
    assert standing(dock) == [("not-acknowledged", CaseState.NEW, "letters@example.com")]
    said(dock, 1, positive=True)
    assert look_for_answers() == [] and standing(dock)[0][1] is CaseState.RESOLVED
    said(dock, 2, positive=False)
    await_again(Order(order.agreed, "o-1", ORDER, "", None))
    assert [found.code for found in look_for_answers()] == ["answered-no"], "also after it was over"
    assert standing(dock)[0][:2] == ("answered-no", CaseState.NEW)


def test_a_no_is_a_case_until_it_was_sent_again_and_stands_there(dock: Dock, order: Order) -> None:
    again = replace(package(), journey="0193e2a4-0000-7000-8000-000000000002")
    write(dock, "again", package=again.text)
    write(dock, "certified", again.journey)
    said(dock, 1, positive=False)
    (found,) = look_for_answers()
    assert found.code == "answered-no" and "--order o-1" in found.message
    assert look_for_answers() == [] and len(standing(dock)) == 1, "what was sent before the no ends nothing"
    later = replace(package(), journey="0193e2a4-0000-7000-8000-000000000003")
    write(dock, "again", package=later.text)
    assert look_for_answers() == [] and standing(dock)[0][1] is CaseState.NEW, "asked for, and not signed yet"
    write(dock, "certified", later.journey)
    assert look_for_answers() == [] and standing(dock)[0][1] is CaseState.RESOLVED
    assert dock.ledger.begun("awaited", dock.ledger.now()) == []


def test_what_a_person_closes_is_not_told_again(dock: Dock, order: Order) -> None:
    look_for_answers()
    assert incidents.close(f"acknowledgement.{ORDER}", "they called", "ann") == "not-acknowledged"
    assert look_for_answers() == [] and standing(dock)[0][1] is CaseState.RESOLVED


def test_without_a_time_only_a_no_is_told(dock: Dock) -> None:
    agree(dock)
    write(dock, "ordered", order="o-1", requester="")
    write(
        dock, "recording", text=json.dumps({"transmissions": [{"name_b64": name_b64(NAME.encode())}], "acknowledgements": []})
    )
    await_answer(Order(load_release("acme", "letters"), "o-1", ORDER, "", None))
    assert look_for_answers() == []
    said(dock, 1, positive=False)
    assert [found.code for found in look_for_answers()] == ["answered-no"]


def test_a_remainder_is_awaited_too_and_acknowledged_with_its_order_or_by_itself(dock: Dock, order: Order) -> None:
    rest, late = ("0193e2a4-0000-7000-8000-00000000000" + n for n in "45")
    made = {rest: "2026-11-20T12:00:05Z", late: "2026-11-20T12:00:08Z"}
    record = {"transmissions": [{"name_b64": name_b64(b"rest.csv")}], "acknowledgements": [], "state": "TO_ACK"}
    once = "order/acme/letters/o-1"
    dock.ledger.append([Entry(ORDER, "ordered", {"partner": "acme", "stream": "letters", "order": "o-1"}, once=once)])
    for journey, id in ((rest, "o-1~0123456789ab"), (late, "o-1~0123456789cd")):
        write(dock, "ordered", journey, order=id, requester="")
        write(dock, "recording", journey, text=json.dumps(record | {"made": made[journey]}))
        await_answer(Order(order.agreed, id, journey, "", None))
    assert len(look_for_answers()) == 3
    said(dock, 1, positive=True)
    assert look_for_answers() == [] and len(dock.ledger.begun("awaited", dock.ledger.now())) == 2, "there was no remainder yet"
    said(dock, 6, positive=True)
    look_for_answers()
    assert list(dock.ledger.journeys(dock.ledger.begun("awaited", dock.ledger.now()))) == [f"acknowledgement.{late}"]
    told = {"name": "7.ack", "sha256": "d", "received": "2026-11-20T12:00:09Z", "repository": "r", "repository_id": "1"}
    write(dock, "acknowledged", late, said=told)
    look_for_answers()
    assert dock.ledger.begun("awaited", dock.ledger.now()) == []


def test_a_redelivery_is_awaited_with_its_order(dock: Dock, order: Order) -> None:
    again = "0193e2a4-0000-7000-8000-000000000006"
    write(dock, "ordered", again, order="o-1~0123456789ef", requester="", again=True)
    await_answer(Order(order.agreed, "o-1~0123456789ef", again, "", None))
    assert len(dock.ledger.begun("awaited", dock.ledger.now())) == 1


@pytest.mark.parametrize("positive", [True, False])
def test_what_is_said_of_a_redelivery_by_a_document_s_name_is_said_of_its_order(dock: Dock, positive: bool) -> None:
    agree(dock)
    again = replace(package(), journey="0193e2a4-0000-7000-8000-000000000007")
    for journey, id, name, more in (
        (ORDER, "o-1", NAME, {}),
        (again.journey, again.order, f"{again.order}-{NAME}", {"again": True}),
    ):
        record = {"transmissions": [{"document": NAME, "name_b64": name_b64(name.encode())}], "acknowledgements": []}
        write(dock, "ordered", journey, order=id, requester="", parent=ORDER, **more)
        write(dock, "recording", journey, text=json.dumps(record | {"state": "TO_ACK"}))
        await_answer(Order(load_release("acme", "letters"), id, journey, "", None))
    write(dock, "again", package=again.text)
    assert look_for_answers() == []
    told = {"name": "1.ack", "sha256": "d", "received": "2026-11-20T12:00:09Z", "repository": "r", "repository_id": "1"}
    write(dock, "acknowledged", again.journey, said={**told, "document": f"{again.order}-{NAME}", "acknowledged": positive})
    assert [found.code for found in look_for_answers()] == ([] if positive else ["answered-no"])
    assert len(dock.ledger.begun("awaited", dock.ledger.now())) == (0 if positive else 1)
    write(dock, "acknowledged", again.journey, said={**told, "name": "2.ack", "received": "2026-11-20T12:00:10Z"})
    look_for_answers()
    write(
        dock,
        "acknowledged",
        again.journey,
        said={**told, "name": "3.ack", "received": "2026-11-20T12:00:11Z", "acknowledged": False},
    )
    await_again(Order(load_release("acme", "letters"), again.order, again.journey, "", None))
    assert [found.code for found in look_for_answers()] == ["answered-no"], "also after it was over"
