"""A flag is set by any answer that says so, and lifted only by a whole one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.rules.flagging import (
    Answer,
    Flag,
    Rule,
    agree,
    below,
    fresh,
    kept_by,
    ruled_by_us,
    rules_in_force,
    said_lifted,
    whole,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ONE, TWO = Flag("1", "hold", "Case", "17"), Flag("2", "hold", "Case", "18")
OVER = Flag("1", is_set=False)
TEAM = "https://team.example.com"


@dataclass(frozen=True)
class Entry:
    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = NOW


@pytest.mark.parametrize(
    ("flags", "announced", "said"),
    [
        pytest.param((ONE, TWO), (2, 2), "", id="all came"),
        pytest.param((), (0,), "", id="there are none"),
        pytest.param((ONE,), (2,), "1 flags came, and it announced 2", id="one is lost"),
        pytest.param((ONE, TWO), (2, 3), "do not agree", id="it changed between two pages"),
        pytest.param((ONE, ONE), (2,), "flag 1 is told twice", id="one twice, and so another not at all"),
        pytest.param((ONE, OVER), (2,), "flag 1 is told twice", id="set and lifted"),
        pytest.param((ONE,), (None,), "announced None", id="it does not say how many"),
        pytest.param((ONE,), (True,), "announced True", id="true is no number"),
        pytest.param((ONE,), ("1",), "announced '1'", id="nor is a text"),
    ],
)
def test_whole(flags: tuple[Flag, ...], announced: tuple[Any, ...], said: str) -> None:
    told = whole(flags, announced, must_announce=True)
    assert (said in told) if said else told == ""


def test_half_an_answer_lifts_nothing_and_sets_what_it_says() -> None:
    half = Answer((OVER, TWO), "a page is lost")
    assert said_lifted(half) == set() and half.set == (TWO,)
    assert said_lifted(Answer((OVER, TWO))) == {"1"}


def test_two_answers_agree_only_if_both_are_whole_and_the_same() -> None:
    assert agree(Answer((ONE, TWO)), Answer((TWO, ONE)))
    assert not agree(Answer((ONE,)), Answer((ONE, TWO)))
    assert not agree(Answer((ONE,)), Answer((ONE,), "half"))


@pytest.mark.parametrize(
    ("kind", "age", "expected"),
    [
        pytest.param("heard", timedelta(minutes=14), True, id="lately"),
        pytest.param("heard", timedelta(minutes=15), False, id="too long ago"),
        pytest.param("unheard", timedelta(0), False, id="asked in vain since then"),
    ],
)
def test_fresh(kind: str, age: timedelta, expected: bool) -> None:
    assert fresh(kind, NOW - age, NOW, timedelta(minutes=15)) is expected


def test_a_flag_about_another_document_is_another_flag() -> None:
    assert ONE.identity != Flag("1", "hold", "Case", "18").identity
    assert ONE.identity == Flag("1", "hold", "CASE", "17", comment="mended").identity


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("Claims", True), ("claims/2026", True), ("Claimsman", False), ("Other/Claims", False), ("", False)],
)
def test_below(folder: str, expected: bool) -> None:
    assert below(folder, "Claims") is expected


def test_a_rule_keeps_what_was_filed_in_its_folder_for_its_days() -> None:
    place = {"repository": TEAM, "folder": "Claims"}
    applied = Entry("rule-applied", {"journey": "flag.a", "at": place, "days": 30})
    [rule] = rules_in_force([applied]).values()
    assert rule == Rule("flag.a", TEAM, "Claims", 30)
    filed = Entry("filed", {"repository": TEAM, "folder": "Claims/2026"}, NOW)
    assert kept_by([filed], [rule], NOW + timedelta(days=29)) is rule
    assert kept_by([filed], [rule], NOW + timedelta(days=30)) is None
    assert kept_by([Entry("filed", {"repository": "elsewhere", "folder": "Claims"})], [rule], NOW) is None
    assert rules_in_force([applied, Entry("rule-told", {"journey": "flag.a"})])["flag.a"].told
    assert rules_in_force([applied, Entry("rule-lifted", {"journey": "flag.a"})]) == {}


def test_what_we_ruled_is_ours_until_the_last_of_our_rules_there_is_lifted() -> None:
    rule, place = Rule("flag.a", TEAM, "Claims", 30), {"repository": TEAM, "folder": "claims"}
    told = {
        one: [
            Entry("rule-applied", {"journey": one, "at": at, "days": days}),
            Entry("rule-telling", {"journey": one, "at": at, "days": days}),
        ]
        for one, days, at in (("flag.a", 30, place), ("flag.b", 60, place), ("flag.c", 90, {**place, "folder": "Other"}))
    }
    register = [*told["flag.a"], *told["flag.b"], *told["flag.c"]]
    assert ruled_by_us(register, rule) == {30, 60}
    register.append(Entry("rule-lifted", {"journey": "flag.a"}))
    assert ruled_by_us(register, rule) == {30, 60}, "the other one stands there still"
    register.append(Entry("rule-lifted", {"journey": "flag.b"}))
    assert ruled_by_us(register, rule) == set(), "whoever rules the folder now is somebody else"
    assert ruled_by_us([*register, *told["flag.a"]], rule) == {30}
