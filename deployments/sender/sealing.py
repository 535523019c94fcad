"""What the sender puts its seal on besides votes: the ledger's checkpoints and tombstones, and certificates of what it did itself.

It never signs what it is not able to read. A vote is JSON too, so whatever is not exactly one of these is refused: nobody gets a
vote sealed by another name. Of checkpoints there is one line: each that is sealed follows the last one that was, so that who makes
the workers' requests cannot have a second past sealed beside the ledger's.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

from blocks.errors import SendRefused
from blocks.outbound import Package, Said, Vote, canonical, sha256
from deployments.sender.judging import check_vote, known
from deployments.sender.store import Step, Store
from tasks.rules.certificate import KIND

_log = logging.getLogger("countersign.sender")

_CHECKPOINT = {"v", "number", "at", "first", "last", "root", "previous", "key"}
_TOMBSTONE = {"v", "kind", "journey", "entries", "head", "remains", "key"}


def seal(purpose: str, text: str, store: Store) -> bytes:
    """The signature over a canonical text. Raises ``SendRefused`` for anything else than its purpose says."""
    try:
        facts = json.loads(text)
        same = isinstance(facts, dict) and canonical(facts) == text
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise SendRefused(f"this {purpose} is not in its canonical form; it was not sealed")
    if purpose == "checkpoint":
        _check_checkpoint(facts, store)
    elif purpose == "tombstone":
        _check_tombstone(facts, store)
    else:
        _check_certificate(facts, store)
    return store.seal_key.sign(text.encode("ascii"))


def _check_checkpoint(facts: dict[str, Any], store: Store) -> None:
    if set(facts) != _CHECKPOINT or facts["key"] != store.seal_key.id:
        raise SendRefused("this is no checkpoint of the ledger made for this sender's key; it was not sealed")
    numbers = [facts[name] for name in ("number", "first", "last")]
    if any(type(number) is not int for number in numbers) or not 1 <= facts["first"] <= facts["last"]:
        raise SendRefused("this checkpoint is over no entries; it was not sealed")
    store.follow(canonical(facts), lambda last: _astray(facts, last))


def _astray(facts: dict[str, Any], last: str | None) -> str:
    """Why a checkpoint does not follow the last one that was sealed; "" if it does, or is that one."""
    if last is None:
        # A new sender beside an old ledger, or one that was told to forget: it has nothing to hold it against.
        _log.warning("checkpoint %d is the first one seen here: it is sealed as it came", facts["number"])
        return ""
    if canonical(facts) == last:
        return ""
    before = json.loads(last)
    if (facts["number"], facts["previous"], facts["first"]) == (before["number"] + 1, sha256(last), before["last"] + 1):
        return ""
    return (
        f"checkpoint {facts['number']} does not follow checkpoint {before['number']}, the last one that was sealed here "
        f"(hash {sha256(last)[:16]}…); it was not sealed. Find out who has sealed or removed one; if the ledger or the sender was "
        "restored from a backup, start 'countersign sender' once with --forget-checkpoint"
    )


def _check_tombstone(facts: dict[str, Any], store: Store) -> None:
    if set(facts) != _TOMBSTONE or facts["kind"] != "tombstone" or facts["key"] != store.seal_key.id:
        raise SendRefused("this is no tombstone of a journey made for this sender's key; it was not sealed")


def _check_certificate(facts: dict[str, Any], store: Store) -> None:
    """Its votes were sealed here, and its deliveries are ours."""
    try:
        problem = _certificate_problem(facts, store)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        problem = f"it is not whole: {type(error).__name__}"
    if problem:
        raise SendRefused(f"this is no certificate of what was signed and sent here ({problem}); it was not sealed")


def _certificate_problem(facts: dict[str, Any], store: Store) -> str:
    package = Package.parse(canonical(facts["package"]))
    if facts["kind"] != KIND or "seal" in facts or facts["package_digest"] != package.digest:
        return "kind, seal or package digest are not as they should be"
    votes = [Vote.parse(told["vote"]) for told in facts["votes"]]
    if not votes or any(vote.package != package.digest for vote in votes):
        return "it has no vote, or one on another package"
    for vote in votes:
        check_vote(vote, package, store.seal_key)
    matter = known(package, store)
    told, requester = facts["requester"], matter.requester
    if facts.get("brake", []) != list(matter.brake):
        return "why one more person signed is told otherwise"
    if (told and (told["id"], told["proof"])) != (requester and (requester.id, requester.proof)):
        return "somebody else asked for it"
    ours = {
        (parcel.destination, parcel.name, parcel.digest, parcel.proof, parcel.step is Step.COLLECTED, parcel.said)
        for parcel in store.parcels(package.digest)
        if parcel.step.stood
    }
    for told in facts["deliveries"]:
        where = canonical(package.destinations[told["destination"]].facts)
        name = base64.b64decode(told["name_b64"], validate=True)
        if (where, name, told["sent"], told["proof"], told["collected"], Said.parse(told.get("said"))) not in ours:
            return "a delivery is told that was not made, or not so"
        if not told["approved"] == told["read"] == told["sent"] or told["proven"] not in (None, told["sent"]):
            return "a delivery's digests differ"
    return ""
