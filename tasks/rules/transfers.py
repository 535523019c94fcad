"""Transfers that other programs made: which files belong together, what their logs say, and whether that is what stands there.

::

    sent/prices.csv     the document                              ┐
    logs/prices.log     where that program wrote what it did      ├─ one set: the group ``set`` of each pattern is the same
    acks/prices.ack     what the partner answered, if it does     ┘
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from blocks.outbound import canonical, iso
from blocks.values import Filed, Finding, Inbound, Leavings, Sighting, TransferTerms, shown
from tasks.rules.naming import facts_of_name, text
from tasks.rules.transmission import KIND, VERSION, Acknowledgement

MOST_LINE = 4096
"""Characters of a log's line; what is longer tells of no transfer."""


class Role(StrEnum):
    DOCUMENT = "document"
    LOG = "log"
    ACKNOWLEDGEMENT = "acknowledgement"


@dataclass(frozen=True, slots=True)
class Part:
    """What one file is in its set."""

    set: str
    role: Role
    facts: Mapping[str, str]
    """The named groups of the pattern that its name fits."""


def part_of(folder: str, name: bytes, terms: Inbound) -> Part | None:
    """Of what set a file is, and as what; None for one that belongs to none."""
    asked = terms.transfers
    if asked is None:
        return None
    for role, place in ((Role.LOG, asked.log), (Role.ACKNOWLEDGEMENT, asked.acknowledgement)):
        if place is not None and folder == (place.folder or terms.folder):
            facts = facts_of_name(place.pattern, name)
            if facts is not None and facts.get("set"):
                return Part(facts["set"], role, facts)
    if folder == terms.folder:
        for rule in terms.classify:
            facts = facts_of_name(rule.pattern, name)
            if facts is not None and facts.get("set"):
                return Part(facts["set"], Role.DOCUMENT, facts)
    return None


def in_sets(ready: Iterable[Sighting], terms: Inbound) -> list[tuple[Sighting, ...]]:
    """What stands there by sets, in the order of the first file of each; no set is torn apart, so that one task carries all of it."""
    found: dict[str, list[Sighting]] = {}
    for sighting in ready:
        part = part_of(sighting.file.folder, sighting.file.name, terms)
        if part is not None:
            found.setdefault(part.set, []).append(sighting)
    groups: list[tuple[Sighting, ...]] = []
    group: list[Sighting] = []
    for together in found.values():
        if group and len(group) + len(together) > terms.limits.consignment_files:
            groups.append(tuple(group))
            group = []
        group += together
    return [*groups, tuple(group)] if group else groups


def missing(roles: Iterable[Role], terms: TransferTerms) -> tuple[Role, ...]:
    """What a set still lacks."""
    needed = [Role.DOCUMENT, Role.LOG]
    if terms.acknowledgement is not None and terms.acknowledgement.required:
        needed.append(Role.ACKNOWLEDGEMENT)
    there = set(roles)
    return tuple(role for role in needed if role not in there)


# --------------------------------------------------------------------------------------------- what the log says


@dataclass(frozen=True, slots=True)
class Logged:
    """One transfer as its program wrote it down."""

    at: datetime | None
    server: str
    path: str
    size: int | None
    reply: str
    digest: str = ""
    key: str = ""
    line: int = 0

    @property
    def name(self) -> str:
        return self.path.replace("\\", "/").rpartition("/")[2]

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, for the ledger."""
        return {**asdict(self), "at": self.at.isoformat() if self.at else None}

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> Logged:
        """Back from ``facts``."""
        return cls(**{**facts, "at": datetime.fromisoformat(facts["at"]) if facts["at"] else None})


def logged(log: Iterable[bytes], terms: TransferTerms, zone: str) -> list[Logged]:
    """Every transfer in a log, in its order, from its lines. Those that the pattern does not fit tell of something else."""
    found = []
    for number, raw in enumerate(log, 1):
        line = raw.decode("utf-8", "replace")
        fitted = _line(terms.line).fullmatch(line.strip()) if len(line) <= MOST_LINE else None
        if fitted is not None:
            told = {name: value or "" for name, value in fitted.groupdict().items()}
            size = told.get("size", "")
            found.append(
                Logged(
                    at=_moment(told.get("time", ""), terms.time_format, zone),
                    server=told.get("server") or terms.server,
                    path=told["path"],
                    size=int(size) if size.isascii() and size.isdecimal() else None,
                    reply=told.get("reply", ""),
                    digest=told.get("sha256", "").lower(),
                    key=told.get("key", ""),
                    line=number,
                )
            )
    return found


@lru_cache(maxsize=64)
def _line(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _moment(told: str, form: str, zone: str) -> datetime | None:
    """A moment as a log tells it; without a zone of its own it is the partner's time."""
    try:
        at = datetime.strptime(told, form) if form else datetime.fromisoformat(told)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def compared(name: bytes, size: int, digest: str, log: Sequence[Logged], terms: TransferTerms) -> Logged | Finding:
    """The last transfer of a document that its log tells of; or what is wrong about it."""
    file = shown(name)
    told = next((one for one in reversed(log) if one.name == text(name)), None)
    if told is None:
        return _wrong("not-in-log", file, f"The log tells of {len(log)} transfers, and of none of this file.", "")
    if told.size is not None and told.size != size:
        what = f"The log says that {told.size:,} bytes were sent; {size:,} stand here."
        return _wrong("size-differs", file, what, str(told.size), told.line)
    if told.digest and told.digest != digest:
        return _wrong("hash-differs", file, "The log tells another SHA-256 than these bytes have.", told.digest, told.line)
    if re.fullmatch(terms.success, told.reply) is None:
        return _wrong("transfer-failed", file, "The server's reply does not say that it arrived.", shown(told.reply), told.line)
    if told.at is None:
        return _wrong("no-time", file, f"The log's time does not read as {terms.time_format or 'ISO 8601'}.", "", told.line)
    return told


def log_too_large(log: str, size: int, most: int) -> Finding:
    """Of a set whose log nobody reads to its end: what it tells of a document may stand in the rest."""
    what = f"The log has {size:,} bytes; logs of up to {most:,} are read."
    return _wrong("log-too-large", log, what, str(size))


def _wrong(code: str, file: str, message: str, value: str, row: int | None = None) -> Finding:
    return Finding(
        code=code,
        message=message,
        file=file,
        row=row,
        value=value or None,
        rule="a record says what was sent",
        fix="Ask whoever runs that job, and have it leave the file and a log of it anew; then 'countersign quarantine reject' this case",
    )


def facts_of(part: Part, told: Logged) -> dict[str, str]:
    """What a document's record is filed by."""
    assert told.at is not None  # noqa: S101 - compared says no to others
    return {
        **part.facts,
        "server": told.server,
        "path": told.path,
        "sent": told.at.date().isoformat(),
        "bytes": "" if told.size is None else str(told.size),
        "reply": told.reply,
    }


# --------------------------------------------------------------------------------------------- the record


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a set that was filed."""

    role: Role
    name: str
    digest: str
    size: int
    repository: str
    id: str
    version: int

    @classmethod
    def of(cls, role: Role, name: str, digest: str, size: int, repository: str, filed: Filed) -> Member:
        return cls(role, name, digest, size, repository, filed.id, filed.version)

    def acknowledges(self, received: datetime) -> Acknowledgement:
        return Acknowledgement(self.name, self.digest, received, self.repository, self.id)

    @property
    def facts(self) -> dict[str, Any]:
        kept = {"repository": self.repository, "id": self.id, "version": self.version}
        return {"name": self.name, "size": self.size, "sha256": self.digest, "copy": kept}


def record(
    partner: str, title: str, stream: str, key: str, members: Sequence[Member], sent: Mapping[str, Logged], made: datetime
) -> str:
    """The text of a set's transmission record: that of our own deliveries, with the log's words in place of ours.

    ``sent`` is by document name. Nobody signed for it here, and no certificate is made of it.
    """
    facts = {
        "kind": KIND,
        "version": VERSION,
        "told_by": "the log of another program",
        "partner": partner,
        "title": title,
        "stream": stream,
        "order": key,
        "attempt": None,
        "redelivery": None,
        "certificate": None,
        "requester": None,
        "approvers": [],
        "documents": [one.facts for one in members if one.role is Role.DOCUMENT],
        "logs": [one.facts for one in members if one.role is Role.LOG],
        "acknowledgements": [one.acknowledges(made).facts for one in members if one.role is Role.ACKNOWLEDGEMENT],
        "transmissions": [_sent(one, sent[one.name]) for one in members if one.role is Role.DOCUMENT],
        "made": iso(made),
    }
    return canonical(facts)


def _sent(member: Member, told: Logged) -> dict[str, Any]:
    return {
        "document": member.name,
        "to": shown(told.server),
        "path": shown(told.path),
        "size": member.size,
        "sha256": member.digest,
        "at": iso(told.at) if told.at else None,
        "server_key": told.key,
        "replies": [shown(told.reply)] if told.reply else [],
        "proof": None,
        "in_words": f"as line {told.line} of the log says; of this file {_same(told)}",
    }


def _same(told: Logged) -> str:
    """What of a log's words was found to be so."""
    same = [word for word, known in (("size", told.size is not None), ("SHA-256", bool(told.digest))) if known]
    return f"{' and '.join(same)} agree" if len(same) > 1 else f"{same[0]} agrees" if same else "only the name was compared"


# --------------------------------------------------------------------------------------------- the profile


def check_transfers(stream: Inbound) -> Iterator[str]:
    """What is wrong with the patterns, as ``where: what``, for the profile's author."""
    terms = stream.transfers
    if terms is None:
        return
    places: list[tuple[str, Leavings | None]] = [("log", terms.log), ("acknowledgement", terms.acknowledgement)]
    expressions = [(f"{where}/pattern", place.pattern, "set") for where, place in places if place is not None]
    expressions += [(f"classify/{n}", rule.pattern, "set") for n, rule in enumerate(stream.classify)]
    expressions += [("line", terms.line, "path"), ("success", terms.success, "")]
    for where, pattern, group in expressions:
        try:
            groups = re.compile(pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            yield f"{where}: is not a regular expression: {error}"
            continue
        if group and group not in groups:
            yield f"{where}: needs a named group (?P<{group}>...)"
    for n, rule in enumerate(stream.classify):
        if rule.doctype != "transfer":
            yield f"classify/{n}: is a stream of other programs' transfers: its doctype is 'transfer'"
