"""What the sender accepts as a vote, asked through its socket, with real codes and real signatures."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from blocks.errors import SenderError, SendRefused
from blocks.outbound import Refusal, Vote
from blocks.seals import signed
from tests.sender.conftest import SHOWN, House


def refused(outcome: Vote | Refusal, code: str) -> bool:
    assert isinstance(outcome, Refusal), outcome
    assert outcome.code == code
    return True


def test_a_right_code_is_a_vote_under_the_senders_seal(house: House) -> None:
    import base64

    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    vote = release.approve(anna)
    with house.client() as client:
        key = client.health()
    assert (vote.approver, vote.package, vote.run) == (anna, release.matter_package.digest, release.run)
    assert signed(key.public, vote.text.encode(), base64.b64decode(vote.seal))
    assert not signed(key.public, vote.text.replace("approve", "approvE").encode(), base64.b64decode(vote.seal))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"proof": "000 000 1"}, "proof", id="no code"),
        pytest.param({"package": "00000000"}, "package", id="not read: other digits typed"),
        pytest.param({"approver": "rita"}, "requester", id="the requester"),
        pytest.param({"approver": "nobody"}, "unknown-approver", id="a stranger"),
        pytest.param({"decision": "reject"}, "comment", id="a rejection without a comment"),
        pytest.param({"left_out": ["1. 1.csv"]}, "list-unexpected", id="a list with a plain approval"),
        pytest.param({"proof": None}, "incomplete", id="nothing typed"),
        pytest.param({"__prefect_kind": "jinja"}, "malformed", id="a field that the form does not have"),
    ],
)
def test_what_is_no_vote(house: House, changes: dict[str, object], code: str) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a", b"b"))
    right = house.code(anna)
    assert refused(release.judge({**release.answer(anna, right), **changes}), code)
    if changes.get("proof", right) == right:  # it was seen, so it is worthless from now on, on any run
        again = house.outgoing(house.package(b"c"))
        assert refused(again.judge(again.answer(anna, right)), "proof")


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param({"comment": "\ud800"}, id="half a surrogate pair"),
        pytest.param({"comment": float("nan")}, id="a number that JSON does not have"),
        pytest.param({"left_out": ["\udfff"]}, id="half a surrogate pair in the list"),
        pytest.param({"approver": "anna\ud800"}, id="half a surrogate pair in a name"),
    ],
)
def test_what_can_be_planted_and_not_be_written_as_text_is_refused_like_the_rest(
    house: House, planted: dict[str, object]
) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a", b"b"))
    asked, answer = release.next_round(), {**release.answer(anna, house.code(anna)), **planted}
    assert refused(release.judge(answer, asked), "malformed")
    assert refused(release.judge(answer, asked), "malformed"), "asked again by the next pass"
    other = house.outgoing(house.package(b"c"))
    assert refused(other.judge(other.answer(anna, answer["proof"])), "proof"), "its code was burnt"


@pytest.mark.parametrize(
    ("off", "accepted"),
    [
        pytest.param(timedelta(seconds=-25), True, id="25 s behind"),
        pytest.param(timedelta(seconds=25), True, id="25 s ahead"),
        pytest.param(timedelta(minutes=-5), False, id="5 min behind"),
        pytest.param(timedelta(minutes=5), False, id="5 min ahead"),
    ],
)
def test_a_phone_whose_clock_is_off(house: House, off: timedelta, accepted: bool) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    now = datetime.now(UTC)  # of the answer too: 25 s off leave 5 s before the code is too old, and a busy machine takes longer
    outcome = release.judge(release.answer(anna, house.code(anna, off)), at=now)
    assert isinstance(outcome, Vote) is accepted
    assert accepted or "the phone's clock" in outcome.first_line  # type: ignore[union-attr]


def test_a_code_used_on_one_run_is_refused_on_another(house: House) -> None:
    anna = house.newcomer()
    first, second = house.outgoing(house.package(b"a")), house.outgoing(house.package(b"b"))
    code = house.code(anna)
    assert isinstance(first.judge(first.answer(anna, code)), Vote)
    assert refused(second.judge(second.answer(anna, code)), "proof")


def test_a_code_typed_under_anothers_name_is_burnt_for_its_owner(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    release = house.outgoing(house.package(b"a"))
    code = house.code(anna)
    assert refused(release.judge(release.answer(ben, code)), "proof")
    assert refused(release.judge(release.answer(anna, code)), "proof")


def test_two_at_once_with_one_code_one_counts(house: House) -> None:
    anna = house.newcomer()
    code = house.code(anna)
    releases = [house.outgoing(house.package(bytes([number]))) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda release: release.judge(release.answer(anna, code)), releases))
    assert [isinstance(outcome, Vote) for outcome in outcomes].count(True) == 1


def test_five_wrong_proofs_lock_over_all_runs_and_a_right_one_does_not_help(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    for number in range(5):
        release = house.outgoing(house.package(bytes([number])))
        assert refused(release.judge(release.answer(anna, f"00000{number}")), "proof" if number < 4 else "locked")
    release = house.outgoing(house.package(b"z"))
    assert refused(release.judge(release.answer(anna, house.code(anna))), "locked")
    assert isinstance(release.judge(release.answer(ben, house.code(ben))), Vote), "another approver still can"
    with house.client() as client:
        assert client.unlock(anna)
        assert not client.unlock(anna)
    other = house.outgoing(house.package(b"y"))
    fresh = house.code(anna, timedelta(seconds=30))  # the one of this moment was seen while locked
    assert isinstance(other.judge(other.answer(anna, fresh)), Vote)


def test_wrong_proofs_given_all_at_once_are_no_more_than_five(house: House) -> None:
    anna = house.newcomer()
    releases = [house.outgoing(house.package(bytes([number]))) for number in range(24)]
    rounds = [release.next_round() for release in releases]

    def guess(number: int) -> str:
        outcome = releases[number].judge(releases[number].answer(anna, f"{number:06d}"), rounds[number])
        assert isinstance(outcome, Refusal)
        return outcome.code

    with ThreadPoolExecutor(24) as pool:
        told = list(pool.map(guess, range(24)))
    assert Counter(told) == {"proof": 4, "locked": 20}, "the fifth is told that it was the last"


def test_a_round_is_judged_once_and_answered_the_same_again(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    asked, answer = release.next_round(), release.answer(anna, house.code(anna))
    vote = release.judge(answer, asked)
    assert isinstance(vote, Vote)
    assert release.judge(answer, asked) == vote, "the worker was killed before it wrote the vote down"
    assert refused(release.judge({**answer, "decision": "reject", "comment": "no"}, asked), "answer-changed")


@pytest.mark.parametrize(
    ("asked_before", "answered_before", "accepted"),
    [
        pytest.param(timedelta(0), timedelta(0), True, id="at once"),
        pytest.param(timedelta(hours=5), timedelta(minutes=50), True, id="it waited 50 minutes for a worker"),
        pytest.param(timedelta(hours=5), timedelta(hours=2), False, id="it waited too long"),
        pytest.param(timedelta(0), timedelta(minutes=30), False, id="backdated: older than its round"),
        pytest.param(timedelta(0), timedelta(minutes=-5), False, id="of a time to come"),
    ],
)
def test_when_an_answer_was_given(house: House, asked_before: timedelta, answered_before: timedelta, accepted: bool) -> None:
    anna, now = house.newcomer(), datetime.now(UTC)
    release = house.outgoing(house.package(b"a"))
    asked = release.next_round()
    house.asked_earlier(asked, asked_before)
    code = house.code(anna, -answered_before)
    outcome = release.judge(release.answer(anna, code), asked, at=now - answered_before)
    assert isinstance(outcome, Vote) if accepted else refused(outcome, "out-of-time")


# --------------------------------------------------------------------------------------------- signatures


def test_24_the_wider_circle_signs_only_once_the_senders_own_clock_says_so(house: House) -> None:
    """A worker tells when an answer was given, and may tell the near future; its say does not bring the moment nearer."""
    first, second = house.newcomer("heads"), house.newcomer("heads")
    release = house.outgoing(house.package(b"a", stream="patient"))
    asked, now = release.next_round(), datetime.now(UTC)
    with house.client() as client:
        opened = client.open(release.matter, release.policies)
    assert opened.widens is not None and now + timedelta(hours=23) < opened.widens < opened.deadline and opened.remind is None
    house.widens(release.matter_package, now + timedelta(seconds=100))
    answer = release.answer(first, house.code(first))
    assert refused(release.judge(answer, asked, at=now + timedelta(seconds=119)), "not-yet")
    house.widens(release.matter_package, now - timedelta(seconds=1))
    release.approve(second)
    (arrived,) = release.send()
    assert not arrived.problem and house.received(release.matter_package) == {"1.csv": b"a"}


def test_whose_turn_comes_later_is_not_in_the_wider_circle_early_either(house: House) -> None:
    """Who signs in the second stage may answer from the beginning, and in the first one only by our own clock."""
    head = house.newcomer("heads")
    release = house.outgoing(house.package(b"a", stream="slow"))
    asked, now = release.next_round(), datetime.now(UTC)
    house.widens(release.matter_package, now + timedelta(seconds=100))
    answer = release.answer(head, house.code(head, timedelta(seconds=119)))
    assert refused(release.judge(answer, asked, at=now + timedelta(seconds=119)), "not-your-turn")


def test_a_signature_is_a_vote_and_covers_the_decision(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a", b"b", stream="contracts"))
    asked = release.next_round()
    answer = release.answer(anna, "")
    proof = release.sign(answer, asked, house.keys[anna])
    edited = {**answer, "proof": proof, "decision": "approve all but the listed", "left_out": ["1. 1.csv"], "comment": "x"}
    assert refused(release.judge(edited, asked), "proof"), "decision edited between submit and load"
    other_round = release.next_round()
    assert refused(release.judge({**answer, "proof": proof}, other_round), "proof"), "made for another round"
    asked = release.next_round()
    vote = release.judge({**answer, "proof": release.sign(answer, asked, house.keys[anna])}, asked)
    assert isinstance(vote, Vote)
    assert vote.key == " ".join(house.keys[anna].public.split(" ")[:2])


def test_a_stream_that_wants_signatures_takes_no_code_and_one_that_wants_codes_takes_signatures(house: House) -> None:
    anna = house.newcomer()
    strict, lenient = house.outgoing(house.package(b"a", stream="contracts")), house.outgoing(house.package(b"a"))
    assert refused(strict.judge(strict.answer(anna, house.code(anna))), "proof")
    asked, answer = lenient.next_round(), lenient.answer(anna, "")
    assert isinstance(lenient.judge({**answer, "proof": lenient.sign(answer, asked, house.keys[anna])}, asked), Vote)


def test_a_signature_is_good_for_one_round_whatever_key_it_has(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a", stream="contracts"))
    asked = release.next_round()
    twin = replace(asked, key=f"{asked.key}x")
    with house.client() as client:
        client.ask(twin, SHOWN)  # kept ready by somebody who controls a worker
    answer = release.answer(anna, "", decision="reject")
    proof = release.sign(answer, asked, house.keys[anna])
    assert refused(release.judge({**answer, "proof": proof}, asked), "comment")
    assert refused(release.judge({**answer, "proof": proof, "comment": "never typed"}, twin), "answer-changed")


def test_signatures_that_do_not_hold(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    release = house.outgoing(house.package(b"a", stream="contracts"))
    answer = release.answer(anna, "")

    def outcome(**how: object) -> Vote | Refusal:
        asked = release.next_round()
        key = house.keys[str(how.pop("key", anna))]
        return release.judge({**answer, "proof": release.sign(answer, asked, key, **how)}, asked)  # type: ignore[arg-type]

    assert refused(outcome(namespace="git"), "proof")
    assert refused(outcome(key=ben), "proof")
    assert refused(outcome(at=datetime.now(UTC) - timedelta(hours=3)), "proof"), "signed before it was asked"
    with house.client() as client:
        client.unlock(anna)
    yesterday = date.today() - timedelta(days=2)
    house.people(**{anna: {"valid_until": yesterday.isoformat()}})
    assert refused(outcome(), "proof"), "an expired key"
    house.people()
    assert isinstance(outcome(), Vote)


# --------------------------------------------------------------------------------------------- the seal on other things


def test_checkpoints_are_sealed_and_nothing_that_looks_like_a_vote(house: House) -> None:
    from blocks.canonical import canonical

    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    vote = release.approve(anna)
    with house.client() as client:
        health = client.health()
        checkpoint = {"v": 1, "number": 1, "at": "x", "first": 1, "last": 2, "root": "r", "previous": None, "key": health.key}
        text = canonical(checkpoint)
        assert signed(health.public, text.encode(), client.seal("checkpoint", text))
        forged = vote.text.replace(release.matter_package.digest, "0" * 64)
        for purpose, wanted in (
            ("checkpoint", forged),
            ("certificate", forged),
            ("checkpoint", json.dumps(checkpoint)),
            ("checkpoint", canonical({**checkpoint, "key": "another"})),
            ("certificate", text),
        ):
            with pytest.raises(SendRefused, match="was not sealed"):
                client.seal(purpose, wanted)
        with pytest.raises(SenderError, match="none that this sender knows"):
            client.seal("vote", forged)


def test_nothing_secret_is_told_or_logged(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    code = house.code(anna)
    with house.client() as client, pytest.raises(SenderError) as told:
        client._post("/judge", {"answer": release.answer(anna, code)})
    release.judge(release.answer(anna, code))
    log = (house.home / "sender.log").read_text()
    for secret in (code, house.seeds[anna]):
        assert secret not in str(told.value)
        assert secret not in log
    assert "approve by" in log
