"""All votes together: how far a sign-off has come."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.outbound import Decision, Meaning, Outbound, PeopleFile, ProposedVote, Seat, SignoffProof, Vote
from tasks.rules.dialog import tags
from tasks.rules.policy import Status
from tests.rules.signoff.world import (
    ANN_KEY,
    BEA_KEY,
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
QUORUM, STAGES = terms(stage("pricing", 2)), terms(*TWO)


def in_turn(under: Outbound, *given: str, known: PeopleFile | None = None) -> tuple[Vote, ...]:
    votes: tuple[Vote, ...] = ()
    for n, who in enumerate(given):
        votes = (*votes, cast(answer(who, M), M, under, votes, known=known, at=NOON - timedelta(minutes=30 - n)))
    return votes


def names(seats: tuple[Seat, ...]) -> list[str]:
    return [seat.text for seat in seats]


def test_18_one_of_two_then_two() -> None:
    (ann, bea) = in_turn(QUORUM, "ann", "bea")
    first = stands(M, QUORUM, (ann,))
    assert (first.status, first.progress, names(first.may_sign)) == (Status.WAITING, "1 of 2", ["bea", "cem"])
    second = stands(M, QUORUM, (ann, bea))
    assert (second.status, second.stage, second.may_sign) == (Status.APPROVED, None, ())


def test_07_the_same_vote_twice_is_one() -> None:
    (ann,) = in_turn(QUORUM, "ann")
    again = replace(ann, round=2, at=NOON)
    assert stands(M, QUORUM, (ann, ann, again, again)).progress == "1 of 2"


def test_20_two_sealed_votes_for_one_person_are_one_whoever_cast_them() -> None:
    about = matter(requester="eve")
    known = people(**delegating("cem", "fay", date(2026, 11, 16), date(2026, 11, 20)))
    own = cast(answer("cem", about), about, QUORUM, known=known, at=NOON - timedelta(minutes=5))
    by_fay = cast(answer("fay for cem", about), about, QUORUM, known=known)
    for votes in ((own, by_fay), (replace(by_fay, at=NOON - timedelta(minutes=9)), own)):
        assert stands(about, QUORUM, votes, known=known).progress == "1 of 2"
    fay_is_in = people(**{**delegating("cem", "fay", date(2026, 11, 16), date(2026, 11, 20)), "fay": {"groups": ["pricing"]}})
    fay = cast(answer("fay", about), about, QUORUM, known=fay_is_in, at=NOON - timedelta(minutes=5))
    assert stands(about, QUORUM, (fay, by_fay), known=fay_is_in).progress == "1 of 2", "nor are two votes by one person"


def test_19_stages_open_one_after_the_other() -> None:
    ann, dan = in_turn(STAGES, "ann", "dan")
    assert names(stands(M, STAGES).may_sign) == ["ann", "bea", "cem"]
    assert names(stands(M, STAGES, (ann,)).may_sign) == ["bea", "dan"]
    assert stands(M, STAGES, (ann,)).progress == "0 of 1 in content"
    assert stands(M, STAGES, (ann, dan)).approved
    assert not stands(M, STAGES, (dan,)).approved
    assert not stands(M, STAGES, (replace(dan, at=NOON - timedelta(hours=2)), ann)).approved, "stage two came first"


def test_31_who_is_taken_out_loses_the_vote_and_the_others_keep_theirs() -> None:
    ann, bea = in_turn(QUORUM, "ann", "bea")
    now = stands(M, QUORUM, (ann, bea), known=people(without="ann"))
    assert (now.status, now.progress, now.votes, names(now.may_sign)) == (Status.WAITING, "1 of 2", (bea,), ["cem"])
    assert [(vote, reason.code) for vote, reason in now.lost] == [(ann, "unknown-approver")]


def test_31_a_later_stage_keeps_its_votes_when_an_earlier_one_loses_its_own() -> None:
    ann, dan = in_turn(STAGES, "ann", "dan")
    now = stands(M, STAGES, (ann, dan), known=people(without="ann"))
    assert [stage.progress for stage in now.stages] == ["0 of 1", "1 of 1"]
    assert (now.stage, names(now.may_sign)) == (0, ["bea", "cem"])
    cem = cast(answer("cem", M), M, STAGES, (ann, dan), known=people(without="ann"))
    assert stands(M, STAGES, (ann, dan, cem), known=people(without="ann")).approved


def test_31_who_leaves_the_group_loses_the_vote_and_who_leaves_tomorrow_does_not() -> None:
    ann, bea = in_turn(QUORUM, "ann", "bea")
    assert stands(M, QUORUM, (ann, bea), known=people(ann={"groups": ["legal"]})).progress == "1 of 2"
    gone = people(ann={"valid_until": date(2026, 11, 20)})
    assert stands(M, QUORUM, (ann, bea), known=gone, now=NOON + timedelta(days=1)).approved


def test_20_who_was_signed_for_may_sign_when_the_delegate_is_taken_out() -> None:
    about = matter(requester="eve")
    known = people(**delegating("cem", "fay", date(2026, 11, 16), date(2026, 11, 20)))
    vote = cast(answer("fay for cem", about), about, QUORUM, known=known)
    assert "cem" not in names(stands(about, QUORUM, (vote,), known=known).may_sign)
    assert names(stands(about, QUORUM, (vote,)).may_sign) == ["ann", "bea", "cem"], "the delegation was taken back"


def test_17_a_rejection_ends_it_and_stays_whoever_is_taken_out() -> None:
    no = cast(answer("ann", M, Decision.REJECT, comment="wrong price"), M, QUORUM)
    assert stands(M, QUORUM, (no,)).status is Status.REJECTED
    assert stands(M, QUORUM, (no,), known=people(without="ann")).status is Status.REJECTED
    changes = cast(answer("ann", M, Decision.CHANGES, comment="row 7"), M, QUORUM)
    assert stands(M, QUORUM, (changes,)).status is Status.CHANGES


def test_24_expiry_never_approves_and_a_late_vote_does_not_count() -> None:
    ann, bea = in_turn(QUORUM, "ann", "bea")
    late = replace(bea, at=DEADLINE + timedelta(seconds=1))
    after = DEADLINE + timedelta(days=1)
    assert stands(M, QUORUM, (ann, late), now=after).status is Status.EXPIRED
    assert stands(M, QUORUM, (ann, bea), now=after).approved, "approved in time stays approved"
    assert stands(M, QUORUM, (), now=after).may_sign == ()


def test_15_what_anybody_left_out_is_left_out_and_becomes_one_child_package() -> None:
    one = answer("ann", M, Decision.APPROVE_BUT, left_out=("2. b.csv",), comment="x")
    first = cast(one, M, QUORUM, at=NOON - timedelta(minutes=1))
    second = cast(answer("bea", M), M, QUORUM, (first,))
    now = stands(M, QUORUM, (first, second))
    assert now.approved
    assert [file.shown for file in M.package.kept(now.left_out)] == ["a.csv", "c.csv"]
    child = M.package.child(now.left_out)
    assert [file.shown for file in child.files] == ["b.csv"]
    assert child.digest == M.package.child(now.left_out).digest
    assert child.order.startswith("2026-11-20~")
    assert child.root_order == M.package.order
    assert child.journey != M.package.journey
    assert stands(matter(child), QUORUM, (first, second)).progress == "0 of 2", "its sign-off begins anew"


def test_two_sealed_votes_cannot_leave_out_everything_between_them() -> None:
    ann, bea = in_turn(QUORUM, "ann", "bea")
    ann = replace(ann, decision=Decision.APPROVE_BUT, left_out=("1. a.csv", "2. b.csv"))
    bea = replace(bea, decision=Decision.APPROVE_BUT, left_out=("3. c.csv",))
    assert stands(M, QUORUM, (ann, bea)).progress == "1 of 2"


def test_22_and_30_votes_are_of_exactly_these_bytes() -> None:
    votes = in_turn(QUORUM, "ann", "bea")
    retried = matter()
    assert stands(replace(retried, run="run-2"), QUORUM, votes).approved, "the same digest needs no new sign-off"
    other = matter(package(document("a.csv", "one byte more"), document("b.csv"), document("c.csv")))
    assert stands(other, QUORUM, votes).progress == "0 of 2"


def test_27_a_signature_by_a_key_that_is_not_the_approvers_does_not_count() -> None:
    under = terms(stage("pricing"), proof="signature")
    proposed = judge(answer("ann", M), M, under)
    assert isinstance(proposed, ProposedVote)
    good = proposed.proven(SignoffProof.SIGNATURE, key=f"{ANN_KEY} ann@laptop", signature="x", signed_at=NOON)
    assert stands(M, under, (good,)).approved
    for vote, code in (
        (replace(good, key=BEA_KEY), "key-withdrawn"),
        (replace(good, key=""), "key-withdrawn"),
        (proposed.proven(SignoffProof.CODE), "proof-too-weak"),
    ):
        now = stands(M, under, (vote,))
        assert not now.approved
        assert [reason.code for _, reason in now.lost] == [code]
    expired = people(ann={"keys": [{"key": ANN_KEY, "valid_until": date(2026, 11, 19)}]})
    assert not stands(M, under, (good,), known=expired).approved
    assert not stands(M, under, (good,), known=people(ann={"keys": []})).approved, "the key was taken out"


def test_29_an_inbox_lists_only_those_who_may_sign_now() -> None:
    assert tags(stands(M, STAGES)) == ("awaits:ann", "awaits:bea", "awaits:cem")
    assert tags(stands(M, STAGES, in_turn(STAGES, "ann"))) == ("awaits:bea", "awaits:dan")
    assert tags(stands(M, STAGES, in_turn(STAGES, "ann", "dan"))) == ()


# ------------------------------------------------------------------------------------------ any votes, in any order

KNOWN = people(**delegating("cem", "dan", date(2026, 11, 1), date(2026, 11, 30)))
UNDER = terms(stage("pricing", 2), stage("content", 1), veto=["legal"])
SEATS = [Seat.parse(text) for text in ("ann", "bea", "cem", "dan", "dan for cem", "eve", "fay", "nobody", "ann for bea")]


@st.composite
def any_vote(draw: st.DrawFn) -> Vote:
    """A sealed vote as a careless sender might have made it: nothing about it need be allowed."""
    seat, decision = draw(st.sampled_from(SEATS)), draw(st.sampled_from([Decision.APPROVE, Decision.APPROVE_BUT]))
    return Vote(
        package=draw(st.sampled_from([M.package.digest, M.package.digest, "0" * 64])),
        run=M.run,
        round=draw(st.integers(1, 5)),
        approver=seat.approver,
        on_behalf_of=seat.on_behalf_of,
        stage=draw(st.sampled_from([0, 1, None, 7, -1])),
        decision=decision,
        meaning=Meaning.RELEASE,
        left_out=tuple(draw(st.lists(st.sampled_from([*M.package.labels, "9. z.csv"]), max_size=2, unique=True))),
        comment="",
        at=NOON - timedelta(minutes=draw(st.integers(-5, 60))),
        shown="5" * 64,
        proof=SignoffProof.CODE,
    )


some_votes = st.lists(any_vote(), max_size=8)


@given(some_votes, st.randoms())
@settings(max_examples=300, deadline=None)
def test_no_order_of_votes_gives_anybody_two(votes: list[Vote], random: object) -> None:
    now = stands(M, UNDER, tuple(votes), known=KNOWN)
    persons = [person for vote in now.votes for person in {vote.approver, vote.seat.principal}]
    assert len(persons) == len(set(persons))
    assert all(vote.package == M.package.digest for vote in now.votes)
    assert not {"fay", "nobody"} & set(persons)
    assert len(M.package.kept(now.left_out)) >= 1
    random.shuffle(votes)  # type: ignore[attr-defined]
    assert stands(M, UNDER, tuple(votes), known=KNOWN) == now, "the order in which they are told does not matter"


@given(some_votes)
@settings(max_examples=300, deadline=None)
def test_approved_means_that_every_stage_has_its_quorum_of_members(votes: list[Vote]) -> None:
    now = stands(M, UNDER, tuple(votes), known=KNOWN)
    if now.approved:
        pricing, content = now.stages
        assert len({vote.seat.principal for vote in pricing.approvals}) >= 2
        assert {vote.seat.principal for vote in pricing.approvals} <= {"ann", "bea", "cem"}
        assert {vote.seat.principal for vote in content.approvals} <= {"bea", "dan"}
        assert max(vote.at for vote in content.approvals) >= sorted(vote.at for vote in pricing.approvals)[1]


@given(st.lists(st.tuples(st.sampled_from(SEATS), st.sampled_from(list(Decision)), st.booleans()), max_size=8))
@settings(max_examples=200, deadline=None)
def test_every_admitted_vote_brings_the_sign_off_forward(wishes: list[tuple[Seat, Decision, bool]]) -> None:
    votes: tuple[Vote, ...] = ()
    before = stands(M, UNDER, votes, known=KNOWN)
    for n, (seat, decision, second) in enumerate(wishes):
        left_out = (M.package.labels[second],) if decision is Decision.APPROVE_BUT else ()
        answered = answer(seat.text, M, decision, comment="why", left_out=left_out)
        result = judge(answered, M, UNDER, votes, known=KNOWN, at=NOON + timedelta(minutes=n))
        if not isinstance(result, ProposedVote):
            continue
        assert before.status is Status.WAITING
        votes = (*votes, result.proven(SignoffProof.CODE))
        now = stands(M, UNDER, votes, known=KNOWN, now=NOON + timedelta(minutes=n))
        assert len(now.votes) == len(before.votes) + 1, "what was admitted counts"
        assert set(before.left_out) <= set(now.left_out)
        assert all(len(new.approvals) >= len(old.approvals) for new, old in zip(now.stages, before.stages, strict=True))
        assert now.stage is None or before.stage is None or now.stage >= before.stage
        before = now


def test_the_round_of_this_world_is_the_matters_own() -> None:
    assert asked(M).digest == M.package.digest
