"""Who asked, proven: the same proofs and locks as for signing, one requester for each order, and a seal on it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from blocks.errors import SendRefused
from blocks.outbound import REQUEST_NAMESPACE, Refusal, Request, Requested, Requester, SignoffProof, Vote
from blocks.seals import signed
from deployments.signing import ssh_sign
from tests.sender.conftest import House


def request(house: House, asked: Request, proof: str) -> Requested | Refusal:
    with house.client() as client:
        return client.request(asked, proof)


def order(who: str, stream: str = "prices", ids: tuple[str, ...] = ()) -> Request:
    return Request("acme", stream, f"o{uuid4().hex[:8]}", ids, who)


def by_key(
    house: House, asked: Request, who: str = "", at: timedelta = timedelta(0), namespace: str = REQUEST_NAMESPACE
) -> str:
    time = (datetime.now(UTC) + at).replace(microsecond=0)
    return ssh_sign(asked.statement(time), house.keys[who or asked.requester].path, namespace, time)


def refused(outcome: Requested | Refusal, code: str) -> bool:
    assert isinstance(outcome, Refusal), outcome
    assert outcome.code == code
    return True


def test_a_request_by_code_is_sealed_and_kept(house: House) -> None:
    anna = house.newcomer()
    asked = order(anna)
    outcome = request(house, asked, house.code(anna))
    assert isinstance(outcome, Requested)
    assert (outcome.asked, outcome.proof, outcome.signature) == (asked, SignoffProof.CODE, "")
    with house.client() as client:
        assert signed(client.health().public, outcome.text.encode(), base64.b64decode(outcome.seal))
        assert client.requested("acme", "prices", asked.order) == outcome
        assert client.requested("acme", "contracts", asked.order) is None
    again = request(house, asked, house.code(anna, timedelta(seconds=30)))
    assert again == outcome, "asked again, as after an answer that was lost"
    assert Requested.parse(outcome.facts) == outcome
    with pytest.raises(ValueError, match="this is no vote"):
        Vote.parse(outcome.facts)


def test_one_order_has_one_requester(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    asked = order(anna)
    assert isinstance(request(house, asked, by_key(house, asked)), Requested)
    bens = replace(asked, requester=ben)
    assert refused(request(house, bens, by_key(house, bens)), "order-taken")
    other = replace(asked, ids=("7",))
    assert refused(request(house, other, by_key(house, other)), "order-taken")
    assert refused(request(house, bens, by_key(house, bens, who=anna)), "proof"), "without ben's proof nothing is told"


@pytest.mark.parametrize("stream", ["prices", "contracts"])
def test_a_signature_proves_a_request_on_any_stream_and_a_code_not_where_signatures_are_wanted(
    house: House, stream: str
) -> None:
    anna = house.newcomer()
    asked = order(anna, stream)
    if stream == "contracts":
        assert refused(request(house, asked, house.code(anna)), "proof")
    outcome = request(house, asked, by_key(house, asked))
    assert isinstance(outcome, Requested) and outcome.proof is SignoffProof.SIGNATURE
    assert outcome.key == " ".join(house.keys[anna].public.split(" ")[:2])


def test_signatures_that_prove_no_request(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    asked = order(anna)
    for proof in (
        by_key(house, asked, namespace="release@countersign"),
        by_key(house, asked, who=ben),
        by_key(house, replace(asked, order="another")),
        by_key(house, asked, at=timedelta(minutes=-30)),
    ):
        assert refused(request(house, asked, proof), "proof")
    assert isinstance(request(house, asked, by_key(house, asked)), Requested)


def test_wrong_proofs_lock_for_signing_too_and_a_code_serves_once(house: House) -> None:
    anna = house.newcomer()
    code = house.code(anna)
    assert isinstance(request(house, order(anna), code), Requested)
    assert refused(request(house, order(anna), code), "proof")
    release = house.outgoing(house.package(b"a"))
    burnt = release.judge(release.answer(anna, code))
    assert isinstance(burnt, Refusal) and burnt.code == "proof"
    for number in range(3):
        assert refused(request(house, order(anna), f"00000{number}"), "proof" if number < 2 else "locked")
    late = house.code(anna, timedelta(seconds=30))
    assert refused(request(house, order(anna), late), "locked")
    locked = release.judge(release.answer(anna, late))
    assert isinstance(locked, Refusal) and locked.code == "locked"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"ids": ("7",)}, "ids-unwanted", id="documents where the stream has a folder"),
        pytest.param({"requester": "nobody"}, "unknown-requester", id="a stranger"),
    ],
)
def test_requests_that_are_none(house: House, changes: dict[str, object], code: str) -> None:
    anna = house.newcomer()
    asked = replace(order(anna), **changes)  # type: ignore[arg-type]
    assert refused(request(house, asked, by_key(house, asked, who=anna)), code)


def test_streams_and_orders_that_cannot_be(house: House) -> None:
    anna = house.newcomer()
    asked = order(anna, "nowhere")
    with pytest.raises(SendRefused, match="no outbound stream"):
        request(house, asked, by_key(house, asked))
    for id in ("", "a/b", "o1~0123456789ab", "x" * 101):
        with pytest.raises(ValueError, match="no order id"):
            replace(asked, order=id)


# --------------------------------------------------------------------------------------------- what it is good for


def test_who_proved_to_have_asked_is_the_requester_whatever_a_worker_says(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    release = house.outgoing(house.package(b"a"))
    asked = replace(order(anna), order=release.matter_package.order)
    assert isinstance(request(house, asked, by_key(house, asked)), Requested)
    release.requester = "rita"  # the worker lies
    with house.client() as client:
        assert client.open(release.matter, release.policies).requester == Requester(anna, SignoffProof.SIGNATURE)
    outcome = release.judge(release.answer(anna, house.code(anna)))
    assert isinstance(outcome, Refusal) and outcome.code == "requester"
    assert isinstance(release.approve(ben), Vote)
    assert release.send()[0].complete


def test_what_began_without_a_proof_cannot_be_claimed_later(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    release.next_round()
    asked = replace(order(anna), order=release.matter_package.order)
    assert refused(request(house, asked, by_key(house, asked)), "order-under-way")


def test_only_proven_orders_where_the_stream_asks_for_it(quiet_house: House) -> None:
    house = quiet_house
    house.agree(four_eyes="proven")
    anna, ben = house.newcomer(), house.newcomer()
    release = house.outgoing(house.package(b"a"))
    with house.sender():
        with pytest.raises(SendRefused, match="whose requester is proven"):
            release.next_round()
        asked = replace(order(anna), order=release.matter_package.order)
        assert isinstance(request(house, asked, house.code(anna)), Requested)
        refusal = release.judge(release.answer(anna, house.code(anna, timedelta(seconds=30))))
        assert isinstance(refusal, Refusal) and refusal.code == "requester"
        release.approve(ben)
        assert release.send()[0].complete
        sent = release.matter_package
        again = house.outgoing(sent.again(sent.files, 2, "it was lost", anna, house.policies(sent.stream)))
        with pytest.raises(SendRefused, match="whose requester is proven"):
            again.next_round()  # the proof was of another order


def test_only_the_documents_that_were_asked_for(quiet_house: House) -> None:
    house = quiet_house
    house.agree(gather={"repository": "ecm", "from_order": True})
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a", b"b"))
    ids = tuple(file.repository_id for file in release.matter_package.files)
    with house.sender():
        none = replace(order(anna), order=release.matter_package.order)
        assert refused(request(house, none, by_key(house, none)), "ids-wanted")
        asked = replace(none, ids=ids[:1])
        assert isinstance(request(house, asked, by_key(house, asked)), Requested)
        with pytest.raises(SendRefused, match="did not ask for"):
            release.next_round()


def test_a_key_that_is_not_there_says_so(tmp_path: Path) -> None:
    from blocks.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="there is no key"):
        ssh_sign("x", tmp_path / "none", REQUEST_NAMESPACE, datetime.now(UTC))
    (tmp_path / "bad").write_text("no key")
    (tmp_path / "bad").chmod(0o600)
    with pytest.raises(ConfigurationError, match="ssh-keygen did not sign"):
        ssh_sign("x", tmp_path / "bad", REQUEST_NAMESPACE, datetime.now(UTC))
