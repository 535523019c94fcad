"""A ledger whose database has no room just when a test needs it: what breaks off there broke off as on a real full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.ledger import Ledger


@contextmanager
def no_room_for(ledger: Ledger, *kinds: str) -> Iterator[None]:
    """While the block runs, entries of these kinds cannot be written, nor what is appended together with them.

    The database (SQLite) refuses them itself, for every process, in the words that it has for a full disk: so it is a
    ``LedgerUnreachable``.
    """
    wanted = ", ".join(f"'{kind}'" for kind in kinds)
    full = "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    with ledger._db.write() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER no_room BEFORE INSERT ON entry WHEN NEW.kind IN ({wanted}) {full}")
    try:
        yield
    finally:
        with ledger._db.write() as connection:
            connection.exec_driver_sql("DROP TRIGGER no_room")
