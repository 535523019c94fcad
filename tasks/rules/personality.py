"""A server's personality: what is new about it, what has changed, and how people read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blocks.values import Personality

CLOCK_SECONDS = 60
"""Clocks drift: less than this is no change."""

TRAITS: Mapping[str, str] = {
    "server": "calls itself",
    "offers": "says it offers",
    "protection": "protection",
    "tls_reuse": "TLS session reused for data",
    "listing": "lists folders by",
    "list_form": "lines of LIST",
    "hashes": "digests of files",
    "resumes": "resumes downloads (REST)",
    "tells_times": "exact times (MDTM)",
    "extended_passive": "EPSV",
    "one_by_one": "questions one by one",
    "read_bytes": "most bytes in one read",
    "write_bytes": "most bytes in one write",
    "renames": "lets us rename",
    "rename_replaces": "rename over a file",
    "case_rule": "upper and lower case",
    "longest_name": "longest name",
    "clock_seconds": "its clock",
}
"""Every trait, and what people read; in the order in which they read it."""
NOT_TRIED_AGAIN = ("one_by_one", "rename_replaces")
"""Traits that nobody finds out anew once they are known."""
TRIED = ("renames", "rename_replaces", "case_rule", "longest_name", "clock_seconds")
"""Traits that only writing can tell."""


@dataclass(frozen=True, slots=True)
class Change:
    """One trait that is not as it was."""

    trait: str
    was: str
    now: str

    @property
    def text(self) -> str:
        return f"{TRAITS[self.trait]}: {self.was} -> {self.now}"


def merged(known: Personality, seen: Personality) -> Personality:
    """What is known after another visit: what it did not tell stays, and so does a clock that only drifts.

    A server that says other things about itself than before may have lost its quirks with them: those are found out anew.
    """
    if (seen.server, seen.offers) != (known.server, known.offers):
        known = replace(known, **dict.fromkeys(NOT_TRIED_AGAIN))
    news = {trait: getattr(seen, trait) for trait in TRAITS if _differs(trait, known, seen)}
    return replace(known, **news)


def changes(known: Personality, seen: Personality) -> tuple[Change, ...]:
    """What both tell, and tell differently. What nobody knew before is no change."""
    return tuple(
        _change(trait, getattr(known, trait), getattr(seen, trait))
        for trait in TRAITS
        if getattr(known, trait) is not None and _differs(trait, known, seen)
    )


def _differs(trait: str, known: Personality, seen: Personality) -> bool:
    was, now = getattr(known, trait), getattr(seen, trait)
    if now is None or now == was:
        return False
    return not (trait == "clock_seconds" and was is not None and abs(now - was) < CLOCK_SECONDS)


def _change(trait: str, was: Any, now: Any) -> Change:
    if isinstance(was, tuple) and isinstance(now, tuple):  # forty features, of which one went: tell the one
        gone, come = [one for one in was if one not in now], [one for one in now if one not in was]
        return Change(trait, ", ".join(gone) or "less", ", ".join(come) or "without them")
    return Change(trait, words(trait, was), words(trait, now))


def words(trait: str, value: Any) -> str:
    """A trait as people read it."""
    if value is None:
        return "not known yet; 'endpoint show --probe FOLDER' tries it" if trait in TRIED else "not known yet"
    if trait == "rename_replaces":
        return "replaces it in one step" if value else "refused: it is set aside first, and for a moment nothing stands there"
    if trait == "longest_name":
        return f"{value} bytes" + (" or more" if value >= 255 else "")
    if trait == "clock_seconds":
        return "as ours" if not value else f"{abs(value)} s {'ahead of' if value > 0 else 'behind'} ours"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value)
