"""Cases: who lets a refused document through, or puts it right, where the stream's reviewed terms want that proven.

::

    decision about these bytes, with a proof ── refused | sealed, and the same for ever for this round

Which document it is a worker says, and the seal says of which bytes it was said; whether it is filed then is not for us to do. What
counts as a proof, who may, and whether a code was seen before, is known here alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from blocks.case_signoff import CASE_NAMESPACE, CaseAction, CaseDecision, CaseSignoff
from blocks.errors import CountersignError, SendRefused
from blocks.outbound import PeopleFile, Refusal, canonical, on, sha256
from blocks.profile import load_partner
from blocks.values import CaseSignoffTerms
from deployments.people import load_people
from deployments.sender.judging import CHANGED, OUT_OF_TIME
from deployments.sender.proofs import Claim, Held, kind_of
from deployments.sender.store import Bench, Store
from tasks.rules.policy import Attempt, locked
from tasks.rules.signing import OLDEST_SIGNATURE, PROOF_REFUSED, SKEW, codes_seen

NOT_ONE_OF_THEM = Refusal(
    "not-in-group", "This person is not, or not today, among those who may release or correct documents of this stream."
)
NO_REASON = Refusal("incomplete", "Say why, in the comment: it is kept with the decision.")


class CaseJudge:
    """Judges who decides about a refused document, with the same proofs and the same locks as who signs a release."""

    def __init__(self, store: Store, profiles: Path) -> None:
        self._store, self._profiles = store, profiles

    def judge(self, decision: CaseDecision, comment: str, proof: str, round_key: str, *, at: datetime) -> CaseSignoff | Refusal:
        """The sealed sign-off, or why it is none. Every code in the answer is burnt, whatever becomes of it.

        Raises ``SendRefused`` where nothing was agreed about a proof: then nobody needs one.
        """
        answer = {"approver": decision.approver, "comment": comment, "proof": proof}
        try:
            terms, people = self._agreed(decision), load_people(self._profiles)
            with self._store.bench() as bench:
                now = datetime.now(UTC)  # only here, where we are alone: earlier wrong proofs must be earlier by the clock too
                fresh = _burnt(answer, bench, now)
                told = sha256(canonical([decision.about, answer]))
                if before := bench.case_judged(round_key):
                    return before[1] if before[0] == told else CHANGED
                outcome = self._outcome(decision, comment, _Given(proof, fresh, at), terms, people, bench, now)
                bench.keep_case(round_key, told, outcome, now)
                return outcome
        except CountersignError:
            with self._store.bench() as bench:  # what was kept above is gone; that the code was seen must not be
                _burnt(answer, bench, datetime.now(UTC))
            raise

    def burn(self, text: str) -> int:
        """Never accept any code of a text; how many these are."""
        with self._store.bench() as bench:
            return len(_burnt({"comment": text}, bench, datetime.now(UTC)))

    def _agreed(self, decision: CaseDecision) -> CaseSignoffTerms:
        stream = load_partner(decision.partner, self._profiles).inbound.get(decision.stream)
        if stream is None or stream.signoff is None:
            raise SendRefused(
                f"{decision.partner}: the reviewed profile has no inbound stream {decision.stream[:80]!r} with 'signoff'; nothing "
                "was judged"
            )
        if bool(decision.corrected) is not (decision.action is CaseAction.CORRECT):
            raise SendRefused(f"{decision.journey}: a correction names what it corrects it to, and a release does not")
        return stream.signoff

    def _outcome(
        self,
        decision: CaseDecision,
        comment: str,
        given: _Given,
        terms: CaseSignoffTerms,
        people: PeopleFile,
        bench: Bench,
        now: datetime,
    ) -> CaseSignoff | Refusal:
        approver = decision.approver
        if not comment.strip():
            return NO_REASON
        if not now - OLDEST_SIGNATURE <= given.at <= now + SKEW:
            return OUT_OF_TIME
        if (refused := locked(approver, bench.attempts(approver), now)) is not None:
            return refused
        person = people.get(approver)
        if person is None or not on(people.day(now), person.valid_from, person.valid_until):
            return NOT_ONE_OF_THEM
        if set(terms.groups).isdisjoint(person.groups):
            return NOT_ONE_OF_THEM
        kind, held = kind_of(given.proof, terms.proof), None
        if kind is not None:
            claim = Claim(
                person=person,
                people=people,
                proof=given.proof,
                fresh=given.fresh,
                asked_at=now - OLDEST_SIGNATURE,
                at=given.at,
                statement=decision.statement,
                namespace=CASE_NAMESPACE,
            )
            held = kind.holds(claim, bench)
        bench.tried(Attempt(approver, now, right=held is not None))
        if held is None:
            return locked(approver, bench.attempts(approver), now) or PROOF_REFUSED
        return self._sealed(decision, comment, held, now)

    def _sealed(self, decision: CaseDecision, comment: str, held: Held, now: datetime) -> CaseSignoff:
        told = {name: getattr(decision, name) for name in decision.about}
        signoff = CaseSignoff(
            **told,
            comment=comment,
            at=now,
            proof=held.proof,
            key=held.key,
            signature=held.signature,
            signed_at=held.signed_at,
        )
        return replace(signoff, seal=base64.b64encode(self._store.seal_key.sign(signoff.text.encode("ascii"))).decode())


@dataclass(frozen=True, slots=True)
class _Given:
    """What an answer proves itself with."""

    proof: str
    fresh: frozenset[str]
    """Codes in it that no answer has held before."""
    at: datetime
    """When it was answered."""


def _burnt(answer: Mapping[str, str], bench: Bench, now: datetime) -> frozenset[str]:
    """Burn every code of an answer; those that were never seen before."""
    return frozenset([code for code in codes_seen(answer) if bench.burn(code, now)])
