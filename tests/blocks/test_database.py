"""What an SQLite file promises. No power is cut here: the settings that its promise hangs on are asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from blocks.ledger import Ledger
from deployments.sender.store import Store


def ledger_in(folder: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.migrate()
    return ledger


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(Store, id="the sender's"),
        pytest.param(ledger_in, id="a ledger"),
    ],
)
@pytest.mark.parametrize("older", [pytest.param(False, id="new"), pytest.param(True, id="not written ahead so far")])
def test_what_was_acknowledged_survives_a_power_cut(
    opened: Callable[[Path], Store | Ledger], older: bool, tmp_path: Path
) -> None:
    if older:
        opened(tmp_path).close()
        [file] = tmp_path.glob("*.sqlite")
        with closing(sqlite3.connect(file)) as other:
            assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    with opened(tmp_path) as kept, kept._db.connection() as connection:
        told = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")]
    assert told == ["wal", 2]
