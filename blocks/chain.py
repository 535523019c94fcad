"""What an entry of the ledger is made of, and how one holds the next. Values only: no database, no clock.

The canonical text of an entry (version 1) is JSON, ASCII, keys sorted, no blanks::

    {"at":…,"body":{…},"journey":…,"kind":…,"n":…,"once":…,"previous":…,"stage":…,"v":1}

``n`` counts a journey's entries from 1; ``previous`` is the hash of the one before (null for the first); the hash is the
SHA-256 of the text. That text is the truth. Everything else the ledger stores about an entry can be made from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from blocks.canonical import canonical, iso, of_plain, sha256
from blocks.errors import ChainBroken
from blocks.values import Stage

VERSION = 1
LARGEST = 2**63 - 1
"""A partner's server may claim any size; no column takes more."""


SHORT = 200
"""Characters of a fact that stands in an index, which takes no more than about 2,700 bytes (PostgreSQL)."""


class CaseState(StrEnum):
    """How far a person has come with a quarantine case."""

    NEW = "new"
    ASSIGNED = "assigned"
    WAITING = "waiting for partner"
    RESOLVED = "resolved"


class Link(NamedTuple):
    """One stored entry: its canonical text, and the columns beside it, in the order of the table's."""

    seq: int
    journey: str
    n: int
    kind: str
    at: datetime
    once: str | None
    hash: str
    record: str

    @property
    def facts(self) -> dict[str, Any]:
        """The canonical text, parsed."""
        found: dict[str, Any] = json.loads(self.record)
        return found

    @property
    def line(self) -> str:
        """As it stands in an extract of the ledger: its number there, its canonical text and its hash, in canonical JSON."""
        return canonical({"seq": self.seq, "record": self.record, "hash": self.hash})

    @classmethod
    def parse(cls, line: str) -> Link:
        """Back from ``line``, not proven yet. Raises ``ValueError`` for any other text."""
        try:
            told = json.loads(line)
            facts = json.loads(told["record"])
            at, once = datetime.fromisoformat(facts["at"]), once_key(facts["once"])
            found = cls(told["seq"], facts["journey"], facts["n"], facts["kind"], at, once, told["hash"], told["record"])
            same = canonical(told) == line and canonical(facts) == found.record and type(found.seq) is int
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"this is no entry of a ledger ({type(error).__name__})") from error
        if not same or not all(isinstance(word, str) for word in (found.journey, found.kind, found.hash)):
            raise ValueError("this is no entry of a ledger in its canonical form")
        return found


def once_key(once: str | None) -> str | None:
    """A unique key as its column holds it: escaped without loss, because a partner's name may be in it."""
    return None if once is None else json.dumps(once)[1:-1]


def link(
    seq: int,
    journey: str,
    n: int,
    previous: str | None,
    *,
    kind: str,
    at: datetime,
    body: Mapping[str, Any],
    once: str | None,
    stage: Stage | None,
) -> tuple[Link, dict[str, Any]]:
    """A new entry behind the one whose hash is ``previous``, and its facts as its text says them.

    Raises ``ValueError`` if the body is no JSON.
    """
    facts: dict[str, Any] = {
        "v": VERSION,
        "journey": journey,
        "n": n,
        "kind": kind,
        "at": iso(at),
        "previous": previous,
        "once": once,
        "stage": None if stage is None else stage.value,
        "body": dict(body),
    }
    as_read = of_plain(facts)
    try:
        record = as_read or canonical(facts)
    except ValueError as error:
        raise ValueError(f"{kind!r} of journey {journey} cannot be recorded: {error}") from error
    made = Link(seq, journey, n, kind, at, once_key(once), sha256(record), record)
    return made, facts if as_read else made.facts


def proven(found: Link, before: Link | None) -> dict[str, Any]:
    """The facts of an entry, once it is shown to be what was written, where it was written.

    Raises ``ChainBroken`` that says what differs.
    """
    where = f"journey {found.journey}, entry {found.n} ({found.kind!r})"
    expected = before.n + 1 if before else 1
    if found.n != expected:
        missing = f"entry {expected} is missing" if found.n > expected else f"there are two entries {found.n}"
        raise ChainBroken(f"journey {found.journey}: {missing} before entry {found.n} ({found.kind!r})")
    told = hashlib.sha256(found.record.encode("utf-8", "surrogatepass")).hexdigest()
    if told != found.hash:
        raise ChainBroken(
            f"{where}: its text was edited, or its hash: the text gives {told[:16]}…, recorded is {found.hash[:16]}…"
        )
    facts = found.facts
    if facts.get("v") != VERSION:
        raise ChainBroken(f"{where}: version {facts.get('v')!r} of the text is not known here; use a newer Countersign")
    previous = before.hash if before else None
    if facts["previous"] != previous:
        raise ChainBroken(
            f"{where}: it was written behind the hash {_short(facts['previous'])}, "
            f"but the entry before it has {_short(previous)}: one was replaced"
        )
    columns = {
        "journey": found.journey,
        "n": found.n,
        "kind": found.kind,
        "at": iso(found.at),
        "once": found.once,
    }
    for column, value in columns.items():
        sealed = once_key(facts["once"]) if column == "once" else facts[column]
        if value != sealed:
            raise ChainBroken(f"{where}: the column {column} says {value!r}, the sealed text says {sealed!r}")
    return facts


def _short(digest: str | None) -> str:
    return f"{digest[:16]}…" if digest else "nothing (first entry)"


# --------------------------------------------------------------------------------------------- the index


@dataclass(slots=True)
class Index:
    """What the index holds about one journey: the newest of each well-known fact in its entries. None: nothing told yet."""

    journey: str
    partner: str | None = None
    stream: str | None = None
    name: str | None = None
    size: int | None = None
    digest: str | None = None
    repository: str | None = None
    repository_id: str | None = None
    stage: str | None = None
    kind: str = ""
    entries: int = 0
    opened: datetime | None = None
    changed: datetime | None = None

    def add(self, facts: Mapping[str, Any]) -> None:
        """Take in the next entry of the journey."""
        body = facts["body"]
        for fact in ("partner", "stream", "name", "digest", "repository", "repository_id"):
            if (value := body.get(fact)) is not None and (told := word(value)) is not None:
                setattr(self, fact, told if fact == "name" else told[:SHORT])
        if type(size := body.get("size")) is int and size >= 0:  # True is an int as well
            self.size = min(size, LARGEST)
        self.stage = facts["stage"] or self.stage
        self.kind, self.entries = facts["kind"], facts["n"]
        self.changed = datetime.fromisoformat(facts["at"])
        self.opened = self.opened or self.changed


@dataclass(slots=True)
class CaseIndex:
    """What the index holds about a journey's quarantine case."""

    journey: str
    code: str | None = None
    reason: str | None = None
    owner: str | None = None
    due: datetime | None = None
    state: str | None = None
    opened: datetime | None = None
    changed: datetime | None = None

    def add(self, facts: Mapping[str, Any]) -> None:
        """Take in an entry whose body has a ``case``. Raises ``ValueError`` for a state or a date that is none."""
        told = facts["body"]["case"]
        self.code, self.reason = word(told.get("code")) or self.code, word(told.get("reason")) or self.reason
        self.owner = word(told.get("owner")) or self.owner
        try:
            if told.get("due"):
                due = datetime.fromisoformat(told["due"])
                self.due = due.astimezone(UTC) if due.tzinfo else due.replace(tzinfo=UTC)
            if told.get("state"):
                self.state = CaseState(told["state"]).value
        except (TypeError, ValueError) as error:
            raise ValueError(f"the case of journey {self.journey}: due or state cannot be read ({error})") from error
        self.changed = datetime.fromisoformat(facts["at"])
        self.opened = self.opened or self.changed


def indexed(journey: str, facts: Iterable[Mapping[str, Any]]) -> tuple[Index, CaseIndex | None]:
    """What the index should hold after these entries of one journey."""
    index, case = Index(journey), None
    for fact in facts:
        index.add(fact)
        if isinstance(fact["body"].get("case"), dict):
            case = case or CaseIndex(journey)
            case.add(fact)
    return index, case


def word(value: Any) -> str | None:
    """A fact as a column can hold it: PostgreSQL takes neither NUL nor half a surrogate pair."""
    if type(value) is str and value.isascii() and "\0" not in value:
        return value or None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def folded(name: str | None) -> str | None:
    """A name as search compares it: without regard to case."""
    return None if name is None else name.casefold()
