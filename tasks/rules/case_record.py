"""The record of a case: the page that tells what was wrong, whose it was, by when, and every change since; made from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tasks.rules import printed
from tasks.rules.printed import code, literally, table, when

RECORDED = "case-recorded"
"""Kind of the entry that says which documents are the record of a journey's case, and up to which of its entries they tell."""
MOST_FINDINGS = 200
"""On the page; of the rest only the number is told. The ledger holds as many as were written down."""
UNTOLD = frozenset({"case told", "review begun", "review ended", "case asked", "case answered"})
"""Kinds of entries of a case's journey that change nothing of it; only for them nobody looks into its record."""
_SAID = frozenset({"told", "not told"})
"""Kinds of entries about what the partner was told, which change nothing of the case."""
_LONGEST_NAME = 180
"""Characters of a partner's name behind our own words; its end, which tells what it is."""


class Entry(Protocol):
    """What of a recorded entry is read here."""

    @property
    def n(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Beside:
    """A document that stands beside the page, or why it does not."""

    what: str
    name: str = ""
    digest: str = ""
    said: str = ""


def changes(history: Iterable[Entry]) -> list[Entry]:
    """Of a journey's entries those that its case's record tells: what opened or changed the case, and what people said about it."""
    found: list[Entry] = []
    for entry in history:
        concerns = isinstance(entry.body.get("case"), Mapping) or "comment" in entry.body or entry.kind in _SAID
        if concerns and (found or isinstance(entry.body.get("case"), Mapping)):  # what was before the case is not about it
            found.append(entry)
    return found


def named(what: str, name: str) -> str:
    """What a document beside the page is called: by what it is first, so that no partner's name takes the page's."""
    return f"{what} - {name[-_LONGEST_NAME:]}"


def page(journey: str, history: Sequence[Entry], beside: Sequence[Beside]) -> str:
    """The page, of the entries that are given."""
    told = changes(history)
    case = _standing(told)
    about = {fact: value for entry in history for fact in ("partner", "stream", "name") if (value := entry.body.get(fact))}
    lines = [
        ("State", f"<strong>{literally(case.get('state') or 'new')}</strong>"),
        ("Owner", code(case.get("owner") or "nobody is named")),
        ("Due", when(str(case["due"])) if case.get("due") else "not said"),
        ("Code", code(case.get("code", ""))),
        ("Reason", literally(case.get("reason", ""))),
        *((label, code(about[fact])) for label, fact in _ABOUT if fact in about),
        *_origin(history),
        ("Opened", when(told[0].at.isoformat()) if told else ""),
    ]
    parts = [
        printed.begin(f"Case {about.get('name', journey)}"),
        f"<h1>Case {code(about.get('name', journey))}</h1>",
        table(lines),
        *_findings(history),
        "<h2>Beside this page</h2>",
        table([(literally(one.what), _beside(one)) for one in beside]),
        "<h2>What was done</h2>",
        table([(f"{when(entry.at.isoformat())}<br>{literally(entry.kind)}", said) for entry, said in _said(told)]),
        f"<p>Journey {code(journey)} of the ledger; this page tells its first {history[-1].n} entries.</p>" if history else "",
    ]
    return "\n".join(parts) + printed.END


_ABOUT = (("File", "name"), ("Partner", "partner"), ("Stream", "stream"))
_CASE = ("state", "owner", "due", "code", "reason")


def _standing(told: Iterable[Entry]) -> dict[str, Any]:
    """The case as it stands after these entries."""
    found: dict[str, Any] = {}
    for entry in told:
        case = entry.body.get("case")
        if isinstance(case, Mapping):
            found |= {fact: value for fact, value in case.items() if value not in (None, "")}
    return found


def _origin(history: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    arrived = next((entry.body for entry in history if entry.kind == "arrived"), {})
    if arrived.get("endpoint"):
        yield "From", f"{code(arrived['endpoint'])}, folder {code(arrived.get('folder', ''))}"
    if isinstance(arrived.get("size"), int):
        yield "Size", f"{arrived['size']:,} bytes"


def _findings(history: Sequence[Entry]) -> Iterator[str]:
    last = next((entry.body for entry in reversed(history) if entry.kind == "quarantined"), {})
    findings = last.get("findings") or []
    if not findings:
        return
    yield "<h2>What is wrong</h2>"
    yield table((_where(finding), _what(finding)) for finding in findings[:MOST_FINDINGS])
    if len(findings) > MOST_FINDINGS:
        yield f"<p>{len(findings) - MOST_FINDINGS:,} more stand in the ledger.</p>"


def _where(finding: Mapping[str, Any]) -> str:
    place = [f"row {finding['row']}"] if finding.get("row") is not None else []
    place += [literally(finding["column"])] if finding.get("column") else []
    return "<br>".join([code(finding.get("code", "")), *place])


def _what(finding: Mapping[str, Any]) -> str:
    told = [literally(finding.get("message", ""))]
    told += [
        f"{label}: {literally(finding[fact])}" for label, fact in (("Rule", "rule"), ("To mend", "fix")) if finding.get(fact)
    ]
    return "<br>".join(told)


def _beside(one: Beside) -> str:
    told = [code(one.name)] if one.name else []
    told += [f"SHA-256 {code(one.digest)}"] if one.digest else []
    told += [literally(one.said)] if one.said else []
    return "<br>".join(told)


def _said(told: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
    """Each change with what it changed, who made it and why."""
    before: dict[str, Any] = {}
    for entry in told:
        after = before | _standing([entry])
        lines = [
            f"{fact}: {when(str(after[fact])) if fact == 'due' else code(after[fact])}"
            for fact in _CASE
            if fact in after and after[fact] != before.get(fact)
        ]
        lines += [f"{fact}: {code(entry.body[fact])}" for fact in ("by", "comment", "document") if entry.body.get(fact)]
        before = after
        yield entry, "<br>".join(lines)
