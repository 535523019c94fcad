"""The transmission record: what left, when, to whom, what the other side said, and who allowed it. One document for all of it.

``<package>.transmission.json`` is canonical JSON, filed beside the certificate, or where the stream's ``record`` says. The
certificate, whose hash stands in it, is what is sealed; what only this record holds (replies, the key that the server showed) is
as the sender told it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from blocks.outbound import BEFOREHAND, Delivered, Matter, Package, PackageFile, PeopleFile, Vote, canonical, iso
from blocks.values import Filed, name_b64, shown
from tasks.rules.certificate import link_words

KIND = "countersign transmission record"
VERSION = 1


class Answer(StrEnum):
    """How far a partner has acknowledged an order."""

    SENT = "SENT"  # delivered; neither acknowledgement nor pickup is agreed
    TO_ACK = "TO_ACK"  # not all of it is acknowledged yet
    ACKED = "ACKED"
    NACKED = "NACKED"  # of a document of it, or of all, the partner's last word is no


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the partner said afterwards, in a file of its own that we filed; or what it did, and the sender saw."""

    name: str
    """Of the partner's file; it, ``digest`` and where it is kept are "" where the document was seen picked up."""
    digest: str
    received: datetime
    repository: str
    repository_id: str
    document: str = ""
    """Of which it speaks, by its name at the partner; "" for all of the order."""
    positive: bool = True
    """False: the partner does not take it as it is."""
    picked_up: bool = False
    """True: it said nothing. The document stood at the partner, and at ``received`` it was seen to be gone."""

    @classmethod
    def of_pickup(cls, document: str, gone: datetime) -> Acknowledgement:
        """What was seen, not said; ``document`` by its name at the partner."""
        return cls("", "", gone, "", "", document, picked_up=True)

    @property
    def facts(self) -> dict[str, Any]:
        if self.picked_up:
            return {
                "document": self.document,
                "picked_up": f"seen gone at {iso(self.received)}",
                "seen_gone": iso(self.received),
            }
        # What came later stands there only where it says something: records that were filed before stay as they are.
        more = {"document": self.document} if self.document else {}
        return {
            "name": self.name,
            "sha256": self.digest,
            "received": iso(self.received),
            "repository": self.repository,
            "repository_id": self.repository_id,
            **more,
            **({} if self.positive else {"acknowledged": False}),
        }

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> Acknowledgement:
        """Back from ``facts``; other keys do not count."""
        if "seen_gone" in facts:
            return cls.of_pickup(str(facts["document"]), datetime.fromisoformat(facts["seen_gone"]))
        at = datetime.fromisoformat(facts["received"])
        document, positive = str(facts.get("document", "")), facts.get("acknowledged", True) is not False
        return cls(facts["name"], facts["sha256"], at, facts["repository"], facts["repository_id"], document, positive)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where something stands in a repository."""

    repository: str
    id: str
    version: int

    @property
    def facts(self) -> dict[str, Any]:
        return {"repository": self.repository, "id": self.id, "version": self.version}


def transmission(
    matter: Matter,
    people: PeopleFile,
    votes: Sequence[Vote],
    deliveries: Sequence[Delivered],
    *,
    title: str,
    source: str,
    copies: Mapping[str, Kept],
    certificate: str,
    certificate_at: Kept,
    awaited: bool,
    made: datetime,
) -> str:
    """The text of the record's file. ``awaited``: the partner is to acknowledge it.

    ``source`` is the address of the repository that the documents came from, ``copies`` tells by digest where their bytes were
    filed again; ``certificate`` is the certificate's hash.
    """
    package, asked = matter.package, matter.requester
    sent = {delivered.source for delivered in deliveries}
    facts: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "partner": package.partner,
        "title": title,
        "stream": package.stream,
        "order": package.order,
        "attempt": package.redelivery.attempt if package.redelivery else 1,
        "redelivery": package.redelivery.facts if package.redelivery else None,
        **({"corrects": package.corrects.facts} if package.corrects else {}),
        "journey": package.journey,
        "package_digest": package.digest,
        "certificate": {"sha256": certificate, **certificate_at.facts},
        "requester": {"id": asked.id, "in_words": asked.in_words} if asked else None,
        "approvers": [_approver(vote, people) for vote in votes],
        "documents": [_document(file, source, copies) for file in package.files if file.name in sent],
        "transmissions": [_transmission(delivered, package) for delivered in deliveries],
        "acknowledgements": [],
        "state": (Answer.TO_ACK if awaited else Answer.SENT).value,
        "made": iso(made),
    }
    return canonical(facts)


def acknowledged(text: str, acknowledgements: Sequence[Acknowledgement]) -> str:
    """The record with what the partner has said since: its next version."""
    facts = json.loads(text)
    told: dict[str, Any] = {"acknowledgements": [*facts["acknowledgements"], *(told.facts for told in acknowledgements)]}
    if "state" in facts:  # not in records of the version before
        told["state"] = answer(text, acknowledgements).value
    return canonical(facts | told)


def answer(text: str, acknowledgements: Sequence[Acknowledgement]) -> Answer:
    """How far the order of a record is acknowledged, by the record's first text and all that has come since.

    The last word counts, of each document, and of all where it speaks of the order.
    """
    facts = json.loads(text)
    names = {shown(base64.b64decode(one["name_b64"])) for one in facts["transmissions"]}
    said: dict[str, bool] = {}
    for told in sorted(acknowledgements, key=lambda one: one.received):
        said |= dict.fromkeys([told.document] if told.document else names, told.positive)
    if not all(said.values()):
        return Answer.NACKED
    if names <= said.keys():
        return Answer.ACKED
    return Answer.TO_ACK if said or facts.get("state") != Answer.SENT else Answer.SENT


def documents_at_partner(text: str) -> dict[str, set[str]]:
    """The documents of a record by their names in the repository -> their names at the partner."""
    found: dict[str, set[str]] = {}
    for one in json.loads(text)["transmissions"]:
        found.setdefault(one["document"], set()).add(shown(base64.b64decode(one["name_b64"])))
    return found


def record_name(package: Package) -> str:
    """The file's name: ``<first 16 digits of the package digest>.transmission.json``."""
    return f"{package.digest[:16]}.transmission.json"


def kept(filed: Filed, repository: str) -> Kept:
    return Kept(repository, filed.id, filed.version)


def _approver(vote: Vote, people: PeopleFile) -> dict[str, Any]:
    person = people.get(vote.approver)
    beforehand = {"beforehand": BEFOREHAND} if vote.standing else {}
    return {
        "id": vote.approver,
        "name": person.name if person else "",
        "on_behalf_of": vote.on_behalf_of,
        "decision": vote.decision.value,
        "meaning": vote.meaning.value,
        "comment": vote.comment,
        "at": iso(vote.at),
        "proof": vote.proof.value,
        **beforehand,
    }


def _document(file: PackageFile, source: str, copies: Mapping[str, Kept]) -> dict[str, Any]:
    copy = copies.get(file.sha256)
    taken = Kept(source, file.repository_id, file.version)
    return {
        "name": file.shown,
        "name_b64": name_b64(file.name),
        "size": file.size,
        "sha256": file.sha256,
        "taken_from": taken.facts,
        "copy": copy.facts if copy else None,
    }


def _transmission(delivered: Delivered, package: Package) -> dict[str, Any]:
    place = package.destinations[delivered.destination]
    sizes = {file.name: file.size for file in package.files}
    return {
        "document": shown(delivered.source),
        "to": place.shown,
        "destination": place.facts,
        "path": f"{place.path.rstrip('/')}/{shown(delivered.name)}",
        "name_b64": name_b64(delivered.name),
        "size": sizes[delivered.source],
        "sha256": delivered.sent,
        "at": iso(delivered.at),
        "server_key": delivered.server,
        "replies": list(delivered.replies),
        "proof": delivered.proof.value,
        "in_words": link_words(delivered),
        "said": delivered.said.facts if delivered.said else None,
    }
