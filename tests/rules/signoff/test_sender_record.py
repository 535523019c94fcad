"""What the sender was asked past our flows is told, and what our flows asked is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from blocks.outbound import Judged, Record, Refused, Stood
from tasks.rules.sender_record import Known, around

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KNOWN = Known(
    rounds=frozenset({"signoff-1-a-b"}),
    frozen=frozenset({"f" * 64}),
    sending={"5" * 64: NOW},
    preparing={"9" * 64: NOW},
    telling=frozenset({"7" * 64}),
    cases=frozenset({"run/case-1-a"}),
)


def refused(asked: str, about: str = "", seconds: float = 1) -> Refused:
    return Refused("id", 1001, asked, about, "it is not complete", NOW + timedelta(seconds=seconds), 3)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        pytest.param(refused("/send", "5" * 64), False, id="a flow was about to send this package"),
        pytest.param(refused("/send", "5" * 64, -1), True, id="somebody asked before the flow did"),
        pytest.param(refused("/send", "f" * 64), True, id="a flow asks about this package, and was not about to send it"),
        pytest.param(refused("/send"), True, id="something that is no package"),
        pytest.param(refused("/prepare", "9" * 64), False, id="a flow had this package prepared"),
        pytest.param(refused("/prepare", "9" * 64, -1), True, id="somebody had it prepared before the flow did"),
        pytest.param(
            refused("/prepare", "f" * 64), True, id="a flow asks about this package, and was not about to have it prepared"
        ),
        pytest.param(refused("/prepare", "e" * 64), True, id="a package of somebody's own is to be prepared"),
        pytest.param(refused("/judge", "signoff-1-a-b"), False, id="a flow has asked this round"),
        pytest.param(refused("/judge", "signoff-1-a-c"), True, id="a round of somebody's own"),
        pytest.param(refused("/open", "f" * 64), False, id="a flow has frozen this package"),
        pytest.param(refused("/tell", "7" * 64), False, id="a flow wanted the partner told"),
        pytest.param(refused("/tell", "8" * 64), True, id="a message that no flow has asked for"),
        pytest.param(refused("/case", "run/case-1-a"), False, id="a flow has asked about this case"),
        pytest.param(refused("/case", "run/case-2-a"), True, id="a round of a case of somebody's own"),
        pytest.param(refused("/unlock"), True, id="no flow ever unlocks"),
        pytest.param(refused("connect"), True, id="a user who has no business there"),
    ],
)
def test_what_was_refused_is_told_unless_a_flow_asked(one: Refused, told: bool) -> None:
    found = around(Record((), (one,)), KNOWN)
    assert [finding.code for finding in found] == ["sender"] * told
    assert all("user id 1001" in finding.message and "not complete" in finding.message for finding in found)


def test_a_vote_that_no_flow_knows_is_an_alarm_and_guesses_are_one_finding() -> None:
    ours = Judged("run", "signoff-1-a-b", "f" * 64, "ann", "")
    stolen = Judged("run", "signoff-9-a-b", "e" * 64, "ann", "")
    guesses = tuple(Judged("run", f"signoff-9-a-{n}", "e" * 64, "", "proof") for n in range(5))
    guessed, voted = around(Record((ours, stolen, *guesses), ()), KNOWN)
    assert "5 answers were refused (proof)" in guessed.message and "eeeeeeee" in guessed.message
    assert "a vote of ann was sealed" in voted.message and "ask that person at once" in voted.message


def test_what_went_past_our_flows_by_a_standing_sign_off_is_told() -> None:
    ours, theirs = (Stood(digit * 64, "acme", "routine", "o-1", "ann") for digit in "12")
    record = Record((), (), (ours, theirs), (ours.package, theirs.package))
    stood, sent = around(record, replace(KNOWN, gathered=frozenset({ours.package}), leaving=frozenset({ours.package})))
    assert "ann had signed beforehand for acme/routine" in stood.message and "22222222" in stood.message
    assert "none of our flows has sent it" in sent.message and "22222222" in sent.message
