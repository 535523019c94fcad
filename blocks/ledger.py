"""The ledger: what became of every journey, who works on what, and what stands at the partners.

::

    the record      entry ─ entry ─ entry      a hash chain per journey; append-only; ``chain.py`` says what an entry is
                    entry ─ entry ─ tombstone  a journey that was reduced: its texts are elsewhere (``tombstones.py``)
                    checkpoint ─ checkpoint    signed seals over all entries so far, chained to each other
    its index       journey, quarantine_case   made from the record, and made again by ``reindex``
    what changes    arrival, look              what our looks at the partners found (``sight``, ``sightings``)
                    lease, fence               who works on what, until when by the database's clock

**Repeats.** An entry with a ``once`` key is written once in the whole ledger; appending it again answers with the entry that
holds the key (``fresh=False``). ``LedgerUnreachable`` means that nothing was written, except when the connection broke while
the answer to the commit was on its way: so whatever must not be doubled carries a ``once`` key, and the call is made again.

**Locks.** A writer takes, in this order and to the end of its transaction: the streams whose arrivals it changes, then the
record. So the numbers of entries have no gaps and no collisions, and writers wait for each other instead of deadlocking.
On SQLite a writer has the whole file (``BEGIN IMMEDIATE``).

**Cases.** ``body["case"] = {"code", "reason", "owner", "due", "state"}`` opens or updates the journey's quarantine case; what is
absent stays as it was. ``state`` is a ``CaseState`` ("new" at first), ``due`` an ISO 8601 date or time.

**Stages.** A journey counts as open, and its bytes as needed, until an entry moves it to ``LEFT`` or ``CLEARED`` and its case,
if it has one, is resolved. That holds for journeys without an arrival too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    MetaData,
    Row,
    ScalarSelect,
    Select,
    String,
    Table,
    TextClause,
    bindparam,
    func,
    inspect,
    literal,
    or_,
    select,
    text,
    tuple_,
)

from blocks import chain
from blocks.canonical import canonical, iso, sha256
from blocks.chain import CaseIndex, CaseState, Index, Link, folded, indexed, once_key
from blocks.closing import Closing
from blocks.database import Database, Instant, Key, Kind, chunks
from blocks.errors import ChainBroken, JourneyMoved, JourneyReduced, LeaseLost, LedgerError, LedgerUnreachable, SealedMeanwhile
from blocks.seals import signed
from blocks.tombstones import GONE, REDUCED, Exports, Sealed, facts_of, proven, reread
from blocks.values import Arrival, FileKind, RemoteFile, Sighting, Stage, name_b64, shown

HEAD = "0005"
"""The schema revision that this code works with: the newest in ``migrations``."""

__all__ = [
    "Case", "CaseState", "Checkpoint", "Entry", "Holding", "JourneySummary", "Lease", "Ledger", "Recorded", "SightTally",
    "Verification", "first_sight", "new_journey",
]  # fmt: skip

# --------------------------------------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded about a journey.

    Well-known facts of the body feed the index: partner, stream, name, digest, repository, repository_id, size, case.
    """

    journey: str
    kind: str
    """"arrived", "fetched", "judged", "filing" (an intent), "filed", "quarantined", "cleared", ..."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """JSON."""
    once: str | None = None
    """Unique over the whole ledger, 1,000 characters at most."""
    stage: Stage | None = None
    """Moves the journey's arrival there in the same transaction, with ``body["digest"]``; ``CLEARED`` closes it."""


class Facts:
    """What the text of an entry says. It is parsed when it is first asked for: of most entries of a history only the kind is."""

    __slots__ = ("_record", "_told")

    def __init__(self, record: str, told: Mapping[str, Any] | None = None) -> None:
        self._record, self._told = record, told

    @property
    def told(self) -> Mapping[str, Any]:
        if self._told is None:
            self._told = json.loads(self._record)
        return self._told


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as it stands in the record."""

    seq: int
    journey: str
    n: int
    kind: str
    at: datetime
    hash: str
    facts: Facts = field(compare=False, repr=False)
    fresh: bool = True
    """False: the ``once`` key was taken already, and this is the entry that holds it, maybe another journey's."""

    @property
    def body(self) -> Mapping[str, Any]:
        body: Mapping[str, Any] = self.facts.told["body"]
        return body

    @property
    def once(self) -> str | None:
        once: str | None = self.facts.told["once"]
        return once

    @property
    def stage(self) -> Stage | None:
        stage = self.facts.told["stage"]
        return Stage(stage) if stage else None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on some resources until a moment of the database's clock. A journey's is ``journey:<id>``."""

    owner: str
    """For people to read. Two workers may be called the same; what tells leases apart is the fence."""
    fence: int
    """Higher than that of any lease before it."""
    resources: tuple[str, ...]
    until: datetime


@dataclass(frozen=True, slots=True)
class SightTally:
    """What one look told, in files."""

    seen: int
    new: int = 0
    unchanged: int = 0
    changed: int = 0
    """Other size or time than before; watched anew."""
    replaced: int = 0
    """Another file stands where one was left: a new arrival."""
    gone: int = 0
    """Not there any more; whether forgotten, vanished or seen absent."""
    doubted: bool = False
    """Nothing was seen where files stood, or most of many were missing: believed only if the next look says so too."""


@dataclass(frozen=True, slots=True)
class JourneySummary:
    """What the index knows of one journey."""

    journey: str
    partner: str | None
    stream: str | None
    name: str | None
    size: int | None
    digest: str | None
    repository: str | None
    repository_id: str | None
    stage: Stage | None
    kind: str
    """Of its newest entry."""
    entries: int
    opened: datetime
    changed: datetime


@dataclass(frozen=True, slots=True)
class Case:
    """A quarantine case: what a person is to resolve."""

    journey: str
    partner: str | None
    stream: str | None
    name: str | None
    code: str | None
    reason: str | None
    owner: str | None
    due: datetime | None
    state: CaseState
    opened: datetime
    changed: datetime


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A seal over the entries ``first`` to ``last``: keep it elsewhere, and nothing before it can be taken back unseen."""

    number: int
    record: str
    """The canonical text that was signed: number, at, first, last, root (SHA-256 over the entries' hashes), previous, key."""
    hash: str
    signature: bytes

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.record)
        return found

    @property
    def text(self) -> str:
        """As it is filed: its canonical text and the signature over it, in canonical JSON."""
        return canonical({"record": self.record, "signature": base64.b64encode(self.signature).decode()})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Back from ``text``. Raises ``ValueError`` for any other."""
        try:
            told = json.loads(text)
            record, signature = str(told["record"]), base64.b64decode(told["signature"], validate=True)
            number = int(json.loads(record)["number"])
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"this is no filed checkpoint ({type(error).__name__})") from error
        return cls(number, record, sha256(record), signature)

    def prove(self, keys: Mapping[str, bytes]) -> None:
        """Raise ``ChainBroken`` unless one of these keys (id -> public key) signed it."""
        key = self.facts["key"]
        if key not in keys:
            raise ChainBroken(
                f"checkpoint {self.number}: it is signed with the key {key}, which is none of those given (the sender's: --key)"
            )
        if not signed(keys[key], self.record.encode("utf-8", "surrogatepass"), self.signature):
            raise ChainBroken(f"checkpoint {self.number}: its signature does not fit its text and the key {key}")


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read and found whole."""

    journeys: int
    entries: int
    checkpoints: int = 0
    sealed: int = 0
    """Entries under a checkpoint."""
    signatures: int = 0
    """Checkpoints whose signature was checked."""
    reduced: int = 0
    """Journeys of which only a tombstone is left."""
    reread: int = 0
    """Those of them whose texts were read in an export."""


def new_journey(at: datetime | None = None) -> str:
    """An id for a journey that does not begin with a sighting: a UUID of version 7 (RFC 9562), which sorts by time."""
    bits = secrets.randbits(48)
    return f"{_id_prefix(at or datetime.now(UTC))}-{bits:012x}"


def first_sight(journey: str) -> datetime:
    """When a journey began, as its id tells to the millisecond: for a file, when we first saw it."""
    return datetime.fromtimestamp(int(journey[:8] + journey[9:13], 16) / 1000, UTC)


def _id_prefix(at: datetime) -> str:
    milliseconds, bits = int(at.timestamp() * 1000), secrets.token_hex(4)
    clock = f"{milliseconds:012x}"
    return f"{clock[:8]}-{clock[8:]}-7{bits[:3]}-{8 + int(bits[3], 16) % 4:x}{bits[4:7]}"


# --------------------------------------------------------------------------------------------- tables


def _table(name: str, /, **columns: Any) -> Table:
    return Table(name, MetaData(), *(Column(column, kind) for column, kind in columns.items()))


_entry = _table(
    "entry", seq=BigInteger(), journey=Key, n=BigInteger(), kind=Key, at=Instant(), once=Key, hash=Key, record=Key
)  # fmt: skip
_checkpoint = _table("checkpoint", number=BigInteger(), record=Key, hash=Key, signature=Key)
_journey = _table(
    "journey", journey=Key, partner=Key, stream=Key, name=Key, size=BigInteger(), digest=Key, repository=Key,
    repository_id=Key, stage=Key, kind=Key, entries=BigInteger(), opened=Instant(), changed=Instant(), folded=Key, shelf=BigInteger(),
)  # fmt: skip
_TOLD = [column for column in _journey.columns if column is not _journey.c.shelf]
"""What the record tells about a journey. ``shelf`` is only where it stands in the index of digests: no answer hangs on it."""
_case = _table(
    "quarantine_case", journey=Key, code=Key, reason=Key, owner=Key, due=Instant(), state=Key, opened=Instant(), changed=Instant()
)  # fmt: skip
_lease = _table("lease", resource=Key, owner=Key, fence=BigInteger(), until=Instant())
_look = _table("look", partner=Key, stream=Key, at=Instant(), files=BigInteger(), empties=BigInteger())
_arrival = _table(
    "arrival", journey=Key, partner=Key, stream=Key, place=LargeBinary(), folder=Key, name=LargeBinary(), size=BigInteger(),
    modified=Instant(), file_kind=Key, stage=Key, digest=Key, first_seen=Instant(), unchanged_since=Instant(),
    last_seen=Instant(), looks=BigInteger(), closed=Instant(),
)  # fmt: skip


def _columns(table: Table, *names: str) -> dict[str, Kind]:
    """A table's columns, or some of them, as ``Database.each`` wants them."""
    kinds: dict[type, Kind] = {String: "text", BigInteger: "bigint", LargeBinary: "bytea", Instant: "timestamptz"}
    return {column.name: kinds[type(column.type)] for column in table.columns if not names or column.name in names}


def _insert(table: Table, rest: str = "", *, columns: Sequence[str] = ()) -> str:
    names = ", ".join(columns or table.columns.keys())
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {{given}} WHERE true {rest}"  # noqa: S608 - our own names


@cache
def _put_journey(columns: tuple[str, ...]) -> str:
    """Writes these columns of journeys, and leaves what else is known of them as it is."""
    newest = [f"{name} = excluded.{name}" for name in columns if name in ("kind", "entries", "changed")]
    told = [
        f"{name} = COALESCE(excluded.{name}, journey.{name})"
        for name in columns
        if name in ("partner", "stream", "name", "folded", "size", "digest", "repository", "repository_id", "stage")
    ]
    return _insert(_journey, f"ON CONFLICT (journey) DO UPDATE SET {', '.join(newest + told)}", columns=columns)


_PUT_CASE = _insert(
    _case,
    "ON CONFLICT (journey) DO UPDATE SET changed = excluded.changed, "
    + ", ".join(
        f"{fact} = COALESCE(excluded.{fact}, quarantine_case.{fact})" for fact in ("code", "reason", "owner", "due", "state")
    ),
)
_PUT_LEASE = _insert(
    _lease, "ON CONFLICT (resource) DO UPDATE SET owner = excluded.owner, fence = excluded.fence, until = excluded.until"
)
_MOVE_ARRIVAL = """
    UPDATE arrival SET stage = given.stage, digest = COALESCE(given.digest, arrival.digest)
    FROM {given} WHERE arrival.journey = given.journey
"""
_CLOSE_ARRIVAL = """
    UPDATE arrival SET closed = given.closed FROM {given} WHERE arrival.journey = given.journey AND arrival.closed IS NULL
"""
_SEEN = _columns(_arrival, "place", "folder", "name", "size", "modified", "file_kind")
# Made from arrival's own columns: SQLite uses no index between columns of unlike declared types.
_MAKE_SEEN = f"CREATE TEMPORARY TABLE seen AS SELECT {', '.join(_SEEN)} FROM arrival WHERE 1 = 0"  # noqa: S608 - our own names
_PUT_SEEN = f"INSERT INTO seen ({', '.join(_SEEN)}) SELECT {', '.join(_SEEN)} FROM {{given}} WHERE true ON CONFLICT DO NOTHING"  # noqa: S608
# Not ``astuple``, which copies each value deeply: that took two thirds of the time of an append.
_INDEX_ROW, _CASE_ROW = (attrgetter(*(one.name for one in fields(kind))) for kind in (Index, CaseIndex))
_INDEXED = ("partner", "stream", "digest")
"""Facts of a journey that stand in indexes of the database, and that most of its entries tell, the same each time."""
_RECORD = "record"
INTENTS = ("case-recording", "recorded", "removing")
"""Kinds of entries that are asked for in the whole record: those of the index ``entry_intent`` (``migrations``)."""
# Conditions of indexes (``migrations``), word for word: else SQLite does not use them.
_UNSETTLED = "(journey.stage IS NULL OR journey.stage NOT IN ('cleared', 'left'))"
_FIRST = "entry.n = 1"
_OPEN = "(quarantine_case.state IS NULL OR quarantine_case.state <> 'resolved')"
SHELF = 32_768
"""Entries of the record whose journeys stand together in the index of digests. Digests are as good as random: among so few, many new
ones share a page; and a search, which looks on every shelf, has not many."""
MANY = 20
"""So many files that were left at a partner do not go between two looks without our asking once more."""
JOURNEY = "journey:"
"""What the name of a journey's resource begins with."""


class Ledger(Closing):
    """One ledger, for all threads of one process. Every verb is one transaction: it happens whole or not at all.

    Raises ``LedgerUnreachable`` when the database does not answer or stays locked beyond ``timeout_seconds``.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        """``url``: ``sqlite:////path/to/file`` or ``postgresql://user@host/name``. Connects only when asked something."""
        self._db = Database(url, timeout_seconds=timeout_seconds)
        self._statements = _Statements(self._db)

    def close(self) -> None:
        """End all connections. The next call makes new ones."""
        self._db.close()

    @contextmanager
    def rehearsing(self) -> Iterator[None]:
        """While the block runs, an empty ledger stands in for this one, if it is kept in an SQLite file. What its questions are in SQL
        is found out only once in a process, and takes longer than the answers."""
        with tempfile.TemporaryDirectory(prefix="countersign-") as folder, self._db.elsewhere(Path(folder) / "ledger.sqlite"):
            yield

    def now(self) -> datetime:
        """The database's clock, UTC: the only one that decides anything here."""
        with self._db.read() as connection:
            return self._db.now(connection)

    # ---------------------------------------------------------------------------------------- schema

    @property
    def address(self) -> str:
        """Its URL for people, without a password."""
        return self._db.name

    def revision(self) -> str | None:
        """Which schema is there, ``HEAD`` being this version's; None if there is none yet. Makes nothing."""
        if not self._db.postgres and not self._db.file.exists():
            return None
        with self._db.read() as connection:
            return _revision(connection)

    def migrate(self) -> None:
        """Bring the schema to this version. Several processes may call it at once.

        Raises ``LedgerError`` when the schema was made by a newer version.
        """
        if not self._db.postgres:
            self._db.file.parent.mkdir(parents=True, exist_ok=True)
            self._db.write_ahead()
        with self._db.read() as connection:
            if _revision(connection) == HEAD:
                return  # without the third of a second that Alembic takes to import
        with self._db.write() as connection:
            self._db.lock(connection, "migration")
            self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        found = _revision(connection)
        if found is not None and found not in known:
            raise LedgerError(
                f"{self._db.name}: its schema {found} was made by a newer version than this one (which knows {HEAD}); "
                "nothing was changed. Upgrade Countersign here"
            )
        command.upgrade(config, HEAD)

    # ---------------------------------------------------------------------------------------- the record

    def append(self, entries: Sequence[Entry], lease: Lease | None = None, *, behind: int | None = None) -> list[Recorded]:
        """Record entries, all or none; answered in the order given. A thousand are a dozen statements.

        With a lease, its resources must include every entry's journey, and it must be alive by the database's clock, else
        ``LeaseLost``. An entry whose ``once`` key is taken (in the record, or earlier in this batch) is not written; the one
        that holds the key is the answer. ``ValueError`` for what can never be recorded, ``JourneyReduced`` for a journey that has a
        tombstone. With ``behind`` the journeys must have so many entries, else ``JourneyMoved``: for what was decided from them.
        """
        if not entries:
            return []
        for entry in entries:
            _check_entry(entry)
        journeys = sorted({entry.journey for entry in entries})
        with self._db.write() as connection:
            now = self._begin(connection, journeys, lease)
            heads = self._heads(connection, journeys) if behind is not None else {}
            if moved := [journey for journey, (n, *_) in heads.items() if n != behind]:
                raise JourneyMoved(f"journey {moved[0]}: something was recorded about it meanwhile; read it anew")
            return self._record(connection, entries, now)

    def _begin(self, connection: Connection, journeys: Sequence[str], lease: Lease | None) -> datetime:
        """Take the locks for writing about some journeys, and look at the lease; the time from which on this is so."""
        self._lock_streams_of(connection, journeys)
        self._db.lock(connection, _RECORD)
        now = self._db.now(connection)
        if lease is not None:
            self._check_lease(connection, lease, [JOURNEY + journey for journey in journeys], now)
        return now

    def _record(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> list[Recorded]:
        """Write entries behind the heads of their journeys. The caller holds the lock of the record."""
        keys = [once_key(entry.once) for entry in entries]
        holders = self._holders(connection, [key for key in keys if key is not None])
        heads = self._heads(connection, sorted({entry.journey for entry in entries}))
        seq: int = connection.execute(self._statements.newest_seq).scalar_one()
        answers: list[Recorded] = []
        links: list[Link] = []
        facts: dict[str, list[dict[str, Any]]] = {}
        for entry, key in zip(entries, keys, strict=True):
            if key is not None and key in holders:
                answers.append(replace(holders[key], fresh=False))
                continue
            n, previous, kind = heads.get(entry.journey, (0, None, ""))
            if kind == REDUCED:
                raise JourneyReduced(
                    f"journey {entry.journey}: it was closed long ago and reduced to a tombstone, nothing more can be recorded about it "
                    f"({entry.kind!r} was not); 'countersign journey show {entry.journey}' says where its record is"
                )
            link, fact = chain.link(
                seq + len(links) + 1,
                entry.journey,
                n + 1,
                previous,
                kind=entry.kind,
                at=now,
                body=entry.body,
                once=entry.once,
                stage=entry.stage,
            )
            heads[entry.journey] = (link.n, link.hash, link.kind)
            links.append(link)
            answers.append(_recorded(link))
            facts.setdefault(entry.journey, []).append(fact)
            if key is not None:
                holders[key] = answers[-1]
        self._db.each(connection, _insert(_entry), _columns(_entry), links)
        told = {journey: indexed(journey, facts[journey]) for journey in sorted(facts)}
        self._index(connection, told, seq)
        self._move_arrivals(connection, facts, told, now)
        return answers

    def _holders(self, connection: Connection, keys: list[str]) -> dict[str, Recorded]:
        found = {}
        reduced: dict[str, str] = {}
        for row in connection.execute(self._statements.holders, self._db.texts(keys)):
            if row.record == GONE:
                reduced[row.once] = row.journey
            else:
                found[row.once] = _recorded(Link._make(row))
        histories = self._histories(connection, sorted(set(reduced.values()))) if reduced else {}
        for key, journey in reduced.items():
            found[key] = next(entry for entry in histories[journey] if once_key(entry.once) == key)
        return found

    def _heads(self, connection: Connection, journeys: list[str]) -> dict[str, tuple[int, str, str]]:
        """Journey -> number, hash and kind of its newest entry."""
        found = connection.execute(self._statements.heads, self._db.texts(journeys))
        return {journey: (n, hash, kind) for journey, n, hash, kind in found}

    def _index(self, connection: Connection, told: Mapping[str, tuple[Index, CaseIndex | None]], seq: int) -> None:
        """Bring the index up to date with what entries told, by journey, sorted. ``seq``: where about in the record that was."""
        rows = zip(*(_journey_row(index) for index, _ in told.values()), strict=True)
        values = dict(zip(_columns(_journey), rows, strict=False))
        standing = connection.execute(self._statements.standing, self._db.texts(told)).all()
        stood = dict(zip(_INDEXED, zip(*standing, strict=True), strict=False))
        # What none of them tells anew is not written again as it stands: its indexes would be, and they take most of the time.
        known = {name: some for name, some in values.items() if some.count(None) < len(some) and some != stood.get(name)}
        known["shelf"] = (seq // SHELF,) * len(told)
        self._db.each(connection, _put_journey(tuple(known)), _columns(_journey, *known), zip(*known.values(), strict=True))
        self._db.each(connection, _PUT_CASE, _columns(_case), [_CASE_ROW(case) for _, case in told.values() if case])

    def _move_arrivals(
        self,
        connection: Connection,
        facts: Mapping[str, list[dict[str, Any]]],
        told: Mapping[str, tuple[Index, CaseIndex | None]],
        now: datetime,
    ) -> None:
        """Bring the arrivals to the stages that new entries say. ``told``: what all of them come to, by journey, sorted."""
        moves = []
        for journey, whole in told.items():
            if staged := [fact for fact in facts[journey] if fact["stage"]]:
                index, _ = whole if len(staged) == len(facts[journey]) else indexed(journey, staged)
                moves.append((journey, index.stage, index.digest))
        closing = [(journey, now) for journey, stage, _ in moves if stage == Stage.CLEARED]
        self._db.each(connection, _MOVE_ARRIVAL, _columns(_arrival, "journey", "stage", "digest"), moves)
        self._db.each(connection, _CLOSE_ARRIVAL, _columns(_arrival, "journey", "closed"), closing)

    def holder(self, once: str) -> Recorded | None:
        """The entry that has taken a ``once`` key; None if none has."""
        key = str(once_key(once))
        with self._db.read() as connection:
            return self._holders(connection, [key]).get(key)

    def journey(self, id: str) -> list[Recorded]:
        """All entries of one journey, in order; none if there is no such journey."""
        return self.journeys([id])[id]

    def journeys(self, ids: Sequence[str], *, without: Sequence[str] = ()) -> dict[str, list[Recorded]]:
        """All entries of many journeys: an answer for each id, empty for one that has none.

        Where the last one is a tombstone (``REDUCED``), of the others' bodies only what was kept is there. ``without``: kinds that the
        caller has no use for; what is not reduced comes without them.
        """
        with self._db.read() as connection:
            return self._histories(connection, ids, without)

    def _histories(self, connection: Connection, ids: Sequence[str], without: Sequence[str] = ()) -> dict[str, list[Recorded]]:
        found = self._links_of(connection, ids, without)
        if without:  # what was kept of a reduced one is told by all of its entries together
            reduced = [id for id, links in found.items() if any(not link.record for link in links)]
            found |= self._links_of(connection, reduced) if reduced else {}
        return {
            id: list(map(_recorded, links))
            if all(link.record for link in links)
            else list(map(_recorded, links, facts_of(links)))
            for id, links in found.items()
        }

    def newest(self, id: str) -> Recorded | None:
        """The last entry of a journey; None if it has none."""
        with self._db.read() as connection:
            row = connection.execute(select(_entry).where(_entry.c.journey == id).order_by(_entry.c.n.desc()).limit(1)).first()
        return _recorded(Link._make(row)) if row else None

    def chains(self, ids: Sequence[str]) -> dict[str, list[Link]]:
        """All entries of many journeys as they are stored."""
        with self._db.read() as connection:
            return self._links_of(connection, ids)

    def _links_of(self, connection: Connection, ids: Sequence[str], without: Sequence[str] = ()) -> dict[str, list[Link]]:
        found: dict[str, list[Link]] = {id: [] for id in ids}
        wanted = select(_entry).where(self._db.among(_entry.c.journey, found)).order_by(_entry.c.journey, _entry.c.n)
        if without:
            wanted = wanted.where(_entry.c.kind.not_in(without))
        for link in map(Link._make, connection.execute(wanted)):
            found[link.journey].append(link)
        return found

    def search(
        self,
        *,
        name: str | None = None,
        partner: str | None = None,
        stream: str | None = None,
        digest: str | None = None,
        repository_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        stage: Stage | None = None,
        limit: int = 100,
    ) -> list[JourneySummary]:
        """Journeys that fit everything asked, newest first.

        ``name``: any part of it, without regard to case. ``digest``: how it begins. ``since`` (included) and ``until``
        (excluded): when the journey's first entry was written.
        """
        wanted = select(*_TOLD).order_by(_journey.c.opened.desc(), _journey.c.journey.desc()).limit(limit)
        equal = {"partner": partner, "stream": stream, "repository_id": repository_id, "stage": stage}
        open_stage = stage is not None and stage not in (Stage.CLEARED, Stage.LEFT)
        if open_stage:
            wanted = wanted.where(text(_UNSETTLED))
        if open_stage or repository_id is not None or digest:
            wanted = wanted.where(*_about(partner, stream))
            equal |= {"partner": None, "stream": None}
        for column, value in equal.items():
            if value is not None:
                wanted = wanted.where(_journey.c[column] == str(value))
        if name:
            contains = func.strpos if self._db.postgres else func.instr
            wanted = wanted.where(contains(_journey.c.folded, folded(name)) > 0)
        if digest:
            beginning = digest.lower()
            after = beginning[:-1] + chr(ord(beginning[-1]) + 1)
            wanted = wanted.where(_journey.c.shelf.in_(_shelves()), _journey.c.digest >= beginning, _journey.c.digest < after)
        if since is not None:
            wanted = wanted.where(_journey.c.opened >= since)
        if until is not None:
            wanted = wanted.where(_journey.c.opened < until)
        with self._db.read() as connection:
            return [_summary(row) for row in connection.execute(wanted)]

    def over(self, partner: str, stream: str, *, without: str, after: str = "", limit: int = 1000) -> list[str]:
        """Journeys of a stream that are over and whose document a repository keeps, oldest first: those behind ``after``, and
        without those that have an entry of the kind ``without``."""
        told = select(_entry.c.seq).where(_entry.c.journey == _journey.c.journey, _entry.c.kind == without)
        wanted = (
            select(_journey.c.journey)
            .where(_journey.c.partner == partner, _journey.c.stream == stream, _journey.c.journey > after)
            .where(_journey.c.stage.in_([Stage.CLEARED.value, Stage.LEFT.value]), _journey.c.repository_id.is_not(None))
            .where(~told.exists())
            .order_by(_journey.c.journey)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [row.journey for row in connection.execute(wanted)]

    def open_intents(self, kind: str, ends: Sequence[str], *, behind: int = 0) -> list[str]:
        """Journeys with an entry of this kind after which none of those came that would end it; oldest first. ``behind``: only
        entries with a higher number in the ledger.

        ``kind`` is one of ``INTENTS``, which have an index: however long the record is, only entries of that kind are read.
        """
        if kind not in INTENTS:
            raise ValueError(f"{kind!r} is none of the kinds that the index 'entry_intent' holds: {', '.join(INTENTS)}")
        end = _entry.alias()
        ended = select(end.c.seq).where(end.c.journey == _entry.c.journey, end.c.kind.in_(ends), end.c.n > _entry.c.n)
        # The index's condition, word for word: else SQLite does not use it.
        indexed = text(f"entry.kind IN ({', '.join(repr(one) for one in INTENTS)})")
        intent = (_entry.c.kind == kind) & (_entry.c.seq > behind)
        wanted = select(_entry.c.journey).where(indexed, intent, ~ended.exists()).order_by(_entry.c.seq)
        with self._db.read() as connection:
            return list(dict.fromkeys(connection.execute(wanted).scalars()))

    def begun(self, kind: str, since: datetime) -> list[str]:
        """Journeys that began with an entry of this kind and are not closed, or changed since then; oldest first."""
        open_still = _journey.c.stage.is_(None) | _journey.c.stage.not_in([Stage.CLEARED.value, Stage.LEFT.value])
        wanted = (
            select(_journey.c.journey)
            .join(_entry, _entry.c.journey == _journey.c.journey)
            .where(text(_FIRST), _entry.c.kind == kind, open_still | (_journey.c.changed >= since))
            .order_by(_journey.c.opened, _journey.c.journey)
        )
        with self._db.read() as connection:
            return [row.journey for row in connection.execute(wanted)]

    def with_entry(self, partner: str, stream: str, kind: str, *, first: str, limit: int) -> list[str]:
        """Journeys of a stream that began with an entry of the kind ``first`` and have one of ``kind``, newest first."""
        also = _entry.alias()
        told = select(also.c.seq).where(also.c.journey == _journey.c.journey, also.c.kind == kind)
        wanted = (
            select(_journey.c.journey)
            .join(_entry, (_entry.c.journey == _journey.c.journey) & (_entry.c.n == 1))
            .where(_journey.c.partner == partner, _journey.c.stream == stream, _entry.c.kind == first)
            .where(told.exists())
            .order_by(_journey.c.opened.desc(), _journey.c.journey.desc())
            .limit(limit)
        )
        with self._db.read() as connection:
            return [row.journey for row in connection.execute(wanted)]

    def overtaken_by(self, partner: str, stream: str, journey: str) -> str | None:
        """A journey of the stream that began after this one and is through (filed, or found to be a duplicate); None if none is."""
        through = select(_entry.c.seq).where(_entry.c.journey == _journey.c.journey, _entry.c.kind.in_(["filed", "duplicate"]))
        wanted = select(_journey.c.journey).where(
            _journey.c.journey > journey, _journey.c.partner == partner, _journey.c.stream == stream, through.exists()
        )
        with self._db.read() as connection:
            found: str | None = connection.execute(wanted.order_by(_journey.c.journey).limit(1)).scalar()
            return found

    def cases(
        self,
        *,
        partner: str | None = None,
        stream: str | None = None,
        state: CaseState | str | None = None,
        journey: str | None = None,
        open_only: bool = True,
        since: datetime | None = None,
    ) -> list[Case]:
        """Quarantine cases, oldest first; without the resolved ones unless asked for. ``since``: those that changed since then too."""
        wanted = _with_journey()
        if journey is not None:
            wanted = wanted.where(_case.c.journey == journey)
        wanted = wanted.where(*_about(partner, stream))
        if state is not None:
            wanted = wanted.where(_standing() == CaseState(state).value)
        elif open_only:
            lately = [_case.c.changed >= since] if since is not None else []
            wanted = wanted.where(or_(_open(), *lately))
        return self._found_cases(wanted)

    def _found_cases(self, wanted: Select[Any]) -> list[Case]:
        with self._db.read() as connection:
            return [
                Case(**{**row._mapping, "state": CaseState(row.state or CaseState.NEW)}) for row in connection.execute(wanted)
            ]

    def cases_without(
        self, kind: str, *, since: Sequence[str], partner: str | None = None, stream: str | None = None
    ) -> list[Case]:
        """Open cases, oldest first, without an entry of this kind; one from before the newest of the kinds ``since`` does not count."""
        newest = _newest(kind)
        wanted = _with_journey().where(
            _open(),
            newest.is_(None) | (func.coalesce(_newest(*since), 0) > newest),
        )
        wanted = wanted.where(*_about(partner, stream))
        return self._found_cases(wanted)

    def cases_left(self, begun: str, ended: str, *, since: datetime) -> list[str]:
        """Journeys of cases that were resolved since then and whose newest entry of the kind ``begun`` has none of the kind ``ended``
        behind it."""
        left = select(_case.c.journey).where(
            _case.c.state == CaseState.RESOLVED.value,
            _case.c.changed >= since,
            _newest(begun) > func.coalesce(_newest(ended), 0),
        )
        with self._db.read() as connection:
            return list(connection.execute(left.order_by(_case.c.opened, _case.c.journey)).scalars())

    def cases_behind(
        self,
        begun: str,
        ended: str,
        *,
        mark: str,
        besides: Collection[str],
        since: datetime,
        partner: str | None = None,
        stream: str | None = None,
    ) -> list[str]:
        """Journeys of cases that are open, or changed since then, and about which something is to be done, oldest first.

        It is done when there is an entry of the kind ``begun`` and one of the kind ``ended`` behind it, both with ``mark`` in their
        ``once`` keys; and is to be done anew for each entry behind the former, unless that is of one of these kinds or among ``besides``.
        """
        holds = (func.strpos if self._db.postgres else func.instr)(_entry.c.once, mark) > 0

        def newest(which: ColumnElement[bool]) -> ColumnElement[int]:
            return func.coalesce(func.max(_entry.c.seq).filter(which), 0)

        first, last = newest(holds & (_entry.c.kind == begun)), newest(holds & (_entry.c.kind == ended))
        news = newest(_entry.c.kind.not_in([begun, ended, *besides]))
        behind = (
            select(_case.c.journey)
            .join(_entry, _entry.c.journey == _case.c.journey)
            .where(or_(_open(), _case.c.changed >= since))
            .group_by(_case.c.opened, _case.c.journey)
            .having((first == 0) | (last < first) | (news > first))
            .order_by(_case.c.opened, _case.c.journey)
        )
        if about := _about(partner, stream):
            behind = behind.join(_journey, _journey.c.journey == _case.c.journey).where(*about)
        with self._db.read() as connection:
            return list(connection.execute(behind).scalars())

    def in_open_cases(self, *kinds: str) -> list[Recorded]:
        """Entries of these kinds in the journeys of all open cases, the oldest case first."""
        wanted = (
            select(_entry)
            .join(_case, _case.c.journey == _entry.c.journey)
            # Once more as a list, from which SQLite begins: it would look through the whole record for the kinds.
            .where(_entry.c.journey.in_(select(_case.c.journey).where(_open())), _entry.c.kind.in_(kinds))
            .order_by(_case.c.opened, _case.c.journey, _entry.c.n)
        )
        with self._db.read() as connection:
            return [_recorded(Link._make(row)) for row in connection.execute(wanted)]

    def in_work(self, before: datetime) -> list[tuple[str, str, int, str]]:
        """Files that were begun and are not through, and about which nothing was recorded since then: partner, stream, how many, and the
        journey of the oldest."""
        stages = [Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED, Stage.FILED, Stage.DUPLICATE, Stage.MARKER]
        wanted = (
            select(_journey.c.partner, _journey.c.stream, func.count(), func.min(_journey.c.journey))
            .where(text(_UNSETTLED), _journey.c.stage.in_([stage.value for stage in stages]), _journey.c.changed < before)
            .where(_journey.c.partner.is_not(None), _journey.c.stream.is_not(None), ~_journey.c.journey.contains("."))
            .group_by(_journey.c.partner, _journey.c.stream)
            .order_by(_journey.c.partner, _journey.c.stream)
        )
        with self._db.read() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.execute(wanted)]

    def open_digests(self) -> set[str]:
        """Digests whose bytes an open journey, or a case that is not resolved, still needs: for ``Spool.collect``."""
        # The first WHERE holds the condition of the index journey_open, word for word; so does the second that of quarantine_case_open.
        needed = """
            SELECT digest FROM journey WHERE digest IS NOT NULL AND (stage IS NULL OR stage NOT IN ('cleared', 'left'))
            UNION SELECT journey.digest FROM journey JOIN quarantine_case ON quarantine_case.journey = journey.journey
            WHERE journey.digest IS NOT NULL AND (quarantine_case.state IS NULL OR quarantine_case.state <> 'resolved')
            UNION SELECT digest FROM arrival WHERE digest IS NOT NULL AND closed IS NULL AND stage <> 'left'
        """
        with self._db.read() as connection:
            return {row.digest for row in self._db.run(connection, needed)}

    # ---------------------------------------------------------------------------------------- proof

    def verify(
        self,
        journey: str | None = None,
        *,
        keys: Mapping[str, bytes] | None = None,
        filed: Checkpoint | None = None,
        exports: Exports | None = None,
    ) -> Verification:
        """Read the record, of one journey or entire, and raise ``ChainBroken`` at the first thing that is not as it was written.

        ``keys`` (id -> public key): checkpoints and tombstones must be signed by one of these; without any, checkpoints are read
        unproven, and no tombstone is believed. ``filed``: a checkpoint that was kept elsewhere; it must still be among ours, so that
        not even the newest entries can be taken back together with their seal. ``exports``: where the texts of journeys that were
        reduced are, as far as they are at hand.
        """
        with self._db.read() as connection:
            if journey is None:
                self._verify_file(connection)
            journeys = entries = reduced = again = 0
            for part in chunks(self._chains(connection, journey), 500):
                self._verify_chains(connection, part, keys)
                journeys += len(part)
                entries += sum(len(links) for _, links in part)
                tombs = [links for _, links in part if links[-1].kind == REDUCED]
                self._verify_tombstones(connection, tombs)
                reduced += len(tombs)
                again += sum(_reread(links, exports) for links in tombs) if exports else 0
            if journey is not None:
                self._verify_no_orphans(connection, journey)
                return Verification(journeys, entries, reduced=reduced, reread=again)
            self._verify_no_orphans(connection)
            checkpoints, sealed = self._verify_checkpoints(connection, keys, filed)
            self._verify_no_gaps(connection)
            signatures = checkpoints if keys is not None else 0
            return Verification(journeys, entries, checkpoints, sealed, signatures, reduced, again)

    def _verify_file(self, connection: Connection) -> None:
        """On SQLite, an edited file may make tables and indexes disagree; then what we read is not what there is."""
        if not self._db.postgres:
            said = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
            if said != "ok":
                raise ChainBroken(f"{self._db.name}: the file is damaged or was edited: {said}; restore it from a backup")

    def _chains(self, connection: Connection, journey: str | None = None) -> Iterator[tuple[str, list[Link]]]:
        """Journeys with their entries, ordered by id, read page by page."""
        for id, links in groupby(self._links(connection, journey), key=lambda link: link.journey):
            yield id, list(links)

    def _links(self, connection: Connection, journey: str | None) -> Iterator[Link]:
        page = select(_entry).order_by(_entry.c.journey, _entry.c.n).limit(2000)
        if journey is not None:
            page = page.where(_entry.c.journey == journey)
        rows: Sequence[Row[Any]] = connection.execute(page).all()
        while rows:
            yield from (Link._make(row) for row in rows)
            last = rows[-1]
            rows = connection.execute(page.where(tuple_(_entry.c.journey, _entry.c.n) > tuple_(last.journey, last.n))).all()

    def _verify_chains(
        self, connection: Connection, chains: list[tuple[str, list[Link]]], keys: Mapping[str, bytes] | None
    ) -> None:
        ids = [id for id, _ in chains]
        journeys = {row.journey: tuple(row) for row in connection.execute(select(*_TOLD).where(_journey.c.journey.in_(ids)))}
        cases = {row.journey: tuple(row) for row in connection.execute(select(_case).where(_case.c.journey.in_(ids)))}
        for id, links in chains:
            index, case = indexed(id, proven(links, keys))
            _same_index(_TOLD, id, _journey_row(index), journeys.get(id))
            _same_index(list(_case.columns), id, _CASE_ROW(case) if case else None, cases.get(id))

    def _verify_tombstones(self, connection: Connection, tombs: list[list[Link]]) -> None:
        """Only what a checkpoint had sealed was reduced, and nothing of it stands open at a partner."""
        sealed = self._sealed_to(connection)
        for *rows, last in tombs:
            if unsealed := next((link for link in rows if link.seq > sealed), None):
                raise ChainBroken(
                    f"journey {last.journey}: a tombstone stands over it, and no checkpoint ever sealed its entry {unsealed.n} "
                    f"({unsealed.kind!r}): somebody planted it"
                )
        if standing := sorted(self._arrivals(connection, [links[-1].journey for links in tombs])):
            raise ChainBroken(f"journey {standing[0]}: a tombstone stands over it, and it was still open: its arrival is there")

    def _sealed_to(self, connection: Connection) -> int:
        """The number of the last entry under a checkpoint; 0 if there is none."""
        row = connection.execute(select(_checkpoint).order_by(_checkpoint.c.number.desc()).limit(1)).first()
        return int(_as_checkpoint(row).facts["last"]) if row else 0

    def _verify_no_orphans(self, connection: Connection, journey: str | None = None) -> None:
        for table in (_journey, _case):
            lost = select(table.c.journey).where(~select(_entry.c.seq).where(_entry.c.journey == table.c.journey).exists())
            if journey is not None:
                lost = lost.where(table.c.journey == journey)
            if found := connection.execute(lost.order_by(table.c.journey).limit(1)).scalar():
                raise ChainBroken(f"journey {found}: the index knows it, and the record has no entry of it: they were removed")

    def _verify_no_gaps(self, connection: Connection) -> None:
        """Numbers in the record have no gaps, so an entry that is missing leaves one, unless it was the last."""
        count, last = connection.execute(
            select(func.count(), func.coalesce(func.max(_entry.c.seq), 0)).select_from(_entry)
        ).one()
        if count == last:
            return
        after = _entry.alias()
        gap = select(_entry.c.seq).where(~select(after.c.seq).where(after.c.seq == _entry.c.seq + 1).exists())
        first: int = connection.execute(gap.order_by(_entry.c.seq).limit(1)).scalar_one()
        missing = first + 1 if connection.execute(select(func.min(_entry.c.seq))).scalar_one() == 1 else 1
        raise ChainBroken(f"the record: entry number {missing} is missing ({last - count} in all): a whole journey was removed")

    def _verify_checkpoints(
        self, connection: Connection, keys: Mapping[str, bytes] | None, filed: Checkpoint | None
    ) -> tuple[int, int]:
        before: Checkpoint | None = None
        for row in connection.execute(select(_checkpoint).order_by(_checkpoint.c.number)).all():
            found = _as_checkpoint(row)
            _proven_checkpoint(found, before, keys)
            if filed is not None and filed.number == found.number and filed.hash != found.hash:
                raise ChainBroken(f"checkpoint {found.number}: it is not the one that was filed")
            first, last = found.facts["first"], found.facts["last"]
            root, count = self._root(connection, first, last)
            if count != last - first + 1:
                raise ChainBroken(
                    f"checkpoint {found.number}: it sealed the entries {first} to {last}, "
                    f"and {last - first + 1 - count} of them are missing: a whole journey was removed"
                )
            if root != found.facts["root"]:
                raise ChainBroken(f"checkpoint {found.number}: one of the entries {first} to {last} is not the one it sealed")
            before = found
        count = before.number if before else 0
        if filed is not None and filed.number > count:
            raise ChainBroken(
                f"checkpoint {filed.number}: it was filed, and the ledger has only {count}: the newest were removed"
            )
        return count, before.facts["last"] if before else 0

    def _root(self, connection: Connection, first: int, last: int) -> tuple[str, int]:
        """SHA-256 over the hashes of some entries in order, and how many there are."""
        root, count = hashlib.sha256(), 0
        for digest in self._hashes(connection, first, last):
            root.update(digest.encode())
            count += 1
        return root.hexdigest(), count

    def _hashes(self, connection: Connection, first: int, last: int) -> Iterator[str]:
        for start in range(first, last + 1, 10_000):
            within = _entry.c.seq.between(start, min(last, start + 9_999))
            for (digest,) in connection.execute(select(_entry.c.hash).where(within).order_by(_entry.c.seq)):
                yield digest

    def hashes(self, first: int, last: int) -> Iterator[str]:
        """The hashes of the record's entries from ``first`` to ``last``, in order: what a checkpoint's root is made of."""
        with self._db.read() as connection:
            yield from self._hashes(connection, first, last)

    def links(self, ids: Sequence[str], last: int | None = None) -> Iterator[Link]:
        """The entries of some journeys as they stand in the record, up to its entry ``last``; journeys in the order given."""
        with self._db.read() as connection:
            for id in ids:
                yield from (link for link in self._links(connection, id) if last is None or link.seq <= last)

    def checkpoint(self, sign: Callable[[bytes], bytes], key_id: str) -> Checkpoint | None:
        """Seal the entries that are not sealed yet; None if there are none.

        ``sign`` is given the canonical text. Keep the answer where whoever can edit this database cannot reach.
        """
        with self._db.read() as connection:
            row = connection.execute(select(_checkpoint).order_by(_checkpoint.c.number.desc()).limit(1)).first()
            before = _as_checkpoint(row) if row else None
            first = before.facts["last"] + 1 if before else 1
            last: int = connection.execute(select(func.coalesce(func.max(_entry.c.seq), 0))).scalar_one()
            if last < first:
                return None
            root, _ = self._root(connection, first, last)
            at = self._db.now(connection)
        record = canonical(
            {
                "v": chain.VERSION,
                "number": before.number + 1 if before else 1,
                "at": iso(at),
                "first": first,
                "last": last,
                "root": root,
                "previous": before.hash if before else None,
                "key": key_id,
            }
        )
        made = Checkpoint(before.number + 1 if before else 1, record, sha256(record), sign(record.encode("ascii")))
        self._keep(made)
        return made

    def take(self, record: str, sign: Callable[[bytes], bytes]) -> Checkpoint | None:
        """Write down a checkpoint that was signed when its maker was stopped; None if it is written down.

        Raises ``ChainBroken`` if it is not over the very entries that are here.
        """
        with self._db.read() as connection:
            before = [
                _as_checkpoint(row) for row in connection.execute(select(_checkpoint).order_by(_checkpoint.c.number)).all()
            ]
            made = Checkpoint(json.loads(record)["number"], record, sha256(record), b"")
            where = f"checkpoint {made.number}"
            if made.number <= len(before):
                if before[made.number - 1].hash != made.hash:
                    raise ChainBroken(f"{where}: another one of that number was sealed than the ledger's; find out who made it")
                return None
            _proven_checkpoint(made, before[-1] if before else None, None)
            first, last = made.facts["first"], made.facts["last"]
            if self._root(connection, first, last) != (made.facts["root"], last - first + 1):
                raise ChainBroken(
                    f"{where}: one was sealed over other entries than the ledger's {first} to {last}; find out who made it"
                )
        made = replace(made, signature=sign(record.encode("ascii")))
        self._keep(made)
        return made

    def _keep(self, made: Checkpoint) -> None:
        with self._db.write() as connection:
            self._db.lock(connection, _RECORD)
            same = select(_checkpoint.c.number).where(_checkpoint.c.number == made.number, _checkpoint.c.hash == made.hash)
            if connection.execute(same).first() is not None:
                return  # somebody else took it meanwhile
            newest = connection.execute(select(func.coalesce(func.max(_checkpoint.c.number), 0))).scalar_one()
            if newest != made.number - 1:
                raise SealedMeanwhile(f"{self._db.name}: another checkpoint was made at the same moment; this is tried again")
            values = {"number": made.number, "record": made.record, "hash": made.hash, "signature": made.signature.hex()}
            connection.execute(_checkpoint.insert().values(values))

    def checkpoints(self) -> list[Checkpoint]:
        """All seals, in order."""
        with self._db.read() as connection:
            return [_as_checkpoint(row) for row in connection.execute(select(_checkpoint).order_by(_checkpoint.c.number))]

    def reindex(self) -> None:
        """Make the index again from the canonical texts. Arrivals and leases are no index, and stay.

        The columns beside a text in ``entry`` are as protected as the text: where ``verify`` finds those edited,
        this does not paint over it.
        """
        with self._db.write() as connection:
            self._db.lock(connection, _RECORD)
            for table in (_journey, _case):
                connection.execute(table.delete())
            for part in chunks(self._chains(connection), 500):
                _, [first, *_] = part[0]
                self._index(connection, {id: indexed(id, facts_of(links)) for id, links in part}, first.seq)

    # ---------------------------------------------------------------------------------------- tombstones

    def closed(
        self,
        partner: str,
        stream: str,
        before: datetime,
        after: JourneySummary | None = None,
        limit: int = 500,
        *,
        awaiting: tuple[Collection[str], str] | None = None,
    ) -> list[JourneySummary]:
        """Files of a stream that were cleared and about which nothing was recorded since that moment, oldest first: the next page
        behind ``after``, without those that were reduced.

        ``awaiting``: without those, too, that have an entry of the first kinds and none of the second.
        """
        order = (_journey.c.opened, _journey.c.journey)
        wanted = (
            select(*_TOLD)
            .join(_arrival, _arrival.c.journey == _journey.c.journey)
            .where(_journey.c.partner == partner, _journey.c.stream == stream, _arrival.c.closed.is_not(None))
            .where(_journey.c.stage == Stage.CLEARED.value, _journey.c.changed < before, _journey.c.kind != REDUCED)
            .order_by(*order)
            .limit(limit)
        )
        if after is not None:
            wanted = wanted.where(tuple_(*order) > tuple_(literal(after.opened, Instant()), literal(after.journey, Key)))
        if awaiting is not None:
            of_it = select(_entry.c.seq).where(_entry.c.journey == _journey.c.journey)
            begun, came = of_it.where(_entry.c.kind.in_(awaiting[0])), of_it.where(_entry.c.kind == awaiting[1])
            wanted = wanted.where(~begun.exists() | came.exists())
        with self._db.read() as connection:
            return [_summary(row) for row in connection.execute(wanted)]

    def reduce(
        self, tombs: Sequence[Sealed], export: Mapping[str, str], policy: Mapping[str, Any], note: Entry, lease: Lease
    ) -> list[Recorded]:
        """Leave only tombstones of these journeys, and record ``note`` with it; all or none.

        ``export``: name, digest, repository and id of the file with their texts, which was read back. Raises ``LeaseLost`` if one of
        them was written to since its tombstone was sealed, is open, or is not under a checkpoint: nothing was changed then.
        """
        journeys = sorted(one.tombstone.journey for one in tombs)
        with self._db.write() as connection:
            now = self._begin(connection, journeys, lease)
            self._check_reducible(connection, tombs)
            entries = [
                Entry(
                    one.tombstone.journey,
                    REDUCED,
                    {"tombstone": one.facts, "kept": one.tombstone.kept, "export": dict(export), "policy": dict(policy)},
                    once=f"{one.tombstone.journey}/{REDUCED}",
                )
                for one in tombs
            ]
            answers = self._record(connection, [*entries, note], now)
            journey, case, arrival = (self._db.among(table.c.journey, journeys) for table in (_journey, _case, _arrival))
            texts = self._db.among(_entry.c.journey, journeys) & (_entry.c.kind != REDUCED)
            connection.execute(_entry.update().where(texts).values(record=GONE))
            connection.execute(_journey.update().where(journey).values(name=None, folded=None))
            connection.execute(_case.update().where(case).values(reason=None, owner=None, due=None))
            connection.execute(_arrival.delete().where(arrival))
            return answers

    def _check_reducible(self, connection: Connection, tombs: Sequence[Sealed]) -> None:
        journeys = [one.tombstone.journey for one in tombs]
        heads, sealed = self._heads(connection, journeys), self._sealed_to(connection)
        arrivals = self._arrivals(connection, journeys)
        for tomb in (one.tombstone for one in tombs):
            if heads.get(tomb.journey, (0, "", ""))[:2] != (tomb.entries, tomb.head):
                raise LeaseLost(f"journey {tomb.journey}: something was recorded about it just now; it stays whole")
            if tomb.last > sealed:
                raise LeaseLost(f"journey {tomb.journey}: no checkpoint has sealed all of it yet; it stays whole")
            if tomb.journey in arrivals and arrivals[tomb.journey].closed is None:
                raise LeaseLost(f"journey {tomb.journey}: its file still stands at the partner; it stays whole")

    # ---------------------------------------------------------------------------------------- leases

    def lease(self, resources: Sequence[str], *, owner: str, seconds: float) -> Lease | None:
        """The right to work on all of these, or None when somebody has any of them (this owner too)."""
        wanted = list(dict.fromkeys(resources))
        with self._db.write() as connection:
            self._db.lock(connection, _RECORD)
            now = self._db.now(connection)
            if self._held(connection, wanted, now):
                return None
            return self._grant(connection, wanted, owner, now + timedelta(seconds=seconds))

    def claim(
        self, partner: str, stream: str, journeys: Sequence[str], *, owner: str, seconds: float
    ) -> tuple[Lease, list[Arrival]] | None:
        """Take those open arrivals of a stream that nobody holds, in the order asked; None when none is left.

        Two workers at once get disjoint sets. A ``SIGHTED`` arrival becomes ``CLAIMED``; one that another worker left behind
        keeps its stage and its digest, so that work goes on where it stopped.
        """
        asked = list(dict.fromkeys(journeys))
        with self._db.write() as connection:
            self._db.lock(connection, _stream_lock(partner, stream))
            self._db.lock(connection, _RECORD)
            now = self._db.now(connection)
            held = self._held(connection, [JOURNEY + journey for journey in asked], now)
            which = select(_arrival.c.journey, _arrival.c.partner, _arrival.c.stream, _arrival.c.closed)
            there = connection.execute(which.where(self._db.among(_arrival.c.journey, asked)))
            open_still = {journey for journey, *rest in there if rest == [partner, stream, None]}
            free = [journey for journey in asked if journey in open_still and JOURNEY + journey not in held]
            if not free:
                return None
            lease = self._grant(connection, [JOURNEY + journey for journey in free], owner, now + timedelta(seconds=seconds))
            self._restage(connection, free, Stage.SIGHTED, Stage.CLAIMED)
            rows = self._arrivals(connection, free)
            return lease, [_as_arrival(rows[journey]) for journey in free]

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """Keep a lease for so long from now. ``LeaseLost`` if it ran out, or any of it was taken."""
        with self._db.write() as connection:
            self._db.lock(connection, _RECORD)
            now = self._db.now(connection)
            self._check_lease(connection, lease, lease.resources, now)
            until = now + timedelta(seconds=seconds)
            connection.execute(self._statements.renew, {**self._ours(lease), "new_until": until})
        return replace(lease, until=until)

    def release(self, lease: Lease) -> None:
        """Give back what is still ours of a lease; what was only claimed is sighted again. Safe to call twice."""
        journeys = [resource.removeprefix(JOURNEY) for resource in lease.resources if resource.startswith(JOURNEY)]
        with self._db.write() as connection:
            self._lock_streams_of(connection, journeys)
            self._db.lock(connection, _RECORD)
            ours = connection.execute(self._statements.leased, self._ours(lease)).scalars().all()
            connection.execute(self._statements.release, self._ours(lease))
            self._restage(connection, [resource.removeprefix(JOURNEY) for resource in ours], Stage.CLAIMED, Stage.SIGHTED)

    def holding(self, lease: Lease, seconds: float) -> Holding:
        """Keep a lease alive while a ``with`` block runs, and release it at its end."""
        return Holding(self, lease, seconds)

    def _held(self, connection: Connection, resources: list[str], now: datetime) -> set[str]:
        return set(connection.execute(self._statements.alive, {**self._db.texts(resources), "now": now}).scalars())

    def _ours(self, lease: Lease) -> dict[str, Any]:
        """What statements about what is still this lease's are told."""
        return {**self._db.texts(lease.resources), "of_fence": lease.fence}

    def _grant(self, connection: Connection, resources: list[str], owner: str, until: datetime) -> Lease:
        self._db.run(connection, "UPDATE fence SET last = last + 1")
        fence: int = self._db.run(connection, "SELECT last FROM fence").scalar_one()
        rows = ((resource, owner, fence, until) for resource in sorted(resources))
        self._db.each(connection, _PUT_LEASE, _columns(_lease), rows)
        return Lease(owner, fence, tuple(resources), until)

    def _check_lease(self, connection: Connection, lease: Lease, resources: Sequence[str], now: datetime) -> None:
        """Raise ``LeaseLost`` unless all of these are in the lease, and alive under its fence."""
        dead = connection.execute(
            self._statements.not_leased, {**self._db.texts(resources), "of_fence": lease.fence, "now": now}
        )
        lost = sorted({*dead.scalars()} | (set(resources) - set(lease.resources)))
        if lost:
            why = (
                "is not part of the lease"
                if lost[0] not in lease.resources
                else f"ran out or was taken over (fence {lease.fence})"
            )
            raise LeaseLost(
                f"{lost[0]}{f' and {len(lost) - 1} more' if len(lost) > 1 else ''}: the right of {lease.owner} to work on it {why}; "
                "nothing was written. Stop here: whoever has it now goes on"
            )

    # ---------------------------------------------------------------------------------------- arrivals

    def sight(self, partner: str, stream: str, seen: Iterable[RemoteFile]) -> SightTally:
        """Record one complete look at what stands at a partner. If ``seen`` raises, nothing of the look is recorded.

        =====================  ==============================================================================
        the file is            and then
        =====================  ==============================================================================
        new                    ``SIGHTED`` under a journey of its own; ids sort by first sight, then name
        as it was              looked at once more
        of other size or time  ``SIGHTED``: watched anew, same journey. ``LEFT``: that one is closed ("replaced"), and a new
                               arrival begins
        not there              ``SIGHTED``: forgotten, or, if its journey has entries, closed ("vanished"). ``LEFT``: closed
                               ("seen absent")
        =====================  ==============================================================================

        What is in work (``CLAIMED`` to ``QUARANTINED``) is left alone. A look that sees nothing at all where files stood, or less
        than half of many that were left there, may be a listing that was cut: it is doubted, and believed when the next is like it.
        """
        with self._db.connection() as connection:
            with connection.begin():
                connection.exec_driver_sql("DROP TABLE IF EXISTS seen")
                connection.exec_driver_sql(_MAKE_SEEN)
                connection.exec_driver_sql("CREATE UNIQUE INDEX seen_place ON seen (place)")
            # Short transactions on a table of our own: a slow server does not keep other writers waiting.
            for part in chunks(seen):
                with connection.begin():
                    self._db.each(connection, _PUT_SEEN, _SEEN, map(_seen_row, part))
            connection.execution_options(begin="IMMEDIATE")
            with connection.begin():
                tally = self._merge(connection, partner, stream)
            with connection.begin():
                connection.exec_driver_sql("DROP TABLE seen")
        return tally

    def _merge(self, connection: Connection, partner: str, stream: str) -> SightTally:
        """Compare what was seen with the open arrivals of the stream."""
        self._db.lock(connection, _stream_lock(partner, stream))
        if self._db.postgres:
            connection.exec_driver_sql("ANALYZE seen")
        now = self._db.now(connection)

        def run(statement: str, **more: Any) -> int:
            return self._db.run(connection, statement, partner=partner, stream=stream, **more).rowcount

        ours = "arrival.partner = :partner AND arrival.stream = :stream AND arrival.closed IS NULL"
        there = f"{ours} AND arrival.place = seen.place"
        equal = "IS NOT DISTINCT FROM" if self._db.postgres else "IS"
        same = f"arrival.size = seen.size AND arrival.file_kind = seen.file_kind AND arrival.modified {equal} seen.modified"
        files: int = self._db.run(connection, "SELECT count(*) FROM seen").scalar_one()
        absent = "NOT EXISTS (SELECT 1 FROM seen WHERE arrival.place = seen.place)"
        counted = f"SELECT count(*) FROM arrival WHERE {ours}"  # noqa: S608 - names of ours
        stood, left, missing = (
            int(self._db.run(connection, f"{counted}{more}", partner=partner, stream=stream).scalar_one())
            for more in ("", " AND stage = 'left'", f" AND stage = 'left' AND {absent}")
        )
        cut = (not files and stood > 0) or (missing >= MANY and 2 * missing > left)
        doubted = self._note_look(connection, partner, stream, files, cut, now)
        gone = replaced = 0
        if not doubted:
            another = f"EXISTS (SELECT 1 FROM seen WHERE arrival.place = seen.place AND NOT ({same}))"  # noqa: S608 - names of ours
            begun = "EXISTS (SELECT 1 FROM entry WHERE entry.journey = arrival.journey)"
            replaced = self._close(connection, partner, stream, f"{ours} AND stage = 'left' AND {another}", "replaced", now)
            gone = self._close(connection, partner, stream, f"{ours} AND stage = 'left' AND {absent}", "seen absent", now)
            gone += self._close(
                connection, partner, stream, f"{ours} AND stage = 'sighted' AND {absent} AND {begun}", "vanished", now
            )
            gone += run(f"DELETE FROM arrival WHERE {ours} AND stage = 'sighted' AND {absent}")  # noqa: S608
        unchanged = run(
            f"""UPDATE arrival SET looks = looks + 1, last_seen = :now
                FROM seen WHERE {there} AND stage IN ('sighted', 'left') AND {same}""",  # noqa: S608
            now=now,
        )
        changed = run(
            f"""UPDATE arrival SET size = seen.size, modified = seen.modified, file_kind = seen.file_kind,
                    unchanged_since = :now, last_seen = :now, looks = 1
                FROM seen WHERE {there} AND stage = 'sighted' AND NOT ({same})""",  # noqa: S608
            now=now,
        )
        new = run(
            f"""INSERT INTO arrival (journey, partner, stream, place, folder, name, size, modified, file_kind, stage,
                    first_seen, unchanged_since, last_seen, looks)
                SELECT CAST(:prefix AS text) || '-' || substr(CAST(1000000000000 + row_number() OVER (ORDER BY name, folder) AS text), 2),
                    CAST(:partner AS text), CAST(:stream AS text), place, folder, name, size, modified, file_kind, 'sighted',
                    {self._moment}, {self._moment}, {self._moment}, 1
                FROM seen WHERE NOT EXISTS (SELECT 1 FROM arrival WHERE {there})""",  # noqa: S608
            now=now,
            prefix=_id_prefix(now),
        )
        return SightTally(files, new=new, unchanged=unchanged, changed=changed, replaced=replaced, gone=gone, doubted=doubted)

    @property
    def _moment(self) -> str:
        return "CAST(:now AS timestamptz)" if self._db.postgres else ":now"

    def _note_look(self, connection: Connection, partner: str, stream: str, files: int, cut: bool, now: datetime) -> bool:
        """Write down that we looked. True if this look is doubted: it seems to be cut, and the last one did not."""
        this = (_look.c.partner == partner) & (_look.c.stream == stream)
        before = connection.execute(select(_look.c.empties).where(this)).scalar() or 0
        rest = (
            "ON CONFLICT (partner, stream) DO UPDATE SET at = excluded.at, files = excluded.files, empties = excluded.empties"
        )
        row = (partner, stream, now, files, before + 1 if cut or not files else 0)
        self._db.each(connection, _insert(_look, rest), _columns(_look), [row])
        return cut and not before

    def _close(self, connection: Connection, partner: str, stream: str, which: str, kind: str, now: datetime) -> int:
        """Close some arrivals with an entry of this kind; a thousand at a time."""
        count = 0
        asked = f"SELECT journey, folder, name, size FROM arrival WHERE {which} ORDER BY journey LIMIT 1000"  # noqa: S608 - ours
        while rows := self._db.run(connection, asked, partner=partner, stream=stream).all():
            self._db.lock(connection, _RECORD)
            entries = [
                Entry(
                    row.journey,
                    kind,
                    {
                        "partner": partner,
                        "stream": stream,
                        "name": shown(bytes(row.name)),
                        "name_b64": name_b64(bytes(row.name)),
                        "folder": row.folder,
                        "size": row.size,
                    },
                    stage=Stage.CLEARED,
                )
                for row in rows
            ]
            self._record(connection, entries, now)
            count += len(rows)
        return count

    def sightings(self, partner: str, stream: str) -> Iterator[Sighting]:
        """All open arrivals of a stream, oldest first (first sight, then the bytes of the name), read page by page.

        What others change meanwhile may or may not show.
        """
        order = (_arrival.c.first_seen, _arrival.c.journey)  # ids of one look sort by name
        mine = (_arrival.c.partner == partner) & (_arrival.c.stream == stream) & _arrival.c.closed.is_(None)
        page = select(_arrival).where(mine).order_by(*order).limit(2000)
        wanted = page
        while True:
            with self._db.read() as connection:
                rows = connection.execute(wanted).all()
            if not rows:
                return
            yield from map(_as_sighting, rows)
            wanted = page.where(
                tuple_(*order) > tuple_(literal(rows[-1].first_seen, Instant()), literal(rows[-1].journey, Key))
            )

    def arrivals(self, journeys: Sequence[str]) -> dict[str, Arrival]:
        """Arrivals by journey, closed ones too; without an answer for a journey that has none."""
        with self._db.read() as connection:
            return {journey: _as_arrival(row) for journey, row in self._arrivals(connection, journeys).items()}

    def _arrivals(self, connection: Connection, journeys: Sequence[str]) -> dict[str, Row[Any]]:
        return {row.journey: row for row in connection.execute(self._statements.arrivals, self._db.texts(journeys))}

    def _restage(self, connection: Connection, journeys: Sequence[str], before: Stage, after: Stage) -> None:
        stages = {"old_stage": before.value, "new_stage": after.value}
        connection.execute(self._statements.restage, {**self._db.texts(journeys), **stages})

    def _lock_streams_of(self, connection: Connection, journeys: Sequence[str]) -> None:
        """Take the locks of the streams whose arrivals these journeys are."""
        if self._db.postgres:
            ours = self._db.among(_arrival.c.journey, journeys)
            streams = connection.execute(select(_arrival.c.partner, _arrival.c.stream).where(ours).distinct())
            self._db.lock(connection, *{_stream_lock(*row) for row in streams})


class Holding:
    """A lease that is renewed in a thread, three times in its life, while a ``with`` block runs."""

    def __init__(self, ledger: Ledger, lease: Lease, seconds: float) -> None:
        self._ledger, self._lease, self._seconds = ledger, lease, seconds
        self._lost: LeaseLost | None = None
        self._deadline = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def lease(self) -> Lease:
        """The lease as it stands now. Raises ``LeaseLost`` once it could not be kept: ask before every act that shows outside."""
        if self._lost is not None:
            raise LeaseLost(*self._lost.args)
        if time.monotonic() > self._deadline:
            raise LeaseLost(
                f"the lease of {self._lease.owner} could not be renewed in time; stop here, whoever has it now goes on"
            )
        return self._lease

    def __enter__(self) -> Self:
        self._renew()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        # A lease that cannot be given back now runs out by itself; what the block did, or raised, is what counts.
        with suppress(LedgerUnreachable):
            self._ledger.release(self._lease)

    def _renew(self) -> None:
        began = time.monotonic()  # before we ask: the database may have counted from then on
        self._lease = self._ledger.renew(self._lease, self._seconds)
        self._deadline = began + self._seconds

    def _keep(self) -> None:
        pause = self._seconds / 3
        while not self._over.wait(pause):
            try:
                self._renew()
                pause = self._seconds / 3
            except LeaseLost as error:
                self._lost = error
                return
            except LedgerUnreachable:
                pause = self._seconds / 10  # until the deadline there is still time


# --------------------------------------------------------------------------------------------- between rows and values


class _Statements:
    """Those that are run most. To make one takes longer than to answer it, so each is made once, and told its values when it is run:
    which journeys, keys or resources by ``Database.texts``."""

    def __init__(self, database: Database) -> None:
        told = database.told()
        texts = select(told.c.value)

        before = _entry.alias()
        newest = select(func.max(before.c.n)).where(before.c.journey == told.c.value).scalar_subquery()
        head = (_entry.c.journey == told.c.value) & (_entry.c.n == newest)
        self.heads = select(_entry.c.journey, _entry.c.n, _entry.c.hash, _entry.c.kind).join_from(told, _entry, head)
        self.holders = select(_entry).where(_entry.c.once.in_(texts))
        self.newest_seq = select(func.coalesce(func.max(_entry.c.seq), 0))

        self.standing = (
            select(*(_journey.c[name] for name in _INDEXED)).where(_journey.c.journey.in_(texts)).order_by(_journey.c.journey)
        )

        self.arrivals = select(_arrival).where(_arrival.c.journey.in_(texts))
        moved = (_arrival.c.stage == bindparam("old_stage")) & _arrival.c.closed.is_(None) & _arrival.c.journey.in_(texts)
        self.restage = _arrival.update().where(moved).values(stage=bindparam("new_stage"))

        alive, of_fence = _lease.c.until > bindparam("now", type_=Instant()), _lease.c.fence == bindparam("of_fence")
        ours = of_fence & _lease.c.resource.in_(texts)
        standing = select(_lease.c.fence).where(_lease.c.resource == told.c.value, of_fence, alive)
        self.alive = select(_lease.c.resource).where(_lease.c.resource.in_(texts), alive)
        self.not_leased = select(told.c.value).where(~standing.exists())
        self.leased = select(_lease.c.resource).where(ours)
        self.renew = _lease.update().where(ours).values(until=bindparam("new_until", type_=Instant()))
        self.release = _lease.delete().where(ours)


def _with_journey() -> Select[Any]:
    """Every case, oldest first, with what its journey is about."""
    return (
        select(_case, _journey.c.partner, _journey.c.stream, _journey.c.name)
        .join(_journey, _journey.c.journey == _case.c.journey)
        .order_by(_case.c.opened, _case.c.journey)
    )


def _standing() -> ColumnElement[str]:
    """The state of a case."""
    return func.coalesce(_case.c.state, CaseState.NEW.value)


def _about(partner: str | None, stream: str | None) -> list[ColumnElement[bool]]:
    """Of this partner and stream, where they are asked for, among few journeys that something else finds.

    Written so that no index serves it: SQLite would rather read all journeys that a stream ever had.
    """
    asked = {"partner": partner, "stream": stream}
    return [func.coalesce(_journey.c[column], "") == value for column, value in asked.items() if value is not None]


def _shelves() -> Select[Any]:
    """All shelves. Each is found behind the one before, without reading what stands on it."""
    shelf = select(func.min(_journey.c.shelf).label("number")).cte("shelf", recursive=True)
    behind = select(func.min(_journey.c.shelf)).where(_journey.c.shelf > shelf.c.number).scalar_subquery()
    return select(shelf.union_all(select(behind).where(shelf.c.number.is_not(None))).c.number)


def _open() -> TextClause:
    """True for a case that is not resolved."""
    return text(_OPEN)


def _newest(*kinds: str) -> ScalarSelect[Any]:
    """Number of the newest entry of these kinds in the journey of a case; null if there is none."""
    there = (_entry.c.journey == _case.c.journey) & _entry.c.kind.in_(kinds)
    return select(func.max(_entry.c.seq)).where(there).correlate(_case).scalar_subquery()


def _check_entry(entry: Entry) -> None:
    """Raise ``ValueError`` for an entry that could never be recorded."""
    if entry.kind == REDUCED:
        raise ValueError(f"journey {entry.journey}: a tombstone is only written by reduce()")
    for what, value, most in (("journey", entry.journey, 200), ("kind", entry.kind, 100)):
        if not value or len(value) > most or not (value.isascii() and value.isprintable()):
            raise ValueError(f"{what} {value!r:.60}: 1 to {most} printable ASCII characters are wanted")
    if entry.once is not None and not 0 < len(entry.once) <= 1000:
        raise ValueError(f"once {entry.once!r:.60}: 1 to 1,000 characters are wanted; hash what is longer")


def _recorded(link: Link, told: Mapping[str, Any] | None = None) -> Recorded:
    """``told``: the facts that its text says, where they are known already."""
    return Recorded(link.seq, link.journey, link.n, link.kind, link.at, link.hash, Facts(link.record, told))


def _reread(links: list[Link], exports: Exports) -> bool:
    """Compare a reduced journey with its export; False if that is not at hand."""
    texts = exports.texts(links[-1])
    if texts is not None:
        reread(links, texts)
    return texts is not None


def _journey_row(index: Index) -> tuple[Any, ...]:
    return (*_INDEX_ROW(index), folded(index.name))


def _summary(row: Row[Any]) -> JourneySummary:
    values = {**row._mapping, "stage": Stage(row.stage) if row.stage else None}
    del values["folded"]
    return JourneySummary(**values)


def _same_index(
    columns: Sequence[Column[Any]], journey: str, expected: tuple[Any, ...] | None, found: tuple[Any, ...] | None
) -> None:
    """Raise ``ChainBroken`` unless the index says what the record says."""
    if expected == found:
        return
    where = f"journey {journey}: the index ({columns[0].table.name})"
    cure = "the record itself is whole, reindex() makes the index again"
    if expected is None or found is None:
        raise ChainBroken(f"{where} {'does not know it' if found is None else 'has a row too many'}; {cure}")
    for column, right, wrong in zip(columns, expected, found, strict=True):
        if right != wrong:
            raise ChainBroken(f"{where} says {column.name} {wrong!r}, the record says {right!r}; {cure}")


def _as_checkpoint(row: Row[Any]) -> Checkpoint:
    return Checkpoint(row.number, row.record, row.hash, bytes.fromhex(row.signature))


def _proven_checkpoint(found: Checkpoint, before: Checkpoint | None, keys: Mapping[str, bytes] | None) -> None:
    where = f"checkpoint {found.number}"
    expected = before.number + 1 if before else 1
    if found.number != expected:
        raise ChainBroken(f"checkpoint {expected}: it is missing before checkpoint {found.number}")
    if hashlib.sha256(found.record.encode("utf-8", "surrogatepass")).hexdigest() != found.hash:
        raise ChainBroken(f"{where}: its text was edited, or its hash")
    facts = found.facts
    if (facts["number"], facts["previous"]) != (expected, before.hash if before else None):
        raise ChainBroken(f"{where}: it does not follow the one before it")
    if facts["first"] != (before.facts["last"] + 1 if before else 1):
        raise ChainBroken(f"{where}: it does not begin where the one before it ended")
    if keys is not None:
        found.prove(keys)


def _stream_lock(partner: str, stream: str) -> str:
    return f"stream {partner}/{stream}"


def _seen_row(file: RemoteFile) -> tuple[Any, ...]:
    place = hashlib.sha256(file.folder.encode() + b"\0" + file.name).digest()
    # Size and time are claims: no server makes us fail with a number that no column takes.
    return (place, file.folder, file.name, max(0, min(file.size, chain.LARGEST)), file.modified, file.kind.value)


def _as_file(folder: str, name: bytes, size: int, modified: datetime | None, kind: str) -> RemoteFile:
    return RemoteFile(folder, bytes(name), size, modified, FileKind(kind))


def _as_arrival(row: Row[Any]) -> Arrival:
    # Not column by column by its name, here and in the next: that took most of the time of reading many.
    journey, partner, stream, _, *file, stage, digest, first_seen, _, _, _, _ = row
    return Arrival(journey, partner, stream, _as_file(*file), first_seen, Stage(stage), digest)


def _as_sighting(row: Row[Any]) -> Sighting:
    journey, _, _, _, *file, stage, digest, first_seen, unchanged_since, last_seen, looks, _ = row
    return Sighting(
        journey=journey,
        file=_as_file(*file),
        stage=Stage(stage),
        first_seen=first_seen,
        unchanged_since=unchanged_since,
        last_seen=last_seen,
        looks=looks,
        digest=digest,
    )


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None where there is no ledger yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found
