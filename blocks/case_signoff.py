"""A refused document that somebody lets through, or puts right, and proves who they are: judged and sealed by the sender.

::

    CaseDecision ── with a proof, at the sender ─▶ Refusal | CaseSignoff ── in the case's journey, for exactly these bytes
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from blocks.canonical import canonical, iso
from blocks.seals import signed
from blocks.values import SignoffProof, shown

CASE_NAMESPACE = "case@countersign"
"""Of SSH signatures over a ``CaseDecision``: one made for a release is never good for a case."""

SIGNED_OFF = "signed off"
"""Kind of the entry of a case's journey that holds one, as ``signoff``."""


class CaseAction(StrEnum):
    """What is done about a refused document."""

    RELEASE = "release"
    CORRECT = "correct"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDecision:
    """What somebody decides about a refused document, to be proven."""

    journey: str
    """The case's."""
    partner: str
    stream: str
    action: CaseAction
    document: str
    """SHA-256 of the partner's bytes; "" if they were never fetched."""
    corrected: str = ""
    """SHA-256 of what is to be filed in their place; "" for a release."""
    approver: str

    @property
    def about(self) -> dict[str, str]:
        """All that is decided, and by whom."""
        return {name.name: str(getattr(self, name.name)) for name in fields(CaseDecision)}

    def statement(self, time: datetime) -> str:
        """The canonical text that a signature covers. ``time`` is by the signer's clock."""
        return canonical({"version": 1, **self.about, "time": iso(time.replace(microsecond=0))})


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSignoff(CaseDecision):
    """The same, proven. The sender seals its text."""

    comment: str
    """Why; no signature of the person covers it."""
    at: datetime
    """When it was judged, by the sender's clock."""
    proof: SignoffProof
    key: str = ""
    """The public key that made the signature; "" for a code."""
    signature: str = ""
    """Over ``statement(signed_at)``: the body of its armour in one line; "" for a code."""
    signed_at: datetime | None = None
    seal: str = ""
    """The sender's signature over ``text``, in base64; "" until sealed."""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, the seal included."""
        told: dict[str, Any] = {name.name: getattr(self, name.name) for name in fields(self)}
        told |= {"at": iso(self.at), "signed_at": iso(self.signed_at) if self.signed_at else None}
        return told | {"kind": "countersign case sign-off", "action": self.action.value, "proof": self.proof.value}

    @property
    def text(self) -> str:
        """The canonical text that is sealed: everything but the seal."""
        return canonical({key: value for key, value in self.facts.items() if key != "seal"})

    def sealed_by(self, public: bytes) -> bool:
        """True if it bears the seal of the sender with this public key."""
        try:
            return signed(public, self.text.encode("ascii"), base64.b64decode(self.seal, validate=True))
        except binascii.Error:
            return False

    @classmethod
    def parse(cls, facts: object) -> CaseSignoff:
        """The sign-off of its facts. Raises ``ValueError`` for anything else."""
        try:
            told = dict(facts) if isinstance(facts, Mapping) else {}
            signoff = _SIGNOFF.validate_json(canonical({key: value for key, value in told.items() if key != "kind"}))
            same = canonical(signoff.facts) == canonical(told)
        except (ValidationError, TypeError, RecursionError, ValueError) as error:
            raise ValueError(f"this is no sign-off of a case: {shown(str(error)[:300])}") from error
        if not same:
            raise ValueError("this is no sign-off of a case: it holds more or other than one does")
        return signoff


_SIGNOFF = TypeAdapter(CaseSignoff)
