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
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blocks.errors import SendRefused
from blocks.outbound import (
    STANDING_NAMESPACE,
    Decision,
    DeedKind,
    Extent,
    HeldStanding,
    Matter,
    Meaning,
    Outbound,
    Package,
    PeopleFile,
    Policies,
    ProposedVote,
    Refusal,
    SignoffProof,
    StandingBook,
    StandingEnd,
    StandingSignoff,
    Vote,
    iso,
    on,
    sha256,
)
from blocks.profile import PartnerProfile, load_partner, policies_of
from blocks.seals import SealKey
from deployments.people import load_people
from deployments.sender.proofs import signer
from deployments.sender.store import Bench, SignedBeforehand, Step, Store
from tasks.rules.beforehand import outside
from tasks.rules.policy import holds_key, standing
from tasks.rules.signing import OLDEST_SIGNATURE, PROOF_REFUSED, codes_seen, timely, unpasted

_DAY = timedelta(hours=24)

NOT_AGREED = Refusal("not-agreed", "The reviewed terms of this stream let nothing be signed off beforehand.")
UNKNOWN = Refusal("unknown-approver", "This person is not among those who may sign on this stream today.")
SIGNATURE_WANTED = Refusal("signature-wanted", "Only an SSH signature signs beforehand: a code binds nothing.")
TOO_LONG = Refusal("too-long", "This is not a moment to come, or is further away than the reviewed terms allow.")
REVOKED = Refusal("revoked", "This was ended. Sign anew.")
NOT_YOURS = Refusal("not-yours", "You have signed nothing like that beforehand on this stream, or it is ended already.")


class Beforehand:
    """Takes and ends what is signed beforehand."""

    def __init__(self, store: Store, profiles: Path) -> None:
        self._store, self._profiles = store, profiles

    def sign(self, partner: str, stream: str, approver: str, until: datetime, proof: str) -> StandingSignoff | Refusal:
        """Keep it, or say why it is none. Raises ``SendRefused`` if there is no such stream. A code in it is burnt, as elsewhere."""
        self._burn(proof)
        profile, people, now = load_partner(partner, self._profiles), load_people(self._profiles), datetime.now(UTC)
        terms = profile.outbound.get(stream)
        if terms is None:
            raise SendRefused(f"{partner}: the reviewed profile has no outbound stream {stream[:80]!r}")
        outcome = self._sign(profile, stream, people, approver, until, proof, now)
        if isinstance(outcome, Refusal):
            with self._store.bench() as bench:
                # Of an id that nobody has, nothing is repeated: whoever may call us could fill the ledger with them.
                known = approver if people.get(approver) else ""
                bench.note(DeedKind.REFUSED, partner, stream, known, {"code": outcome.code}, now)
        return outcome

    def _sign(
        self,
        profile: PartnerProfile,
        stream: str,
        people: PeopleFile,
        approver: str,
        until: datetime,
        proof: str,
        now: datetime,
    ) -> StandingSignoff | Refusal:
        partner, terms, person = profile.name, profile.outbound[stream], people.get(approver)
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

    def end(self, partner: str, stream: str, approver: str, ends: tuple[str, ...], proof: str) -> int | Refusal:
        """End what a person has signed, because they say so with a key of theirs; how many that are, or why it does not count."""
        self._burn(proof)
        people, now = load_people(self._profiles), datetime.now(UTC)
        person, told = people.get(approver), unpasted(proof)
        if person is None:
            return UNKNOWN
        if told is None:
            return SIGNATURE_WANTED
        text = StandingEnd(partner=partner, stream=stream, approver=approver, ends=tuple(sorted(set(ends))), time=told[0]).text
        if not timely(told[0], asked_at=now - OLDEST_SIGNATURE, now=now):
            return PROOF_REFUSED
        key = signer(person, people, text, told[1], now, STANDING_NAMESPACE)
        if key is None:
            return PROOF_REFUSED
        proven = {"text": text, "key": key, "signature": told[1]}
        with self._store.bench() as bench:
            ended = _end(
                bench, partner, stream, lambda one: one.approver == approver and one.id in ends, person.id, proven, now
            )
        return ended or NOT_YOURS

    def revoke(self, partner: str, stream: str, approver: str, by: str) -> int:
        """End what somebody, or with an empty id everybody, has signed beforehand for a stream, for operations; how many that are."""
        with self._store.bench() as bench:
            return _end(bench, partner, stream, lambda one: approver in ("", one.approver), by, {}, datetime.now(UTC))

    def book(self, partner: str, stream: str) -> StandingBook:
        """What was signed beforehand for a stream, and what it was used for."""
        used = self._store.used(partner, stream)
        held = [
            HeldStanding(one.signed, f"{iso(one.revoked)} by {one.by}" if one.revoked else "", used.get(one.signed.id, 0))
            for one in self._store.standing(partner, stream)
        ]
        with self._store.bench() as bench:
            return StandingBook(tuple(held), bench.stood(partner, stream, datetime.now(UTC) - _DAY))

    def _burn(self, proof: str) -> None:
        with self._store.bench() as bench:
            for code in codes_seen({"proof": proof}):
                bench.burn(code, datetime.now(UTC))


def _end(
    bench: Bench,
    partner: str,
    stream: str,
    meant: Callable[[StandingSignoff], bool],
    by: str,
    proven: dict[str, str],
    now: datetime,
) -> int:
    """End those that are meant and not ended yet. ``proven``: with what their signer has; empty for operations."""
    mine = [one.signed for one in bench.standing(partner, stream) if one.revoked is None and meant(one.signed)]
    count = bench.end_beforehand(mine, by, now)
    kind = DeedKind.ENDED if proven else DeedKind.REVOKED
    for signed in mine:
        bench.note(kind, partner, stream, signed.approver, {"standing": signed.id, "by": by, **proven}, now)
    return count


def _statement(partner: str, stream: str, now: Policies, approver: str, until: datetime, time: datetime) -> StandingSignoff:
    return StandingSignoff(
        partner=partner, stream=stream, profile=now.profile, terms=now.terms, approver=approver, until=until, time=time
    )


def stand_in(
    matter: Matter, extent: Extent, terms: Outbound, people: PeopleFile, policies: Policies, bench: Bench, key: SealKey
) -> tuple[str, ...]:
    """Give the votes that were signed beforehand for a package that is opened just now, by our own clock and record.

    Returns why what somebody has signed is not good for it, in words; empty if it is, or nobody has.
    """
    package, bounds, now = matter.package, terms.signoff.standing, datetime.now(UTC)
    if bounds is None:
        return ()
    good = {
        given.signed.approver: given  # the newest one that is good
        for given in bench.standing(package.partner, package.stream)
        if given.revoked is None
        and given.signed.until > now
        and (given.signed.profile, given.signed.terms) == (policies.profile, policies.terms)
        and (person := people.get(given.signed.approver)) is not None
        and holds_key(person, given.key, people.day(now))
    }
    why = [*outside(package, extent, terms)]
    if (count := bench.stood(package.partner, package.stream, now - _DAY)) >= bounds.per_day:
        why.append(f"{count} releases have gone by it within 24 hours, or wait to")
    if why or matter.brake or not good:  # what is unusual, people are told as such
        return tuple(why) if good else ()
    votes: list[Vote] = []
    while True:
        far = standing(matter, terms.signoff, people, votes, now)
        able = [seat.approver for seat in far.may_sign if seat.on_behalf_of is None and seat.approver in good]
        if far.stage is None or not able:
            break
        # Each once: should policy not count somebody's vote, the next one is asked for, and this comes to an end.
        votes.append(_vote(good.pop(able[0]), package, extent, far.stage, len(votes), now, key))
    bench.stand(package, votes, now)
    return ()


def _vote(
    given: SignedBeforehand, package: Package, extent: Extent, stage: int, number: int, now: datetime, key: SealKey
) -> Vote:
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
    vote = replace(vote, standing=signed, extent=extent)
    return replace(vote, seal=base64.b64encode(key.sign(vote.text.encode("ascii"))).decode())


def depart(package: Package, votes: list[Vote], terms: Outbound, store: Store) -> None:
    """Write down that a package leaves now. Raises ``SendRefused`` if what was signed beforehand for it is good no more.

    That is asked before the first byte, and with each further try until something of it may stand at the partner under its own name:
    then the rest goes too. So no worker prolongs a sign-off, or hoards releases, by sending what was opened long ago.
    """
    if any(parcel.step not in (Step.INTENDED, Step.UPLOADED) for parcel in store.parcels(package.digest)):
        return
    now = datetime.now(UTC)
    with store.bench() as bench:
        problem = _good_no_more(package, [vote.standing for vote in votes if vote.standing is not None], terms, bench, now)
        if problem:
            raise SendRefused(f"package {package.digits}: {problem}; nothing was sent. Order it anew")
        bench.depart(package, now)


def _good_no_more(package: Package, mine: list[StandingSignoff], terms: Outbound, bench: Bench, now: datetime) -> str:
    """Why a package may not leave by what was signed beforehand; "" if it may, or if nothing was."""
    if not mine:
        return ""
    revoked = {given.signed.id for given in bench.standing(package.partner, package.stream) if given.revoked is not None}
    if any(signed.id in revoked for signed in mine):
        return "what was signed off beforehand was revoked since"
    if over := [signed for signed in mine if signed.until <= now]:
        return f"what {over[0].approver} signed off beforehand was good until {iso(over[0].until)}"
    bounds = terms.signoff.standing
    if bounds is None or bench.departed(package, now - _DAY) >= bounds.per_day:
        return "as many releases of this stream as the terms allow have gone by what was signed off beforehand within a day"
    return ""
