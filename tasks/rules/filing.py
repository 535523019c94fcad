"""Filing: where and how an accepted document is kept, from the templates of its stream's target.

A template is text with ``{fact}`` in it, and ``{received:%Y-%m}`` for the moment we first saw the file. Nothing else: no
attributes, no indexes, no conversions, no widths. Facts come from partners, so what they say is data: in a folder it can
never add, leave or climb a level.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from blocks.outbound import Outbound, PackageFile
from blocks.values import Arrival, BusinessObject, Document, Filing, Finding, Inbound, InWorkspace, Target, Verdict, shown
from tasks.doctypes import find, known
from tasks.rules.naming import extension, facts_of_name, text
from tasks.rules.retention import keep_until, record_day
from tasks.rules.triage import TRIAGE

OURS = ("partner", "stream", "name", "stem", "extension", "digest", "received")
"""Facts that every document has."""
SOURCE_PATH = "source_path"
"""A fact of what comes in: folder and name at the partner."""
RECORD_DATE, KEEP_UNTIL = "record_date", "keep_until"
"""Facts that a target with retention adds: ISO dates."""
_NO_DATES = frozenset((*OURS, SOURCE_PATH)) - {"received"}
_FACT = re.compile(r"[a-z_][a-z0-9_]*")
_MOMENT = re.compile(r"(?:%[YymdHMSjVGuaAbBp]|[-_.: T])+")


def plan(
    document: Document,
    verdict: Verdict,
    stream: Inbound,
    partner: str,
    name: str,
    arrival: Arrival,
    origin: PackageFile | None = None,
) -> Filing:
    """What the repository is asked to keep. ``name`` is the stream's. ``received`` is when we first saw the file.

    ``origin``: the document and version that this is an edited copy of; then it becomes that document's newest version, as proposed.

    Raises ``ValueError`` for a template that ``check_templates`` refuses, ``KeyError`` for a fact that ``unfilled`` reports.
    """
    target = stream.target
    received = arrival.first_seen
    source = {SOURCE_PATH: f"{arrival.file.folder.rstrip('/')}/{_readable(text(document.name))}"}
    own = {**verdict.facts, **_own(document, partner, name), **source}
    kept = kept_as(target, own, received)
    facts = {**own, **kept.facts}
    filing = Filing(
        journey=document.journey,
        name=_segment(render(target.name, facts, received)),
        folder=tuple(_segment(render(part, facts, received)) for part in _levels(target.folder)),
        path=document.path,
        digest=document.digest,
        size=document.size,
        media_type=document.sniffed or "application/octet-stream",
        categories={
            category: {attribute: _values(template, facts, received) for attribute, template in attributes.items()}
            for category, attributes in target.categories.items()
        },
        records_class=target.records_class,
        record_date=kept.record_date,
        keep_until=kept.until,
        schedule=kept.schedule,
        access=target.access,
        modified=arrival.file.modified,
        collision=target.collision,
        workspace=in_workspace(target, facts, received),
        sent=_sent(document, partner, name, received) if target.workspace else "",
    )
    if origin is None:
        return filing
    said = _sent(document, partner, name, received, f"Proposed, edited from version {origin.version}: ")
    return replace(filing, document=origin.repository_id, folder=(), name=text(origin.name), workspace=None, sent=said)


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a target's retention comes to for one document."""

    record_date: date | None = None
    until: date | None = None
    schedule: str | None = None

    @property
    def facts(self) -> dict[str, str]:
        """For templates."""
        told = {RECORD_DATE: self.record_date, KEEP_UNTIL: self.until}
        return {name: day.isoformat() for name, day in told.items() if day is not None}


def kept_as(target: Target, facts: Mapping[str, str], received: datetime) -> Keeping:
    """How long a document must be kept. Nothing for a target that says nothing of it.

    Raises ``ValueError`` for a record date that is no date (``unfilled`` reports it), ``KeyError`` for a fact that is not known.
    """
    if target.record_date is None and target.retention is None:
        return Keeping()
    day = record_day(render(target.record_date or "{received}", facts, received))
    if target.retention is None:
        return Keeping(day)
    return Keeping(day, keep_until(day, target.retention), target.retention.schedule)


def in_workspace(target: Target, facts: Mapping[str, str], received: datetime) -> InWorkspace | None:
    """The workspace that a document with these facts belongs to. Raises ``KeyError`` for a fact that it needs and is not there."""
    terms = target.workspace
    if terms is None:
        return None
    about = BusinessObject(terms.system, terms.object, render(terms.reference, facts, received).strip())
    name = render(terms.name, facts, received) if terms.name else f"{terms.object} {about.id}"
    own = terms.below
    below = None if own is None else BusinessObject(own.system, own.object, render(own.reference, facts, received).strip())
    return InWorkspace(about, _segment(name), terms.template, terms.roles, below)


def case_of(target: Target, facts: Mapping[str, str], received: datetime) -> dict[str, str] | None:
    """What a refused document is about, for whoever looks after its case; None where its facts do not tell."""
    try:
        found = in_workspace(target, facts, received)
    except KeyError:
        return None
    return None if found is None else {"system": found.about.system, "type": found.about.type, "id": found.about.id}


def _sent(document: Document, partner: str, stream: str, received: datetime, before: str = "") -> str:
    """For the repository's history of versions."""
    end = f" from {partner}/{stream}, received {received:%Y-%m-%d %H:%M:%S} UTC, SHA-256 {document.digest}"
    return before + document.shown[: 255 - len(before) - len(end)] + end


def delivered_as(file: PackageFile, partner: str, stream: str, order: str, delivered: datetime) -> str:
    """The same for what went the other way."""
    end = f" to {partner}/{stream}, delivered {delivered:%Y-%m-%d %H:%M:%S} UTC, SHA-256 {file.sha256}, order {order}"[:250]
    return file.shown[: 255 - len(end)] + end


def render(template: str, facts: Mapping[str, str], received: datetime) -> str:
    """Fill a template. Raises ``ValueError`` for what is no template of ours and ``KeyError`` for an unknown fact."""
    out = []
    for literal, fact, form in _parts(template):
        out.append(literal)
        if fact == "received":
            out.append(received.strftime(form or "%Y-%m-%d"))
        elif fact is not None:
            out.append(facts[fact])
    return "".join(out)


def place(folder: str, name: str, facts: Mapping[str, str], received: datetime) -> tuple[tuple[str, ...], str]:
    """A folder's path and a name in it, from their templates; no fact adds, leaves or climbs a level. Raises as ``render`` does."""
    return tuple(_segment(render(part, facts, received)) for part in _levels(folder)), _segment(render(name, facts, received))


def check_place(folder: str, name: str, offered: Iterable[str]) -> Iterator[str]:
    """What is wrong with two such templates, in words for the author of the file."""
    yield from _check(Target(repository="any", folder=folder, name=name), {"received", *offered}, "it")


def check_templates(stream: Inbound) -> Iterator[str]:
    """What is wrong with a target's templates, in words for the profile's author; every document type of the stream counts."""
    for where, template in _templates(stream.target):
        try:
            used = {fact for _, fact, _ in _parts(template) if fact is not None}
        except ValueError as error:
            yield f"{where}: {error}"
            continue
        for rule in stream.classify:
            offered = _offered(rule.pattern, rule.doctype, stream, (*rule.facts, *stream.triage)) | _of_keeping(
                stream.target, where
            )
            if where == RECORD_DATE:
                offered -= _NO_DATES
            for fact in sorted(used - offered):
                yield (
                    f"{where}: {{{fact}}} is not known of every file that {rule.pattern!r} recognises; "
                    f"known are {', '.join(sorted(offered))}"
                )
    yield from _place(stream.target)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One document that we file about what we did: a certificate, a record, a copy of what was sent."""

    key: str
    """What makes it one: under the same key the same document is filed."""
    name: str
    stem: str
    extension: str
    """Both for templates: together they tell apart what is filed about one thing."""
    digest: str
    size: int
    media_type: str
    path: Path
    documents: tuple[tuple[str, str], ...] = ()
    """Name and SHA-256 of each document that it is about."""
    said: str = ""
    """For the history of versions of what is filed in a workspace."""


MOST_VALUES = 50
"""So many of them become values of one attribute; the others stand in the document itself."""
_LISTS = ("{documents}", "{digests}")


def plan_evidence(evidence: Evidence, target: Target, about: Mapping[str, str], at: datetime) -> Filing:
    """What the repository is asked to keep. ``about`` are facts besides the document's own: partner, stream, order."""
    facts = {
        **about,
        "name": evidence.name,
        "stem": evidence.stem,
        "extension": evidence.extension,
        "digest": evidence.digest,
    }
    keeping = kept_as(target, facts, at)
    facts |= keeping.facts
    names, digests = zip(*evidence.documents[:MOST_VALUES], strict=True) if evidence.documents else ((), ())
    lists: dict[str, tuple[str, ...]] = dict(zip(_LISTS, (names, digests), strict=True))

    def filled(template: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(template, str):
            return lists[template] if template in lists else render(template, facts, at)
        return tuple(value for one in template for value in lists.get(one) or (render(one, facts, at),))

    return Filing(
        journey=str(uuid5(NAMESPACE_URL, evidence.key)),
        name=_segment(render(target.name, facts, at)),
        folder=tuple(_segment(render(level, facts, at)) for level in _levels(target.folder)),
        path=evidence.path,
        digest=evidence.digest,
        size=evidence.size,
        media_type=evidence.media_type,
        categories={
            category: {attribute: filled(template) for attribute, template in attributes.items()}
            for category, attributes in target.categories.items()
        },
        records_class=target.records_class,
        record_date=keeping.record_date,
        keep_until=keeping.until,
        schedule=keeping.schedule,
        access=target.access,
        collision=target.collision,
        workspace=in_workspace(target, facts, at),
        sent=evidence.said if target.workspace else "",
    )


def told_alike(names: Iterable[bytes], terms: Outbound) -> dict[str, str]:
    """Facts that the names of all documents of a package tell, by the stream's own patterns, and all of them alike."""
    alike: dict[str, str] | None = None
    for name in names:
        told = _told(name, terms)
        alike = told if alike is None else {fact: value for fact, value in alike.items() if told.get(fact) == value}
    return alike or {}


def _told(name: bytes, terms: Outbound) -> dict[str, str]:
    of_all = facts_of_name(terms.naming, name) or {} if terms.naming is not None else {}
    for rule in terms.classify:
        groups = facts_of_name(rule.pattern, name)
        if groups is not None:
            return {**rule.facts, **of_all, **groups}
    return of_all


def not_told_alike(names: Sequence[bytes], terms: Outbound) -> list[str]:
    """Facts by which evidence or record of a package would be filed, and that its documents do not tell, or not alike."""
    needed = {fact for target in (terms.evidence, terms.recording) for _, one in _templates(target) for fact in _used(one)}
    known_here = {*OURS, "order", RECORD_DATE, KEEP_UNTIL, *(one[1:-1] for one in _LISTS)}
    return sorted(needed - known_here - {fact for fact, value in told_alike(names, terms).items() if value.strip()})


def _used(template: str) -> set[str]:
    try:
        return {fact for _, fact, _ in _parts(template) if fact is not None}
    except ValueError:
        return set()  # told where templates are checked


def check_evidence(target: Target, terms: Outbound) -> Iterator[str]:
    """The same for where evidence of a release is filed: known are the order, what every document has, and what all patterns tell."""
    groups = [{*re.compile(rule.pattern).groupindex, *rule.facts} for rule in terms.classify]
    told = (set.intersection(*groups) if groups else set[str]()) | set(re.compile(terms.naming or "").groupindex)
    offered = {*OURS, "order", *told}
    yield from _check(target, offered, "a certificate")


def check_handover(target: Target, facts: Iterable[str]) -> Iterator[str]:
    """The same for where a system's documents are kept: known are what every document has, and what the system is asked about it."""
    yield from _check(target, {*OURS, *facts}, "a document that is handed over")


def _check(target: Target, offered: set[str], what: str) -> Iterator[str]:
    for where, template in _templates(target):
        if "/" in where and template in _LISTS:
            continue
        known_here = {"received"} if where == RECORD_DATE else offered | _of_keeping(target, where)
        try:
            unknown = sorted({fact for _, fact, _ in _parts(template) if fact is not None} - known_here)
        except ValueError as error:
            yield f"{where}: {error}"
            continue
        for fact in unknown:
            yield f"{where}: {{{fact}}} is not known of {what}; known are {', '.join(sorted(known_here))}"
    yield from _place(target)


def _place(target: Target) -> Iterator[str]:
    levels = [part.strip() for part in _levels(target.folder)]
    if not levels or any(part in ("", ".", "..") for part in levels) or "\\" in target.folder:
        yield "folder: is a path of names with / between them, without empty, '.' or '..' parts"
    if "/" in target.name or not target.name.strip():
        yield "name: is one name, without /"
    if target.workspace is not None and target.workspace.name is not None:
        lost = sorted(_used(target.workspace.reference) - _used(target.workspace.name))
        if lost:
            yield f"workspace/name: two workspaces would have one name: add {{{'}, {'.join(lost)}}}, of which the reference is made"


def unfilled(file: str, facts: Mapping[str, str], stream: Inbound, later: Collection[str] = ()) -> Iterator[Finding]:
    """Facts that the target needs and this document does not have. ``later``: facts that its sidecar has yet to tell."""
    needed: dict[str, str] = {}
    known = (*OURS, SOURCE_PATH, RECORD_DATE, KEEP_UNTIL, *later)
    for where, template in _templates(stream.target):
        for _, fact, _ in _parts(template):
            if fact is None or fact in known:
                continue
            if not facts.get(fact, "").strip():
                needed.setdefault(fact, where)
    for fact, where in needed.items():
        by_people = fact in stream.triage
        yield Finding(
            code=TRIAGE if by_people else "missing-fact",
            message=f"Neither name nor content tells the {shown(fact)}, which is needed to file it ({where}).",
            file=file,
            rule=f"{where} uses {{{fact}}}",
            fix=f"Tell it: countersign triage assign ... --fact {fact}=..."
            if by_people
            else "Name the file so that it tells, or change the target in the partner's profile.",
        )
    if not needed and not later:
        yield from _undated(file, facts, stream.target)


def _undated(file: str, facts: Mapping[str, str], target: Target) -> Iterator[Finding]:
    """A record date that is none: what retention counts from is never guessed."""
    if target.record_date is None and target.retention is None:
        return
    told = {**dict.fromkeys(OURS, ""), **facts}  # of these only the moment is a date
    try:
        kept_as(target, told, datetime(2000, 1, 1, tzinfo=UTC))
    except ValueError as error:
        yield Finding(
            code="bad-record-date",
            message=f"Name and content tell no date from which it can be kept: {shown(str(error))}.",
            file=file,
            rule=f"record_date: {target.record_date}",
            fix="Have the sender state the date as 2026-11-20 or 20261120, or change 'record_date' in the partner's profile.",
        )


# --------------------------------------------------------------------------------------------- templates


@lru_cache(maxsize=1024)
def _parts(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """Literals, each with the fact after it (None at the end) and its form. Raises ``ValueError`` for anything else."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template!r} is no template: {error}") from error
    parts: list[tuple[str, str | None, str]] = []
    for literal, fact, form, conversion in parsed:
        if fact is None:
            parts.append((literal, None, ""))
            continue
        if not _FACT.fullmatch(fact) or conversion or (form and (fact != "received" or not _MOMENT.fullmatch(form))):
            raise ValueError(
                f"{template!r}: only {{fact}} and {{received:%Y-%m-%d}} can be used, no attributes, indexes or other forms"
            )
        parts.append((literal, fact, form or ""))
    return tuple(parts)


def _templates(target: Target) -> Iterator[tuple[str, str]]:
    """Every template of a target, with where it stands."""
    yield "folder", target.folder
    yield "name", target.name
    if target.record_date is not None:
        yield RECORD_DATE, target.record_date

    if target.workspace is not None:
        yield "workspace/reference", target.workspace.reference
        if target.workspace.name is not None:
            yield "workspace/name", target.workspace.name
        if target.workspace.below is not None:
            yield "workspace/below", target.workspace.below.reference
    for category, attributes in target.categories.items():
        for attribute, template in attributes.items():
            for one in (template,) if isinstance(template, str) else template:
                yield f"{category}/{attribute}", one


def uses(target: Target, fact: str) -> bool:
    """True if a template of a target needs that fact. Raises ``ValueError`` for what is no template of ours."""
    return any(fact == used for _, template in _templates(target) for _, used, _ in _parts(template))


def _of_keeping(target: Target, where: str) -> frozenset[str]:
    """Facts that come from how long it is kept; in category values only, for the record date itself needs the others."""
    if target.retention is None or "/" not in where:
        return frozenset()
    return frozenset({RECORD_DATE, *([KEEP_UNTIL] if target.retention.period else [])})


def _offered(pattern: str, doctype: str, stream: Inbound, agreed: Iterable[str]) -> frozenset[str]:
    groups: Iterable[str] = [
        group for expression in (pattern, stream.naming or "") for group in re.compile(expression).groupindex
    ]
    return frozenset({*OURS, SOURCE_PATH, *groups, *agreed, *(find(doctype).facts if doctype in known() else ())})


def offered(stream: Inbound) -> frozenset[str]:
    """All that may be known of a document of a stream."""
    several = (_offered(rule.pattern, rule.doctype, stream, (*rule.facts, *stream.triage)) for rule in stream.classify)
    return frozenset[str]().union(*several)


def _own(document: Document, partner: str, stream: str) -> dict[str, str]:
    name = _readable(text(document.name))
    return {
        "partner": partner,
        "stream": stream,
        "name": name,
        "stem": name.rpartition(".")[0] or name,
        "extension": _readable(extension(document.name)),
        "digest": document.digest,
    }


def _values(template: str | tuple[str, ...], facts: Mapping[str, str], received: datetime) -> str | tuple[str, ...]:
    if isinstance(template, str):
        return render(template, facts, received)
    return tuple(render(one, facts, received) for one in template)


# --------------------------------------------------------------------------------------------- names


def _levels(folder: str) -> list[str]:
    """Split before filling, so that no fact can add a level."""
    return folder.strip("/").split("/")


def _segment(rendered: str) -> str:
    """One name: never empty, never a way up, no separators."""
    plain = rendered.isascii() and rendered.isprintable() and "/" not in rendered and "\\" not in rendered
    clean = rendered if plain else "".join(map(_harmless, rendered))
    one = clean.strip()
    return one if one.strip(".") else "_" * max(1, len(one))


def _harmless(char: str) -> str:
    return "_" if char in "/\\" or unicodedata.category(char) == "Cc" else char


def _readable(name: str) -> str:
    """Bytes that are not UTF-8 are written out, the rest is as it is."""
    if name.isascii():
        return name
    return "".join(shown(char) if 0xDC80 <= ord(char) <= 0xDCFF else char for char in name)
