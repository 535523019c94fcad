"""An answer judged: whose it is, whether it is proven, and what it counts for. What comes out is a sealed vote, or a refusal.

::

    open (package) ── ask (round) ── judge (its answer) ── … ── send

What stands around an answer was told here before anybody could give it, or is our own: who asked for the release and who edited
it last (``open``), what the form shows (``ask``); when both happened and the deadline, by our clock. A caller cannot change any
of it afterwards.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blocks.errors import ConfigurationError, CountersignError, SendRefused
from blocks.outbound import (
    Answer,
    Destination,
    Extent,
    Matter,
    Outbound,
    Package,
    PackageFile,
    PeopleFile,
    Policies,
    Refusal,
    Requested,
    Requester,
    Round,
    Vote,
    canonical,
)
from blocks.profile import PartnerProfile, load_calendars, load_partner, policies_of
from blocks.seals import SealKey, signed
from blocks.sender import Opened
from blocks.values import shown as plainly
from deployments.people import load_people
from deployments.sender.beforehand import stand_in
from deployments.sender.braking import brakes
from deployments.sender.gauging import gauge
from deployments.sender.proofs import Claim, Held, kind_of
from deployments.sender.store import Asked, Bench, Opening, Store
from deployments.ssh_signatures import signature_holds
from tasks.rules.certificate import Claim as SignatureClaim
from tasks.rules.kits import not_the_kit
from tasks.rules.policy import Attempt, Moments, admissible, eligible, four_eyes, locked, moments, reads
from tasks.rules.signing import PROOF_REFUSED, answer_hash, codes_seen, parse_answer, statement

OLDEST_ANSWER = timedelta(hours=1)
"""An answer that waited longer for a worker is asked for again: whoever calls us says when it was given, and may lie.

It may not be older than its round either, give or take what two clocks may differ."""

_SKEW = timedelta(minutes=2)

CHANGED = Refusal(
    "answer-changed", "This round was judged already, on another answer. Please answer the form that is open now."
)
NEVER_ASKED = Refusal("never-asked", "The sender was never told of this round. Please answer the form that is open now.")
OUT_OF_TIME = Refusal(
    "out-of-time", "The answer waited too long before anybody could judge it, or our clocks differ. Please answer again."
)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What was agreed, from the sender's own copy of the reviewed files."""

    profile: PartnerProfile
    terms: Outbound
    people: PeopleFile
    policies: Policies


def reviewed(package: Package, policies: Policies, profiles: Path) -> Reviewed:
    """What is in force for a package. Raises ``SendRefused`` if it is not what the package was frozen under.

    A change of people does not void a package: it is asked of each vote.
    """
    profile, people = load_partner(package.partner, profiles), load_people(profiles)
    terms = profile.outbound.get(package.stream)
    if terms is None:
        raise SendRefused(
            f"{package.partner}: the reviewed profile has no outbound stream {package.stream!r}; nothing was sent"
        )
    if policies.digest != package.policy:
        raise SendRefused(
            f"package {package.digits}: the policies told with it are not those that it was frozen under; nothing was sent"
        )
    now = policies_of(profile, package.stream, people)
    if (policies.profile, policies.terms) != (now.profile, now.terms):
        raise SendRefused(
            f"package {package.digits}: the reviewed terms of {package.partner}/{package.stream} have changed since it was frozen. "
            "It is void and nothing was sent; gather it anew"
        )
    return Reviewed(profile, terms, people, now)


class Judge:
    """Holds what is asked, judges each round once, and remembers how."""

    def __init__(self, store: Store, profiles: Path, place: Callable[[str], Path]) -> None:
        """``place`` tells where the bytes of a digest stand in the workers' spool."""
        self._store, self._profiles, self._place = store, profiles, place

    def open(self, package: Package, policies: Policies, requester: Requester | None, editors: frozenset[str]) -> Opened:
        """Begin a package's sign-off: from now on its deadline runs. Asked again, it is answered the same.

        Raises ``SendRefused`` for what can never be sent, and for a second telling that differs from the first.
        """
        agreed, now = reviewed(package, policies, self._profiles), datetime.now(UTC)
        check_redelivery(package, self._store)
        check_kit(package, package.files, agreed.terms)
        # What is unusual is found out once: what is delivered while it waits changes nothing of what people were told.
        before = self._store.opening(package.digest)
        brake = before.brake if before else brakes(package, agreed.terms, self._store, self._place)
        told = Opening(requester.id if requester else None, editors, self._moments(now, agreed), brake)
        extent = Extent() if before else gauge(package, agreed.terms, self._store, self._place)
        with self._store.bench() as bench:
            asked = _request(package, bench)
            if asked and asked.kit != package.kit and package.redelivery is None:
                raise SendRefused(f"package {package.digits}: {asked.requester} asked for another kit; nobody is asked")
            others = {file.repository_id for file in package.files} - set(asked.ids if asked else ())
            # A redelivery may take the same bytes from the archive; that they are, was asked above.
            if asked and asked.ids and others and package.redelivery is None:
                raise SendRefused(
                    f"package {package.digits}: it holds documents that {asked.requester} did not ask for; nobody is asked"
                )
            if (refused := four_eyes(_matter(package, told, asked), agreed.terms.signoff, agreed.people)) is not None:
                raise SendRefused(f"package {package.digits}: {refused.first_line} Nobody is asked")
            fresh = bench.opening(package.digest) is None
            opening = bench.open(package, told, now)
            beyond: tuple[str, ...] = ()
            if fresh:  # only then: what waits for people stays theirs
                matter = _matter(package, opening, asked)
                beyond = stand_in(matter, extent, agreed.terms, agreed.people, agreed.policies, bench, self._store.seal_key)
            stood = tuple(vote for vote in bench.votes(package.digest) if vote.standing is not None)
        if opening.editors != told.editors or (asked is None and opening.requester != told.requester):
            raise SendRefused(
                f"package {package.digits}: it was opened with another requester or other editors than are told now; nobody is asked"
            )
        until = opening.moments
        requester = _matter(package, opening, asked).requester
        return Opened(requester, until.deadline, until.remind, until.widens, opening.brake, stood, beyond)

    def _moments(self, now: datetime, agreed: Reviewed) -> Moments:
        policy = agreed.terms.signoff
        try:
            return moments(now, policy, load_calendars(self._profiles) if policy.calendar else {})
        except ValueError as error:
            raise ConfigurationError(f"{agreed.profile.name}: {error}; nobody is asked") from error

    def ask(self, asked: Round, shown: str) -> datetime:
        """Hold a round before anybody can answer it; when it was told first. Raises ``SendRefused`` if it was told otherwise."""
        with self._store.bench() as bench:
            if bench.opening(asked.digest) is None:
                raise SendRefused(f"package {asked.digest[:8]}: its sign-off was never opened here; nobody is asked")
            held = bench.ask(Asked(asked, shown, datetime.now(UTC)))
        if (held.round, held.shown) != (asked, shown):
            raise SendRefused(
                f"package {asked.digest[:8]}: a round of this key was told of before, and it was another; nobody is asked"
            )
        return held.at

    def known(self, package: Package) -> Matter:
        """What is to be decided about a package, as we hold it. Raises ``SendRefused`` if its sign-off was never opened."""
        return known(package, self._store)

    def judge(
        self,
        raw: Mapping[str, Any],
        package: Package,
        policies: Policies,
        asked: Round,
        votes: Iterable[Vote],
        *,
        at: datetime,
    ) -> Vote | Refusal:
        """The sealed vote that this answer is, or why it is none. Every code in it is burnt, whatever becomes of it."""
        try:
            agreed = reviewed(package, policies, self._profiles)
            with self._store.bench() as bench:
                now = datetime.now(UTC)  # only here, where we are alone: earlier wrong proofs must be earlier by the clock too
                fresh = frozenset([code for code in codes_seen(raw) if bench.burn(code, now)])
                if before := bench.judged(asked.run, asked.key):
                    return before[1] if before[0] == answer_hash(raw) else CHANGED
                if bench.heard(asked):
                    return CHANGED  # a signature names run and number, not the key: it would be good for both
                opening, held = bench.opening(package.digest), bench.asked(asked)
                if opening is None or held is None or held.round != asked:
                    return NEVER_ASKED  # and asked anew, as after our state came back from a backup
                matter = _matter(package, opening, _request(package, bench), asked.run)
                case = _Case(agreed, matter, held, self._all(bench.votes(package.digest), votes, package), fresh)
                outcome = self._outcome(raw, case, bench, at=at, now=now)
                bench.keep(asked, answer_hash(raw), outcome, now)
                return outcome
        except CountersignError:
            with self._store.bench() as bench:  # what was kept above is gone; that the code was seen must not be
                for code in codes_seen(raw):
                    bench.burn(code, datetime.now(UTC))
            raise

    def votes(self, package: Package, told: Iterable[Vote]) -> list[Vote]:
        """Every vote on a package: those that a caller tells, and those that it does not. Raises ``SendRefused``."""
        return self._all(self._store.votes(package.digest), told, package)

    def _all(self, own: Iterable[Vote], told: Iterable[Vote], package: Package) -> list[Vote]:
        # A rejection that a caller keeps to itself counts all the same: it was sealed here.
        every = {vote.text: vote for vote in (*told, *own) if vote.package == package.digest}
        for vote in every.values():
            check_vote(vote, package, self._store.seal_key)
        return list(every.values())

    def _outcome(self, raw: Mapping[str, Any], case: _Case, bench: Bench, *, at: datetime, now: datetime) -> Vote | Refusal:
        answer = parse_answer(raw)
        if isinstance(answer, Refusal):
            return answer
        if not max(now - OLDEST_ANSWER, case.asked.at - _SKEW) <= at <= now + _SKEW:
            return OUT_OF_TIME
        policy, people, matter = case.agreed.terms.signoff, case.agreed.people, case.matter
        # When it was answered is told to us: nobody is in the wider circle before our own clock says so. A proof has clocks of its own.
        counts = min(at, now)
        refused = (
            four_eyes(matter, policy, people)
            or locked(answer.seat.approver, bench.attempts(answer.seat.approver), now)
            or eligible(answer.seat, matter, policy, people, counts)
            or reads(answer, matter.package)
        )
        if refused is not None:
            return refused
        held = self._proof(answer, case, bench, at)
        bench.tried(Attempt(answer.seat.approver, now, right=held is not None))
        if held is None:
            # The fifth one says so itself: whoever watches must hear of it now, and not when somebody tries once more.
            return locked(answer.seat.approver, bench.attempts(answer.seat.approver), now) or PROOF_REFUSED
        asked = case.asked
        proposed = admissible(answer, matter, policy, people, case.votes, asked.round, at=counts, shown=asked.shown)
        if isinstance(proposed, Refusal):
            return proposed
        return _sealed(
            proposed.proven(held.proof, key=held.key, signature=held.signature, signed_at=held.signed_at), self._store.seal_key
        )

    def _proof(self, answer: Answer, case: _Case, bench: Bench, at: datetime) -> Held | None:
        person = case.agreed.people.get(answer.seat.approver)
        kind = kind_of(answer.proof, case.agreed.terms.signoff.proof)
        if person is None or kind is None:
            return None
        claim = Claim(
            person=person,
            people=case.agreed.people,
            proof=answer.proof,
            fresh=case.fresh,
            asked_at=case.asked.at,
            at=at,
            statement=lambda time: statement(answer, case.matter, case.asked.round, time).text,
        )
        return kind.holds(claim, bench)


@dataclass(frozen=True, slots=True)
class _Case:
    """What stands around one answer."""

    agreed: Reviewed
    matter: Matter
    asked: Asked
    votes: list[Vote]
    fresh: frozenset[str]


def known(package: Package, store: Store) -> Matter:
    """What is to be decided about a package, as we hold it. Raises ``SendRefused`` if its sign-off was never opened."""
    opening = store.opening(package.digest)
    if opening is None:
        raise SendRefused(f"package {package.digits}: its sign-off was never opened here; nothing was sent")
    return _matter(package, opening, _request(package, store))


def _request(package: Package, held: Store | Bench) -> Requested | None:
    """The proven request for a package's order; a remainder goes with the order that it is left of.

    A redelivery has none, nor has a correction: who asked for the order then has not asked for this, and no request can name it.
    """
    if package.redelivery is not None or package.corrects is not None:
        return None
    return held.requested(package.partner, package.stream, package.root_order)


def _matter(package: Package, opening: Opening, asked: Requested | None, run: str = "") -> Matter:
    """What is to be decided. Who proved that they asked is the requester, whatever a worker says; a vote depends on no run."""
    stated = Requester(opening.requester) if opening.requester else None
    requester = Requester(asked.requester, asked.proof) if asked else stated
    until = opening.moments
    return Matter(package, run, requester, opening.editors, until.deadline, until.widens, opening.brake)


def _sealed(vote: Vote, key: SealKey) -> Vote:
    return replace(vote, seal=base64.b64encode(key.sign(vote.text.encode("ascii"))).decode())


def check_redelivery(package: Package, store: Store) -> None:
    """Raise ``SendRefused`` unless what goes once more did go: these bytes under these names, to each of its destinations.

    Of a correction the names did, with other bytes. Both are of the order that they say, which people and the partner read.
    """
    for told, verb in ((package.redelivery, "sends again"), (package.corrects, "corrects")):
        if told is not None:
            claimed = {(package.partner, package.stream, order.partition("~")[0]) for order in (told.order, package.order)}
            if claimed != {store.order_of(told.package)}:
                raise SendRefused(
                    f"package {package.digits}: it says that it {verb} what order {told.order} sent, but the package that it names "
                    "is none of this order; nobody is asked and nothing is sent"
                )
    for place in package.destinations:
        if (again := package.redelivery) is not None:
            went = _went(again.package, place, store)
            strange = [file.shown for file in package.files if (file.name, file.sha256) not in went]
            _stop(package, strange, f"sends again what order {again.order} sent", place, "with other bytes")
        if (wrong := package.corrects) is not None:
            went = _went(wrong.package, place, store)
            names = {name for name, _ in went}
            strange = [file.shown for file in package.files if file.name not in names or (file.name, file.sha256) in went]
            _stop(package, strange, f"corrects what order {wrong.order} sent", place, "with the same bytes")


def _stop(package: Package, strange: Sequence[str], claim: str, place: Destination, otherwise: str) -> None:
    if strange:
        raise SendRefused(
            f"package {package.digits}: it says that it {claim}, but {strange[0]} did not go to {place.shown} then, or {otherwise}; "
            "nobody is asked and nothing is sent"
        )


def _went(package: str, destination: Destination, store: Store) -> set[tuple[bytes | None, str]]:
    """Names and digests of the documents of a package, by its digest, that stood at a destination."""
    told = canonical(destination.facts)
    return {(parcel.source, parcel.digest) for parcel in store.parcels(package, told) if parcel.step.stood}


def check_kit(package: Package, files: Sequence[PackageFile], terms: Outbound) -> None:
    """Raise ``SendRefused`` unless these documents are the whole kit, as the reviewed profile has it."""
    if problem := not_the_kit(package, files, terms):
        raise SendRefused(f"package {package.digits}: {problem}; nobody is asked and nothing is sent")


def check_vote(vote: Vote, package: Package, key: SealKey) -> None:
    """Raise ``SendRefused`` unless this vote was sealed here, and its signature holds. Whose vote it is, policy asks."""
    who = f"the vote of {plainly(vote.seat.text)} on package {package.digits}"
    try:
        seal = base64.b64decode(vote.seal, validate=True)
    except ValueError:
        seal = b""
    if not signed(key.public, vote.text.encode("ascii"), seal):
        raise SendRefused(f"{who} does not bear this sender's seal; nothing was sent. Ask for the sign-off again")
    covered = vote.covered(package.destinations)
    if covered is not None:
        text, namespace = covered
        claim = SignatureClaim(vote.approver, vote.key, text, vote.signature, vote.at, namespace)
        if not signature_holds(claim):
            raise SendRefused(f"{who}: its signature does not hold; nothing was sent. Ask for the sign-off again")
