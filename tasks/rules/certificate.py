"""The certificate of a release: what it says, how it is checked without any server of ours, and how it is printed.

``<package>.signoff.json`` is canonical JSON. Its seal covers everything but itself; ``previous`` is the SHA-256 of the stream's
last certificate, so that one that is missing shows. It claims no more than it can: how each decision was proven stands in it in words.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from blocks.outbound import (
    NAMESPACE,
    STANDING_NAMESPACE,
    Correction,
    Decision,
    Delivered,
    Extent,
    Matter,
    Outbound,
    Package,
    PackageFile,
    PeopleFile,
    Policies,
    Redelivery,
    Requester,
    Said,
    SignoffProof,
    StandingSignoff,
    StandingTerms,
    Vote,
    canonical,
    iso,
    sha256,
)
from blocks.values import Proof, name_b64, shown
from tasks.rules.beforehand import outside
from tasks.rules.policy import Standing, Status
from tasks.rules.printed import END, begin, code, literally, table, when
from tasks.rules.signing import OLDEST_SIGNATURE, SKEW

KIND = "countersign sign-off certificate"
VERSION = 1

PROOF_WORDS = {
    SignoffProof.CODE: "a one-time code: the sender accepted it, and holds the secret it came from. It shows that somebody with the "
    "approver's phone was there; it binds neither decision nor documents, and cannot be checked without the sender",
    SignoffProof.SIGNATURE: f"an SSH signature over package, destinations, decision, meaning and time (namespace {NAMESPACE}); anybody "
    "can check it. The comment is not covered by it",
}

STANDING_WORDS = (
    f"an SSH signature, given beforehand, over the stream's terms and bounds (namespace {STANDING_NAMESPACE}); anybody can check it. "
    "This person has not seen these documents: that they lie within the bounds, the sender says"
)

DELIVERY_WORDS = {
    Proof.READ_BACK: "read back: the partner's server returned the same bytes",
    Proof.SERVER_HASH: "server hash: the partner's server told the same SHA-256",
    Proof.SIZE_ONLY: "size only: this server offers no hash",
    Proof.UNVERIFIABLE: "sent, unverifiable: this server lets us neither look nor read",
    Proof.TOLD: "a person says it arrived: the server's answer was lost, and no server tells",
}
COLLECTED_WORDS = "delivered, collected before proof: it was gone when we looked"
MISMATCH_WORDS = "DIFFERENT BYTES: what was approved, read, sent and found is not the same"

Seal = Callable[[bytes], bytes]
"""Signs a message with the sender's Ed25519 key."""

# --------------------------------------------------------------------------------------------- delivery proofs


@dataclass(frozen=True, slots=True)
class Ticks:
    """approved = read = sent = found at the partner; each as a tick or none."""

    read: bool
    sent: bool
    found: bool

    @property
    def same(self) -> bool:
        return self.read and self.sent and self.found


def ticks(delivered: Delivered) -> Ticks:
    hashed = delivered.proof in (Proof.READ_BACK, Proof.SERVER_HASH) and not delivered.collected
    return Ticks(
        read=delivered.read == delivered.approved,
        sent=delivered.sent == delivered.read,
        found=hashed and delivered.proven == delivered.sent,
    )


def link_words(delivered: Delivered) -> str:
    """How we know that this document arrived as it was approved, or what is missing to say so."""
    told = ticks(delivered)
    differs = delivered.proven is not None and delivered.proven != delivered.sent
    if not told.read or not told.sent or differs:
        return MISMATCH_WORDS
    if delivered.collected:
        return COLLECTED_WORDS
    if not told.found and delivered.proof in (Proof.READ_BACK, Proof.SERVER_HASH):
        return MISMATCH_WORDS  # a proof by hash without a hash
    return DELIVERY_WORDS[delivered.proof]


_STRENGTH = (
    MISMATCH_WORDS,
    DELIVERY_WORDS[Proof.TOLD],
    DELIVERY_WORDS[Proof.UNVERIFIABLE],
    COLLECTED_WORDS,
    DELIVERY_WORDS[Proof.SIZE_ONLY],
    DELIVERY_WORDS[Proof.SERVER_HASH],
    DELIVERY_WORDS[Proof.READ_BACK],
)


def weakest(deliveries: Iterable[Delivered]) -> str:
    """The weakest link among all deliveries, in words; "nothing was delivered" where there is none."""
    return min(map(link_words, deliveries), key=_STRENGTH.index, default="nothing was delivered")


# --------------------------------------------------------------------------------------------- making one


def certificate(
    matter: Matter,
    terms: Outbound,
    policies: Policies,
    people: PeopleFile,
    now: Standing,
    deliveries: Sequence[Delivered],
    *,
    issued: datetime,
    zone: str,
    previous: str | None,
    public_key: bytes,
    seal: Seal,
) -> str:
    """The text of the certificate's file. ``previous`` is ``certificate_hash`` of the stream's last one; ``zone`` is for local times.

    Raises ``ValueError`` if the package is not approved: then there is nothing to certify.
    """
    if now.status is not Status.APPROVED:
        raise ValueError(f"package {matter.package.digits} is {now.status.value}, so there is nothing to certify")
    package = matter.package
    facts: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "package": package.facts,
        "package_digest": package.digest,
        "policies": policies.facts,
        "terms": terms.agreed,
        "run": matter.run,
        "requester": _requester(matter, people),
        **({"brake": list(matter.brake)} if matter.brake else {}),
        "votes": [_vote(vote, people, zone) for vote in now.votes],
        "left_out": list(now.left_out),
        "child": _child(package, now.left_out),
        "deliveries": [_delivery(delivered, zone) for delivered in deliveries],
        "weakest": weakest(deliveries),
        "issued": iso(issued),
        "issued_local": local(issued, zone),
        "timezone": zone,
        "previous": previous,
    }
    return canonical(facts | {"seal": _seal(public_key, seal(canonical(facts).encode()))})


def _seal(public_key: bytes, signature: bytes) -> dict[str, str]:
    key, told = (base64.b64encode(raw).decode() for raw in (public_key, signature))
    return {"algorithm": "Ed25519", "public_key": key, "signature": told}


def certificate_hash(text: str) -> str:
    """What the stream's next certificate holds of this one."""
    return sha256(text)


def certificate_name(package: Package) -> str:
    """The file's name: ``<first 16 digits of the package digest>.signoff.json``."""
    return f"{package.digest[:16]}.signoff.json"


def local(at: datetime, zone: str) -> str:
    """For people: ``2026-11-20 11:00:00 CET (+0100)``."""
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S %Z (%z)}"


def _requester(matter: Matter, people: PeopleFile) -> dict[str, Any] | None:
    if matter.requester is None:
        return None
    person = people.get(matter.requester.id)
    return {
        "id": matter.requester.id,
        "name": person.name if person else "",
        "proof": matter.requester.proof.value if matter.requester.proof else None,
        "in_words": matter.requester.in_words,
    }


def _vote(vote: Vote, people: PeopleFile, zone: str) -> dict[str, Any]:
    approver, principal = people.get(vote.approver), people.get(vote.on_behalf_of)
    return {
        "vote": vote.facts,
        "name": approver.name if approver else "",
        "on_behalf_of_name": principal.name if principal else "",
        "at_local": local(vote.at, zone),
        "in_words": STANDING_WORDS if vote.standing else PROOF_WORDS[vote.proof],
    }


def _delivery(delivered: Delivered, zone: str) -> dict[str, Any]:
    told = ticks(delivered)
    # Only where somebody said it: certificates that were made before this could be said stay as they are.
    said = {"said": delivered.said.facts} if delivered.said else {}
    return said | {
        "destination": delivered.destination,
        "name": shown(delivered.name),
        "name_b64": name_b64(delivered.name),
        "source": shown(delivered.source),
        "source_b64": name_b64(delivered.source),
        "approved": delivered.approved,
        "read": delivered.read,
        "sent": delivered.sent,
        "proof": delivered.proof.value,
        "proven": delivered.proven,
        "collected": delivered.collected,
        "at": iso(delivered.at),
        "at_local": local(delivered.at, zone),
        "ticks": {"approved = read": told.read, "read = sent": told.sent, "sent = found at the partner": told.found},
        "in_words": link_words(delivered),
    }


# --------------------------------------------------------------------------------------------- checking one


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what came of it."""

    name: str
    passed: bool
    words: str

    @property
    def told(self) -> str:
        """Name and words for a terminal: what was looked at may be hostile, and no control character of it gets there."""
        text = f"{self.name}: {self.words}"
        return text if text.isprintable() else shown(text)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a verifier of signatures is asked: did this key make this signature over this text, in this namespace?"""

    approver: str
    key: str
    """``ssh-ed25519 AAAA...``"""
    text: str
    signature: str
    """The body of its armour, in one line."""
    at: datetime
    namespace: str = NAMESPACE


def verify(
    text: str,
    *,
    public_key: bytes,
    sealed: Callable[[bytes, bytes, bytes], bool],
    signed: Callable[[Claim], bool],
    documents: Mapping[str, str] | None = None,
    people: PeopleFile | None = None,
    previous: str | None = None,
) -> tuple[Check, ...]:
    """Every check of a certificate, passed or not, in words. Needs no server; never raises for what the text holds.

    ``public_key`` is the sender's, from a source other than this file; ``sealed`` takes (public key, message, signature);
    ``documents`` are names and SHA-256 of files at hand; ``people`` the people file of that time; ``previous`` the text of
    the stream's certificate before.
    """
    try:
        facts = _read(text)
        package = Package.parse(canonical(facts["package"]))
        policies = Policies(**facts["policies"])
        terms = Outbound.model_validate_json(canonical(facts["terms"]))
        votes = tuple(Vote.parse(told["vote"]) for told in facts["votes"])
        read = _Read(facts, package, policies, terms, votes)
        checks = [Check("certificate", True, "it is a certificate of this version, in its canonical form")]
        checks += _checks(read, public_key, sealed, signed, people, previous)
        checks += [_document(name, digest, read) for name, digest in (documents or {}).items()]
    # OSError: a time zone that is a folder of the IANA database.
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError, OverflowError, OSError) as error:
        told = f"this is not a whole certificate: {shown(str(error))[:200]}"
        return (Check("certificate", False, told),)
    return tuple(checks)


def signatures(text: str) -> tuple[Claim, ...]:
    """Every signature of a certificate with what it is said to cover. Raises ``ValueError`` for a text that is no certificate."""
    try:
        facts = _read(text)
        package = Package.parse(canonical(facts["package"]))
        claims = [_claim(Vote.parse(told["vote"]), package) for told in facts["votes"]]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"this is not a whole certificate: {shown(str(error))[:200]}") from error
    return tuple(claim for claim in claims if claim is not None)


def verified(checks: Iterable[Check]) -> bool:
    """True if there was something to check, and all of it passed."""
    told = list(checks)
    return bool(told) and all(check.passed for check in told)


@dataclass(frozen=True, slots=True)
class _Read:
    """A certificate's parts, in shape and not yet believed."""

    facts: dict[str, Any]
    package: Package
    policies: Policies
    terms: Outbound
    votes: tuple[Vote, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """As the votes say, whatever the summary says."""
        listed = {label for vote in self.votes for label in vote.left_out}
        return tuple(label for label in self.package.labels if label in listed)

    @property
    def released(self) -> tuple[PackageFile, ...]:
        return self.package.kept(self.left_out)


def _read(text: str) -> dict[str, Any]:
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.get("kind") != KIND or facts.get("version") != VERSION:
        raise ValueError("it is none, or of a version that is not known here")
    if canonical(facts) != text:
        raise ValueError("its text is not canonical: it was edited or reformatted")
    return facts


def _checks(
    read: _Read,
    public_key: bytes,
    sealed: Callable[[bytes, bytes, bytes], bool],
    signed: Callable[[Claim], bool],
    people: PeopleFile | None,
    previous: str | None,
) -> list[Check]:
    facts, package = read.facts, read.package
    unsealed = canonical({key: value for key, value in facts.items() if key != "seal"})
    seal = facts["seal"]
    # Written back and compared: base64 has several spellings of the same bytes, and the seal does not cover itself.
    ours = seal == _seal(public_key, _bytes(seal["signature"]))
    good = ours and _holds(sealed, public_key, unsealed, seal["signature"])
    checks = [
        _check(
            "seal",
            good,
            "the sender's key sealed all of it",
            "the given key did not seal this text: do not trust it",
        ),
        _check(
            "package digest",
            facts["package_digest"] == package.digest,
            f"SHA-256 of the package is {package.digest}",
            f"the package gives {package.digest}, the certificate says otherwise",
        ),
        _check(
            "policy",
            # As they were written: a later version of ours adds defaults when it reads them.
            read.policies.digest == package.policy and sha256(canonical(facts["terms"])) == read.policies.terms,
            f"profile, people and terms give the policy {package.policy} that was signed",
            "profile, people or terms are not those that the package was frozen under",
        ),
        *(check for vote in read.votes for check in _vote_checks(vote, read, public_key, sealed, signed, people)),
        _quorum(read),
        _check(
            "words",
            _worded(read, people),
            "names, local times and proofs are told as they are",
            "a name, a local time or how something was proven is told otherwise than it is",
        ),
        _check(
            "left out",
            tuple(facts["left_out"]) == read.left_out and facts["child"] == _child(package, read.left_out),
            "what was left out is what the votes left out",
            "what is said to be left out is not what the votes left out",
        ),
        *_delivery_checks(read),
    ]
    if people is not None:
        checks.append(
            _check(
                "people file",
                people.digest == read.policies.people,
                "it is the one of that time",
                "it is another than at that time",
            )
        )
    if previous is not None:
        checks.append(
            _check(
                "chain",
                facts["previous"] == certificate_hash(previous),
                "the given certificate is the one before in its stream",
                "the given certificate is not the one before: one is missing, or one was changed",
            )
        )
    return checks


def _check(name: str, passed: bool, good: str, bad: str) -> Check:
    return Check(name, passed, good if passed else bad)


def _holds(sealed: Callable[[bytes, bytes, bytes], bool], public_key: bytes, text: str, signature: object) -> bool:
    given = _bytes(signature)
    return len(given) == 64 and sealed(public_key, text.encode(), given)


def _bytes(text: object) -> bytes:
    """Bytes of a base64 text; none for anything else."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""


def _child(package: Package, left_out: tuple[str, ...]) -> str | None:
    child = package.remainder(left_out)
    return child.digest if child else None


def _vote_checks(
    vote: Vote,
    read: _Read,
    public_key: bytes,
    sealed: Callable[[bytes, bytes, bytes], bool],
    signed: Callable[[Claim], bool],
    people: PeopleFile | None,
) -> list[Check]:
    who = f"vote of {shown(vote.seat.text)}"
    good = vote.package == read.package.digest and _holds(sealed, public_key, vote.text, vote.seal)
    checks = [_check(who, good, "the sender accepted and sealed it for this package", "it is not sealed for this package")]
    claim = _claim(vote, read.package)
    if claim is None:
        words = "by code: the seal shows that the sender accepted it; the code itself cannot be checked here"
        return [*checks, _check(f"{who}, proof", vote.proof is SignoffProof.CODE, words, "its signature is missing")]
    checks.append(
        _check(
            f"{who}, signature",
            signed(claim),
            "it covers the stream's terms, beforehand" if vote.standing else "it covers exactly this decision",
            "it does not cover this decision, or is no signature",
        )
    )
    if vote.standing is not None:
        checks.append(_standing(vote, vote.standing, read))
    if people is not None:
        person = people.get(vote.approver)
        theirs = person is not None and any(key.key.split(" ")[:2] == vote.key.split(" ")[:2] for key in person.keys)
        checks.append(
            _check(f"{who}, key", theirs, "it is the approver's in the people file", "the people file does not give it to them")
        )
    return checks


def _standing(vote: Vote, signed: StandingSignoff, read: _Read) -> Check:
    """Given by the same person for the same stream under the same terms, within bounds, and not over yet."""
    package, bounds = read.package, read.terms.signoff.standing
    same = (signed.partner, signed.stream) == (package.partner, package.stream)
    same = same and (signed.profile, signed.terms) == (read.policies.profile, read.policies.terms)
    theirs = signed.approver == vote.approver and signed.time == vote.signed_at and vote.on_behalf_of is None
    holds = same and theirs and vote.at < signed.until and not read.facts.get("brake")  # what is unusual asks people, always
    holds = holds and not outside(package, vote.extent, read.terms)
    if bounds is not None:
        holds = holds and signed.until - signed.time <= timedelta(days=bounds.days) + OLDEST_SIGNATURE + SKEW
    return _check(
        f"vote of {shown(vote.seat.text)}, beforehand",
        holds and vote.decision is Decision.APPROVE,
        f"it was signed off beforehand, until {iso(signed.until)}; these documents lie within the bounds: "
        + "; ".join(bounds.told if bounds else ()),
        "what was signed beforehand is not about this release: another stream, other terms, out of bounds, or over",
    )


def _worded(read: _Read, people: PeopleFile | None) -> bool:
    """True if what people read of votes and requester is what stands there for programs; names only with a people file."""
    facts, zone = read.facts, read.facts["timezone"]
    told, requester = facts["votes"], facts["requester"]
    honest: bool = facts["issued_local"] == local(datetime.fromisoformat(facts["issued"]), zone)
    for one, vote in zip(told, read.votes, strict=True):
        expected = _vote(vote, people or PeopleFile(people=()), zone)
        names = {} if people else {name: one[name] for name in ("name", "on_behalf_of_name")}
        honest = honest and one == expected | names
    if requester is None:
        return honest
    asker = Requester(requester["id"], SignoffProof(requester["proof"]) if requester["proof"] else None)
    person = people.get(asker.id) if people else None
    named = people is None or requester["name"] == (person.name if person else "")
    return honest and named and bool(requester["in_words"] == asker.in_words)


def _claim(vote: Vote, package: Package) -> Claim | None:
    covered = vote.covered(package.destinations)
    if vote.proof is not SignoffProof.SIGNATURE or covered is None or vote.signed_at is None:
        return None
    text, namespace = covered
    return Claim(vote.approver, vote.key, text, vote.signature, vote.signed_at, namespace)


def _quorum(read: _Read) -> Check:
    """One person one vote, every stage complete, no rejection; groups are the sender's word, as is everything about people."""
    seen: set[str] = set()
    policy = read.terms.signoff.braked if read.facts.get("brake") else read.terms.signoff
    reached = [0] * len(policy.stages)
    for vote in read.votes:
        person = {vote.approver, vote.seat.principal}
        if seen & person:
            return Check("quorum", False, f"{shown(vote.seat.text)} is counted twice")
        seen |= person
        if not vote.decision.approves:
            return Check("quorum", False, f"{shown(vote.seat.text)} did not approve")
        if vote.proof is SignoffProof.CODE and read.terms.signoff.proof is SignoffProof.SIGNATURE:
            return Check("quorum", False, f"{shown(vote.seat.text)} gave a code, and the stream asks for signatures")
        if vote.stage is None or not 0 <= vote.stage < len(reached):
            return Check("quorum", False, f"{shown(vote.seat.text)} signed in no stage of this sign-off")
        reached[vote.stage] += 1
    for stage, count in zip(policy.stages, reached, strict=True):
        if count < stage.quorum:
            return Check("quorum", False, f"{shown(stage.name)}: {count} of {stage.quorum} signed")
    return Check("quorum", True, f"{len(read.votes)} different people signed; every stage is complete")


def _delivery_checks(read: _Read) -> list[Check]:
    told = read.facts["deliveries"]
    places = len(read.package.destinations)
    wanted = {(place, name_b64(file.name)): file.sha256 for place in range(places) for file in read.released}
    found = {(one["destination"], one["source_b64"]): one for one in told}
    complete = wanted.keys() == found.keys() and len(told) == len(found)
    deliveries = [_delivered(one) for one in told]
    words = weakest(deliveries)
    honest = [_delivery(one, read.facts["timezone"]) for one in deliveries] == told and read.facts["weakest"] == words
    approved = all(one["approved"] == wanted.get(place) for place, one in found.items())
    return [
        _check(
            "deliveries",
            complete,
            f"{len(read.released)} documents at {places} destinations, all of them",
            "documents are missing at a destination, or are there that nobody approved",
        ),
        _check(
            "bytes",
            approved and honest and words != MISMATCH_WORDS,
            f"what was approved was read and sent; weakest link: {words}",
            "a document was delivered with other bytes than were approved, or its ticks say more than its digests",
        ),
    ]


def _delivered(one: Mapping[str, Any]) -> Delivered:
    return Delivered(
        destination=one["destination"],
        name=base64.b64decode(one["name_b64"], validate=True),
        source=base64.b64decode(one["source_b64"], validate=True),
        approved=one["approved"],
        read=one["read"],
        sent=one["sent"],
        proof=Proof(one["proof"]),
        proven=one["proven"],
        at=datetime.fromisoformat(one["at"]),
        collected=one["collected"],
        said=Said.parse(one.get("said")),
    )


def _document(name: str, digest: str, read: _Read) -> Check:
    released = [file.shown for file in read.released if file.sha256 == digest.casefold()]
    if released:
        return Check(f"document {shown(name)}", True, f"its bytes were approved and released as {released[0]}")
    known = any(file.sha256 == digest.casefold() for file in read.package.files)
    words = "its bytes were left out of the release" if known else "its bytes are not among those that were approved"
    return Check(f"document {shown(name)}", False, words)


# --------------------------------------------------------------------------------------------- printing one


def page(text: str) -> str:
    """The certificate as one HTML page to print. Shows what the file says; ``verify`` says whether that is true.

    No script, no outside resource. Raises ``ValueError`` for a text that is no certificate.
    """
    title, body = printed(text)
    return begin(title) + body + END


def printed(text: str) -> tuple[str, str]:
    """Title and body of that page. Raises ``ValueError`` likewise."""
    try:
        facts = _read(text)
        package = Package.parse(canonical(facts["package"]))
        return f"Sign-off {package.digits}", "\n".join(_sections(facts, package, certificate_hash(text)))
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"this is not a whole certificate: {shown(str(error))[:200]}") from error


def _sections(facts: Mapping[str, Any], package: Package, hash: str) -> list[str]:
    requester = facts["requester"]
    asked = (
        f"{literally(requester['name'] or requester['id'])} ({literally(requester['in_words'])})"
        if requester
        else "a schedule or event"
    )
    return [
        f"<h1>Sign-off of package {code(package.digits)}</h1>",
        table(
            [
                ("Partner, stream", f"{code(package.partner)}, {code(package.stream)}"),
                *([("Kit", code(package.kit))] if package.kit else []),
                ("Order, journey, run", f"{code(package.order)}, {code(package.journey)}, {code(facts['run'])}"),
                ("Asked for by", asked),
                *([("One more signature, for", code("; ".join(facts["brake"])))] if facts.get("brake") else []),
                *(_again(package.redelivery) if package.redelivery else []),
                *(_corrects(package.corrects) if package.corrects else []),
                ("Package digest", code(package.digest)),
                ("Policy digest", code(package.policy)),
                ("Issued", when(facts["issued"], facts["issued_local"])),
                ("Weakest link of the delivery", literally(facts["weakest"])),
            ]
        ),
        "<h2>Who decided</h2>",
        *(table(_signature(told, facts)) for told in facts["votes"]),
        "<h2>Where it went</h2>",
        table(
            [
                (str(n), f"{code(place.shown)}, key {code(place.key_fingerprint or 'none')}")
                for n, place in enumerate(package.destinations, 1)
            ]
        ),
        "<h2>What was released</h2>",
        table(
            [
                (code(label), _file(file))
                for label, file in zip(package.labels, package.files, strict=True)
                if label not in facts["left_out"]
            ]
        ),
        *(
            ["<h2>What was left out</h2>", table([("", code(label)) for label in facts["left_out"]])]
            if facts["left_out"]
            else []
        ),
        "<h2>How we know it arrived</h2>",
        table([(code(one["name"]), _arrival(one)) for one in facts["deliveries"]]),
        "<h2>Seal</h2>",
        table(
            [
                ("Sender's key (Ed25519)", code(facts["seal"]["public_key"])),
                ("Seal", code(facts["seal"]["signature"])),
                ("This certificate's hash", code(hash)),
                ("The stream's certificate before", code(facts["previous"] or "none: this is the first")),
            ]
        ),
        "<p>This page shows what the file says. <code>countersign verify-signoff</code> says whether that is true.</p>",
    ]


def _again(told: Redelivery) -> list[tuple[str, str]]:
    why = f"attempt {told.attempt}, {code(told.by or 'nobody')} says (as stated): {code(told.reason)}"
    return [("Redelivery of", f"order {code(told.order)}, package {code(told.package)}"), ("Why again", why)]


def _corrects(told: Correction) -> list[tuple[str, str]]:
    why = f"{code(told.by or 'nobody')} says (as stated): {code(told.reason)}"
    return [("Correction of", f"order {code(told.order)}, package {code(told.package)}"), ("Why", why)]


def _beforehand(vote: Vote, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was signed for releases to come, and what this one came to."""
    if vote.standing is None:
        return []
    bounds = StandingTerms.model_validate(facts["terms"]["signoff"]["standing"])
    found = vote.extent or Extent()
    words = [
        *found.doctypes,
        *([f"{found.rows:,} rows"] if found.rows is not None else []),
        *([f"{found.value:,.15g} in column {bounds.value.column}"] if bounds.value and found.value is not None else []),
    ]
    return [
        ("Given beforehand", f"on {code(iso(vote.standing.time))}, until {code(iso(vote.standing.until))}"),
        ("Within these bounds", code("; ".join(bounds.told))),
        *([("This release, as the sender found it", code(", ".join(words)))] if words else []),
    ]


def _signature(told: Mapping[str, Any], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    vote = Vote.parse(told["vote"])
    behalf = f" on behalf of {literally(told['on_behalf_of_name'])} ({code(vote.on_behalf_of)})" if vote.on_behalf_of else ""
    return [
        (
            f"{literally(told['name'])} ({code(vote.approver)}){behalf}",
            f"<strong>{literally(vote.decision.value)}</strong>, as {literally(vote.meaning.value)}",
        ),
        ("When", when(iso(vote.at), told["at_local"])),
        *_beforehand(vote, facts),
        *([("Comment", code(vote.comment))] if vote.comment else []),
        ("Proof", literally(told["in_words"])),
        ("Digest of what was shown", code(vote.shown)),
        *([("Signed with", code(vote.key)), ("Signature", code(vote.signature))] if vote.signature else []),
        ("Sealed by the sender", code(vote.seal)),
    ]


def _file(file: PackageFile) -> str:
    place = f"slot {code(file.slot)}, " if file.slot else ""
    return f"{place}{file.size:,} bytes, version {file.version} of {code(file.repository_id)}<br>SHA-256 {code(file.sha256)}"


def _arrival(one: Mapping[str, Any]) -> str:
    marks = ", ".join(
        f"{literally(name)} {'✓' if ok is True else '<span class=no>–</span>'}" for name, ok in one["ticks"].items()
    )
    said = one.get("said")
    who = f"<br>{literally(said['by'])} says so: {literally(said['comment'])}" if said else ""
    place = f"destination {one['destination'] + 1}, {when(one['at'], one['at_local'])}"
    return f"{marks}<br>{literally(one['in_words'])}{who}<br>{place}"
