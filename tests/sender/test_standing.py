"""What is signed off beforehand: what goes by it, what asks people all the same, and what a worker cannot make of it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import yaml
from sqlalchemy import Table, update

from blocks.errors import SendRefused
from blocks.outbound import STANDING_NAMESPACE, Deed, Extent, Refusal, StandingEnd, StandingSignoff, Stood, Vote, canonical
from deployments.sender.store import Step, Store, _delivery, _departure, _standing, _stood
from tasks.rules.signing import pasted, unpasted
from tests.sender.conftest import House, Outgoing

SOON = timedelta(days=7)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def statement(house: House, person: str, stream: str = "routine", **changes: Any) -> StandingSignoff:
    agreed = house.policies(stream)
    made = StandingSignoff(
        partner="acme",
        stream=stream,
        profile=agreed.profile,
        terms=agreed.terms,
        approver=person,
        until=now() + SOON,
        time=now(),
    )
    return replace(made, **changes)


def hand_in(
    house: House, signed: StandingSignoff, *, namespace: str = STANDING_NAMESPACE, by: str = "", proof: str = ""
) -> StandingSignoff | Refusal:
    line = proof or pasted(signed.time, house.keys[by or signed.approver].sign(signed.text, namespace))
    with house.client() as client:
        return client.sign_beforehand(signed, line)


def sign(house: House, stream: str = "routine", **changes: Any) -> str:
    """Somebody new, who has signed the stream beforehand."""
    person = house.newcomer()
    signed = hand_in(house, statement(house, person, stream, **changes))
    assert isinstance(signed, StandingSignoff), signed
    return person


def opened(release: Outgoing) -> tuple[Vote, ...]:
    with release.house.client() as client:
        return client.open(release.matter, release.policies).votes


def refused_to_send(release: Outgoing, *votes: Vote) -> str:
    with pytest.raises(SendRefused) as told:
        release.send(votes)
    assert release.house.received(release.matter_package) == {}
    return str(told.value)


@pytest.fixture(autouse=True)
def nothing_signed(house: House) -> Iterator[None]:
    """What another test has signed is not good any more."""
    yield
    with house.client() as client:
        for stream in ("routine", "seldom", "pairs", "braked", "bounded", "kitted"):
            client.revoke_standing("acme", stream, "")


def test_what_lies_within_the_bounds_goes_without_asking(house: House) -> None:
    anna = sign(house)
    release = house.outgoing(house.package(b"a", b"b", stream="routine"))
    (vote,) = opened(release)
    assert (vote.approver, vote.package) == (anna, release.matter_package.digest)
    assert vote.standing is not None and vote.standing.approver == anna
    assert opened(release) == (vote,), "asked again, it is the same"
    (arrived,) = release.send([])
    assert not arrived.problem and house.received(release.matter_package) == {"1.csv": b"a", "2.csv": b"b"}
    package = release.matter_package
    with house.client() as client:
        record = client.record(now() - timedelta(hours=1))
    assert Stood(package.digest, "acme", "routine", package.order, anna) in record.stood
    assert package.digest in record.sent, "so that the sweep sees what went past our flows"


def editors(release: Outgoing, person: str) -> tuple[Vote, ...]:
    with release.house.client() as client:
        return client.open(replace(release.matter, editors=frozenset({person})), release.policies).votes


@pytest.mark.parametrize(
    ("contents", "stream", "opening"),
    [
        pytest.param((b"a", b"b", b"c"), "routine", lambda release, anna: opened(release), id="more documents"),
        pytest.param((b"a" * 1001,), "routine", lambda release, anna: opened(release), id="more bytes"),
        pytest.param((b"a",), "prices", lambda release, anna: opened(release), id="another stream"),
        pytest.param((b"a",), "routine", editors, id="the signer was its last editor"),
        pytest.param(
            (b"a",), "routine", lambda release, anna: opened(replace(release, requester=anna)), id="the signer asks for it"
        ),
    ],
)
def test_what_does_not_lie_within_them_asks_people(
    house: House, contents: tuple[bytes, ...], stream: str, opening: Callable[[Outgoing, str], tuple[Vote, ...]]
) -> None:
    anna = sign(house)
    release = house.outgoing(house.package(*contents, stream=stream))
    assert opening(release, anna) == ()
    assert "not complete" in refused_to_send(release)


def prices(*rows: str, header: str = "sku,description,currency,price,valid_from") -> bytes:
    return "\n".join([header, *(f"A{n},Bolt,EUR,{price},2026-12-01" for n, price in enumerate(rows)), ""]).encode()


def test_what_stands_in_the_documents_is_found_by_the_sender_itself(house: House) -> None:
    anna = sign(house, "bounded")
    release = house.outgoing(house.package(prices("60.5"), prices("-39.5", "0"), stream="bounded"))
    (vote,) = opened(release)
    assert vote.approver == anna and vote.extent == Extent(doctypes=("price-list",), rows=3, value=100.0)
    assert not release.send([])[0].problem


def test_what_stands_in_the_documents_is_bounded_too(house: House) -> None:
    sign(house, "bounded")
    outside = {
        "more value": (prices("60"), prices("39.5", "0.6")),
        "more rows": (prices("1", "1"), prices("1", "1")),
        "a value that is no number": (prices("sixty"),),
        "another table": (prices("1", header="sku,description,currency,cost,valid_from"),),
        "one that is no table at all": (prices("1"), b"%PDF-1.7\n"),
        "an empty one": (prices("1"), b""),
    }
    with house.client() as client:
        large = house.outgoing(house.package(prices("60"), prices("39.5", "0.7"), stream="bounded"))
        assert client.open(large.matter, large.policies).outside == ("100.2 in column price, at most 100 may go",)
        many = house.outgoing(house.package(prices("1"), prices("2"), prices("3"), stream="bounded"))
        assert client.open(many.matter, many.policies).outside == ("3 documents, at most 2 may go",), "nobody looked into them"
    releases = {what: house.outgoing(house.package(*contents, stream="bounded")) for what, contents in outside.items()}
    assert {what: opened(release) for what, release in releases.items()} == dict.fromkeys(outside, ())
    assert "not complete" in refused_to_send(releases["more value"])


def test_bytes_that_nobody_can_look_at_ask_people(house: House) -> None:
    """Also where a worker changes them for so long: what the sender looks at has the digest of what it would send."""
    sign(house, "bounded")
    for other in (None, prices("1", "99")):
        package = house.package(prices("1", "2"), stream="bounded")
        path = house.spool.path(package.files[0].sha256)
        before = path.read_bytes()
        path.unlink()
        if other is not None:
            path.write_bytes(other)
        assert opened(house.outgoing(package)) == ()
        path.unlink(missing_ok=True)
        path.write_bytes(before)
        assert opened(house.outgoing(package)) == (), "people were asked already"


def test_a_remainder_asks_people(house: House) -> None:
    sign(house)
    parent = house.package(b"a", b"b", stream="routine")
    release = house.outgoing(parent.child(parent.labels[:1]))
    assert opened(release) == ()


def days_later(house: House, *tables: Table) -> None:
    """As if what is written there had been two days ago: the sender's clock cannot be set."""
    with Store(house.state) as store, store._writing() as connection:
        for table in tables:
            connection.execute(update(table).values(at=now() - timedelta(days=2)))


def test_only_so_many_releases_in_a_day(house: House) -> None:
    days_later(house, _stood, _departure)
    sign(house, "seldom")
    first, second = (house.outgoing(house.package(b"a", stream="seldom")) for _ in range(2))
    assert len(opened(first)) == 1
    assert opened(second) == ()
    assert "not complete" in refused_to_send(second)


def test_what_the_brake_stops_asks_everybody(house: House) -> None:
    anna = sign(house, "braked")
    assert [vote.approver for vote in opened(house.outgoing(house.package(b"a", stream="braked")))] == [anna]
    unusual = house.outgoing(house.package(b"a", b"b", stream="braked"))
    assert opened(unusual) == ()
    assert "not complete" in refused_to_send(unusual)


def test_every_stage_wants_somebody_else_and_the_rest_is_asked(house: House) -> None:
    anna = sign(house, "pairs")
    alone = house.outgoing(house.package(b"a", stream="pairs"))
    assert [(vote.approver, vote.stage) for vote in opened(alone)] == [(anna, 0)]
    assert "0 of 1 in second" in refused_to_send(alone)
    ben = house.newcomer()
    alone.approve(ben)
    assert not alone.send()[0].problem
    cleo = sign(house, "pairs")
    both = house.outgoing(house.package(b"b", stream="pairs"))
    assert {(vote.approver, vote.stage) for vote in opened(both)} == {(anna, 0), (cleo, 1)}
    assert not both.send([])[0].problem


def test_over_revoked_and_gone_it_is_good_no_more(house: House) -> None:
    anna = sign(house)
    before = house.outgoing(house.package(b"a", stream="routine"))
    votes = opened(before)
    with house.client() as client:
        assert client.revoke_standing("acme", "routine", anna) == 1
        (held,) = [one for one in client.standing("acme", "routine").held if one.signed.approver == anna]
    assert "user id" in held.ended and held.used == 1
    assert opened(house.outgoing(house.package(b"b", stream="routine"))) == ()
    assert "was revoked since" in refused_to_send(before, *votes)
    ben = sign(house)
    gone = house.outgoing(house.package(b"c", stream="routine"))
    votes = opened(gone)
    house.people(without=ben)
    try:
        assert "not complete" in refused_to_send(gone, *votes)
        assert opened(house.outgoing(house.package(b"d", stream="routine"))) == ()
    finally:
        house.people()
    with house.client() as client:
        signed = next(one.signed for one in client.standing("acme", "routine").held if one.signed.approver == ben)
    past = replace(signed, until=now() - timedelta(seconds=1))
    assert len(opened(house.outgoing(house.package(b"e", stream="routine")))) == 1
    with Store(house.state) as store, store._writing() as connection:
        connection.execute(update(_standing).where(_standing.c.id == signed.id).values(facts=canonical(past.facts)))
    assert opened(house.outgoing(house.package(b"f", stream="routine"))) == ()


def test_who_has_no_key_any_more_holds_up_nobody(house: House) -> None:
    ben, anna = sign(house), sign(house)
    house.people(**{anna: {"valid_until": str((now() - timedelta(days=3)).date())}})
    try:
        release = house.outgoing(house.package(b"a", stream="routine"))
        assert [vote.approver for vote in opened(release)] == [ben]
        assert not release.send([])[0].problem
        with house.client() as client:
            client.revoke_standing("acme", "routine", ben)
        assert opened(house.outgoing(house.package(b"b", stream="routine"))) == ()
    finally:
        house.people()
    assert [vote.approver for vote in opened(house.outgoing(house.package(b"c", stream="routine")))] == [anna]


def over(house: House, vote: Vote) -> None:
    """As if the person had signed what is over by now: the sender's clock cannot be set."""
    assert vote.standing is not None
    signed = replace(vote.standing, until=now() - timedelta(seconds=1))
    line = unpasted(pasted(signed.time, house.keys[vote.approver].sign(signed.text, STANDING_NAMESPACE)))
    assert line is not None
    told = replace(vote, standing=signed, signature=line[1])
    with Store(house.state) as store, store._writing() as connection:
        told = replace(told, seal=base64.b64encode(store.seal_key.sign(told.text.encode("ascii"))).decode())
        where = _stood.c.package == vote.package
        assert connection.execute(update(_stood).where(where).values(vote=canonical(told.facts))).rowcount == 1


def test_it_must_be_good_still_when_the_first_byte_leaves(house: House) -> None:
    sign(house)
    release = house.outgoing(house.package(b"a", stream="routine"))
    (vote,) = opened(release)
    over(house, vote)
    assert "was good until" in refused_to_send(release)


def test_releases_that_were_opened_on_other_days_do_not_leave_on_one(house: House) -> None:
    days_later(house, _stood, _departure)
    sign(house, "seldom")
    first, second, third = (house.outgoing(house.package(b"a", stream="seldom")) for _ in range(3))
    for release in (first, second):
        assert len(opened(release)) == 1
        days_later(house, _stood)
    assert not first.send([])[0].problem
    assert "as many releases" in refused_to_send(second)
    assert opened(third) == (), "what left by it within a day counts, whenever it was opened"


def untried(house: House, release: Outgoing, person: str) -> None:
    """Try to send while the partner's folder is not there; then it is there again, and what was signed is revoked."""
    assert len(opened(release)) == 1
    house.folder(release.matter_package).rmdir()
    assert release.send([])[0].problem
    house.folder(release.matter_package).mkdir()
    with house.client() as client:
        assert client.revoke_standing("acme", "routine", person) == 1


def test_revoking_stops_what_was_only_intended(house: House) -> None:
    anna = sign(house)
    release = house.outgoing(house.package(b"a", stream="routine"))
    untried(house, release, anna)
    assert "was revoked since" in refused_to_send(release)


def test_what_may_stand_at_the_partner_already_is_gone_on_with(house: House) -> None:
    anna = sign(house)
    release = house.outgoing(house.package(b"a", b"b", stream="routine"))
    untried(house, release, anna)
    with Store(house.state) as store, store._writing() as connection:
        mine = (_delivery.c.package == release.matter_package.digest, _delivery.c.position == 0)
        assert connection.execute(update(_delivery).where(*mine).values(step=Step.RENAMING)).rowcount == 1
    assert release.send([])[0].unknown == (b"1.csv",)


def more_documents(partner: dict[str, Any]) -> None:
    partner["streams"]["routine"]["signoff"]["standing"]["files"] = 3


def another_key_of_the_server(partner: dict[str, Any]) -> None:
    partner["endpoints"]["drop"]["host_keys"].append("SHA256:" + "A" * 43)


def test_any_change_of_the_terms_ends_it(house: House) -> None:
    sign(house)
    path = house.profiles / "acme.yaml"
    before = path.read_text()
    try:
        for change in (more_documents, another_key_of_the_server):
            agreed = yaml.safe_load(before)
            change(agreed["partner"])
            path.write_text(yaml.safe_dump(agreed))
            assert opened(house.outgoing(house.package(b"a", stream="routine"))) == (), change.__name__
    finally:
        path.write_text(before)
    assert len(opened(house.outgoing(house.package(b"a", stream="routine")))) == 1


def test_terms_that_change_once_it_counted_keep_the_release_here(house: House) -> None:
    sign(house)
    release = house.outgoing(house.package(b"a", stream="routine"))
    votes = opened(release)
    path = house.profiles / "acme.yaml"
    before = path.read_text()
    agreed = yaml.safe_load(before)
    more_documents(agreed["partner"])
    path.write_text(yaml.safe_dump(agreed))
    try:
        assert "have changed since it was frozen" in refused_to_send(release, *votes)
    finally:
        path.write_text(before)


def test_who_signs_on_another_stream_only_has_signed_nothing_here(house: House) -> None:
    anna = sign(house)
    release = house.outgoing(house.package(b"a", stream="routine"))
    votes = opened(release)
    house.groups[anna] = "heads"
    house.people()
    assert "not complete" in refused_to_send(release, *votes)
    assert opened(house.outgoing(house.package(b"b", stream="routine"))) == ()


def test_a_kit_must_be_whole_whatever_was_signed(house: House) -> None:
    sign(house, "kitted")
    whole = house.package(b"a", b"b", stream="kitted")
    files = tuple(replace(file, slot=slot) for file, slot in zip(whole.files, ("one", "two"), strict=True))
    kit = replace(whole, kit="whole", files=files)
    release = house.outgoing(kit)
    assert len(opened(release)) == 1 and not release.send([])[0].problem
    for part in (replace(kit, files=files[:1]), whole):
        with pytest.raises(SendRefused, match="nobody is asked"):
            opened(house.outgoing(replace(part, journey=str(uuid4()))))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        pytest.param("proof", {"namespace": "release@countersign"}, id="a signature for a release"),
        pytest.param("proof", {"by": "another"}, id="somebody else's key"),
        pytest.param("signature-wanted", {"proof": "123456"}, id="a code"),
        pytest.param("proof", {"time": -timedelta(minutes=20)}, id="one that was kept"),
        pytest.param("proof", {"time": timedelta(minutes=20)}, id="one of a time to come"),
        pytest.param("too-long", {"until": timedelta(days=31)}, id="longer than the terms allow"),
        pytest.param("too-long", {"until": -timedelta(minutes=1)}, id="over before it begins"),
        pytest.param("not-agreed", {"stream": "prices"}, id="a stream whose terms do not let it"),
        pytest.param("unknown-approver", {"group": "heads"}, id="somebody of another group"),
        pytest.param("proof", {"prolonged": timedelta(days=1)}, id="a later end than was signed"),
        pytest.param("proof", {"elsewhere": "seldom"}, id="another stream than was signed"),
    ],
)
def test_what_nobody_can_hand_in(house: House, code: str, told: dict[str, Any]) -> None:
    person = house.newcomer(told.get("group", "pricing"))
    signed = statement(house, person, told.get("stream", "routine"))
    signed = replace(signed, until=now() + told.get("until", SOON), time=now() + told.get("time", timedelta(0)))
    line = told.get("proof") or pasted(
        signed.time,
        house.keys[house.newcomer() if "by" in told else person].sign(signed.text, told.get("namespace", STANDING_NAMESPACE)),
    )
    asked = replace(
        signed, until=signed.until + told.get("prolonged", timedelta(0)), stream=told.get("elsewhere", signed.stream)
    )
    outcome = hand_in(house, asked, proof=line)
    assert isinstance(outcome, Refusal) and outcome.code == code, outcome
    assert opened(house.outgoing(house.package(b"a", stream="routine"))) == ()


def test_a_code_that_was_handed_in_is_burnt(house: House) -> None:
    person = house.newcomer()
    release = house.outgoing(house.package(b"a", stream="routine"))
    asked, code = release.next_round(), house.code(person)
    outcome = hand_in(house, statement(house, person), proof=code)
    assert isinstance(outcome, Refusal) and outcome.code == "signature-wanted"
    outcome = release.judge(release.answer(person, code), asked)
    assert isinstance(outcome, Refusal) and outcome.code == "proof"


def deeds(house: House) -> list[Deed]:
    """All that was ever done, as the sender tells it in several answers."""
    found: list[Deed] = []
    with house.client() as client:
        while more := client.deeds(found[-1].id if found else ""):
            found += more
    return found


def ending(house: House, *signed: StandingSignoff, **changes: Any) -> StandingEnd:
    first = signed[0]
    ends = tuple(sorted(one.id for one in signed))
    made = StandingEnd(partner=first.partner, stream=first.stream, approver=first.approver, ends=ends, time=now())
    return replace(made, **changes)


def end(house: House, ended: StandingEnd, *, by: str = "", namespace: str = STANDING_NAMESPACE) -> int | Refusal:
    line = pasted(ended.time, house.keys[by or ended.approver].sign(ended.text, namespace))
    with house.client() as client:
        return client.end_standing(ended, line)


def test_who_has_signed_ends_it_with_the_same_key(house: House) -> None:
    anna = house.newcomer()
    short, long = statement(house, anna), statement(house, anna, until=now() + 2 * SOON)
    assert all(isinstance(hand_in(house, one), StandingSignoff) for one in (short, long))
    release = house.outgoing(house.package(b"a", stream="routine"))
    votes = opened(release)
    ben = sign(house)
    assert end(house, ending(house, short, long)) == 2
    with house.client() as client:
        ended = {one.signed.approver: one.ended for one in client.standing("acme", "routine").held[-3:]}
        done = [deed.kind for deed in deeds(house) if deed.approver == anna]
    assert ended[anna].endswith(f" by {anna}") and not ended[ben]
    assert done[:2] == ["signed", "signed"] and done.count("ended") == 2 and "revoked" not in done
    assert "was revoked since" in refused_to_send(release, *votes)
    assert [vote.approver for vote in opened(house.outgoing(house.package(b"b", stream="routine")))] == [ben]
    outcome = end(house, ending(house, short, long))
    assert isinstance(outcome, Refusal) and outcome.code == "not-yours", "it is ended already"


def test_nobody_ends_it_for_another(house: House) -> None:
    anna, another = sign(house), house.newcomer()
    with house.client() as client:
        mine = ending(house, client.standing("acme", "routine").held[-1].signed)
    outcomes = {
        "somebody else's key": end(house, mine, by=another),
        "a signature for a release": end(house, mine, namespace="release@countersign"),
        "one that was kept": end(house, replace(mine, time=now() - timedelta(minutes=20))),
        "what another has signed": end(house, replace(mine, approver=another)),
        "of another stream": end(house, replace(mine, stream="seldom")),
        "an id that nobody has": end(house, replace(mine, approver="nobody"), by=another),
    }
    codes = [one.code if isinstance(one, Refusal) else one for one in outcomes.values()]
    assert codes == ["proof", "proof", "proof", "not-yours", "not-yours", "unknown-approver"]
    assert [vote.approver for vote in opened(house.outgoing(house.package(b"a", stream="routine")))] == [anna]


def test_what_was_revoked_cannot_be_handed_in_once_more(house: House) -> None:
    signed = statement(house, house.newcomer())
    assert hand_in(house, signed) == signed == hand_in(house, signed)
    with house.client() as client:
        assert client.revoke_standing("acme", "routine", "") == 1
    outcome = hand_in(house, signed)
    assert isinstance(outcome, Refusal) and outcome.code == "revoked"
    assert opened(house.outgoing(house.package(b"a", stream="routine"))) == ()


def test_its_vote_is_good_for_one_package_and_nobody_can_make_one(house: House) -> None:
    sign(house)
    first = house.outgoing(house.package(b"a", stream="routine"))
    (vote,) = opened(first)
    large = house.outgoing(house.package(b"a", b"b", b"c", stream="routine"))
    assert opened(large) == ()
    assert "not complete" in refused_to_send(large, vote)
    assert "does not bear this sender's seal" in refused_to_send(large, replace(vote, package=large.matter_package.digest))


def test_what_was_never_opened_does_not_go_by_it(house: House) -> None:
    sign(house)
    assert "never opened" in refused_to_send(house.outgoing(house.package(b"a", stream="routine")))
