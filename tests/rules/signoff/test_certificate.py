"""The certificate, sealed with a real key, checked as an auditor would, and printed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.outbound import (
    Correction,
    Decision,
    Delivered,
    Extent,
    Matter,
    Outbound,
    PackageFile,
    ProposedVote,
    Redelivery,
    Said,
    SignoffProof,
    StandingSignoff,
    Vote,
    canonical,
    sha256,
)
from blocks.seals import SealKey, signed
from blocks.values import Proof
from tasks.rules.certificate import (
    COLLECTED_WORDS,
    DELIVERY_WORDS,
    MISMATCH_WORDS,
    Check,
    Claim,
    certificate,
    certificate_hash,
    certificate_name,
    page,
    ticks,
    verified,
    verify,
    weakest,
)
from tests.rules.signoff.world import (
    ANN_KEY,
    NOON,
    POLICIES,
    answer,
    cast,
    judge,
    matter,
    package,
    people,
    stage,
    stands,
    terms,
)

M = matter()
KNOWN = people()
UNDER = terms(stage("pricing", 2))
POLICY = replace(POLICIES, people=KNOWN.digest, terms=UNDER.digest)
ABOUT = matter(replace(package(), policy=POLICY.digest))
SIGNED = terms(stage("pricing"), proof="signature")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SealKey:
    return SealKey.open(tmp_path_factory.mktemp("sender") / "seal.pem")


def by(key: SealKey) -> Callable[[Vote], Vote]:
    """The sender's seal on a vote."""
    return lambda vote: replace(vote, seal=base64.b64encode(key.sign(vote.text.encode())).decode())


def delivered(file: PackageFile, proof: Proof = Proof.READ_BACK, **told: Any) -> Delivered:
    digest = file.sha256
    proven = digest if proof in (Proof.READ_BACK, Proof.SERVER_HASH) else None
    given = {"approved": digest, "read": digest, "sent": digest, "proven": proven, **told}
    return Delivered(destination=0, name=file.name, source=file.name, proof=proof, at=NOON, **given)


def two_votes(key: SealKey, decision: Decision = Decision.APPROVE, **told: Any) -> tuple[Vote, ...]:
    first = cast(answer("ann", ABOUT, decision, **told), ABOUT, UNDER, at=NOON - timedelta(minutes=5))
    return by(key)(first), by(key)(cast(answer("bea", ABOUT), ABOUT, UNDER, (first,)))


def made(key: SealKey, votes: tuple[Vote, ...] | None = None, **told: Any) -> str:
    votes = two_votes(key) if votes is None else votes
    now = stands(ABOUT, UNDER, votes)
    given: dict[str, Any] = {
        "deliveries": [delivered(file) for file in ABOUT.package.kept(now.left_out)],
        "previous": None,
        **told,
    }
    deliveries = given.pop("deliveries")
    return certificate(
        ABOUT,
        UNDER,
        POLICY,
        KNOWN,
        now,
        deliveries,
        issued=NOON,
        zone="Europe/Berlin",
        public_key=key.public,
        seal=key.sign,
        **given,
    )


def no_signatures(claim: Claim) -> bool:
    raise AssertionError("there is no signature to check")


def checks(text: str, key: SealKey, **told: Any) -> tuple[Check, ...]:
    return verify(text, public_key=key.public, sealed=signed, signed=told.pop("signed", no_signatures), **told)


def failed(found: tuple[Check, ...]) -> list[str]:
    return [check.name for check in found if not check.passed]


def resealed(text: str, key: SealKey, change: Callable[[dict[str, Any]], object]) -> str:
    """A certificate changed by somebody who has the sender's key: only the content can tell."""
    facts = json.loads(text)
    del facts["seal"]
    change(facts)
    seal = base64.b64encode(key.sign(canonical(facts).encode())).decode()
    public = base64.b64encode(key.public).decode()
    return canonical(facts | {"seal": {"algorithm": "Ed25519", "public_key": public, "signature": seal}})


def test_02_a_certificate_verifies_offline_with_the_documents(key: SealKey) -> None:
    text = made(key)
    documents = {file.shown: file.sha256 for file in ABOUT.package.files}
    found = checks(text, key, documents=documents, people=KNOWN)
    assert verified(found), failed(found)
    names = [check.name for check in found]
    assert {"seal", "package digest", "policy", "quorum", "deliveries", "document a.csv", "people file"} <= set(names)
    assert certificate_name(ABOUT.package) == f"{ABOUT.package.digest[:16]}.signoff.json"
    assert not verified(())


def test_12_what_was_edited_in_prefect_afterwards_changes_no_certificate(key: SealKey) -> None:
    text = made(key)
    assert verified(checks(text, key)), "it needs nothing but itself and the key"


def test_a_certificate_of_an_unusual_release_holds_only_with_the_one_more_signature(key: SealKey) -> None:
    under = terms(brake={"files": 3})
    policy = replace(POLICIES, people=KNOWN.digest, terms=under.digest)
    about = matter(replace(package(), policy=policy.digest), brake=("10 files, usually 2 to 3",))
    first = by(key)(cast(answer("ann", about), about, under, at=NOON - timedelta(minutes=5)))
    votes = (first, by(key)(cast(answer("bea", about), about, under, (first,))))
    told: dict[str, Any] = {
        "issued": NOON,
        "zone": "Europe/Berlin",
        "previous": None,
        "public_key": key.public,
        "seal": key.sign,
    }
    arrived = [delivered(file) for file in about.package.files]
    text = certificate(about, under, policy, KNOWN, stands(about, under, votes), arrived, **told)
    assert verified(checks(text, key)), failed(checks(text, key))
    assert "One more signature, for" in page(text) and "10 files, usually 2 to 3" in page(text)
    for change in (lambda facts: facts["votes"].pop(), lambda facts: facts.pop("brake")):
        assert failed(checks(resealed(text, key, change), key)) == ["quorum"]


def test_it_says_how_weak_a_code_is_and_who_asked(key: SealKey) -> None:
    facts = json.loads(made(key))
    assert "binds neither decision nor documents" in facts["votes"][0]["in_words"]
    assert facts["requester"]["in_words"] == "as stated, not proven"
    assert facts["votes"][0]["at_local"] == "2026-11-20 12:55:00 CET (+0100)"
    told = next(check.words for check in checks(made(key), key) if check.name == "vote of ann, proof")
    assert "cannot be checked here" in told


def test_only_what_is_approved_is_certified(key: SealKey) -> None:
    with pytest.raises(ValueError, match="nothing to certify"):
        made(key, two_votes(key)[:1])


def test_15_what_was_left_out_is_named_with_its_child(key: SealKey) -> None:
    votes = two_votes(key, Decision.APPROVE_BUT, left_out=("2. b.csv",), comment="wrong price")
    text = made(key, votes)
    facts = json.loads(text)
    assert facts["left_out"] == ["2. b.csv"]
    assert facts["child"] == ABOUT.package.child(["2. b.csv"]).digest
    b = ABOUT.package.files[1].sha256
    assert failed(checks(text, key, documents={"b.csv": b})) == ["document b.csv"]
    assert failed(checks(made(key, votes, deliveries=[delivered(f) for f in ABOUT.package.files]), key)) == [
        "deliveries",
        "bytes",
    ]


def test_a_document_that_is_another_is_told(key: SealKey) -> None:
    assert failed(checks(made(key), key, documents={"a.csv": "0" * 64})) == ["document a.csv"]


def test_the_chain_shows_a_certificate_that_is_missing(key: SealKey) -> None:
    first = made(key)
    second = made(key, previous=certificate_hash(first))
    assert verified(checks(second, key, previous=first))
    assert failed(checks(second, key, previous=second)) == ["chain"]


def test_another_senders_certificate_is_not_ours(key: SealKey, tmp_path: Path) -> None:
    other = SealKey.open(tmp_path / "seal.pem")
    assert "seal" in failed(checks(made(other), key))


def test_not_even_the_spelling_of_the_seal_can_be_changed(key: SealKey) -> None:
    text = made(key)
    facts = json.loads(text)
    signature = facts["seal"]["signature"]
    # 64 bytes end in four bits that base64 does not use.
    other = signature[:-3] + chr(ord(signature[-3]) + 1) + "=="
    assert base64.b64decode(other) == base64.b64decode(signature)
    for change in ({"signature": other}, {"algorithm": "none"}, {"note": "x"}):
        assert failed(checks(canonical(facts | {"seal": facts["seal"] | change}), key)) == ["seal"]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_byte_of_it_can_be_changed(key: SealKey, data: st.DataObject) -> None:
    text = made(key)
    place = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.sampled_from('0aZ"{},:\\ é'))
    edited = text[:place] + char + text[place + 1 :]
    assert verified(checks(edited, key, people=KNOWN)) is (edited == text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda f: f["package"].update(partner="evil"), "package digest", id="another partner"),
        pytest.param(lambda f: f["package"]["destinations"][0].update(host="evil"), "package digest", id="another host"),
        pytest.param(lambda f: f["policies"].update(terms="0" * 64), "policy", id="other terms"),
        pytest.param(lambda f: f["terms"]["signoff"]["stages"][0].update(quorum=1), "policy", id="an easier quorum"),
        pytest.param(lambda f: f["terms"].update(freshness="pinned"), "policy", id="another freshness"),
        pytest.param(lambda f: f["votes"].pop(), "quorum", id="a vote too few"),
        pytest.param(lambda f: f["votes"].append(f["votes"][0]), "quorum", id="07 one person counted twice"),
        pytest.param(
            lambda f: f["votes"][0]["vote"].update(approver="eve"), "vote of eve", id="a vote put into another's mouth"
        ),
        pytest.param(lambda f: f["votes"][0]["vote"].update(decision="reject"), "vote of ann", id="an edited decision"),
        pytest.param(lambda f: f["votes"][0]["vote"].update(seal=""), "vote of ann", id="a vote without a seal"),
        pytest.param(
            lambda f: f["votes"][0]["vote"].update(proof="signature"), "vote of ann, proof", id="a signature that is not there"
        ),
        pytest.param(lambda f: f.update(left_out=["1. a.csv"]), "left out", id="left out by nobody"),
        pytest.param(lambda f: f.update(child="0" * 64), "left out", id="a child there is none of"),
        pytest.param(lambda f: f["deliveries"].pop(), "deliveries", id="a document that did not arrive"),
        pytest.param(lambda f: f["deliveries"].append(f["deliveries"][0]), "deliveries", id="22 one delivered twice"),
        pytest.param(lambda f: f["deliveries"][0].update(sent="0" * 64), "bytes", id="other bytes sent"),
        pytest.param(lambda f: f["deliveries"][0].update(in_words="perfect"), "bytes", id="words that say too much"),
        pytest.param(lambda f: f.update(weakest="perfect"), "bytes", id="a weakest link that says too much"),
        pytest.param(lambda f: f["votes"][0].update(in_words="an SSH signature"), "words", id="a proof that says too much"),
        pytest.param(lambda f: f["votes"][0].update(at_local="yesterday"), "words", id="another local time"),
        pytest.param(lambda f: f.update(issued_local="yesterday"), "words", id="issued at another local time"),
        pytest.param(
            lambda f: f["requester"].update(in_words="proven"), "words", id="a requester who is only said to be proven"
        ),
        pytest.param(lambda f: f.update(timezone="Europe"), "certificate", id="a time zone that is a folder"),
        pytest.param(lambda f: f["terms"]["signoff"]["stages"][0].update(quorum=0), "certificate", id="a quorum of none"),
        pytest.param(lambda f: f.pop("votes"), "certificate", id="no votes"),
        pytest.param(lambda f: f.update(version=2), "certificate", id="a later version"),
        pytest.param(lambda f: f["deliveries"][0].update(destination="0"), "bytes", id="a destination that is none"),
    ],
)
def test_content_that_does_not_fit_is_told_even_under_a_good_seal(
    key: SealKey, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    found = checks(resealed(made(key), key, change), key)
    assert told in failed(found), failed(found)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f["votes"][0].update(name="Eve Roth"), id="a signer"),
        pytest.param(lambda f: f["votes"][1].update(on_behalf_of_name="Eve Roth"), id="whom they signed for"),
        pytest.param(lambda f: f["requester"].update(name="Eve Roth"), id="who asked"),
    ],
)
def test_a_name_that_is_not_theirs_is_told_with_the_people_file(
    key: SealKey, change: Callable[[dict[str, Any]], object]
) -> None:
    edited = resealed(made(key), key, change)
    assert failed(checks(edited, key, people=KNOWN)) == ["words"]


def test_a_certificate_of_a_version_whose_terms_knew_less_still_holds(key: SealKey) -> None:
    older = {name: value for name, value in UNDER.model_dump(mode="json").items() if name != "owner"}
    policy = replace(POLICY, terms=sha256(canonical(older)))
    about = matter(replace(package(), policy=policy.digest))
    first = cast(answer("ann", about), about, UNDER, at=NOON - timedelta(minutes=5))
    votes = by(key)(first), by(key)(cast(answer("bea", about), about, UNDER, (first,)))
    text = certificate(
        about,
        UNDER,
        policy,
        KNOWN,
        stands(about, UNDER, votes),
        [delivered(file) for file in about.package.files],
        issued=NOON,
        zone="Europe/Berlin",
        previous=None,
        public_key=key.public,
        seal=key.sign,
    )
    assert failed(checks(text, key)) == ["policy"], "terms that say more than those that were signed"
    assert verified(checks(resealed(text, key, lambda facts: facts.update(terms=older)), key))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "{}", '"x"', "[" * 10_000, '{"kind":"countersign sign-off certificate","version":1}']
)
def test_what_is_no_certificate(key: SealKey, text: str) -> None:
    assert failed(checks(text, key)) == ["certificate"]
    with pytest.raises(ValueError):
        page(text)


# ------------------------------------------------------------------------------------------ signatures


def by_signature(key: SealKey) -> str:
    policy = replace(POLICY, terms=SIGNED.digest)
    about = matter(replace(package(), policy=policy.digest))
    proposed = judge(answer("ann", about), about, SIGNED)
    assert isinstance(proposed, ProposedVote)
    vote = proposed.proven(SignoffProof.SIGNATURE, key=ANN_KEY, signature="U1NIU0lH", signed_at=NOON)
    votes = (by(key)(vote),)
    deliveries = [delivered(file) for file in about.package.files]
    now = stands(about, SIGNED, votes)
    told: dict[str, Any] = {"issued": NOON, "zone": "UTC", "previous": None, "public_key": key.public, "seal": key.sign}
    return certificate(about, SIGNED, policy, KNOWN, now, deliveries, **told)


def test_27_a_signature_is_asked_over_the_whole_statement(key: SealKey) -> None:
    asked: list[Claim] = []

    def yes(claim: Claim) -> bool:
        asked.append(claim)
        return True

    text = by_signature(key)
    assert verified(checks(text, key, signed=yes, people=KNOWN))
    statement = json.loads(asked[0].text)
    assert (statement["decision"], statement["approver"], statement["run"]) == ("approve", "ann", "run-1")
    assert statement["package"] == json.loads(text)["package_digest"]
    assert (asked[0].key, asked[0].namespace) == (ANN_KEY, "release@countersign")
    assert failed(checks(text, key, signed=lambda claim: False)) == ["vote of ann, signature"]
    without = people(ann={"keys": []})
    assert failed(checks(text, key, signed=yes, people=without)) == ["vote of ann, key", "people file"]


# ------------------------------------------------------------------------------------------ delivery proofs

A = ABOUT.package.files[0]


@pytest.mark.parametrize(
    ("one", "words", "found"),
    [
        pytest.param(delivered(A), DELIVERY_WORDS[Proof.READ_BACK], True, id="read back"),
        pytest.param(delivered(A, Proof.SERVER_HASH), DELIVERY_WORDS[Proof.SERVER_HASH], True, id="the server's own hash"),
        pytest.param(delivered(A, Proof.SIZE_ONLY), "size only: this server offers no hash", False, id="size only"),
        pytest.param(
            delivered(A, Proof.UNVERIFIABLE), DELIVERY_WORDS[Proof.UNVERIFIABLE], False, id="a drop we cannot look into"
        ),
        pytest.param(delivered(A, Proof.TOLD), DELIVERY_WORDS[Proof.TOLD], False, id="a person's word"),
        pytest.param(delivered(A, Proof.SIZE_ONLY, collected=True), COLLECTED_WORDS, False, id="22 collected at once"),
        pytest.param(delivered(A, proven=None), MISMATCH_WORDS, False, id="read back, and nothing to show for it"),
        pytest.param(delivered(A, proven="0" * 64), MISMATCH_WORDS, False, id="other bytes there"),
        pytest.param(delivered(A, sent="0" * 64), MISMATCH_WORDS, False, id="other bytes sent"),
        pytest.param(delivered(A, Proof.SIZE_ONLY, read="0" * 64), MISMATCH_WORDS, False, id="other bytes read"),
    ],
)
def test_ticks(one: Delivered, words: str, found: bool) -> None:
    assert weakest([one]) == words
    assert ticks(one).found is found


def test_what_only_a_person_says_stands_there_as_that_with_name_and_words(key: SealKey) -> None:
    said = Said("olga (user id 1002)", "Mr <b>Ito</b> has it", NOON)
    first, *others = [delivered(file) for file in ABOUT.package.files]
    text = made(key, deliveries=[first._replace(proof=Proof.TOLD, proven=None, said=said), *others])
    assert verified(checks(text, key))
    assert json.loads(text)["weakest"] == DELIVERY_WORDS[Proof.TOLD]
    assert "olga (user id 1002) says so: Mr &lt;b&gt;Ito&lt;/b&gt; has it" in page(text)
    assert "said" not in made(key), "certificates without it are what they always were"


def test_the_weakest_link_is_named() -> None:
    strong, weak, worst = delivered(A), delivered(A, Proof.SIZE_ONLY), delivered(A, sent="0" * 64)
    assert weakest([strong, weak, strong]) == DELIVERY_WORDS[Proof.SIZE_ONLY]
    assert weakest([strong, worst, weak]) == MISMATCH_WORDS
    assert weakest([]) == "nothing was delivered"


def test_a_mismatch_never_verifies(key: SealKey) -> None:
    bad = [delivered(A, sent="0" * 64), *(delivered(file) for file in ABOUT.package.files[1:])]
    assert failed(checks(made(key, deliveries=bad), key)) == ["bytes"]


# ------------------------------------------------------------------------------------------ print


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(text: str) -> Tags:
    reader = Tags()
    reader.feed(page(text))
    return reader


def test_the_page_shows_all_that_is_in_it(key: SealKey) -> None:
    votes = two_votes(key, Decision.APPROVE_BUT, left_out=("2. b.csv",), comment="wrong <b>price</b>\nsee row 7")
    text = made(key, votes)
    reader = read_page(text)
    for expected in (
        ABOUT.package.digest,
        ABOUT.package.policy,
        "Ann Weber",
        "approve all but the listed",
        r"wrong <b>price</b>\x0asee row 7",
        "2026-11-20 11:55:00 UTC",
        "2026-11-20 12:55:00 CET",
        votes[0].seal,
        votes[0].shown,
        "sftp://acme@sftp.acme.example:22/in",
        certificate_hash(text),
        "none: this is the first",
        DELIVERY_WORDS[Proof.READ_BACK],
    ):
        assert expected in reader.text, expected


@given(
    st.text(min_size=1, max_size=40)
    | st.sampled_from(["<script>alert(1)</script>", "<img src=x>", "\u202e", '"><a href=x>', "&lt;"])
)
@settings(max_examples=60, deadline=None)
def test_25_nothing_in_a_comment_or_name_becomes_markup(key: SealKey, text: str) -> None:
    plain, hostile = (
        read_page(made(key, two_votes(key, Decision.APPROVE_BUT, left_out=("2. b.csv",), comment=comment)))
        for comment in ("x", text)
    )
    assert hostile.seen == plain.seen
    assert not {tag for tag, _ in plain.seen} & {"script", "img", "a", "link", "iframe", "form", "object"}
    assert not any(name in ("src", "href", "onerror") for _, names in plain.seen for name in names)


def test_it_is_hashed_as_it_is_written(key: SealKey) -> None:
    text = made(key)
    assert certificate_hash(text) == hashlib.sha256(text.encode()).hexdigest()
    assert M.package.digest != ABOUT.package.digest


# --------------------------------------------------------------------------------------------- signed off beforehand

ROUTINE = terms(stage("pricing"), standing={"days": 30, "files": 3, "size_bytes": 10_000, "per_day": 5})
ITS_POLICY = replace(POLICIES, people=KNOWN.digest, terms=ROUTINE.digest)
ROUTINELY = matter(replace(package(), policy=ITS_POLICY.digest))
BEFOREHAND = StandingSignoff(
    partner="acme",
    stream="catalogue",
    profile=ITS_POLICY.profile,
    terms=ITS_POLICY.terms,
    approver="ann",
    until=NOON + timedelta(days=20),
    time=NOON - timedelta(days=10),
)


def beforehand(
    key: SealKey, under: Outbound = ROUTINE, about: Matter = ROUTINELY, extent: Extent | None = None, **changes: Any
) -> str:
    """The certificate of a release that went by what ann had signed, or by something like it."""
    signed = replace(BEFOREHAND, **changes)
    proposed = judge(answer("ann", about), about, under)
    assert isinstance(proposed, ProposedVote)
    told = proposed.proven(SignoffProof.SIGNATURE, key=ANN_KEY, signature="U1NI", signed_at=signed.time)
    vote = by(key)(replace(told, standing=signed, extent=extent))
    deliveries = [delivered(file) for file in about.package.files]
    policies = replace(ITS_POLICY, terms=under.digest)
    sealing: dict[str, Any] = {"public_key": key.public, "seal": key.sign}
    now = stands(about, under, (vote,))
    return certificate(
        about, under, policies, KNOWN, now, deliveries, issued=NOON, zone="Europe/Berlin", previous=None, **sealing
    )


def test_a_certificate_says_who_signed_beforehand_until_when_and_that_nobody_looked(key: SealKey) -> None:
    text, asked = beforehand(key), list[Claim]()

    def covers(claim: Claim) -> bool:
        asked.append(claim)
        return True

    found = checks(text, key, signed=covers, people=KNOWN)
    assert verified(found), failed(found)
    assert [(claim.text, claim.namespace) for claim in asked] == [(BEFOREHAND.text, "standing@countersign")]
    assert any("signed off beforehand, until 2026-12-10" in check.words for check in found)
    told = page(text)
    assert "Given beforehand" in told and "has not seen these documents" in told


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stream": "contracts"}, id="for another stream"),
        pytest.param({"partner": "globex"}, id="for another partner"),
        pytest.param({"terms": "9" * 64}, id="under other terms"),
        pytest.param({"profile": "9" * 64}, id="for another endpoint"),
        pytest.param({"approver": "bea"}, id="by somebody else"),
        pytest.param({"until": NOON}, id="over"),
        pytest.param({"time": NOON - timedelta(days=10, minutes=13)}, id="for longer than was agreed"),
    ],
)
def test_what_was_signed_beforehand_and_is_not_about_this_release(key: SealKey, changes: dict[str, Any]) -> None:
    assert failed(checks(beforehand(key, **changes), key, signed=lambda claim: True)) == ["vote of ann, beforehand"]


def test_a_signature_as_old_as_the_sender_takes_it_is_good(key: SealKey) -> None:
    found = checks(beforehand(key, time=NOON - timedelta(days=10, minutes=12)), key, signed=lambda claim: True)
    assert verified(found), failed(found)


@pytest.mark.parametrize(
    ("of", "brake"),
    [
        pytest.param({}, ("3 files, usual is 1",), id="unusual"),
        pytest.param({"redelivery": Redelivery("2026-11-19", "9" * 64, 2, "they lost it", "fay")}, (), id="once more"),
        pytest.param({"corrects": Correction("2026-11-19", "9" * 64, "a wrong price", "fay")}, (), id="a correction"),
        pytest.param({"order": "2026-11-20~0123456789ab"}, (), id="a remainder"),
    ],
)
def test_what_always_asks_people_never_goes_by_what_was_signed_beforehand(
    key: SealKey, of: dict[str, Any], brake: tuple[str, ...]
) -> None:
    about = matter(replace(package(), policy=ITS_POLICY.digest, **of), brake=brake)
    assert failed(checks(beforehand(key, about=about), key, signed=lambda claim: True)) == ["vote of ann, beforehand"]


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param({"files": 2}, id="more documents"),
        pytest.param({"size_bytes": 3599}, id="more bytes"),
        pytest.param(None, id="terms that let nothing be signed beforehand"),
    ],
)
def test_a_release_out_of_bounds_is_seen_offline(key: SealKey, bounds: dict[str, int] | None) -> None:
    agreed = None if bounds is None else {"days": 30, "files": 3, "size_bytes": 10_000, "per_day": 5, **bounds}
    under = terms(stage("pricing"), standing=agreed)
    about = matter(replace(package(), policy=replace(ITS_POLICY, terms=under.digest).digest))
    text = beforehand(key, under, about, terms=under.digest)
    assert failed(checks(text, key, signed=lambda claim: True)) == ["vote of ann, beforehand"]


@pytest.mark.parametrize(
    ("extent", "inside"),
    [
        pytest.param(None, True, id="by a sender that knew of no types yet"),
        pytest.param(Extent(doctypes=("price-list",)), True, id="of the stream's type"),
        pytest.param(Extent(), False, id="of none, as the sender found"),
    ],
)
def test_a_vote_from_before_types_were_bounded_is_good_still(key: SealKey, extent: Extent | None, inside: bool) -> None:
    agreed = ROUTINE.agreed | {"classify": [{"pattern": ".*", "doctype": "price-list"}]}
    under = Outbound.model_validate_json(canonical(agreed))
    about = matter(replace(package(), policy=replace(ITS_POLICY, terms=under.digest).digest))
    text = beforehand(key, under, about, extent, terms=under.digest)
    assert failed(checks(text, key, signed=lambda claim: True)) == ([] if inside else ["vote of ann, beforehand"])


WITHIN = Extent(doctypes=("price-list",), rows=120, value=4000.5)


@pytest.mark.parametrize(
    ("extent", "inside"),
    [
        pytest.param(WITHIN, True, id="within"),
        pytest.param(replace(WITHIN, rows=121), False, id="more rows"),
        pytest.param(replace(WITHIN, value=4000.75), False, id="more value"),
        pytest.param(replace(WITHIN, doctypes=("invoice", "price-list")), False, id="another type"),
        pytest.param(replace(WITHIN, rows=None), False, id="rows that nobody counted"),
        pytest.param(None, False, id="nobody looked"),
    ],
)
def test_what_the_sender_found_in_the_documents_is_held_against_the_bounds(
    key: SealKey, extent: Extent | None, inside: bool
) -> None:
    bounds = {"doctypes": ["price-list"], "rows": 120, "value": {"column": "price", "most": 4000.5}}
    agreed = ROUTINE.agreed | {"classify": [{"pattern": ".*", "doctype": kind} for kind in ("price-list", "invoice")]}
    agreed["signoff"]["standing"] |= bounds
    under = Outbound.model_validate_json(canonical(agreed))
    about = matter(replace(package(), policy=replace(ITS_POLICY, terms=under.digest).digest))
    text = beforehand(key, under, about, extent, terms=under.digest)
    assert failed(checks(text, key, signed=lambda claim: True)) == ([] if inside else ["vote of ann, beforehand"])
    told = page(text)
    assert "at most 120 rows in a release; at most 4,000.5 in column price" in told
    if inside:
        assert "price-list, 120 rows, 4,000.5 in column price" in told
