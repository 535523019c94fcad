"""Returns: what comes back of what a stream has delivered. Our own bytes are recognised; an edited copy belongs to its document."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from blocks.database import chunks
from blocks.ledger import Recorded
from blocks.outbound import Package, PackageFile
from blocks.values import Arrival, Document, Finding, Stage, Verdict
from tasks.connections import ledger
from tasks.consignment import Agreed, Consignment, Item, Steps

UNKNOWN_RETURN = "unknown-return"
"""Reason code of a file that comes back under a name under which nothing was delivered."""
AMBIGUOUS_RETURN = "ambiguous-return"
"""Reason code of a file that comes back under a name under which several documents were delivered."""
_PAGE = 500
_AT_ONCE = 20
"""Orders whose histories are in memory at once: each may hold thousands of files, and their certificates."""


@dataclass(slots=True)
class Delivered:
    """What a stream has sent, as far as somebody asks for it."""

    orders: dict[str, str] = field(default_factory=dict)
    """Digest -> the journey of the newest order that sent these bytes."""
    documents: dict[bytes, dict[str, PackageFile]] = field(default_factory=dict)
    """Name at the partner -> document's id in the repository -> the version of it that was delivered last under that name."""


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


def find_origins(consignment: Consignment) -> Consignment:
    """Each edited copy with the document that it belongs to; refused where no name tells which."""
    edited = _accepted(consignment)
    if not edited:
        return consignment
    sent = delivered(consignment.agreed, names={item.arrival.file.name for item in edited})
    changed = {}
    for item in edited:
        intent = item.recorded("filing")
        begun = str(intent.body.get("document")) if intent else None
        origin = origin_of(consignment.agreed, item.arrival, item.verdict.doctype if item.verdict else None, sent, begun)
        known = isinstance(origin, PackageFile)
        changed[item.journey] = replace(item, origin=origin) if known else replace(item, verdict=origin)  # type: ignore[arg-type]
    return consignment.with_changes(changed)


def origin_of(
    agreed: Agreed, arrival: Arrival, doctype: str | None, sent: Delivered, begun: str | None = None
) -> PackageFile | Verdict:
    """The document and version that a file is an edited copy of; a refusal where it is none, or may be one of several.

    ``begun``: the document that it was meant for when an earlier run broke off; what was delivered since then changes nothing.
    """
    found = sent.documents.get(arrival.file.name, {})
    if begun in found:
        return found[begun]
    if len(found) == 1:
        return next(iter(found.values()))
    name, stream = arrival.file.shown, agreed.terms.returns
    if found:
        finding = Finding(
            code=AMBIGUOUS_RETURN,
            message=f"Several documents were delivered as {name} by the stream {stream}: {', '.join(sorted(found))}",
            file=name,
            rule="A name under which documents are delivered tells which document comes back",
            fix="Add it to its document by hand and reject it here; with {order} in the destination's name it is told next time",
        )
    else:
        finding = Finding(
            code=UNKNOWN_RETURN,
            message=f"Nothing was ever delivered as {name} by the stream {stream}",
            file=name,
            rule="A returned file has the name under which its document was delivered",
            fix="Ask the partner to send it under that name; what is no return belongs into another stream's folder",
        )
    return Verdict(arrival.journey, doctype, (finding,))


def returned(agreed: Agreed, documents: Sequence[Document]) -> Delivered:
    """What was sent of these, by bytes or by name; nothing on a stream of no returns."""
    if agreed.terms.returns is None:
        return Delivered()
    return delivered(agreed, digests={one.digest for one in documents}, names={one.name for one in documents})


def delivered(agreed: Agreed, *, digests: Iterable[str] = (), names: Iterable[bytes] = (), page: int = _PAGE) -> Delivered:
    """What the stream whose returns these are has sent of these bytes and under these names, newest orders first.

    A name needs every order there ever was, to tell that it always meant the same document.
    """
    found, digests, names = Delivered(), set(digests), set(names)
    until: datetime | None = None
    while digests - found.orders.keys() or any(len(found.documents.get(name, ())) < 2 for name in names):
        some = ledger().search(partner=agreed.partner, stream=agreed.terms.returns, until=until, limit=page)
        for part in chunks((one.journey for one in some), _AT_ONCE):
            histories = ledger().journeys(part)
            for journey in part:
                _sent_by(journey, histories[journey], found, digests, names)
        if len(some) < page:
            break
        until = some[-1].opened + timedelta(milliseconds=1)  # those of the same moment come twice: none is left out
    return found


def _sent_by(journey: str, history: Sequence[Recorded], found: Delivered, digests: set[str], names: set[bytes]) -> None:
    """Add what one order has sent."""
    if not any(entry.kind == "sending" for entry in history):
        return
    files = _files(history)
    for file in files.values():
        if file.sha256 in digests:
            found.orders.setdefault(file.sha256, journey)
    for entry in history:
        for told in entry.body["files"] if entry.kind == "delivered" else ():
            name, source = base64.b64decode(told["name"]), base64.b64decode(told["source"])
            if name in names and source in files:
                found.documents.setdefault(name, {}).setdefault(files[source].repository_id, files[source])
            if told["sent"] in digests:  # a list or a checksum file of ours
                found.orders.setdefault(told["sent"], journey)


def _files(history: Sequence[Recorded]) -> Mapping[bytes, PackageFile]:
    """What a package holds, by name. One that repeats an order may hold the record's copies: the documents are that order's."""
    package = next((Package.parse(entry.body["package"]) for entry in history if entry.kind == "frozen"), None)
    if package is None:
        return {}
    parent = next((entry.body.get("parent") for entry in history if entry.kind == "ordered"), None)
    files = {file.name: file for file in package.files}
    if package.redelivery is None or parent is None:
        return files
    repeated = _files(ledger().journey(str(parent)))
    return {name: repeated.get(name, file) for name, file in files.items()}


def _accepted(consignment: Consignment) -> list[Item]:
    if consignment.agreed.terms.returns is None:
        return []
    return [item for item in consignment.at(Stage.JUDGED) if item.verdict is not None and item.verdict.accepted]
