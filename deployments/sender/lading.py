"""What a destination is given, and where the reviewed profile has it: the documents, and what we add.

Pure: all of it is told by the package and the reviewed terms, so that a second visit makes the same.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from blocks.endpoints.base import Endpoint
from blocks.errors import SendRefused
from blocks.outbound import Destination, DestinationTerms, Package, PackageFile, Refusal
from blocks.sender import destination_of
from blocks.shares import Share
from tasks.rules.packing import layout, manifest, sidecar


@dataclass(frozen=True, slots=True)
class Item:
    """One file for a destination."""

    name: bytes
    document: PackageFile | None = None
    """None for what we make."""
    content: bytes = b""
    """Of what we make."""


@dataclass(frozen=True, slots=True)
class Place:
    """A destination as the reviewed profile has it."""

    terms: DestinationTerms
    endpoint: Endpoint | Share
    folder: str
    pins: frozenset[str]
    """Fingerprints of the server's keys that were approved; empty where the protocol has none."""


def items(package: Package, files: Sequence[PackageFile], terms: DestinationTerms) -> list[Item]:
    """Documents, checksums, manifest and done file, in the order in which a partner's programs may see them.

    Raises ``SendRefused`` if a name is none, or two are the same.
    """
    laid = layout(package, files, terms)
    if isinstance(laid, Refusal):
        raise SendRefused(f"package {package.digits}: {laid.first_line} Nothing was sent")
    names = dict(laid.documents)
    told = [Item(name, document) for document, name in laid.documents]
    told += [Item(name, content=sidecar(document, names[document])) for document, name in laid.sidecars]
    if laid.manifest is not None:
        told.append(Item(laid.manifest, content=manifest(package, laid.documents)))
    if laid.done_file is not None:
        told.append(Item(laid.done_file))
    return told


def place_of(
    package: Package,
    destination: Destination,
    terms: Sequence[DestinationTerms],
    place: Callable[[DestinationTerms], Endpoint | Share],
    *,
    whoever: bool = False,
) -> Place:
    """Where the reviewed profile has a destination of a package. Raises ``SendRefused`` if it has it nowhere.

    ``place`` tells the endpoint or share of a destination. ``whoever``: a share also if it is for others now, or for more or fewer
    days: what is to be shown to nobody any more was shown to those of then.
    """
    for agreed in terms:
        endpoint = place(agreed)
        base = destination_of(endpoint, "").path
        folder = destination.path.removeprefix(base) if base else destination.path
        now = destination_of(endpoint, folder)
        if whoever and now.shown_to:
            now = replace(now, shown_to=destination.shown_to)
        if now == destination and _fits(agreed.folder, folder, package):
            return Place(agreed, endpoint, folder, frozenset(destination.key_fingerprint.split()))
    raise SendRefused(
        f"package {package.digits}: {destination.shown} is no destination of {package.partner}/{package.stream} in the reviewed "
        "profile (host, user, folder, key and guests count); nothing was sent"
    )


def _fits(template: str, folder: str, package: Package) -> bool:
    """True if a folder's template can give this folder. The day of the order is not in the package: any one will do."""
    facts = {
        "partner": re.escape(package.partner),
        "stream": re.escape(package.stream),
        "kit": re.escape(package.kit),
        "order": f"(?:{re.escape(package.order)}|{re.escape(package.root_order)})",
    }
    pattern, formats = "", []
    for literal, name, spec, _ in string.Formatter().parse(template):
        pattern += re.escape(literal)
        if name == "ordered":
            pattern += "(.{1,100})"
            formats.append(spec or "")
        elif name is not None:
            pattern += facts[name]
    found = re.fullmatch(pattern, folder)
    return found is not None and all(_is_moment(*pair) for pair in zip(found.groups(), formats, strict=True))


def _is_moment(text: str, format: str) -> bool:
    """True if some moment, written so, is this text."""
    try:
        moment = datetime.strptime(text, format) if format else datetime.fromisoformat(text)
    except ValueError:
        return False
    return f"{moment:{format}}" == text
