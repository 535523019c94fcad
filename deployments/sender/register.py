"""The register of orders whose requester is proven: whoever asked for a release never signs it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from blocks.errors import SendRefused
from blocks.outbound import REQUEST_NAMESPACE, Outbound, PeopleFile, Refusal, Request, Requested, on
from blocks.profile import load_partner
from deployments.people import load_people
from deployments.sender.proofs import Claim, Held, kind_of
from deployments.sender.store import Bench, Store
from tasks.rules.policy import Attempt, locked
from tasks.rules.signing import OLDEST_SIGNATURE, PROOF_REFUSED, codes_seen

UNKNOWN = Refusal("unknown-requester", "This person is not among those in the people file today.")
TAKEN = Refusal("order-taken", "This order was asked for already, by somebody else or with other documents. Choose another id.")
UNDER_WAY = Refusal("order-under-way", "This order is under way already, without a proven request. Choose another id.")
IDS_WANTED = Refusal("ids-wanted", "This stream takes its documents from the order: name each by its id in the repository.")
KIT_WANTED = Refusal("kit-wanted", "This stream releases kits: name one of those that its profile has.")
KIT_UNWANTED = Refusal("kit-unwanted", "This stream has no kits: name none.")
IDS_UNWANTED = Refusal("ids-unwanted", "This stream does not take its documents from the order: name none.")


class Register:
    """Judges who asks for a release, with the same proofs and the same locks as who signs it."""

    def __init__(self, store: Store, profiles: Path) -> None:
        self._store, self._profiles = store, profiles

    def request(self, asked: Request, proof: str) -> Requested | Refusal:
        """The sealed request, or why it is none. Every code in it is burnt, whatever becomes of it.

        Raises ``SendRefused`` if there is no such stream.
        """
        with self._store.bench() as bench:
            seen = codes_seen({"proof": proof})
            fresh = frozenset([code for code in seen if bench.burn(code, datetime.now(UTC))])
        terms, people = self._agreed(asked), load_people(self._profiles)
        with self._store.bench() as bench:
            now = datetime.now(UTC)  # only here, where we are alone: earlier wrong proofs must be earlier by the clock too
            if (refused := locked(asked.requester, bench.attempts(asked.requester), now)) is not None:
                return refused
            person = people.get(asked.requester)
            if person is None or not on(people.day(now), person.valid_from, person.valid_until):
                return UNKNOWN
            held = _held(asked, proof, fresh, terms, people, bench, now)
            bench.tried(Attempt(asked.requester, now, right=held is not None))
            if held is None:
                return locked(asked.requester, bench.attempts(asked.requester), now) or PROOF_REFUSED
            return self._kept(asked, held, terms, bench, now)

    def _agreed(self, asked: Request) -> Outbound:
        terms = load_partner(asked.partner, self._profiles).outbound.get(asked.stream)
        if terms is None:
            raise SendRefused(f"{asked.partner}: the reviewed profile has no outbound stream {asked.stream[:80]!r}")
        return terms

    def _kept(self, asked: Request, held: Held, terms: Outbound, bench: Bench, now: datetime) -> Requested | Refusal:
        before = bench.requested(asked.partner, asked.stream, asked.order)
        if before is not None:
            return before if before.asked == asked else TAKEN
        if bench.under_way(asked.partner, asked.stream, asked.order):
            return UNDER_WAY
        if bool(asked.ids) is not terms.gather.from_order:
            return IDS_WANTED if terms.gather.from_order else IDS_UNWANTED
        if asked.kit not in (terms.kits or {""}):
            return KIT_WANTED if terms.kits else KIT_UNWANTED
        proven = Requested(
            partner=asked.partner,
            stream=asked.stream,
            order=asked.order,
            ids=asked.ids,
            requester=asked.requester,
            at=now,
            proof=held.proof,
            key=held.key,
            signature=held.signature,
            signed_at=held.signed_at,
            kit=asked.kit,
        )
        seal = self._store.seal_key.sign(proven.text.encode("ascii"))
        proven = replace(proven, seal=base64.b64encode(seal).decode())
        bench.request(proven)
        return proven


def _held(
    asked: Request, proof: str, fresh: frozenset[str], terms: Outbound, people: PeopleFile, bench: Bench, now: datetime
) -> Held | None:
    """The proof, if it holds. What a stream's approvers must give, its requesters must give too."""
    person, kind = people.get(asked.requester), kind_of(proof, terms.signoff.proof)
    if person is None or kind is None:
        return None
    claim = Claim(
        person=person,
        people=people,
        proof=proof,
        fresh=fresh,
        asked_at=now - OLDEST_SIGNATURE,
        at=now,
        statement=asked.statement,
        namespace=REQUEST_NAMESPACE,
    )
    return kind.holds(claim, bench)
