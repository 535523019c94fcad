"""Notices: what a look found and left alone, told to people once, so that nothing is left alone in silence.

No notice stops anything: the other files of the folder go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from itertools import islice

from blocks.values import FileKind, Inbound, Notice, Unread, shown
from tasks.rules.naming import illegal, text
from tasks.rules.settle import Readiness, fits

MOST = 100
"""Notices of one kind in one look: the oldest. A folder of ten thousand links is one oddity, not ten thousand."""


def notices(
    readiness: Readiness, unread: Unread, doubted: bool, stream: Inbound, now: datetime, told: Container[str] = frozenset()
) -> list[Notice]:
    """What is worth telling of one look, without that whose key was told before."""
    kinds = (
        _twins(readiness),
        _abandoned(readiness, stream, now),
        _not_files(readiness, stream),
        _illegal(readiness, stream),
        _listing(unread, doubted, stream, now),
    )
    return [notice for kind in kinds for notice in _first(kind, told)]


def _first(found: Iterable[Notice], told: Container[str]) -> list[Notice]:
    """The first of a kind that are news: what was told would else keep the places of all that comes after it."""
    news = {notice.key: notice for notice in found if notice.key not in told}
    return list(islice(news.values(), MOST))


def _twins(readiness: Readiness) -> Iterator[Notice]:
    for other, sighting in readiness.twins:
        name = sighting.file.name
        only_case = text(name).casefold() == text(other).casefold()
        how = "case" if only_case else "how their accents are written"
        yield Notice(
            "twin-names",
            f"twin-names/{_mark(min(name, other))}/{_mark(max(name, other))}",
            f"{shown(name)} and {shown(other)} differ only in {how}. They are two files, and both are kept: a target that takes them "
            "for one name gets the second under a name of its own.",
            name,
        )


def _abandoned(readiness: Readiness, stream: Inbound, now: datetime) -> Iterator[Notice]:
    for sighting in readiness.excluded:
        if now - sighting.first_seen >= stream.settle.abandoned_after:
            yield Notice(
                "abandoned-upload",
                f"abandoned-upload/{sighting.journey}",
                f"{sighting.file.shown} has stood there since {sighting.first_seen:%Y-%m-%d %H:%M} UTC under a name that 'exclude' "
                "leaves alone: the rest of an upload that broke off? Ask the partner to send the file again and to remove this one.",
                sighting.file.name,
            )


def _not_files(readiness: Readiness, stream: Inbound) -> Iterator[Notice]:
    for sighting in readiness.not_files:
        if fits(sighting.file.name, stream.patterns):
            what = _KINDS.get(sighting.file.kind, sighting.file.kind)
            yield Notice(
                "not-a-file",
                f"not-a-file/{_mark(sighting.file.name)}/{sighting.file.kind}",  # its journey begins anew whenever it is not listed once
                f"{sighting.file.shown} is a {what}. It was not followed, opened or fetched.",
                sighting.file.name,
            )


_KINDS = {FileKind.OTHER: "device, pipe or socket", FileKind.LINK: "symbolic link"}


def _illegal(readiness: Readiness, stream: Inbound) -> Iterator[Notice]:
    """Those that fit the stream become cases of the quarantine; of the others somebody must hear too."""
    for sighting in readiness.illegal:
        if not fits(sighting.file.name, stream.patterns):
            yield Notice(
                "illegal-name",
                f"illegal-name/{_mark(sighting.file.name)}",
                f"The name {shown(sighting.file.name[:300])} cannot be used: {illegal(sighting.file.name)}. It was left where it is.",
                sighting.file.name,
            )


def _listing(unread: Unread, doubted: bool, stream: Inbound, now: datetime) -> Iterator[Notice]:
    if unread.count:
        yield Notice(
            "unread-lines",
            f"unread-lines/{now:%Y-%m-%d}",  # once a day while it lasts: the lines themselves may differ in every look
            f"{unread.count} lines of the server's listing of {shown(stream.folder)} cannot be read and became no files, "
            f"such as: {'; '.join(unread.examples[:3])}",
        )
    if doubted:
        yield Notice(
            "folder-emptied",
            f"folder-emptied/{now.isoformat()}",
            f"{shown(stream.folder)} is suddenly listed without the files, or most of the files, that stood there. Nothing is taken for "
            "gone before the next look says so too.",
        )


def _mark(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()
