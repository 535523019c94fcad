"""Sets: files that belong together, of which none is filed before all have come and their manifest agrees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from blocks.values import SetTerms, shown

_LINE = re.compile(r"(?:(?P<sha256>[0-9a-fA-F]{64})[ \t]+\*?)?(?P<name>\S.*?)\s*")
_MOST_LINES = 10_000
NO_LIST = "it is no list of names"


@dataclass(frozen=True, slots=True)
class Member:
    """A file that came for a set."""

    journey: str
    name: str
    digest: str | None
    seen: datetime
    accepted: bool
    """False: refused by the checks, or not judged yet."""
    refused: str = ""
    """Why, if it was refused."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What name and content told."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """How far a set has come."""

    members: Mapping[str, str]
    """Name of a file -> the journey that brings it; all that there is so far."""
    missing: tuple[str, ...]
    """What is not there, in words that begin with the name; empty for a set that is whole."""
    since: datetime | None
    """When its first file was seen."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What its sidecar tells of every file of it; nothing before that is there."""

    @property
    def whole(self) -> bool:
        return not self.missing

    def late(self, terms: SetTerms, now: datetime) -> bool:
        """True if the window has closed before it was whole."""
        return not self.whole and self.since is not None and now - self.since > terms.window


def set_of(name: str, terms: SetTerms) -> str | None:
    """The set that a file belongs to by its name; None for a file that belongs to none."""
    found = re.fullmatch(terms.pattern, name)
    return found["set"] if found and found["set"] and found["set"].isprintable() else None


def wanted(key: str, terms: SetTerms) -> tuple[str, ...]:
    """The names of all files of a set, its sidecar and manifest last."""
    templates = (*terms.files, terms.sidecar.name) if terms.sidecar else terms.files
    names = [template.replace("{set}", key) for template in templates]
    return (*names, terms.manifest.replace("{set}", key)) if terms.manifest else tuple(names)


def listed(manifest: bytes) -> dict[str, str | None]:
    """What a manifest says: name -> SHA-256, or None where it tells none. Lines as ``sha256sum`` writes them, or bare names.

    Raises ``ValueError`` for what is no such list.
    """
    lines = [line for line in manifest.decode("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) > _MOST_LINES:
        raise ValueError(f"more than {_MOST_LINES} lines")
    found: dict[str, str | None] = {}
    for line in lines:
        parsed = _LINE.fullmatch(line)
        if parsed is None:
            raise ValueError(f"a line is neither a name nor a digest and a name: {shown(line[:100])!r}")
        found[parsed["name"]] = parsed["sha256"].lower() if parsed["sha256"] else None
    return found


def assemble(
    key: str, came: Iterable[Member], manifest: Mapping[str, str | None] | None, terms: SetTerms, unread: str = NO_LIST
) -> Assembled:
    """How far a set has come. ``manifest`` is what it lists (None: it is not there, or was not read, and ``unread`` says why).

    Of several files of one name the newest counts that the manifest admits.
    """
    by_name: dict[str, list[Member]] = {}
    for member in sorted(came, key=lambda one: (one.seen, one.journey)):
        by_name.setdefault(member.name, []).append(member)
    names = wanted(key, terms)
    own = names[-1] if terms.manifest else None
    sidecar = terms.sidecar.name.replace("{set}", key) if terms.sidecar else None
    members: dict[str, str] = {}
    missing: list[str] = []
    facts: Mapping[str, str] = {}
    for name in names:
        there = by_name.get(name, [])
        digest = (manifest or {}).get(name)
        fits = [one for one in there if one.accepted and digest in (None, one.digest)]
        if fits:
            members[name] = fits[-1].journey
            facts = fits[-1].facts if name == sidecar else facts
        elif any(one.accepted for one in there):
            missing.append(f"{shown(name)} (what came has other bytes than the manifest says)")
        elif there:
            missing.append(f"{shown(name)} ({there[-1].refused or 'not checked yet'})")
        else:
            missing.append(shown(name))
        if name == own and name in members and manifest is None:
            missing.append(f"{shown(name)} ({unread})")
    if manifest is not None:
        missing += [
            f"{shown(name)} (not listed in the manifest)" for name in names[:-1] if name in members and name not in manifest
        ]
        missing += [f"{shown(name)} (listed in the manifest, and not agreed)" for name in manifest if name not in names]
    since = min((one.seen for group in by_name.values() for one in group), default=None)
    told = {fact: facts[fact] for fact in terms.sidecar.facts if fact in facts} if terms.sidecar else {}
    return Assembled(members, tuple(missing), since, told)
