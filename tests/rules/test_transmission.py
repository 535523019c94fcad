"""How far a partner has acknowledged an order: the last word counts, of each document, and of all."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from blocks.outbound import RecordTerms
from blocks.values import name_b64
from tasks.rules.transmission import Acknowledgement, Answer, acknowledged, answer

A, B = "a.csv", "b.csv"


def record(state: str | None = "TO_ACK") -> str:
    facts = {"transmissions": [{"name_b64": name_b64(name.encode())} for name in (A, B)], "acknowledgements": []}
    return json.dumps(facts | ({"state": state} if state else {}))


def said(*answers: tuple[str, bool]) -> list[Acknowledgement]:
    return [
        Acknowledgement(f"{n}.ack", "d", datetime(2026, 11, 20, n, tzinfo=UTC), "r", "1", document, positive)
        for n, (document, positive) in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param((), Answer.TO_ACK, id="nothing has come"),
        pytest.param(((A, True),), Answer.TO_ACK, id="of one document only"),
        pytest.param(((A, True), (B, True)), Answer.ACKED, id="of each document"),
        pytest.param((("", True),), Answer.ACKED, id="of all at once"),
        pytest.param(((A, False),), Answer.NACKED, id="no to one"),
        pytest.param((("", False),), Answer.NACKED, id="no to all"),
        pytest.param((("", True), (B, False)), Answer.NACKED, id="yes to all, then no to one"),
        pytest.param(((A, False), ("", True)), Answer.ACKED, id="no to one, then yes to all"),
        pytest.param(((A, False), (A, True)), Answer.TO_ACK, id="no, then yes, and nothing of the other"),
        pytest.param((("c.csv", True),), Answer.TO_ACK, id="of what was not sent"),
    ],
)
def test_answer(answers: tuple[tuple[str, bool], ...], expected: Answer) -> None:
    assert answer(record(), said(*answers)) is expected
    assert answer(record(), said(*answers)[::-1]) is expected, "in whatever order they were read"


def test_where_nothing_is_agreed_it_is_sent() -> None:
    assert answer(record("SENT"), ()) is Answer.SENT


def test_a_record_of_the_version_before_stays_as_it_was() -> None:
    told = json.loads(acknowledged(record(None), said(("", True))))
    assert "state" not in told and set(told["acknowledgements"][0]) == {
        "name",
        "sha256",
        "received",
        "repository",
        "repository_id",
    }
    (one,) = said((A, False))
    assert Acknowledgement.parse(one.facts) == one


def test_what_was_seen_picked_up_counts_and_is_never_told_as_said() -> None:
    gone = datetime(2026, 11, 20, 8, tzinfo=UTC)
    taken = [Acknowledgement.of_pickup(name, gone) for name in (A, B)]
    assert [answer(record(), taken[:count]) for count in (1, 2)] == [Answer.TO_ACK, Answer.ACKED]
    told = json.loads(acknowledged(record(), taken))["acknowledgements"]
    assert set(told[0]) == {"document", "picked_up", "seen_gone"} and "2026-11-20T08" in told[0]["picked_up"]
    assert [Acknowledgement.parse(one) for one in told] == taken


def test_pickups_are_for_partners_that_acknowledge_nothing() -> None:
    place = {"repository": "r", "folder": "f"}
    assert RecordTerms.model_validate({**place, "picked_up_within": "PT24H"}).awaited
    with pytest.raises(ValueError, match="tells itself"):
        RecordTerms.model_validate({**place, "picked_up_within": "PT24H", "acknowledged_by": "acks"})
