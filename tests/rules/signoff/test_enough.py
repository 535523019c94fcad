"""Whether there are enough people for a sign-off, by the same small town as the other rules."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from blocks.values import CaseSignoffTerms
from tasks.rules.enough import case_shortfall, shortfalls, tight
from tests.rules.signoff.world import ANN_KEY, NOON, people, stage, terms

TODAY = NOON.date()
GONE: dict[str, Any] = {"valid_until": TODAY - timedelta(days=1)}


@pytest.mark.parametrize(
    ("stages", "proof", "changed", "told"),
    [
        pytest.param([stage("pricing", 3)], "code", {}, [], id="three are asked, and three are there"),
        pytest.param(
            [stage("pricing", 3)],
            "code",
            {"cem": GONE},
            ["stage 'pricing' asks for 3, and 2 of pricing can sign today (ann, bea)"],
            id="one of three left yesterday",
        ),
        pytest.param([stage("sales")], "code", {}, ["nobody in people.yaml is in the group 'sales'"], id="a group of nobody"),
        pytest.param([stage("pricing", 2)], "signature", {}, [], id="two of three have keys"),
        pytest.param(
            [stage("pricing", 3)],
            "signature",
            {"ann": {"keys": [{"key": ANN_KEY, **GONE}]}},
            ["stage 'pricing' asks for 3, and 1 of pricing can sign today (bea); without a key that is valid today: ann, cem"],
            id="a key ended yesterday, and one never was",
        ),
        pytest.param([stage("pricing", 3), stage("legal")], "code", {}, [], id="everybody has a place"),
        pytest.param(
            [stage("pricing", 3), stage("content", 2)],
            "code",
            {},
            ["nobody signs twice, and there are not enough different people for all stages together"],
            id="enough for each stage, and bea would have to sign twice",
        ),
        pytest.param(
            [stage("pricing"), stage("content", 2)], "code", {}, [], id="bea is left to the stage that cannot do without her"
        ),
    ],
)
def test_a_package_that_nobody_could_sign_is_told_before(
    stages: list[dict[str, Any]], proof: str, changed: dict[str, Any], told: list[str]
) -> None:
    assert shortfalls(terms(*stages, proof=proof).signoff, people(**changed), TODAY) == told


@pytest.mark.parametrize(
    ("groups", "proof", "changed", "told"),
    [
        pytest.param(["pricing"], "code", {}, "", id="one of three suffices"),
        pytest.param(["sales"], "code", {}, "nobody of sales is in people.yaml today", id="a group of nobody"),
        pytest.param(
            ["pricing"],
            "signature",
            {"ann": {"keys": [{"key": ANN_KEY, **GONE}]}, "bea": GONE},
            "nobody of pricing with a key that is valid is in people.yaml today",
            id="a key that ended, a person who left, and one who never had a key",
        ),
    ],
)
def test_a_case_that_nobody_could_release_is_told_before(
    groups: list[str], proof: str, changed: dict[str, Any], told: str
) -> None:
    signoff = CaseSignoffTerms.model_validate({"groups": groups, "proof": proof}, strict=False)
    assert case_shortfall(signoff, people(**changed), TODAY) == told


def test_a_stage_without_anybody_to_spare_is_named() -> None:
    (warned,) = tight(terms(stage("pricing", 3), stage("content")).signoff, people(), TODAY)
    assert "stage 'pricing' needs everybody who can sign (ann, bea, cem)" in warned
    assert list(tight(terms(stage("pricing", 3)).signoff, people(dan={"groups": ["pricing"]}), date(2026, 1, 1))) == []
