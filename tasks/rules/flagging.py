"""Flagging: what a governance system's answer says of holds and rules, and what follows for those that are in force here.

A flag is set by any answer that says so. It is lifted only by a whole answer: one that says so itself, or one of two that agree and
do not know it any more, where that was agreed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

HOLD, RETENTION = "hold", "retention"
HEARD, UNHEARD = "heard", "unheard"
FLAGGED = "flagged"
RULED, RULE_TELLING, RULE_TOLD, RULE_LIFTED = "rule-applied", "rule-telling", "rule-told", "rule-lifted"


class Entry(Protocol):
    """What of a recorded entry is read here."""

    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def body(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, order=True)
class Flag:
    """A hold on a document, or a rule for a folder, as a governance system tells it; of one that is lifted, its id says all."""

    id: str
    kind: str = ""
    name: str = ""
    document: str = ""
    folder: str = ""
    days: int = 0
    comment: str = ""
    is_set: bool = True

    @property
    def identity(self) -> str:
        """What makes it this flag: one of the same id about another document is another flag."""
        return "\n".join((self.id, self.kind, self.name.casefold(), self.document, self.folder, str(self.days)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a governance system has told when it was asked for its flags."""

    flags: tuple[Flag, ...] = ()
    why: str = ""
    """Why it is not a whole answer, or none; empty: it is whole."""

    @property
    def set(self) -> tuple[Flag, ...]:
        """Those that hold. Of one that is told both as set and as lifted, this is what counts."""
        return tuple(dict.fromkeys(flag for flag in self.flags if flag.is_set))


def whole(flags: Sequence[Flag], announced: Sequence[Any], must_announce: bool) -> str:
    """Why an answer is only half of one; empty if it is whole. ``announced``: the number of flags that each page said."""
    told = set(map(repr, announced))
    if must_announce and len(told) != 1:
        return f"its pages do not agree how many flags there are: {', '.join(sorted(told)) or 'none says so'}"
    ids = [flag.id for flag in flags]
    if len(ids) != len(set(ids)):
        twice = next(id for id in ids if ids.count(id) > 1)
        return f"flag {twice} is told twice; it may have changed while it was told"
    if must_announce and (not isinstance(announced[0], int) or isinstance(announced[0], bool) or announced[0] != len(ids)):
        return f"{len(ids)} flags came, and it announced {announced[0]!r}"
    return ""


def said_lifted(answer: Answer) -> set[str]:
    """Ids of the flags that a whole answer says are lifted."""
    return set() if answer.why else {flag.id for flag in answer.flags if not flag.is_set}


def agree(one: Answer, other: Answer) -> bool:
    """True if two answers are whole and tell the same: a list that changes while it is told page by page may lose a line."""
    return not one.why and not other.why and sorted(one.flags) == sorted(other.flags)


def fresh(kind: str, began: datetime, now: datetime, stale_after: timedelta) -> bool:
    """True if the last answer was whole, and asked for recently enough."""
    return kind == HEARD and now - began < stale_after


@dataclass(frozen=True, slots=True)
class Rule:
    """That what is filed in a folder, or below it, must be kept for so many days."""

    journey: str
    repository: str
    """Its address."""
    folder: str
    days: int
    comment: str = ""
    by: str = ""
    told: bool = False
    """The repository has it too, or has none for folders."""


def rules_in_force(register: Iterable[Entry]) -> dict[str, Rule]:
    """Journey -> rule, from the register's entries in order."""
    found: dict[str, Rule] = {}
    for entry in register:
        body = entry.body
        journey = str(body.get("journey"))
        if entry.kind == RULED:
            place = body["at"]
            about = (str(place["repository"]), str(place["folder"]), int(body["days"]))
            found[journey] = Rule(journey, *about, str(body.get("comment", "")), str(body.get("by", "")))
        elif entry.kind == RULE_TOLD and (rule := found.get(journey)):
            found[journey] = replace(rule, told=True)
        elif entry.kind == RULE_LIFTED:
            found.pop(journey, None)
    return found


def ruled_by_us(register: Iterable[Entry], rule: Rule) -> set[int]:
    """For how many days we have meant to have a rule's folder kept at its repository since the first of the rules that stand there.

    Once all of them are lifted, nothing there is ours: what somebody rules then, for as many days as we once did, is theirs.
    """
    standing, days = set[str](), set[int]()
    for entry in register:
        journey = str(entry.body.get("journey"))
        if entry.kind in (RULED, RULE_TELLING):
            at = entry.body["at"]
            if (str(at["repository"]), str(at["folder"]).casefold()) == (rule.repository, rule.folder.casefold()):
                standing.add(journey)
                if entry.kind == RULE_TELLING:
                    days.add(int(entry.body["days"]))
        elif entry.kind == RULE_LIFTED:
            standing.discard(journey)
            if not standing:
                days.clear()
    return days


def kept_by(history: Iterable[Entry], rules: Iterable[Rule], now: datetime) -> Rule | None:
    """The rule by which what a journey has filed must be kept still."""
    filed = [entry for entry in history if entry.kind == "filed" and entry.body.get("repository")]
    for rule in rules:
        for entry in filed:
            inside = below(str(entry.body.get("folder", "")), rule.folder)
            if str(entry.body["repository"]) == rule.repository and inside and now - entry.at < timedelta(days=rule.days):
                return rule
    return None


def below(folder: str, other: str) -> bool:
    """True if a folder is another one, or is in it; case is ignored, as a repository may ignore it."""
    path, around = folder.casefold().strip("/").split("/"), other.casefold().strip("/").split("/")
    return path[: len(around)] == around
