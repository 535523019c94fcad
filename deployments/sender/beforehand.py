"""Standing sign-offs: what people sign beforehand for a stream, and which releases it is good for.

::

    a person signs the stream's terms, with their bounds, until a moment ── kept here
    a package of the stream is opened, within the bounds ── a sealed vote of each who has signed, and policy asks for the rest

Only a signature is taken, and in a namespace of its own. A code would bind nothing: whoever reads one that was typed for a single
release could make of it a word for all releases to come. The bounds stand in the reviewed terms; with any change of these nothing that
was signed is good any more. Votes are counted like all others: not the requester's nor an editor's, nor of who has left.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blocks.errors import SendRefused
from blocks.outbound import (
    STANDING_NAMESPACE,
    Decision,
    Matter,
    Meaning,
    Outbound,
    Package,
    PeopleFile,
    Policies,
    ProposedVote,
    Refusal,
    SignoffProof,
    StandingSignoff,
    Vote,
    on,
    sha256,
)
from blocks.profile import load_partner, policies_of
from blocks.seals import SealKey
from deployments.people import load_people
from deployments.sender.proofs import signer
from deployments.sender.store import Bench, SignedBeforehand, Store
from tasks.rules.policy import standing
from tasks.rules.signing import PROOF_REFUSED, timely, unpasted

OLDEST_SIGNATURE = timedelta(minutes=10)
"""It is handed in as soon as it is made: one that was kept is signed anew."""
_DAY = timedelta(hours=24)

NOT_AGREED = Refusal("not-agreed", "The reviewed terms of this stream let nothing be signed off beforehand.")
UNKNOWN = Refusal("unknown-approver", "This person is not among those who may sign on this stream today.")
SIGNATURE_WANTED = Refusal("signature-wanted", "Only an SSH signature signs beforehand: a code binds nothing.")
TOO_LONG = Refusal("too-long", "This is not a moment to come, or is further away than the reviewed terms allow.")
REVOKED = Refusal("revoked", "This was revoked. Sign anew.")


class Beforehand:
    """Takes and ends what is signed beforehand."""

    def __init__(self, store: Store, profiles: Path) -> None:
        self._store, self._profiles = store, profiles

    def sign(self, partner: str, stream: str, approver: str, until: datetime, proof: str) -> StandingSignoff | Refusal:
        """Keep it, or say why it is none. Raises ``SendRefused`` if there is no such stream."""
        profile, people, now = load_partner(partner, self._profiles), load_people(self._profiles), datetime.now(UTC)
        terms = profile.outbound.get(stream)
        if terms is None:
            raise SendRefused(f"{partner}: the reviewed profile has no outbound stream {stream[:80]!r}")
        person = people.get(approver)
        if terms.signoff.standing is None:
            return NOT_AGREED
        groups = {group for stage in terms.signoff.stages for group in stage.groups}
        if person is None or not on(people.day(now), person.valid_from, person.valid_until) or groups.isdisjoint(person.groups):
            return UNKNOWN
        if not now < until <= now + timedelta(days=terms.signoff.standing.days):
            return TOO_LONG
        told = unpasted(proof)
        if told is None:
            return SIGNATURE_WANTED
        signed = _statement(partner, stream, policies_of(profile, stream, people), approver, until, told[0])
        if not timely(told[0], asked_at=now - OLDEST_SIGNATURE, now=now):
            return PROOF_REFUSED
        key = signer(person, people, signed.text, told[1], now, STANDING_NAMESPACE)
        if key is None:
            return PROOF_REFUSED
        with self._store.bench() as bench:
            kept = bench.sign_beforehand(SignedBeforehand(signed, key, told[1]), now)
        return signed if kept.revoked is None else REVOKED


def _statement(partner: str, stream: str, now: Policies, approver: str, until: datetime, time: datetime) -> StandingSignoff:
    return StandingSignoff(
        partner=partner, stream=stream, profile=now.profile, terms=now.terms, approver=approver, until=until, time=time
    )


def stand_in(matter: Matter, terms: Outbound, people: PeopleFile, policies: Policies, bench: Bench, key: SealKey) -> None:
    """Give the votes that were signed beforehand for a package that is opened just now, by our own clock and record."""
    package, bounds, now = matter.package, terms.signoff.standing, datetime.now(UTC)
    # What was left out, goes once more or corrects what went was looked at by people: they go on with it.
    if bounds is None or package.redelivery or package.corrects or package.order != package.root_order:
        return
    if matter.brake or len(package.files) > bounds.files or package.size > bounds.size_bytes:
        return
    if bench.stood(package.partner, package.stream, now - _DAY) >= bounds.per_day:
        return
    good = {
        given.signed.approver: given
        for given in bench.standing(package.partner, package.stream)
        if given.revoked is None
        and given.signed.until > now
        and (given.signed.profile, given.signed.terms) == (policies.profile, policies.terms)
    }
    votes: list[Vote] = []
    while True:
        far = standing(matter, terms.signoff, people, votes, now)
        able = [good[seat.approver] for seat in far.may_sign if seat.on_behalf_of is None and seat.approver in good]
        if far.stage is None or not able:
            break
        votes.append(_vote(able[0], package, far.stage, len(votes), now, key))
    bench.stand(package, votes, now)


def _vote(given: SignedBeforehand, package: Package, stage: int, number: int, now: datetime, key: SealKey) -> Vote:
    signed = given.signed
    proposed = ProposedVote(
        package=package.digest,
        run="",
        round=number,
        approver=signed.approver,
        on_behalf_of=None,
        stage=stage,
        decision=Decision.APPROVE,
        meaning=Meaning.RELEASE,
        left_out=(),
        comment="",
        at=now,
        shown=sha256(signed.text),
    )
    vote = proposed.proven(SignoffProof.SIGNATURE, key=given.key, signature=given.signature, signed_at=signed.time)
    vote = replace(vote, standing=signed)
    return replace(vote, seal=base64.b64encode(key.sign(vote.text.encode("ascii"))).decode())


def check_revoked(package: Package, votes: list[Vote], store: Store) -> None:
    """Raise ``SendRefused`` for a vote that was signed beforehand and has been revoked since, if nothing has left yet."""
    mine = {vote.standing.id for vote in votes if vote.standing is not None}
    if not mine or store.parcels(package.digest):
        return
    if any(given.revoked is not None and given.signed.id in mine for given in store.standing(package.partner, package.stream)):
        raise SendRefused(
            f"package {package.digits}: what was signed off beforehand was revoked since; nothing was sent. Order it anew"
        )
