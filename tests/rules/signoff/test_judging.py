"""One answer, judged. Numbers are the cases at the end of the specification of the sign-off."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from blocks.calendars import Calendar
from blocks.outbound import Answer, Decision, Matter, Outbound, PeopleFile, ProposedVote, Refusal, Requester, SignoffProof, Vote
from tasks.rules.policy import Attempt, Moments, admissible, four_eyes, locked, moments
from tests.rules.signoff.world import (
    DEADLINE,
    NOON,
    TWO,
    answer,
    asked,
    cast,
    delegating,
    document,
    judge,
    matter,
    package,
    people,
    stage,
    stands,
    terms,
)

M = matter()
BUT = Decision.APPROVE_BUT
ONE, QUORUM, STAGES = terms(), terms(stage("pricing", 2)), terms(*TWO)
AWAY = people(**delegating("cem", "fay", date(2026, 11, 16), date(2026, 11, 20)))
"""Cem is away until Friday the 20th, and Fay, who is in no group, signs for him. All days are Berlin's."""
BY_EVE = matter(requester="eve")
LARGE = matter(package(*(document(f"{n}.csv") for n in range(51))))


def votes(under: Outbound, *given: str, about: Matter = M, known: PeopleFile | None = None) -> tuple[Vote, ...]:
    """The votes of these people, one after the other."""
    found: tuple[Vote, ...] = ()
    for place, who in enumerate(given):
        moment = NOON - timedelta(minutes=30 - place)
        found = (*found, cast(answer(who, about), about, under, found, known=known, at=moment))
    return found


def case(
    sentence: str, given: Answer, code: str | None, *, about: Matter = M, under: Outbound = ONE, **told: Any
) -> ParameterSet:
    """One answer and how it is judged: the code of its refusal, or None for a vote. Most are about the same matter and stream."""
    return pytest.param(given, about, under, told, code, id=sentence)


@pytest.mark.parametrize(
    ("given", "about", "under", "told", "code"),
    [
        case("02 somebody of the group approves everything", answer("ann", M), None),
        case("the digits of another package are refused", answer("ann", M, digits="00000000"), "package"),
        case("08 the requester cannot sign", answer("fay", M), "requester"),
        case(
            "08 the requester is known by a login too",
            answer("ann", matter(requester="aweber")),
            "requester",
            about=matter(requester="aweber"),
        ),
        case(
            "08 the requester is known by a mail address too",
            answer("ann", matter(requester="Ann@Example.com ")),
            "requester",
            about=matter(requester="Ann@Example.com "),
        ),
        case("08 the requester cannot sign for another either", answer("fay for cem", M), "requester", known=AWAY),
        case(
            "08 nobody signs for the requester",
            answer("fay for cem", matter(requester="cem")),
            "requester",
            about=matter(requester="cem"),
            known=AWAY,
        ),
        case(
            "08 the last editor cannot sign",
            answer("ann", matter(editors=("AWEBER",))),
            "editor",
            about=matter(editors=("AWEBER",)),
        ),
        case("an order of a schedule bars nobody", answer("ann", matter(requester=None)), None, about=matter(requester=None)),
        case("somebody unknown cannot sign", answer("mallory", M), "unknown-approver"),
        case("somebody of another group cannot sign", answer("eve", M), "not-in-group"),
        case(
            "who left yesterday cannot sign",
            answer("ann", M),
            "not-valid",
            known=people(ann={"valid_until": date(2026, 11, 19)}),
        ),
        case("who leaves today can sign", answer("ann", M), None, known=people(ann={"valid_until": date(2026, 11, 20)})),
        case(
            "who begins tomorrow cannot sign",
            answer("ann", M),
            "not-valid",
            known=people(ann={"valid_from": date(2026, 11, 21)}),
        ),
        case(
            "31 an approver taken out of the people file is refused",
            answer("ann", M),
            "unknown-approver",
            known=people(without="ann"),
        ),
        case("15 one of three is left out", answer("ann", M, BUT, left_out=("2. b.csv",), comment="not yet"), None),
        case("15 leaving out wants a comment", answer("ann", M, BUT, left_out=("2. b.csv",)), "comment"),
        case(
            "16 a document listed twice is refused",
            answer("ann", M, BUT, left_out=("2. b.csv", "2. b.csv"), comment="x"),
            "list-twice",
        ),
        case("16 a foreign name is refused", answer("ann", M, BUT, left_out=("2. other.csv",), comment="x"), "list-foreign"),
        case(
            "16 a name without its number is refused", answer("ann", M, BUT, left_out=("b.csv",), comment="x"), "list-foreign"
        ),
        case("16 leaving out everything is refused", answer("ann", M, BUT, left_out=M.package.labels, comment="x"), "list-all"),
        case("16 leaving out nothing is refused", answer("ann", M, BUT, comment="x"), "list-empty"),
        case("16 a list beside a plain approval is refused", answer("ann", M, left_out=("2. b.csv",)), "list-unexpected"),
        case(
            "16 of more than fifty documents none is left out",
            answer("ann", LARGE, BUT, left_out=("2. 1.csv",), comment="x"),
            "list-foreign",
            about=LARGE,
        ),
        case("17 a rejection without a comment is refused", answer("ann", M, Decision.REJECT), "comment"),
        case("17 a rejection with a comment counts", answer("ann", M, Decision.REJECT, comment="wrong price"), None),
        case("17 asking for changes without saying which is refused", answer("ann", M, Decision.CHANGES), "comment"),
        case("18 the same person again is refused", answer("ann", M), "voted", under=QUORUM, votes=votes(QUORUM, "ann")),
        case("18 a second person makes the quorum", answer("bea", M), None, under=QUORUM, votes=votes(QUORUM, "ann")),
        case("19 stage two before stage one is refused", answer("dan", M), "not-your-turn", under=STAGES),
        case("19 stage two after stage one counts", answer("dan", M), None, under=STAGES, votes=votes(STAGES, "ann")),
        case("19 one person does not sign in both stages", answer("bea", M), "voted", under=STAGES, votes=votes(STAGES, "bea")),
        case(
            "19 a complete stage takes no more votes",
            answer("cem", M),
            "not-your-turn",
            under=STAGES,
            votes=votes(STAGES, "ann"),
        ),
        case("20 a delegate signs on the last day", answer("fay for cem", BY_EVE), None, about=BY_EVE, known=AWAY),
        case(
            "20 the last day ends at midnight where people live",
            answer("fay for cem", BY_EVE),
            None,
            about=BY_EVE,
            known=AWAY,
            at=datetime(2026, 11, 20, 22, 59, tzinfo=UTC),
        ),
        case(
            "20 a delegate cannot sign after the date",
            answer("fay for cem", BY_EVE),
            "not-delegated",
            about=BY_EVE,
            known=AWAY,
            at=datetime(2026, 11, 20, 23, 1, tzinfo=UTC),
        ),
        case(
            "20 a delegate cannot sign before the date",
            answer("fay for cem", BY_EVE),
            "not-delegated",
            about=BY_EVE,
            known=AWAY,
            at=datetime(2026, 11, 15, 12, 0, tzinfo=UTC),
        ),
        case(
            "20 a delegate of no group cannot sign for themselves",
            answer("fay", BY_EVE),
            "not-in-group",
            about=BY_EVE,
            known=AWAY,
        ),
        case(
            "20 a delegate cannot sign for somebody else",
            answer("fay for ann", BY_EVE),
            "not-delegated",
            about=BY_EVE,
            known=AWAY,
        ),
        case(
            "20 a delegation does not run backwards", answer("cem for fay", BY_EVE), "not-delegated", about=BY_EVE, known=AWAY
        ),
        case("20 nobody signs on their own behalf", answer("cem for cem", BY_EVE), "not-delegated", about=BY_EVE, known=AWAY),
        case(
            "20 a delegate cannot sign twice",
            answer("fay for cem", BY_EVE),
            "voted",
            about=BY_EVE,
            under=QUORUM,
            known=AWAY,
            votes=votes(QUORUM, "fay for cem", about=BY_EVE, known=AWAY),
        ),
        case(
            "20 who was signed for cannot sign as well",
            answer("cem", BY_EVE),
            "voted",
            about=BY_EVE,
            under=QUORUM,
            known=AWAY,
            votes=votes(QUORUM, "fay for cem", about=BY_EVE, known=AWAY),
        ),
        case(
            "20 who has signed cannot be signed for",
            answer("fay for cem", BY_EVE),
            "voted",
            about=BY_EVE,
            under=QUORUM,
            known=AWAY,
            votes=votes(QUORUM, "cem", about=BY_EVE, known=AWAY),
        ),
        case("24 a late answer changes nothing", answer("ann", M), "expired", at=DEADLINE + timedelta(seconds=1)),
        case("24 an answer in the last moment counts", answer("ann", M), None, at=DEADLINE),
        case("07 what is decided takes no more votes", answer("bea", M), "decided", votes=votes(ONE, "ann")),
    ],
)
def test_judged(given: Answer, about: Matter, under: Outbound, told: dict[str, Any], code: str | None) -> None:
    result = judge(given, about, under, **told)
    assert (result.code if isinstance(result, Refusal) else None) == code
    if isinstance(result, ProposedVote):
        assert (result.package, result.seat, result.decision) == (about.package.digest, given.seat, given.decision)


def test_a_veto_may_be_cast_out_of_turn_and_nothing_else() -> None:
    under = terms(*TWO, veto=["legal"])
    approval = judge(answer("eve", M), M, under)
    assert isinstance(approval, Refusal)
    assert approval.code == "not-your-turn"
    veto = judge(answer("eve", M, Decision.REJECT, comment="embargo"), M, under)
    assert isinstance(veto, ProposedVote)
    assert veto.stage is None
    early = judge(answer("dan", M, Decision.REJECT, comment="no"), M, under)
    assert isinstance(early, Refusal)
    assert early.code == "not-your-turn"


def test_together_they_cannot_leave_out_everything() -> None:
    first = cast(answer("ann", M, BUT, left_out=("1. a.csv", "2. b.csv"), comment="x"), M, QUORUM)
    second = judge(answer("bea", M, BUT, left_out=("3. c.csv",), comment="x"), M, QUORUM, (first,))
    assert isinstance(second, Refusal)
    assert second.code == "list-all"


def test_30_an_answer_to_an_earlier_package_is_refused() -> None:
    stale = asked(M)
    new = matter(package(document("a.csv", "other bytes")))
    result = admissible(answer("ann", new), new, ONE.signoff, people(), (), stale, at=NOON, shown="5" * 64)
    assert isinstance(result, Refusal)
    assert result.code == "other-round"


def test_a_vote_says_what_was_left_out_in_the_order_of_the_package() -> None:
    given = answer("ann", M, BUT, left_out=("3. c.csv", "1. a.csv"), comment="x")
    assert cast(given, M, ONE).left_out == ("1. a.csv", "3. c.csv")


def test_no_refusal_repeats_what_was_posted() -> None:
    evil = "<img src=x>"
    for given in (
        answer(evil, M),
        answer(f"ann for {evil}", M),
        answer("ann", M, digits=evil),
        answer("ann", M, BUT, left_out=(evil,), comment="x"),
    ):
        result = judge(given, M, ONE)
        assert isinstance(result, Refusal)
        assert "<" not in result.first_line
        assert result.first_line.isprintable()


@pytest.mark.parametrize(
    ("requester", "code"),
    [
        pytest.param(Requester("fay", SignoffProof.CODE), None, id="an order made with countersign request is taken"),
        pytest.param(Requester("fay"), "requester-unproven", id="an order with a stated requester is not"),
        pytest.param(Requester("nobody", SignoffProof.CODE), "requester-unproven", id="nor one of somebody unknown"),
        pytest.param(None, "requester-unproven", id="nor one of a schedule"),
    ],
)
def test_four_eyes_proven(requester: Requester | None, code: str | None) -> None:
    proven = terms(four_eyes="proven").signoff
    refused = four_eyes(replace(M, requester=requester), proven, people())
    assert (refused.code if refused else None) == code
    assert four_eyes(replace(M, requester=requester), ONE.signoff, people()) is None


def tries(*right: bool, who: str = "ann") -> list[Attempt]:
    return [Attempt(who, NOON + timedelta(minutes=n), ok) for n, ok in enumerate(right)]


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        pytest.param([], False, id="nobody is locked at first"),
        pytest.param(tries(*[False] * 4), False, id="four wrong ones lock nobody"),
        pytest.param(tries(*[False] * 5), True, id="05 five wrong ones in any runs lock"),
        pytest.param(tries(*[False] * 5, True), True, id="05 a right sixth does not unlock"),
        pytest.param(tries(*[False] * 4, True, *[False] * 4), False, id="a right one before the fifth clears the count"),
        pytest.param(tries(*[False] * 5, who="bea"), False, id="05 another approver can still sign"),
        pytest.param(list(reversed(tries(True, *[False] * 5))), True, id="the order in which they are told does not matter"),
    ],
)
def test_locked(attempts: list[Attempt], expected: bool) -> None:
    assert (locked("ann", attempts, NOON + timedelta(hours=1)) is not None) is expected
    assert locked("ann", attempts, NOON - timedelta(hours=1)) is None


OFFICE = Calendar(timezone="Europe/Berlin", opens="09:00", closes="17:00")


@pytest.mark.parametrize(
    ("signoff", "expected"),
    [
        pytest.param({"expires_after": "P2D"}, Moments(NOON + timedelta(days=2)), id="plain time"),
        pytest.param(
            # Noon is a Friday's, one o'clock in Berlin.
            {"expires_after": "2 business days", "remind_after": "2 business hours", "calendar": "office"},
            Moments(NOON + timedelta(days=4), remind=NOON + timedelta(hours=2)),
            id="24 business time is the calendar's",
        ),
        pytest.param(
            {"expires_after": "2 business days", "wider": {"after": "P3D", "groups": ["heads"]}, "calendar": "office"},
            Moments(NOON + timedelta(days=4), widens=NOON + timedelta(days=3)),
            id="both kinds of time",
        ),
        pytest.param(
            {"expires_after": "P1D", "wider": {"after": "1 business day", "groups": ["heads"]}, "calendar": "office"},
            Moments(NOON + timedelta(days=1)),
            id="what comes after the deadline never comes",
        ),
    ],
)
def test_24_when_something_happens_by_itself(signoff: dict[str, Any], expected: Moments) -> None:
    assert moments(NOON, terms(**signoff).signoff, {"office": OFFICE}) == expected


def test_a_calendar_that_is_not_there_is_told() -> None:
    policy = terms(expires_after="2 business days", calendar="office").signoff
    with pytest.raises(ValueError, match="no calendar 'office'"):
        moments(NOON, policy, {})


WIDER = terms(stage("pricing", 2), wider={"after": "PT1H", "groups": ["legal"]})


def test_24_the_wider_circle_may_sign_from_its_moment_on() -> None:
    """eve is of legal alone. Her vote counts towards the same quorum, and neither requester nor editor comes in by it."""
    waiting = matter(widens=NOON)
    early = judge(answer("eve", waiting), waiting, WIDER, at=NOON - timedelta(seconds=1))
    assert isinstance(early, Refusal) and early.code == "not-yet"
    ann = cast(answer("ann", waiting), waiting, WIDER)
    assert {seat.approver for seat in stands(waiting, WIDER, (ann,)).may_sign} == {"bea", "cem", "eve"}
    eve = cast(answer("eve", waiting), waiting, WIDER, (ann,))
    assert stands(waiting, WIDER, (ann, eve)).approved
    for other in (
        replace(waiting, requester=Requester("eve")),
        replace(waiting, editors=frozenset({"eve"})),
        replace(waiting, widens=None),
        replace(waiting, widens=eve.at + timedelta(seconds=1)),
    ):
        assert not stands(other, WIDER, (ann, eve)).approved
