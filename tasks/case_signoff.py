"""Sign-offs of cases: where a stream's ``signoff`` wants it, a refused document goes on only if somebody has proven that they let it.

::

    answer with a proof ── judged by the sender ── signed off (the case's journey) ── asked for again where it is filed, for these bytes

An entry of the ledger that does not bear the sender's seal is none, whoever wrote it. Nor is one from before the case was closed: then
somebody decides anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from blocks.case_signoff import SIGNED_OFF, CaseAction, CaseDecision, CaseSignoff
from blocks.errors import ConfigurationError
from blocks.ledger import CaseState, Entry, Recorded
from blocks.outbound import Refusal
from blocks.sender import Sender
from blocks.settings import settings
from tasks.agreed import load_inbound
from tasks.cases import state_of
from tasks.connections import ledger
from tasks.consignment import Agreed


def document_of(history: Sequence[Recorded]) -> str:
    """SHA-256 of the partner's bytes as they were fetched; "" if they never were."""
    return next((str(entry.body["digest"]) for entry in reversed(history) if entry.kind == "fetched"), "")


def agreed_about(history: Sequence[Recorded]) -> Agreed:
    """What was agreed about the stream of a refused document. Raises ``ConfigurationError`` for the journey of anything else."""
    arrived = next((entry.body for entry in reversed(history) if entry.kind == "arrived"), None)
    if arrived is None:
        raise ConfigurationError("this is no case of a refused document; see 'countersign quarantine list'")
    return load_inbound(arrived["partner"], arrived["stream"])


def decision(
    journey: str, history: Sequence[Recorded], agreed: Agreed, action: CaseAction, approver: str, corrected: str = ""
) -> CaseDecision:
    """What somebody decides about a refused document, to be proven."""
    return CaseDecision(
        journey=journey,
        partner=agreed.partner,
        stream=agreed.stream,
        action=action,
        document=document_of(history),
        corrected=corrected,
        approver=approver,
    )


def sign_off(decided: CaseDecision, comment: str, proof: str, round_key: str, at: datetime) -> Refusal | None:
    """Have a decision judged, and write it down if it is proven. ``round_key`` and the same answer: it is done once."""
    with Sender(settings().sender_socket) as sender:
        outcome = sender.judge_case(decided, comment, proof, round_key, at=at)
    if isinstance(outcome, Refusal):
        return outcome
    body = {"by": outcome.approver, "comment": comment, "signoff": outcome.facts}
    ledger().append([Entry(decided.journey, SIGNED_OFF, body, once=f"{SIGNED_OFF}/{round_key}")])
    return None


def signed_off(journey: str, agreed: Agreed, action: CaseAction, document: str, corrected: str = "") -> CaseSignoff | None:
    """By what somebody has proven that they decide this for exactly these bytes, since the case was closed last; None if nobody has."""
    wanted = (journey, agreed.partner, agreed.stream, action, document, corrected)
    history = ledger().journey(journey)
    # What came through ("resolved") is not filed again; a try that goes on behind that needs no other sign-off.
    over = [entry.at for entry in history if entry.kind != "resolved" and state_of([entry]) is CaseState.RESOLVED]
    told = [
        one
        for one in map(_told, reversed(history))
        if one is not None
        and (one.journey, one.partner, one.stream, one.action, one.document, one.corrected) == wanted
        and all(at < one.at for at in over)
    ]
    if not told:
        return None
    with Sender(settings().sender_socket) as sender:
        public = sender.health().public
    return next((one for one in told if one.sealed_by(public)), None)


def need_signoff(journey: str, agreed: Agreed, action: CaseAction, document: str, corrected: str = "") -> CaseSignoff | None:
    """By what it is signed off; None where nobody need prove it. Raises ``ConfigurationError`` unless it is."""
    if agreed.terms.signoff is None:
        return None
    signoff = signed_off(journey, agreed, action, document, corrected)
    if signoff is None:
        raise ConfigurationError(
            f"{journey}: nobody has proven that they {action} it, as {agreed.key} wants it (one of "
            f"{', '.join(agreed.terms.signoff.groups)}), for these very bytes, since the case was closed last; nothing was filed. Answer "
            f"the form of the case, or 'countersign quarantine {action} {journey} --as ID'"
        )
    return signoff


def _told(entry: Recorded) -> CaseSignoff | None:
    """The sign-off that an entry holds; None if it holds none, or something else."""
    if entry.kind != SIGNED_OFF:
        return None
    try:
        return CaseSignoff.parse(entry.body.get("signoff"))
    except ValueError:
        return None
