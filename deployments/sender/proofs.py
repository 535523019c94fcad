"""Proofs that it is this person who decides: a code from a phone, or a signature with an SSH key. One interface.

A proof is judged for one approver at the moment of the answer. It says nothing about what the approver may do: that is policy.
Any proof that does not hold is refused in the same words, so that whoever tries learns nothing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import ClassVar
from zoneinfo import ZoneInfo

import pyotp

from blocks.outbound import NAMESPACE, PeopleFile, Person, PublicKey, SignoffProof
from deployments.sender.store import Bench
from deployments.ssh_signatures import verifies
from tasks.rules.signing import timely, unpasted

STEP_SECONDS = 30
_NEIGHBOURS = 1
"""Time steps before and after the present one that are accepted: a clock up to 30 s off always passes, one over 60 s never."""

_CODE = re.compile(r"[0-9]{6}")
_ISSUER = "Countersign"


@dataclass(frozen=True, slots=True)
class Claim:
    """What an answer says: this person, at this moment, proves this statement."""

    person: Person
    people: PeopleFile
    proof: str
    fresh: frozenset[str]
    """Codes in the answer that no answer has held before."""
    asked_at: datetime
    at: datetime
    """When it was answered."""
    statement: Callable[[datetime], str]
    """The text that a signature made at a given time covers."""
    namespace: str = NAMESPACE


@dataclass(frozen=True, slots=True)
class Held:
    """A proof that holds, and what a verifier needs of it."""

    proof: SignoffProof
    key: str = ""
    signature: str = ""
    signed_at: datetime | None = None


class ProofKind(ABC):
    """A way for a person to prove that a decision is theirs."""

    kind: ClassVar[SignoffProof]

    @abstractmethod
    def holds(self, claim: Claim, bench: Bench) -> Held | None:
        """The proof, if it is the person's own, fresh, and never used before. What it used up is kept on the bench."""


class Code(ProofKind):
    """A six-digit code that changes every 30 s (TOTP, RFC 6238), from the app that was enrolled.

    It binds neither decision nor files, only person and time.
    """

    kind = SignoffProof.CODE

    def holds(self, claim: Claim, bench: Bench) -> Held | None:
        code, seed = typed_code(claim.proof), bench.seed(claim.person.id)
        if code is None or code not in claim.fresh or seed is None:
            return None
        step = matching_step(seed, code, claim.at)
        return Held(self.kind) if step is not None and bench.spend(claim.person.id, step) else None


class Signature(ProofKind):
    """An SSH signature over the whole statement, as one line with the statement's time (``tasks.rules.signing.pasted``).

    The statement names run and round, so a signature is good for one round only.
    """

    kind = SignoffProof.SIGNATURE

    def holds(self, claim: Claim, bench: Bench) -> Held | None:
        told = unpasted(claim.proof)
        if told is None or not timely(told[0], asked_at=claim.asked_at, now=claim.at):
            return None
        key = signer(claim.person, claim.people, claim.statement(told[0]), told[1], claim.at, claim.namespace)
        return Held(self.kind, key, told[1], told[0]) if key else None


def kind_of(proof: str, wanted: SignoffProof) -> ProofKind | None:
    """How this proof is to be judged. A stronger one than the stream asks for is taken, a weaker one is not."""
    if unpasted(proof) is not None:
        return Signature()
    return Code() if wanted is SignoffProof.CODE else None


# --------------------------------------------------------------------------------------------- codes


def typed_code(proof: str) -> str | None:
    """The six digits of a typed code, blanks forgiven; None if it is no code."""
    code = re.sub(r"\s", "", proof) if len(proof) < 32 else ""
    return code if _CODE.fullmatch(code) else None


def matching_step(seed: str, code: str, at: datetime) -> int | None:
    """The time step whose code this is, next to the given moment; None if it is none of them."""
    totp = pyotp.TOTP(seed, interval=STEP_SECONDS)
    now = totp.timecode(at)
    near = range(now - _NEIGHBOURS, now + _NEIGHBOURS + 1)
    # All are compared: how long it takes tells nothing. The latest match counts, it is the only one not yet spent.
    matches = [step for step in near if pyotp.utils.strings_equal(totp.generate_otp(step), code)]
    return matches[-1] if matches else None


def new_seed() -> str:
    """160 random bits in Base32, as RFC 4226 recommends and every app takes."""
    return pyotp.random_base32()


def enrolment_uri(seed: str, approver: str, name: str) -> str:
    """What the QR code holds: the seed, and what the app shows beside the codes."""
    return pyotp.TOTP(seed, interval=STEP_SECONDS).provisioning_uri(name=f"{name} ({approver})", issuer_name=_ISSUER)


# --------------------------------------------------------------------------------------------- signatures


def signer(
    person: Person, people: PeopleFile, text: str, signature: str, at: datetime, namespace: str = NAMESPACE
) -> str | None:
    """Which of the person's keys, valid at that moment, made this signature in a namespace of ours; None if none did.

    ``signature`` is the body of its armour in one line. ``ssh-keygen`` verifies, the program with which an auditor can repeat it:
    so no parser of ours reads what a stranger sends.
    """
    for key in person.keys:
        if verifies(person.id, allowed_signer(person.id, key, people, namespace), text, signature, at, namespace):
            return " ".join(key.key.split(" ")[:2])
    return None


def allowed_signer(id: str, key: PublicKey, people: PeopleFile, namespace: str = NAMESPACE) -> str:
    """The line of an allowed_signers file for a key (ssh-keygen(1), ALLOWED SIGNERS); times are UTC, without saying so."""
    options = [f'namespaces="{namespace}"']
    if key.valid_from is not None:
        options.append(f'valid-after="{_midnight(key.valid_from, people):%Y%m%d%H%M%S}"')
    if key.valid_until is not None:
        options.append(f'valid-before="{_midnight(key.valid_until + timedelta(days=1), people):%Y%m%d%H%M%S}"')
    return f"{id} {','.join(options)} {' '.join(key.key.split(' ')[:2])}"


def _midnight(day: date, people: PeopleFile) -> datetime:
    """When a day begins where these people live."""
    return datetime.combine(day, time(), ZoneInfo(people.timezone)).astimezone(UTC)
