"""An answer judged: whose it is, whether it is proven, and what it counts for. What comes out is a sealed vote, or a refusal."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blocks.errors import CountersignError, SendRefused
from blocks.outbound import Answer, Matter, Outbound, Package, PeopleFile, Policies, Refusal, Round, Vote
from blocks.profile import PartnerProfile, load_partner, policies_of
from blocks.seals import SealKey, signed
from blocks.values import shown as plainly
from deployments.people import load_people
from deployments.sender.proofs import Claim, Held, kind_of, signature_holds
from deployments.sender.store import Bench, Store
from tasks.rules.certificate import Claim as SignatureClaim
from tasks.rules.policy import Attempt, admissible, eligible, four_eyes, locked, reads
from tasks.rules.signing import PROOF_REFUSED, answer_hash, codes_seen, parse_answer, statement

OLDEST_ANSWER = timedelta(hours=1)
"""An answer that waited longer for a worker is asked for again: whoever calls us says when it was given, and may lie."""

_SKEW = timedelta(minutes=2)

CHANGED = Refusal(
    "answer-changed", "This round was judged already, on another answer. Please answer the form that is open now."
)
OUT_OF_TIME = Refusal("out-of-time", "The answer waited too long before anybody could judge it. Please answer again.")


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
    """Judges each round once, and remembers how."""

    def __init__(self, store: Store, profiles: Path) -> None:
        self._store, self._profiles = store, profiles

    def judge(
        self,
        raw: Mapping[str, Any],
        matter: Matter,
        policies: Policies,
        asked: Round,
        votes: Iterable[Vote],
        *,
        asked_at: datetime,
        at: datetime,
        shown: str,
    ) -> Vote | Refusal:
        """The sealed vote that this answer is, or why it is none. Every code in it is burnt, whatever becomes of it."""
        now = datetime.now(UTC)
        try:
            agreed = reviewed(matter.package, policies, self._profiles)
            with self._store.bench() as bench:
                fresh = frozenset([code for code in codes_seen(raw) if bench.burn(code, now)])
                if before := bench.judged(asked.run, asked.key):
                    return before[1] if before[0] == answer_hash(raw) else CHANGED
                case = _Case(agreed, matter, asked, self._all(bench.votes(asked.digest), votes, matter.package), fresh)
                outcome = self._outcome(raw, case, bench, asked_at=asked_at, at=at, now=now, shown=shown)
                bench.keep(asked, answer_hash(raw), outcome, now)
                return outcome
        except CountersignError:
            with self._store.bench() as bench:  # what was kept above is gone; that the code was seen must not be
                for code in codes_seen(raw):
                    bench.burn(code, now)
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

    def _outcome(
        self, raw: Mapping[str, Any], case: _Case, bench: Bench, *, asked_at: datetime, at: datetime, now: datetime, shown: str
    ) -> Vote | Refusal:
        answer = parse_answer(raw)
        if isinstance(answer, Refusal):
            return answer
        if not now - OLDEST_ANSWER <= at <= now + _SKEW:
            return OUT_OF_TIME
        policy, people, matter = case.agreed.terms.signoff, case.agreed.people, case.matter
        refused = (
            four_eyes(matter, policy, people)
            or locked(answer.seat.approver, bench.attempts(answer.seat.approver), now)
            or eligible(answer.seat, matter, policy, people, at)
            or reads(answer, matter.package)
        )
        if refused is not None:
            return refused
        held = self._proof(answer, case, bench, asked_at=asked_at, at=at)
        bench.tried(Attempt(answer.seat.approver, now, right=held is not None))
        if held is None:
            return PROOF_REFUSED
        proposed = admissible(answer, matter, policy, people, case.votes, case.asked, at=at, shown=shown)
        if isinstance(proposed, Refusal):
            return proposed
        return _sealed(
            proposed.proven(held.proof, key=held.key, signature=held.signature, signed_at=held.signed_at), self._store.seal_key
        )

    def _proof(self, answer: Answer, case: _Case, bench: Bench, *, asked_at: datetime, at: datetime) -> Held | None:
        person = case.agreed.people.get(answer.seat.approver)
        kind = kind_of(answer.proof, case.agreed.terms.signoff.proof)
        if person is None or kind is None:
            return None
        claim = Claim(
            person=person,
            people=case.agreed.people,
            proof=answer.proof,
            fresh=case.fresh,
            asked_at=asked_at,
            at=at,
            statement=lambda time: statement(answer, case.matter, case.asked, time),
        )
        return kind.holds(claim, bench)


@dataclass(frozen=True, slots=True)
class _Case:
    """What stands around one answer."""

    agreed: Reviewed
    matter: Matter
    asked: Round
    votes: list[Vote]
    fresh: frozenset[str]


def _sealed(vote: Vote, key: SealKey) -> Vote:
    return replace(vote, seal=base64.b64encode(key.sign(vote.text.encode("ascii"))).decode())


def check_vote(vote: Vote, package: Package, key: SealKey) -> None:
    """Raise ``SendRefused`` unless this vote was sealed here, and its signature holds. Whose vote it is, policy asks."""
    who = f"the vote of {plainly(vote.seat.text)} on package {package.digits}"
    try:
        seal = base64.b64decode(vote.seal, validate=True)
    except ValueError:
        seal = b""
    if not signed(key.public, vote.text.encode("ascii"), seal):
        raise SendRefused(f"{who} does not bear this sender's seal; nothing was sent. Ask for the sign-off again")
    covered = vote.statement(package.destinations)
    if covered is not None:
        claim = SignatureClaim(vote.approver, vote.key, covered.text, vote.signature, vote.at)
        if not signature_holds(claim):
            raise SendRefused(f"{who}: its signature does not hold; nothing was sent. Ask for the sign-off again")
