"""A fresh, migrated ledger for every test, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from blocks.ledger import Ledger
from tests.servers.postgres import postgres

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        with Ledger(_database(url, "migrated")) as ledger:
            ledger.migrate()
        yield url


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ledger") / "migrated.sqlite"
    with Ledger(f"sqlite:///{file}") as ledger:
        ledger.migrate()
    return file


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without anything in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'empty.sqlite'}"
    return _database(request.getfixturevalue("postgres_server"), f"empty{next(_numbers)}")


@pytest.fixture(params=["sqlite", "postgres"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes the URL of a migrated ledger without entries, as often as it is asked; one at a time."""
    if request.param == "sqlite":
        template = request.getfixturevalue("sqlite_file")

        def copied() -> str:
            file = tmp_path / f"ledger{next(_numbers)}.sqlite"
            shutil.copy(template, file)
            return f"sqlite:///{file}"

        return copied
    server = request.getfixturevalue("postgres_server").replace("/postgres", "/migrated")

    def emptied() -> str:
        with psycopg.connect(server) as connection:  # a database of its own for every test would cost a third of a second each
            connection.execute("SET session_replication_role = replica")
            connection.execute("TRUNCATE entry, checkpoint, journey, quarantine_case, arrival, look, lease")
        return str(server)

    return emptied


@pytest.fixture
def url(fresh: Callable[[], str]) -> str:
    """The URL of a migrated ledger without entries."""
    return fresh()


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url) as ledger:
        yield ledger


Tamper = Callable[..., None]


@pytest.fixture
def tamper(url: str) -> Tamper:
    """What an intruder with all rights does: statements on the database itself, with the triggers out of the way."""

    def act(*statements: str) -> None:
        with Ledger(url) as ledger, ledger._db.write() as connection:
            for statement in (*_guards_down(url), *statements):
                connection.exec_driver_sql(statement)

    return act


def _guards_down(url: str) -> list[str]:
    if url.startswith("postgresql"):
        return ["SET LOCAL session_replication_role = replica"]
    names = [f"{table}_no_{act}" for table in ("entry", "checkpoint") for act in ("update", "delete", "replace")] + [
        "entry_not_late"
    ]
    return [f"DROP TRIGGER IF EXISTS {name}" for name in names]


def _database(server: str, name: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
    return server.rsplit("/", 1)[0] + f"/{name}"
