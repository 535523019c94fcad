"""The schema: made once by whoever comes first, and never older than the code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect

import blocks.ledger
from blocks import chain, migrations
from blocks.errors import ConfigurationError, LedgerError, LedgerUnreachable
from blocks.ledger import HEAD, Entry, Ledger
from blocks.seals import SealKey
from blocks.tombstones import Sealed, tombstone
from blocks.values import Stage
from tests.forks import processes
from tests.ledger.workers import migrate

SECOND = """
from alembic import op
import sqlalchemy as sa

revision, down_revision, branch_labels, depends_on = "0099", "{head}", None, None


def upgrade():
    op.add_column("journey", sa.Column("colour", sa.String()))
    op.create_index("journey_colour", "journey", ["colour"])
"""


def test_a_ledger_that_was_not_made_says_so(empty: str) -> None:
    with Ledger(empty) as ledger, pytest.raises((LedgerError, LedgerUnreachable)):
        ledger.append([Entry("a", "arrived")])


def test_several_processes_migrate_at_once(empty: str) -> None:
    context = processes()
    start, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=migrate, args=(empty, start, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert sorted([answers.get(timeout=300) for _ in workers], key=str) == [1, 2, 3, 4]
    for worker in workers:
        worker.join(300)


def test_a_migration_waits_for_another(empty: str) -> None:
    with Ledger(empty) as other, Ledger(empty, timeout_seconds=0.3) as ledger:
        if not other._db.postgres:
            other._db.file.parent.mkdir()
        with other._db.write() as connection:
            other._db.lock(connection, "migration")
            with pytest.raises(LedgerUnreachable, match="locked"):
                ledger.migrate()
        ledger.migrate()


def test_the_record_verifies_after_a_migration_and_old_code_then_refuses(empty: str, tmp_path: Path) -> None:
    with Ledger(empty) as ledger:
        ledger.migrate()
        ledger.append([Entry("a", "arrived", {"name": "x.csv"}), Entry("a", "fetched")])
        ledger.checkpoint(lambda message: b"s", "k")
        (tmp_path / "0099_second.py").write_text(SECOND.format(head=HEAD))
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.set_main_option("version_locations", f"{Path(migrations.__file__).parent / 'versions'};{tmp_path}")
        config.set_main_option("path_separator", ";")
        with ledger._db.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        with ledger._db.read() as connection:
            assert "colour" in {column["name"] for column in inspect(connection).get_columns("journey")}
        assert ledger.verify().sealed == 2
        with pytest.raises(LedgerError, match="schema 0099 was made by a newer version"):
            ledger.migrate()


def test_a_ledger_of_the_first_version_takes_tombstones_after_its_migration(empty: str, tmp_path: Path) -> None:
    key = SealKey.open(tmp_path / "seal.pem")
    with Ledger(empty) as ledger:
        _as_it_was(ledger, "0001", "a")
        ledger.checkpoint(key.sign, key.id)
        ledger.migrate()
        tomb, lease = tombstone(ledger.chains(["a"])["a"], key.id), ledger.lease(["journey:a"], owner="test", seconds=60)
        assert lease is not None
        ledger.reduce([Sealed(tomb, key.sign(tomb.record.encode()))], {}, {}, Entry("exports", "exported"), lease)
        assert ledger.verify(keys={key.id: key.public}).reduced == 1


def test_journeys_from_before_the_shelves_are_found_by_their_bytes_beside_new_ones(empty: str) -> None:
    with Ledger(empty) as ledger:
        _as_it_was(ledger, "0004", "old", "abc0")
        ledger.migrate()
        ledger.append([Entry("new", "fetched", {"digest": "abc1"})])
        assert [one.journey for one in ledger.search(digest="abc")] == ["new", "old"]
        assert ledger.verify().journeys == 2
        ledger.append([Entry("old", "fetched", {"digest": "abd0"})])
        assert [one.journey for one in ledger.search(digest="abd")] == ["old"]
        ledger.reindex()
        assert [one.journey for one in ledger.search(digest="ab")] == ["new", "old"]


def _as_it_was(ledger: Ledger, revision: str, journey: str, digest: str | None = None) -> None:
    """A ledger of an old version, with a journey that is over."""
    if not ledger._db.postgres:
        ledger._db.file.parent.mkdir()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    at = datetime(2026, 1, 2, tzinfo=UTC)
    first, begun = chain.link(1, journey, 1, None, kind="arrived", at=at, body={"digest": digest}, once=None, stage=None)
    last, over = chain.link(2, journey, 2, first.hash, kind="cleared", at=at, body={}, once=None, stage=Stage.CLEARED)
    index, _ = chain.indexed(journey, [begun, over])
    with ledger._db.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for link in (first, last):
            connection.execute(blocks.ledger._entry.insert().values(link._asdict()))
        connection.execute(
            blocks.ledger._journey.insert().values({one.name: getattr(index, one.name) for one in fields(index)})
        )


def test_the_code_knows_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_code_and_the_schema_have_the_same_columns(ledger: Ledger) -> None:
    tables = [value for name, value in vars(blocks.ledger).items() if hasattr(value, "columns") and name.startswith("_")]
    assert len(tables) == 7
    with ledger._db.read() as connection:
        for table in tables:
            found = {column["name"] for column in inspect(connection).get_columns(table.name)}
            assert found == set(table.columns.keys()), table.name


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "ledger.sqlite"])
def test_what_is_no_place_for_a_ledger_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Ledger(url)


def test_a_password_is_never_shown() -> None:
    with Ledger("postgresql://me:secret@127.0.0.1:1/ledger") as ledger, pytest.raises(LedgerUnreachable) as caught:
        ledger.now()
    assert "secret" not in str(caught.value)
    assert "me:***@127.0.0.1:1/ledger" in str(caught.value)


def test_what_flows_and_sweeps_ask_is_answered_from_what_is_open(tmp_path: Path) -> None:
    """As SQLite plans it: their cost does not grow with the journeys and entries that are over."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        ledger.migrate()
        now, asked = ledger.now(), list[tuple[str, Any]]()

        def before(_c: object, _u: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
            if statement.lstrip().startswith("SELECT digest") or "\nFROM" in statement:
                asked.append((statement, parameters))

        def plan(ask: Callable[[], object]) -> set[str]:
            asked.clear()
            event.listen(ledger._db.engine, "before_cursor_execute", before)
            ask()
            event.remove(ledger._db.engine, "before_cursor_execute", before)
            with ledger._db.read() as connection:
                lines = [
                    str(row[3])
                    for statement, parameters in asked
                    for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                ]
            return {line.partition(" (")[0] for line in lines if " USING " in line and "TEMP" not in line}

        journeys, cases = (
            "SEARCH journey USING INDEX sqlite_autoindex_journey_1",
            "SCAN quarantine_case USING INDEX quarantine_case_open",
        )
        assert plan(lambda: ledger.cases(partner="acme", stream="prices")) == {journeys, cases}
        assert plan(lambda: ledger.begun("ordered", now)) == {journeys, "SEARCH entry USING INDEX entry_first"}
        assert plan(lambda: ledger.in_work(now)) == {"SEARCH journey USING INDEX journey_open"}
        of_a_stage = plan(lambda: ledger.search(partner="acme", stream="prices", stage=Stage.JUDGED))
        assert of_a_stage == {"SEARCH journey USING INDEX journey_open"}
        of_an_id = plan(lambda: ledger.search(partner="acme", stream="prices", repository_id="7"))
        assert of_an_id == {"SEARCH journey USING INDEX journey_repository_id"}
        assert {"SCAN journey USING COVERING INDEX journey_open", cases, journeys} <= plan(ledger.open_digests)
        of_bytes = plan(lambda: ledger.search(digest="ab"))
        digests = "SEARCH journey USING COVERING INDEX journey_digest"  # the next shelf
        assert of_bytes == {"SEARCH journey USING INDEX journey_digest", digests}
        in_cases = plan(lambda: ledger.in_open_cases("begun"))
        assert cases in in_cases and not any(line.startswith("SCAN entry") for line in in_cases)
