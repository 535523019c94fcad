"""One database behind the ledger, SQLite or PostgreSQL, with the same few verbs for both.

What differs between the two stands in this file and in the migrations: how writers wait their turn, whose clock counts,
how many rows travel in one statement, and what the drivers' errors mean.
"""

from __future__ import annotations

import hashlib
import json
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Engine,
    String,
    TableValuedAlias,
    TextClause,
    TypeDecorator,
    bindparam,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import ArgumentError, DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeEngine

from blocks.canonical import iso
from blocks.errors import ConfigurationError, LedgerError, LedgerUnreachable

ROWS = 5000
"""Rows per statement: bounds memory and the length of what one statement carries."""
TOGETHER = 500
"""Rows per statement on SQLite, which takes 32,766 values in one."""

Kind = Literal["text", "bigint", "bytea", "timestamptz"]
T = TypeVar("T")


class Instant(TypeDecorator[datetime]):
    """A moment in UTC: ``timestamptz`` on PostgreSQL, sortable text on SQLite."""

    impl = String(27)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind: TypeEngine[Any] = DateTime(timezone=True) if dialect.name == "postgresql" else String(27)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "postgresql" else iso(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        return _read  # not ``process_result_value``, which is a call more for each of many moments


def _read(value: Any) -> datetime | None:
    if value is None:
        return None
    return value.astimezone(UTC) if isinstance(value, datetime) else _moment(value)


@lru_cache(256)  # as ``iso``: what was written together has one time
def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


Key = String().with_variant(String(collation="C"), "postgresql")
"""Text that is compared byte by byte in both databases, so that order and ranges do not hang on a locale."""


def chunks(items: Iterable[T], count: int = ROWS) -> Iterator[list[T]]:
    """Lists of at most ``count`` items, in order."""
    source = iter(items)
    while part := list(islice(source, count)):
        yield part


class Database:
    """Connections to one database, made when needed and shared by the threads of one process (never across a fork)."""

    def __init__(self, url: str, *, timeout_seconds: float = 30.0) -> None:
        try:
            address = make_url(url)
        except ArgumentError as error:
            raise ConfigurationError(
                "the ledger's URL cannot be read; write sqlite:////path/to/file or postgresql://..."
            ) from error
        self.name = address.render_as_string(hide_password=True)
        self.timeout_seconds = timeout_seconds
        self.postgres = address.get_backend_name() == "postgresql"
        if self.postgres:
            self.engine = _postgres(address.set(drivername="postgresql+psycopg"), timeout_seconds)
        elif address.get_backend_name() == "sqlite" and address.database and address.database != ":memory:":
            self.file = Path(address.database)
            self.engine = _sqlite(address, timeout_seconds)
        else:
            raise ConfigurationError(f"{self.name}: the ledger is kept in an SQLite file or in PostgreSQL, nothing else")
        self._snapshot = self.engine.execution_options(isolation_level="REPEATABLE READ") if self.postgres else self.engine
        self._writer = self.engine.execution_options(begin="IMMEDIATE")
        weakref.finalize(self, self.engine.dispose)  # connections are closed even where nobody says close()

    @contextmanager
    def elsewhere(self, file: Path) -> Iterator[None]:
        """While the block runs, another SQLite file stands in for this database's. What is compiled for it stays compiled."""

        def connecting(dialect: Dialect, _record: Any, _arguments: Any, options: Mapping[str, Any]) -> Any:
            return dialect.connect(str(file), **options)

        own, self.file = self.file, file
        event.listen(self.engine, "do_connect", connecting)
        try:
            yield
        finally:
            event.remove(self.engine, "do_connect", connecting)
            self.engine.dispose()
            self.file = own

    def write_ahead(self) -> None:
        """Have an SQLite file written ahead: a transaction waits for the disk once, and not for each of its steps. It stays so.

        The switch needs the file alone and does not wait for it (https://www.sqlite.org/wal.html). Raises ``LedgerUnreachable``.
        """
        give_up = time.monotonic() + self.timeout_seconds
        while True:
            try:
                with self.engine.connect() as connection:
                    driver = connection.connection.driver_connection
                    assert driver is not None  # noqa: S101 - an open connection has its driver's
                    driver.execute("PRAGMA journal_mode=WAL")
                    return
            except Exception as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise LedgerUnreachable(f"{self.name}: cannot be opened ({error})") from error
                time.sleep(0.02)

    # ---------------------------------------------------------------------------------------- transactions

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout, and hinders no writer."""
        with self._translated(), self._snapshot.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: whole or not at all. On SQLite the only one at that moment."""
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection without a transaction, for what needs several of them (temporary tables)."""
        with self._translated(), self.engine.connect() as connection:
            yield connection

    def lock(self, connection: Connection, *names: str) -> None:
        """Wait until nobody else holds these names, and hold them to the end of the transaction.

        Always taken in the same order. On SQLite a writer has the whole file already.
        """
        if self.postgres:
            for key in sorted({_lock_key(name) for name in names}):
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def now(self, connection: Connection) -> datetime:
        """The database's clock, UTC. On SQLite that is this machine's, in milliseconds."""
        if self.postgres:
            # Not now(), which stands still from the beginning of the transaction, before we waited for a lock.
            moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            return moment.astimezone(UTC)
        found: str = connection.exec_driver_sql("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')").scalar_one()
        return datetime.fromisoformat(found).replace(tzinfo=UTC)

    # ---------------------------------------------------------------------------------------- statements

    def run(self, connection: Connection, statement: str, **values: Any) -> CursorResult[Any]:
        """One statement that both databases read alike, with ``:name`` parameters."""
        moments = tuple(name for name, value in values.items() if isinstance(value, datetime))
        return connection.execute(_text(statement, moments), values)

    def each(
        self, connection: Connection, statement: str, columns: Mapping[str, Kind], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        """One statement for many rows. ``{given}`` in it stands for a table called ``given`` with these columns and rows.

        On PostgreSQL it is one statement for 5,000 rows, on SQLite for ``TOGETHER``: between two statements our other threads run,
        and a statement for each row would wait for them at each row.
        """
        if self.postgres:
            arrays = ", ".join(f"%({name})s::{kind}[]" for name, kind in columns.items())
            whole = statement.format(given=f"unnest({arrays}) AS given({', '.join(columns)})")
            for part in chunks(rows):
                values = dict(zip(columns, map(list, zip(*part, strict=True)), strict=True))
                connection.exec_driver_sql(whole, values)
            return
        names = ", ".join(f"column{place} AS {name}" for place, name in enumerate(columns, start=1))
        marks = f"({', '.join('?' * len(columns))})"
        moments = [place for place, kind in enumerate(columns.values()) if kind == "timestamptz"]
        for part in chunks(rows, TOGETHER):
            given = f"(SELECT {names} FROM (VALUES {', '.join([marks] * len(part))})) AS given"  # noqa: S608 - names of ours
            flat = list(chain.from_iterable(part))
            for place in moments:
                column = slice(place, None, len(columns))
                flat[column] = [None if moment is None else iso(moment) for moment in flat[column]]
            connection.exec_driver_sql(statement.format(given=given), tuple(flat))

    def given(self, values: Iterable[str]) -> TableValuedAlias:
        """A table with these texts in its only column ``value``: one parameter, however many they are."""
        if self.postgres:
            return func.unnest(bindparam(None, list(values), type_=ARRAY(String))).table_valued("value").render_derived()
        return func.json_each(json.dumps(list(values), ensure_ascii=False)).table_valued("value")

    def told(self) -> TableValuedAlias:
        """The same in a statement that is made once and run many times: its texts are told each time, by ``texts``."""
        if self.postgres:
            return func.unnest(bindparam("told", type_=ARRAY(String))).table_valued("value").render_derived()
        return func.json_each(bindparam("told")).table_valued("value")

    def texts(self, values: Iterable[str]) -> dict[str, Any]:
        """What ``told`` stands for in one run of a statement."""
        return {"told": list(values) if self.postgres else json.dumps(list(values), ensure_ascii=False)}

    def among(self, column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
        """True where a column is one of these texts."""
        return column.in_(select(self.given(values).c.value))

    # ---------------------------------------------------------------------------------------- errors

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise LedgerUnreachable(f"{self.name}: all our connections are busy; this is tried again") from error
        except DBAPIError as error:
            raise self._meaning(error) from error

    def _meaning(self, error: DBAPIError) -> Exception:
        """What a driver's error means for us; a mistake of ours stays what it is."""
        said = str(error.orig).strip().partition("\n")[0]
        kind = type(error.orig).__name__
        if "no such table" in said or kind == "UndefinedTable":
            return LedgerError(f"{self.name}: there is no ledger of this version yet ({said}); let migrate() make it")
        if "database or disk is full" in said or kind == "DiskFull":
            return LedgerUnreachable(f"{self.name}: the database's disk is full, nothing was written; make room, then go on")
        if "database is locked" in said or "database table is locked" in said or kind == "LockNotAvailable":
            return LedgerUnreachable(
                f"{self.name}: another writer kept the ledger locked for over {self.timeout_seconds:g} s; "
                "nothing was written, and this is tried again"
            )
        if kind in ("OperationalError", "InterfaceError") or error.connection_invalidated or _is_operational(error):
            return LedgerUnreachable(
                f"{self.name}: the ledger's database did not answer ({said}); "
                "check that it runs and that this user may reach it. It is tried again"
            )
        return error

    def close(self) -> None:
        self.engine.dispose()


@lru_cache(256)  # a statement that is there already need not be read again
def _text(statement: str, moments: tuple[str, ...]) -> TextClause:
    return text(statement).bindparams(*(bindparam(name, type_=Instant()) for name in moments))


def _is_operational(error: DBAPIError) -> bool:
    # psycopg has a class per condition (AdminShutdown, DeadlockDetected, ...); what they have in common is their base.
    return any(base.__name__ == "OperationalError" for base in type(error.orig).__mro__) and not isinstance(
        error, ProgrammingError
    )


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"countersign {name}".encode()).digest()[:8], "big", signed=True)


def _postgres(url: Any, timeout_seconds: float) -> Engine:
    # Without keepalives a worker would wait for ever on a connection whose other side was cut off silently.
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=10,
        pool_timeout=timeout_seconds,
        connect_args={
            "connect_timeout": 10,
            "application_name": "countersign",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "options": f"-c timezone=UTC -c lock_timeout={int(timeout_seconds * 1000)}",
        },
    )


def _sqlite(url: Any, timeout_seconds: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": timeout_seconds}, pool_timeout=timeout_seconds)

    @event.listens_for(engine, "connect")
    def connected(driver: Any, _record: Any) -> None:
        driver.isolation_level = None  # we say BEGIN ourselves; the driver's own comes too late and is never IMMEDIATE
        driver.execute("PRAGMA synchronous=FULL")  # an entry that was acknowledged survives a power cut

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine
