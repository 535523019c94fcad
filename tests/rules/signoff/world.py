"""A small world to decide in: four people, one stream, one package of three documents."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from blocks.outbound import (
    Answer,
    Decision,
    Destination,
    Matter,
    Meaning,
    Outbound,
    Package,
    PackageFile,
    PeopleFile,
    Policies,
    ProposedVote,
    Refusal,
    Requester,
    Round,
    Seat,
    SignoffProof,
    Vote,
)
from tasks.rules.policy import Standing, admissible, eligible, reads, standing

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
"""The usual now. Everything is asked at eleven."""
ASKED = NOON - timedelta(hours=1)
DEADLINE = NOON + timedelta(days=2)

ANN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnnA"
BEA_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBeaBeaBeaBeaBeaBeaBeaBeaBeaBeaBeaBeaBeaBeaB"

PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {"name": "Ann Weber", "groups": ["pricing"], "logins": ["AWeber"], "keys": [ANN_KEY]},
    "bea": {"name": "Bea Öztürk", "groups": ["pricing", "content"], "keys": [BEA_KEY]},
    "cem": {"name": "Cem Li", "groups": ["pricing"]},
    "dan": {"name": "Dan O’Neill", "groups": ["content"]},
    "eve": {"name": "Eve Roth", "groups": ["legal"]},
    "fay": {"name": "Fay Moor", "groups": []},
}


def people(without: str = "", **changed: dict[str, Any]) -> PeopleFile:
    """The people file, perhaps without somebody, or with something changed about somebody."""
    told = [
        {"id": id, "mail": f"{id}@example.com", **facts, **changed.get(id, {})} for id, facts in PEOPLE.items() if id != without
    ]
    return PeopleFile.model_validate({"timezone": "Europe/Berlin", "people": told})


def delegating(principal: str, to: str, first: date, last: date) -> dict[str, dict[str, Any]]:
    return {principal: {"delegations": [{"to": to, "valid_from": first, "valid_until": last}]}}


def terms(*stages: dict[str, Any], freshness: str = "latest", **signoff: Any) -> Outbound:
    """A stream whose sign-off is one of one from pricing, unless told otherwise."""
    policy = {"proof": "code", "stages": list(stages) or [stage("pricing")], **signoff}
    return Outbound.model_validate(
        {
            "direction": "outbound",
            "gather": {"repository": "ecm", "folder": "Releases/{partner}/{ordered:%Y}"},
            "destinations": [{"endpoint": "drop", "folder": "/in"}],
            "freshness": freshness,
            "signoff": policy,
            "evidence": {"repository": "ecm", "folder": "Evidence/{partner}"},
        }
    )


def stage(name: str, quorum: int = 1, *groups: str) -> dict[str, Any]:
    return {"name": name, "groups": list(groups or (name,)), "quorum": quorum}


TWO = (stage("pricing"), stage("content"))
"""Pricing signs before content."""

PLACE = Destination("sftp", "sftp.acme.example", 22, "acme", "/in", "SHA256:" + "A" * 43)


def document(name: bytes | str, content: str = "", id: str = "", version: int = 3, size: int = 1200) -> PackageFile:
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    digest = _digest(raw + content.encode())
    return PackageFile(raw, size, digest, id or f"id-{_digest(raw)[:6]}", version)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


POLICIES = Policies(profile="1" * 64, people="2" * 64, terms="3" * 64)


def package(*files: PackageFile, **changed: Any) -> Package:
    return Package(
        journey="0196f0aa-0000-7000-8000-000000000001",
        order="2026-11-20",
        partner="acme",
        stream="catalogue",
        policy=POLICIES.digest,
        destinations=changed.pop("destinations", (PLACE,)),
        files=files or (document("a.csv"), document("b.csv"), document("c.csv")),
        **changed,
    )


def matter(of: Package | None = None, requester: str | None = "fay", editors: tuple[str, ...] = (), **changed: Any) -> Matter:
    asker = Requester(requester) if requester else None
    return Matter(of or package(), "run-1", asker, frozenset(editors), **{"deadline": DEADLINE} | changed)


def asked(about: Matter, n: int = 1) -> Round:
    return Round(n, f"signoff-{n}-{about.package.digest[:16]}-0badcafe", about.run, about.package.digest)


def answer(who: str, about: Matter, decision: Decision = Decision.APPROVE, **changed: Any) -> Answer:
    given = Answer(decision, Seat.parse(who), Meaning.APPROVAL, about.package.digits, "123456")
    return replace(given, **changed)


def judge(
    given: Answer,
    about: Matter,
    under: Outbound,
    votes: tuple[Vote, ...] = (),
    *,
    known: PeopleFile | None = None,
    at: datetime = NOON,
) -> ProposedVote | Refusal:
    """Everything about an answer but its proof, in the order in which it is judged."""
    known = known or people()
    return (
        eligible(given.seat, about, under.signoff, known, at)
        or reads(given, about.package)
        or admissible(given, about, under.signoff, known, votes, asked(about), at=at, shown="5" * 64)
    )


def cast(given: Answer, about: Matter, under: Outbound, votes: tuple[Vote, ...] = (), **told: Any) -> Vote:
    """The vote that an answer is."""
    proposed = judge(given, about, under, votes, **told)
    assert isinstance(proposed, ProposedVote), proposed
    return proposed.proven(SignoffProof.CODE)


def stands(
    about: Matter, under: Outbound, votes: tuple[Vote, ...] = (), *, known: PeopleFile | None = None, now: datetime = NOON
) -> Standing:
    return standing(about, under.signoff, known or people(), votes, now)
