"""What a caller cannot make the sender believe: everything around an answer was told before anybody could give it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import SenderError, SendRefused
from blocks.outbound import Correction, Package, PackageFile, Redelivery, Refusal, Requester, Vote, iso
from deployments.sender.judging import check_redelivery
from deployments.sender.store import Store
from tests.rules.signoff.world import terms
from tests.sender.conftest import SHOWN, House, Outgoing
from tests.sender.test_braking import Desk

WEEKS = timedelta(days=14)
"""What the stream's terms say by default."""


def test_the_deadline_counts_by_the_senders_clock_from_the_first_opening(house: House) -> None:
    release = house.outgoing(house.package(b"a"))
    before = datetime.now(UTC)
    with house.client() as client:
        first = client.open(release.matter, release.policies)
        assert before + WEEKS <= first.deadline <= datetime.now(UTC) + WEEKS
        again = client.open(replace(release.matter, run="another run"), release.policies)
        assert again == first
    assert first.requester == Requester("rita")


def test_a_round_is_told_of_once_and_asked_again_it_is_the_same(house: House) -> None:
    release = house.outgoing(house.package(b"a"))
    asked = release.next_round()
    with house.client() as client:
        assert client.ask(asked, SHOWN) == client.ask(asked, SHOWN)
        for lie, shown in (
            (asked, hashlib.sha256(b"another dialog").hexdigest()),
            (replace(asked, n=7), SHOWN),
            (replace(asked, digest=house.outgoing(_opened(house)).matter_package.digest), SHOWN),
        ):
            with pytest.raises(SendRefused, match="it was another"):
                client.ask(lie, shown)
        with pytest.raises(SendRefused, match="never opened"):
            client.ask(replace(asked, key="k", digest="0" * 64), SHOWN)


def test_a_kit_is_opened_and_sent_whole_or_not_at_all_whatever_a_worker_packs(house: House) -> None:
    """The kit's definition is in the reviewed files that the sender reads itself; all that a worker can do is to pack less."""
    slots = {"offer": {"pattern": "1.*"}, "terms": {"pattern": "2.*"}, "leaflet": {"pattern": "3.*", "required": False}}
    house.agree(more={"kits": {"kits": {"standard": {"slots": slots}}}})
    plain = house.package(b"offer", b"terms", b"leaflet", stream="kits")
    whole = replace(plain, kit="standard", files=tuple(map(_placed, plain.files, slots, (False, False, True))))
    offer, terms, leaflet = whole.files
    attempts = {
        "has no kit ''": plain,
        "slot 'terms' is empty": replace(whole, files=(offer, leaflet)),
        "kit standard is not whole": replace(whole, order=f"{whole.order}~0123456789ab", files=(leaflet,)),
        "told as optional": replace(whole, files=(offer, replace(terms, optional=True))),
        "does not belong into slot 'terms'": replace(whole, files=(offer, replace(leaflet, slot="terms", optional=False))),
        "has no kit 'mine'": replace(whole, kit="mine"),
    }
    for problem, package in attempts.items():
        release = house.outgoing(package)
        with house.client() as client, pytest.raises(SendRefused, match=problem):
            client.open(release.matter, release.policies)
        with pytest.raises(SendRefused, match="never opened"):
            release.send()
    release = house.outgoing(whole)
    less = {"decision": "approve all but the listed", "comment": "less"}
    refused = release.judge(release.answer(anna := house.newcomer(), house.code(anna), left_out=[whole.labels[1]], **less))
    assert isinstance(refused, Refusal) and refused.code == "list-foreign"
    release.approve(house.newcomer(), left_out=[whole.labels[2]], **less)
    assert release.send()[0].complete
    assert set(house.received(whole)) == {"1.csv", "2.csv"}


def test_an_unusual_release_needs_one_more_signature_whatever_a_worker_says_of_it(house: House) -> None:
    """What is usual the sender knows from its own record; a worker can neither leave out the stage nor name it a small release."""
    pricing = {"name": "release", "groups": ["pricing"]}
    signoff = {"proof": "code", "stages": [pricing], "brake": {"files": {"factor": 2, "most": 20}}}
    house.agree(more={"braked": {"signoff": signoff}})
    anna, bert, *others = [house.newcomer() for _ in range(5)]
    for approver in others:
        small = house.outgoing(house.package(b"small", stream="braked"))
        small.approve(approver)
        assert small.send()[0].complete
    large = house.package(*(str(n).encode() for n in range(5)), stream="braked")
    for attempt in (large, replace(large, order=f"{large.order}~0123456789ab"), replace(large, journey="another")):
        release = house.outgoing(attempt)
        with house.client() as client:
            assert client.open(release.matter, release.policies).brake == ("5 files, usually 1",)
    release = house.outgoing(large)
    release.approve(anna)
    with pytest.raises(SendRefused, match=r"not complete \(0 of 1 in one more signature\)"):
        release.send()
    again = release.judge(release.answer(anna, house.code(anna, timedelta(seconds=30))))
    assert isinstance(again, Refusal) and again.code == "voted"
    assert house.received(large) == {}
    release.approve(bert)
    assert release.send()[0].complete and len(house.received(large)) == 5


def _placed(file: PackageFile, slot: str, optional: bool) -> PackageFile:
    return replace(file, slot=slot, optional=optional)


def _opened(house: House) -> Package:
    release = house.outgoing(house.package(b"other"))
    release.next_round()
    return release.matter_package


def test_a_round_that_was_never_told_of_has_no_votes(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    asked = release.next_round()
    for n, lie in enumerate((replace(asked, key="signoff-9"), replace(asked, run="another"), replace(asked, n=99))):
        code = house.code(anna, timedelta(seconds=30 * (n - 1)))
        outcome = release.judge(release.answer(anna, code), lie)
        assert isinstance(outcome, Refusal) and outcome.code == "never-asked"
        again = release.judge(release.answer(anna, code), release.next_round())
        assert isinstance(again, Refusal) and again.code == "proof", "it was seen, so it is burnt"
    assert nothing_sent(house, release)


def test_who_asked_and_who_edited_is_held_from_the_opening_on(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    release.requester = anna
    asked = release.next_round()
    with house.client() as client:
        for lie in (replace(release.matter, requester=Requester("rita")), replace(release.matter, editors=frozenset({"x"}))):
            with pytest.raises(SendRefused, match="another requester or other editors"):
                client.open(lie, release.policies)
    release.requester = "rita"
    outcome = release.judge(release.answer(anna, house.code(anna)), asked)
    assert isinstance(outcome, Refusal) and outcome.code == "requester"
    assert nothing_sent(house, release)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("/judge", {"deadline": "2099-01-01T00:00:00Z"}, id="a later deadline"),
        pytest.param("/judge", {"shown": "0" * 64}, id="another text than was shown"),
        pytest.param("/judge", {"asked_at": "2020-01-01T00:00:00Z"}, id="another time of asking"),
        pytest.param("/judge", {"requester": {"id": "ben", "proof": "code"}}, id="another requester, judging"),
        pytest.param("/send", {"requester": {"id": "ben", "proof": "code"}}, id="another requester, sending"),
        pytest.param("/send", {"deadline": "2099-01-01T00:00:00Z"}, id="a later deadline, sending"),
        pytest.param("/open", {"deadline": "2099-01-01T00:00:00Z"}, id="a deadline of one's own"),
    ],
)
def test_there_is_no_way_to_say_it(house: House, path: str, said: dict[str, Any]) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"a"))
    asked = release.next_round()
    package = {"package": release.matter_package.text, "policies": release.policies.facts}
    told: dict[str, dict[str, Any]] = {
        "/open": {**package, "requester": "rita", "editors": []},
        "/judge": {
            **package,
            "answer": release.answer(anna, house.code(anna)),
            "round": {"n": asked.n, "key": asked.key, "run": asked.run, "digest": asked.digest},
            "votes": [],
            "at": iso(datetime.now(UTC)),
        },
        "/send": {**package, "votes": [], "seen": []},
    }
    with house.client() as client:
        with pytest.raises(SenderError, match="extra_forbidden"):
            client._post(path, {**told[path], **said})
        assert path == "/send" or client._post(path, told[path]), "without it, it is a good request"
    assert nothing_sent(house, release, votes=False)


def test_after_the_deadline_nothing_is_accepted_or_sent_whatever_is_told(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    release = house.outgoing(house.package(b"a"))
    asked = release.next_round()
    _deadline_over(house, release)
    outcome = release.judge(release.answer(anna, house.code(anna)), asked)
    assert isinstance(outcome, Refusal) and outcome.code == "expired"
    assert nothing_sent(house, release)
    late = house.outgoing(house.package(b"b"))
    assert isinstance(late.approve(ben), Vote)
    _deadline_over(house, late)
    assert nothing_sent(house, late), "a vote that was cast after it, if its deadline could be moved, counts no more"


def _deadline_over(house: House, release: Outgoing) -> None:
    """As if it had been opened so long ago: the sender's clock cannot be set."""
    from sqlalchemy import update

    from deployments.sender.store import _opening

    with Store(house.state) as store, store._writing() as connection:
        mine = _opening.c.package == release.matter_package.digest
        connection.execute(update(_opening).where(mine).values(deadline=datetime.now(UTC) - timedelta(minutes=1)))


def nothing_sent(house: House, release: Outgoing, *, votes: bool = True) -> bool:
    if votes:
        with pytest.raises(SendRefused, match="not complete"):
            release.send()
    return house.received(release.matter_package) == {}


def test_what_is_sent_again_or_corrected_is_of_the_order_that_is_named(tmp_path: Path) -> None:
    """The order's name stands in the form and in the partner's manifest: a worker may not put another one there."""
    with Store(tmp_path / "state") as store:
        desk = Desk(tmp_path, store)
        first, second = desk.pack(b"old"), desk.pack(b"another")
        for about in (first, second):
            desk.deliver(about, terms())
        wrong = Correction(first.order, first.digest, "the price was wrong", "rita")
        right = replace(desk.pack(b"new"), order=f"{first.order}~0123456789ab", corrects=wrong)
        once_more = replace(
            right, files=first.files, corrects=None, redelivery=Redelivery(first.order, first.digest, 2, "x", "r")
        )
        for about in (right, once_more):
            check_redelivery(about, store)
            for lie in (
                _naming(about, second.order),
                _naming(replace(about, order=second.order), second.order),
                replace(about, order=second.order),
                replace(about, stream="another"),
                replace(about, partner="another"),
            ):
                with pytest.raises(SendRefused, match="none of this order"):
                    check_redelivery(lie, store)
            for name in (f"{first.order}<b>", "", f"{first.order}~no"):
                with pytest.raises(ValueError, match="says of which order"):
                    _naming(about, name)


def _naming(about: Package, order: str) -> Package:
    if about.corrects is not None:
        return replace(about, corrects=replace(about.corrects, order=order))
    assert about.redelivery is not None
    return replace(about, redelivery=replace(about.redelivery, order=order))
