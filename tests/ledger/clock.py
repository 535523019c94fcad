"""The clock of a ledger's database, which a test can put forward: nobody waits two years."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

from sqlalchemy import event

from blocks.ledger import Ledger


class Clock:
    """``ahead``: by so much the database (SQLite) is ahead of this machine, for whatever this ledger asks it from then on."""

    def __init__(self, ledger: Ledger) -> None:
        self.ahead = timedelta(0)
        event.listen(ledger._db.engine, "checkout", self._set)

    def _set(self, connection: sqlite3.Connection, *_: object) -> None:
        connection.create_function("strftime", 2, self._strftime)

    def _strftime(self, form: str, when: str) -> str:
        if (form, when) != ("%Y-%m-%dT%H:%M:%f", "now"):
            raise ValueError(f"strftime({form!r}, {when!r}): the ledger asks for the time in another way now")
        return (datetime.now(UTC) + self.ahead).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
