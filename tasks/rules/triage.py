"""Triage: what a person tells about a document whose name and content do not, and which later files it holds for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from blocks.values import Finding, Severity, shown

TRIAGE = "needs-triage"
"""Code of a case in which a fact is missing that a person may tell."""
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Taught:
    """What a person told of one file, proposed for all of the same pattern."""

    pattern: str
    """For the whole name."""
    facts: Mapping[str, str]
    by: str


def pattern_of(name: str) -> str:
    """The pattern of a name: the same text with other digits. ``ISO_9001_2026.pdf`` is ``ISO_[0-9]+_[0-9]+\\.pdf``.

    Digits of other scripts are text like any other: two runs of digits side by side would take years to match.
    """
    return "".join("[0-9]+" if part.isascii() and part.isdigit() else re.escape(part) for part in re.split(r"([0-9]+)", name))


def told(name: str, rules: Iterable[Taught], wanted: Iterable[str]) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Facts that rules tell of a file, of those that may be told, and a note for each; the last rule that fits decides."""
    facts: dict[str, str] = {}
    by: dict[str, Taught] = {}
    allowed = frozenset(wanted)
    for rule in rules:
        if re.fullmatch(rule.pattern, name):
            for fact in rule.facts.keys() & allowed:
                facts[fact], by[fact] = rule.facts[fact], rule
    notes = tuple(
        Finding(
            code="told-before",
            message=f"Its {fact} is {shown(value)}, as {shown(by[fact].by)} told of such a file.",
            rule=shown(by[fact].pattern),
            severity=Severity.NOTE,
        )
        for fact, value in sorted(facts.items())
    )
    return facts, notes


def unfit(facts: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    """Why these facts cannot be told; None if they can."""
    if not facts:
        return "nothing is told: --fact name=value"
    for fact, value in facts.items():
        if fact not in wanted:
            return f"{fact!r} is none of the facts that people may tell here: {', '.join(wanted) or 'none'}"
        if not value.strip() or value != value.strip() or not value.isprintable() or len(value) > LONGEST:
            return f"{fact}: one line of up to {LONGEST} characters is wanted, without blanks at its ends"
    return None
