"""The brake: what is unusual, and that one more person signs then, after all others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.outbound import Brake, Refusal, SignoffPolicy
from tasks.rules.brake import Amounts, unusual
from tasks.rules.enough import shortfalls
from tasks.rules.policy import Status
from tests.rules.signoff.world import NOON, answer, cast, judge, matter, people, stage, stands, terms

WHY = ("10 files, usually 2 to 3",)


def files(*counts: int) -> list[Amounts]:
    return [Amounts(count) for count in counts]


def rows(*counts: int | None) -> list[Amounts]:
    return [Amounts(1, count, count) for count in counts]


PRICES = {"value": {"column": "price", "factor": 2}}


@pytest.mark.parametrize(
    ("now", "before", "agreed", "said"),
    [
        pytest.param(Amounts(10), files(2, 3, 2, 3), {"files": 3}, ["10 files, usually 2 to 3"], id="far more files"),
        pytest.param(Amounts(9), files(2, 3, 2, 3), {"files": 3}, [], id="exactly so many times is not more"),
        pytest.param(Amounts(10), files(3, 3, 3), {"files": 3}, ["10 files, usually 3"], id="always the same"),
        pytest.param(Amounts(10), files(2, 3), {"files": 3}, [], id="two releases make nothing usual"),
        pytest.param(
            Amounts(10),
            files(2, 2, 3, 2, 90, 2, 2, 3),
            {"files": 3},
            ["10 files, usually 2 to 3"],
            id="an outlier does not help",
        ),
        pytest.param(
            Amounts(10), files(9, 9, 9, 9, 1, 1, 1, 1, 1, 1), {"files": 3, "releases": 4}, [], id="only the last ones count"
        ),
        pytest.param(
            Amounts(10),
            [],
            {"files": {"most": 5}},
            ["10 files, above the bound of 5"],
            id="a fixed bound needs no history",
        ),
        pytest.param(Amounts(5), [], {"files": {"most": 5}}, [], id="the bound itself is within"),
        pytest.param(
            Amounts(1, 4000), rows(1000, 1100, 1200), {"rows": 3}, ["4,000 rows, usually 1,000 to 1,200"], id="far more rows"
        ),
        pytest.param(Amounts(1, 1), rows(0, 0, 0), {"rows": 3}, ["1 rows, usually 0"], id="rows where there never were any"),
        pytest.param(
            Amounts(1, None), rows(9, 9, 9), {"rows": 3}, ["nobody could count its rows"], id="rows nobody could count"
        ),
        pytest.param(Amounts(1, 50), rows(9, 9, None), {"rows": 3}, [], id="releases that nobody counted do not count"),
        pytest.param(
            Amounts(1, 1, 900.5),
            rows(100, 300, 200),
            PRICES,
            ["900.5 in column price, usually 100 to 300"],
            id="far more value",
        ),
        pytest.param(
            Amounts(1, 1),
            rows(9, 9, 9),
            PRICES,
            ["nobody could count what it has in column price"],
            id="a cell that is no number",
        ),
        pytest.param(
            Amounts(7, 80),
            [Amounts(10, 100), Amounts(7, 10)],
            {"removed": 20},
            ["3 of 10 files are gone since the last release"],
            id="documents gone; rows within",
        ),
        pytest.param(
            Amounts(1, 79), rows(100), {"removed": 20}, ["21 of 100 rows are gone since the last release"], id="rows gone"
        ),
        pytest.param(Amounts(1, 1), [], {"removed": 20}, [], id="there was no last release"),
        pytest.param(
            Amounts(1),
            rows(9),
            {"rows": 3, "removed": 20},
            ["nobody could count its rows"],
            id="what nobody knows is said once",
        ),
    ],
)
def test_what_is_unusual(now: Amounts, before: list[Amounts], agreed: dict[str, Any], said: list[str]) -> None:
    assert list(unusual(now, before, Brake.model_validate(agreed))) == said


@pytest.mark.parametrize(
    ("agreed", "problem"),
    [
        pytest.param({}, "say what is watched", id="nothing"),
        pytest.param({"files": {}}, "say from how much on", id="no bound"),
        pytest.param({"files": 1}, "greater than 1", id="more than the usual"),
        pytest.param({"removed": 100}, "less than 100", id="more than all gone"),
    ],
)
def test_a_brake_that_cannot_be_meant_is_refused(agreed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Brake.model_validate(agreed)


def test_the_stage_of_the_brake_is_no_name_for_another() -> None:
    told = {"proof": "code", "stages": [stage("one more signature", 1, "pricing")]}
    assert SignoffPolicy.model_validate(told)
    with pytest.raises(ValidationError, match="same name"):
        SignoffPolicy.model_validate({**told, "brake": {"files": 3}})


def test_streams_without_a_brake_have_the_digest_that_they_had() -> None:
    assert "brake" not in terms().agreed["signoff"] and "brake" in terms(brake={"files": 3}).agreed["signoff"]


# --------------------------------------------------------------------------------------------- one more person

UNDER = terms(brake={"files": 3})
USUAL, FAR = matter(), matter(brake=WHY)


def test_as_usual_one_signature_is_enough_and_else_somebody_else_signs_after_it() -> None:
    ann = cast(answer("ann", USUAL), USUAL, UNDER)
    assert stands(USUAL, UNDER, (ann,)).status is Status.APPROVED
    now = stands(FAR, UNDER, (ann,))
    assert (now.status, now.progress) == (Status.WAITING, "0 of 1 in one more signature")
    assert [seat.approver for seat in now.may_sign] == ["bea", "cem"], "nobody signs twice"
    twice = judge(answer("ann", FAR), FAR, UNDER, (ann,))
    assert isinstance(twice, Refusal) and twice.code == "voted"
    bea = cast(answer("bea", FAR), FAR, UNDER, (ann,), at=NOON + timedelta(minutes=1))
    assert stands(FAR, UNDER, (ann, bea)).status is Status.APPROVED


def test_the_groups_of_the_brake_sign_then_and_only_then() -> None:
    under = terms(brake={"files": 3, "groups": ["legal"]})
    refused = judge(answer("eve", USUAL), USUAL, under)
    assert isinstance(refused, Refusal) and refused.code == "not-in-group"
    ann = cast(answer("ann", FAR), FAR, under)
    assert [seat.approver for seat in stands(FAR, under, (ann,)).may_sign] == ["eve"]


def test_there_must_be_somebody_for_the_one_more_signature() -> None:
    legal = terms(stage("legal"), brake={"files": 3}).signoff
    told = shortfalls(legal, people(), NOON.date())
    assert told == ["nobody signs twice, and there are not enough different people for all stages together"]
    assert shortfalls(replace_groups(legal, "pricing"), people(), NOON.date()) == []


def replace_groups(policy: SignoffPolicy, group: str) -> SignoffPolicy:
    assert policy.brake is not None
    return policy.model_copy(update={"brake": policy.brake.model_copy(update={"groups": (group,)})})
