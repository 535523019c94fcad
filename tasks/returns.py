"""Returns: what comes back of what a stream has delivered. Our own bytes are recognised; an edited copy belongs to its document."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from blocks.outbound import Package, PackageFile
from blocks.values import Arrival, Document, Finding, Stage, Verdict
from tasks.connections import ledger
from tasks.consignment import Agreed, Consignment, Item, Steps

UNKNOWN_RETURN = "unknown-return"
"""Reason code of a file that comes back under a name under which nothing was delivered."""
_PAGE = 500


@dataclass(slots=True)
class Delivered:
    """What a stream has sent, as far as somebody asks for it."""

    orders: dict[str, str] = field(default_factory=dict)
    """Digest -> the journey of the newest order that sent these bytes."""
    documents: dict[bytes, PackageFile] = field(default_factory=dict)
    """Name at the partner -> the version that was delivered last under it."""


def skip_our_own(consignment: Consignment) -> Consignment:
    """Bytes that were sent by the stream whose returns these are: there is nothing to check or to file."""
    if consignment.agreed.terms.returns is None:
        return consignment
    steps, fetched = Steps(consignment), consignment.at(Stage.FETCHED, Stage.JUDGED)
    sent = delivered(consignment.agreed, digests={str(item.arrival.digest) for item in fetched}).orders
    for item in fetched:
        order = sent.get(str(item.arrival.digest))
        if order is not None and item.recorded("filing") is None:
            facts = {"digest": item.arrival.digest, "duplicate_of": order, "returned": True}
            steps.add(item, "duplicate", facts, once=f"{item.journey}/duplicate", stage=Stage.DUPLICATE, duplicate_of=order)
    return steps.write(ledger().append)


def refuse_unknown(consignment: Consignment) -> Consignment:
    """Edited copies of nothing that we know of: no name tells which document they belong to."""
    refused = {}
    edited = _accepted(consignment)
    known = delivered(consignment.agreed, names={item.arrival.file.name for item in edited}).documents if edited else {}
    for item in edited:
        if item.arrival.file.name not in known:
            verdict = unknown_return(consignment.agreed, item.arrival, item.verdict.doctype if item.verdict else None)
            refused[item.journey] = replace(item, verdict=verdict)
    return consignment.with_changes(refused)


def unknown_return(agreed: Agreed, arrival: Arrival, doctype: str | None) -> Verdict:
    finding = Finding(
        code=UNKNOWN_RETURN,
        message=f"Nothing was ever delivered as {arrival.file.shown} by the stream {agreed.terms.returns}",
        file=arrival.file.shown,
        rule="A returned file has the name under which its document was delivered",
        fix="Ask the partner to send it under that name; what is no return belongs into another stream's folder",
    )
    return Verdict(arrival.journey, doctype, (finding,))


def returned(agreed: Agreed, documents: Sequence[Document]) -> Delivered:
    """What was sent of these, by bytes or by name; nothing on a stream of no returns."""
    if agreed.terms.returns is None:
        return Delivered()
    return delivered(agreed, digests={one.digest for one in documents}, names={one.name for one in documents})


def origins(agreed: Agreed, items: Iterable[Item]) -> dict[str, PackageFile]:
    """The document and version that each journey's file is an edited copy of."""
    if agreed.terms.returns is None:
        return {}
    by_name = delivered(agreed, names={item.arrival.file.name for item in items}).documents
    return {item.journey: by_name[item.arrival.file.name] for item in items if item.arrival.file.name in by_name}


def delivered(agreed: Agreed, *, digests: Iterable[str] = (), names: Iterable[bytes] = ()) -> Delivered:
    """What the stream whose returns these are has sent of these bytes and under these names, newest orders first."""
    found, digests, names = Delivered(), set(digests), set(names)
    until: datetime | None = None
    while digests - found.orders.keys() or names - found.documents.keys():
        page = ledger().search(partner=agreed.partner, stream=agreed.terms.returns, until=until, limit=_PAGE)
        if not page:
            break
        histories = ledger().journeys([one.journey for one in page])
        for one in page:
            history = histories[one.journey]
            package = next((Package.parse(entry.body["package"]) for entry in history if entry.kind == "frozen"), None)
            if package is None or not any(entry.kind == "sending" for entry in history):
                continue
            files = {file.name: file for file in package.files}
            for file in package.files:
                if file.sha256 in digests:
                    found.orders.setdefault(file.sha256, one.journey)
            for entry in history:
                for told in entry.body["files"] if entry.kind == "delivered" else ():
                    name, source = base64.b64decode(told["name"]), base64.b64decode(told["source"])
                    if name in names and source in files:
                        found.documents.setdefault(name, files[source])
                    if told["sent"] in digests:  # a list or a checksum file of ours
                        found.orders.setdefault(told["sent"], one.journey)
        if len(page) < _PAGE:
            break
        until = page[-1].opened + timedelta(milliseconds=1)  # those of the same moment come twice: none is left out
    return found


def _accepted(consignment: Consignment) -> list[Item]:
    if consignment.agreed.terms.returns is None:
        return []
    return [item for item in consignment.at(Stage.JUDGED) if item.verdict is not None and item.verdict.accepted]
