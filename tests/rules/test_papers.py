"""Papers: how a document stands that a partner must provide, and which reminder is due."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.papers import Papers
from blocks.values import Kept
from tasks.rules.papers import EXPIRED_DAYS, PaperNow, PaperState, counts, lacks, papers_now, reminder, summary

TODAY = date(2027, 5, 31)
SAYS = {"category": "Vendor Paper", "attribute": "Status"}


def papers(**changes: Any) -> Papers:
    terms = {
        "repository": "team",
        "folder": "Vendors/acme",
        "required": {"insurance": {"title": "Insurance", "pattern": "insurance*"}},
        "approved": {**SAYS, "values": ["Approved", "OK"]},
        "rejected": {**SAYS, "values": ["Rejected"]},
        "valid_until": {"category": "Vendor Paper", "attribute": "Valid Until"},
        **changes,
    }
    return Papers.model_validate(terms)


def document(status: Any = "Approved", until: Any = None, name: str = "insurance.pdf", id: str = "1") -> Kept:
    values = {key: value for key, value in (("Status", status), ("Valid Until", until)) if value is not None}
    return Kept(id, name, False, 1, 1, "application/pdf", None, None, {"Vendor Paper": values})


def now(*found: Kept, **changes: Any) -> PaperNow:
    [one] = papers_now(papers(**changes), found, TODAY)
    return one


@pytest.mark.parametrize(
    ("found", "state"),
    [
        pytest.param((), "missing", id="nothing is there"),
        pytest.param((document(until="2028-01-01", name="other.pdf"),), "missing", id="another document"),
        pytest.param((document(None, "2028-01-01"),), "waiting for approval", id="nobody said anything"),
        pytest.param((document("Draft", "2028-01-01"),), "waiting for approval", id="a word that was not agreed"),
        pytest.param((document("approved", "2028-01-01"),), "waiting for approval", id="written otherwise"),
        pytest.param((document("Rejected", "2028-01-01"),), "rejected", id="a person said no"),
        pytest.param((document(["Approved", "Rejected"], "2028-01-01"),), "rejected", id="both: no counts"),
        pytest.param((document("OK", "2027-07-01"),), "approved", id="31 days left"),
        pytest.param((document(until="2027-06-30"),), "expiring", id="30 days left"),
        pytest.param((document(until="2027-05-31"),), "expiring", id="its last day"),
        pytest.param((document(until="2027-05-30"),), "expired", id="the day after"),
        pytest.param((document(until="2028-01-01T00:00:00"),), "approved", id="a day with its midnight"),
        pytest.param((document(),), "unreadable", id="no date"),
        pytest.param((document(until="1.1.2028"),), "unreadable", id="a date in another form"),
        pytest.param((document(until="2028-02-30"),), "unreadable", id="a day that there is not"),
        pytest.param((document(until="2028-01-01 or later"),), "unreadable", id="a date with words behind it"),
        pytest.param((document(until=["2028-01-01", "2029-01-01"]),), "unreadable", id="two dates"),
        pytest.param((document(until="2027-05-30"), document(until="2028-01-01", id="2")), "approved", id="a renewed one beside it"),
        pytest.param((document(until="2027-05-30"), document(None, id="2")), "waiting for approval", id="one to be approved beside it"),
        pytest.param((document(), document(until="2028-01-01", id="2")), "approved", id="an unreadable one beside a good one"),
        pytest.param((document(), document(None, id="2")), "unreadable", id="an unreadable one is to be mended first"),
    ],
)  # fmt: skip
def test_how_a_paper_stands(found: tuple[Kept, ...], state: str) -> None:
    one = now(*found)
    assert one.state == state
    assert bool(lacks([one])) is (state not in ("approved", "expiring")), "and only then it lacks"


def test_a_paper_without_an_end_needs_no_date() -> None:
    for_ever = {"code": {"title": "Code", "pattern": "code*", "expires": False}}
    assert now(document(name="code.pdf"), required=for_ever, valid_until=None).state == "approved"


@pytest.mark.parametrize(
    ("policy", "held"),
    [({}, True), ({"lacking": "tell"}, False), ({"blocks": ["exports"]}, True), ({"blocks": ["other"]}, False)],
)
def test_what_waits_is_the_profiles_to_say(policy: dict[str, Any], held: bool) -> None:
    assert papers(**policy).holds_up("exports") is held


def test_what_is_not_required_lacks_nothing() -> None:
    optional = {"iso": {"title": "ISO", "pattern": "iso*", "required": False}}
    assert now(required=optional).state == "missing" and lacks([now(required=optional)]) == ""


def test_the_states_are_counted_best_first() -> None:
    required = {name: {"title": name, "pattern": f"{name}*"} for name in "abcd"}
    found = [
        document(until=until, name=name) for name, until in zip("abc", ("2028-01-01", "2028-01-01", "2027-06-01"), strict=True)
    ]
    standing = papers_now(papers(required=required), found, TODAY)
    assert summary(counts(standing)) == "2 approved, 1 expiring, 1 missing" and lacks(standing) == "d: missing"


DAYS = (30, 14, 3)


@given(st.sets(st.integers(-40, 60), min_size=1))
@settings(deadline=None)
def test_each_reminder_is_told_once_and_after_a_pause_only_the_last_one(looks: set[int]) -> None:
    """Whatever the days are on which somebody looks: what is told gets ever more urgent, and the last word is the one that is due."""
    told: list[int] = []
    for left in sorted(looks, reverse=True):
        one = now(document(until=(TODAY + timedelta(days=left)).isoformat()))
        due = reminder(one, DAYS, told)
        told += [] if due is None else [due]
        expected = EXPIRED_DAYS if left < 0 else min((days for days in DAYS if left <= days), default=None)
        assert (told[-1] if told else None) == expected
        assert one.state is (PaperState.EXPIRED if left < 0 else PaperState.EXPIRING if left <= 30 else PaperState.APPROVED)
    assert told == sorted(set(told), reverse=True)
