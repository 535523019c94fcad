"""Triage: what a person tells about a document whose name and content do not, and for which later files it is proposed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from blocks.values import Finding, Severity, shown

TRIAGE = "needs-triage"
"""Code of a case in which a fact is missing that a person may tell."""
TOLD, DIFFER = "told-before", "rules-differ"
"""Codes of notes: a rule told a fact; two rules tell it differently, so that neither did."""
LONGEST = 200
NAMED = 5
"""So many past files are named one by one."""


class RuleState(StrEnum):
    """How far people have come with a rule. Only a live one tells anything of a file."""

    PROPOSED = "proposed"
    LIVE = "live"
    REFUSED = "refused"
    RETRACTED = "retracted"


@dataclass(frozen=True, slots=True)
class Taught:
    """A rule: what a person told of one file, proposed for all of the same pattern, and live once a second person agreed."""

    id: str
    """``partner/stream/number``, the number being that of its proposal in the stream's rules."""
    pattern: str
    """For the whole name."""
    facts: Mapping[str, str]
    by: str
    """Who told it, as stated."""
    comment: str = ""
    """How they know."""
    state: RuleState = RuleState.PROPOSED
    decided_by: str = ""
    """Who agreed, refused or retracted, as stated."""
    why: str = ""

    @property
    def partner(self) -> str:
        return self.id.split("/")[0]

    @property
    def stream(self) -> str:
        return self.id.split("/")[1]

    def fits(self, name: str) -> bool:
        """True if it is about a file of this name."""
        return re.fullmatch(self.pattern, name) is not None

    @property
    def told(self) -> str:
        """Its facts, in words."""
        return in_words(self.facts)


def in_words(facts: Mapping[str, str]) -> str:
    """Facts as a person types them."""
    return ", ".join(f"{fact}={shown(value)}" for fact, value in sorted(facts.items()))


def pattern_of(name: str) -> str:
    """The pattern of a name: the same text with other digits. ``ISO_9001_2026.pdf`` is ``ISO_[0-9]+_[0-9]+\\.pdf``.

    Digits of other scripts are text like any other: two runs of digits side by side would take years to match.
    """
    return "".join("[0-9]+" if part.isascii() and part.isdigit() else re.escape(part) for part in re.split(r"([0-9]+)", name))


def told(name: str, rules: Iterable[Taught], wanted: Iterable[str]) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Facts that live rules tell of a file, of those that may be told, and a note for each.

    Where two rules differ, neither is believed: the fact stays missing, and a person is asked again.
    """
    allowed = frozenset(wanted)
    said: dict[str, dict[str, Taught]] = {}
    for rule in rules:
        if rule.state is RuleState.LIVE and rule.fits(name):
            for fact in rule.facts.keys() & allowed:
                said.setdefault(fact, {})[rule.facts[fact]] = rule
    facts = {fact: next(iter(values)) for fact, values in said.items() if len(values) == 1}
    return facts, tuple(_note(fact, said[fact]) for fact in sorted(said))


def _note(fact: str, said: Mapping[str, Taught]) -> Finding:
    rules = ", ".join(sorted(f"{rule.id}: {rule.pattern}" for rule in said.values()))
    if len(said) > 1:
        each = " and ".join(f"{shown(value)} (rule {rule.id})" for value, rule in said.items())
        message = f"Rules differ on its {fact}: {each}; none of them counts, a person tells it."
        return Finding(code=DIFFER, message=message, column=fact, rule=shown(rules), severity=Severity.NOTE)
    ((value, rule),) = said.items()
    who = f"{shown(rule.by)} told of such a file, and {shown(rule.decided_by)} agreed"
    message = f"Its {fact} is {shown(value)}, as {who} (rule {rule.id})."
    return Finding(code=TOLD, message=message, column=fact, value=shown(value), rule=shown(rules), severity=Severity.NOTE)


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


def contradicted(pattern: str, facts: Mapping[str, str], rules: Iterable[Taught]) -> Taught | None:
    """A live rule that tells one of these facts differently of the same files; None if there is none.

    Two patterns of names are about the same files only if they are equal (see ``pattern_of``).
    """
    for rule in rules:
        same_files = rule.state is RuleState.LIVE and rule.pattern == pattern
        if same_files and any(rule.facts.get(fact, value) != value for fact, value in facts.items()):
            return rule
    return None


# --------------------------------------------------------------------------------------------- on past files


@dataclass(frozen=True, slots=True)
class Past:
    """A past file whose name a proposal fits."""

    name: str
    facts: Mapping[str, str]
    """What was known of it in the end."""
    by: Mapping[str, str]
    """Fact -> who told it, where a person or a rule did. The others its name or content told."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a proposal would have done to past files of its stream, in files."""

    looked: int
    more: bool
    """There are older files, at which nobody looked."""
    fit: int = 0
    new: int = 0
    """Would have got a fact that nobody told."""
    same: int = 0
    """Had these facts: from people, rules, names or content."""
    against: tuple[str, ...] = ()
    """Those that had another value, and who told it."""

    def facts(self) -> dict[str, object]:
        """For the ledger; of what is against it the first are named."""
        counts = {"looked": self.looked, "more": self.more, "fit": self.fit, "new": self.new, "same": self.same}
        return {**counts, "against": len(self.against), "named": list(self.against[:NAMED])}

    def in_words(self) -> str:
        """For whoever decides."""
        of = f"the last {self.looked:,}" if self.more else f"{self.looked:,}"
        counts = f"{self.new:,} would have got what nobody told, {self.same:,} had the same, {len(self.against):,} had something else"
        named = [f": {'; '.join(self.against[:NAMED])}"] if self.against else []
        left = [f"; and {len(self.against) - NAMED:,} more"] if len(self.against) > NAMED else []
        return "".join([f"of {of} past files {self.fit:,} fit its names; of these {counts}", *named, *left])


def rehearsed(facts: Mapping[str, str], past: Iterable[Past], looked: int, more: bool) -> Rehearsal:
    """What these facts would have done to past files whose names fit."""
    fit = new = same = 0
    against = []
    for one in past:
        fit += 1
        other = [fact for fact, value in facts.items() if one.facts.get(fact, "").strip() not in ("", value)]
        if other:
            had = ", ".join(
                f"{fact}={shown(one.facts[fact])}, told by {shown(one.by.get(fact, 'its name or content'))}" for fact in other
            )
            against.append(f"{shown(one.name)} ({had})")
        elif all(one.facts.get(fact, "").strip() for fact in facts):
            same += 1
        else:
            new += 1
    return Rehearsal(looked, more, fit, new, same, tuple(against))
