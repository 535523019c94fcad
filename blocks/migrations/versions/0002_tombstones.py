"""The way past the triggers: the text of an entry may be emptied once a tombstone stands over its journey, and nothing follows that.

The record itself is not touched.
"""

from __future__ import annotations

from textwrap import dedent

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CHANGED = "the ledger is append-only: nothing in it is changed or removed; record a new entry instead"
LATE = "this journey was reduced to a tombstone: nothing follows that"

COLUMNS = ("seq", "journey", "n", "kind", "at", "once", "hash")

# The newest entry of the journey is a tombstone, written behind this one, and names the hash of the entry before it as its head.
STANDS = """
    EXISTS (
        SELECT 1 FROM entry AS tomb JOIN entry AS head ON head.journey = tomb.journey AND head.n = tomb.n - 1
        WHERE tomb.journey = OLD.journey AND tomb.kind = 'reduced' AND tomb.n > OLD.n
            AND tomb.n = (SELECT max(n) FROM entry WHERE journey = OLD.journey)
            AND {position}(tomb.record, '"previous":"' || head.hash || '"') > 0
    )
"""


def upgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    for statement in _postgres() if postgres else _sqlite():
        op.execute(dedent(statement))


def _postgres() -> list[str]:
    same = " AND ".join(f"NEW.{column} IS NOT DISTINCT FROM OLD.{column}" for column in COLUMNS)
    return [
        "DROP TRIGGER entry_append_only ON entry",
        """
        CREATE TRIGGER entry_append_only BEFORE DELETE OR TRUNCATE ON entry
        FOR EACH STATEMENT EXECUTE FUNCTION countersign_append_only()
        """,
        f"""
        CREATE FUNCTION countersign_reduced_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            IF NEW.record = '' AND OLD.kind <> 'reduced' AND {same} AND {STANDS.format(position="strpos")} THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION '{CHANGED}';
        END $$
        """,
        """
        CREATE TRIGGER entry_reduced_only BEFORE UPDATE ON entry
        FOR EACH ROW EXECUTE FUNCTION countersign_reduced_only()
        """,
        f"""
        CREATE FUNCTION countersign_not_late() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            IF EXISTS (SELECT 1 FROM entry WHERE journey = NEW.journey AND n = NEW.n - 1 AND kind = 'reduced') THEN
                RAISE EXCEPTION '{LATE}';
            END IF;
            RETURN NEW;
        END $$
        """,  # noqa: S608 - names of ours
        """
        CREATE TRIGGER entry_not_late BEFORE INSERT ON entry
        FOR EACH ROW EXECUTE FUNCTION countersign_not_late()
        """,
    ]


def _sqlite() -> list[str]:
    same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in COLUMNS)
    return [
        "DROP TRIGGER entry_no_update",
        f"""
        CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry
        WHEN NOT (NEW.record = '' AND OLD.kind <> 'reduced' AND {same} AND {STANDS.format(position="instr")})
        BEGIN SELECT RAISE(ABORT, '{CHANGED}'); END
        """,
        f"""
        CREATE TRIGGER entry_not_late BEFORE INSERT ON entry
        WHEN EXISTS (SELECT 1 FROM entry WHERE journey = NEW.journey AND n = NEW.n - 1 AND kind = 'reduced')
        BEGIN SELECT RAISE(ABORT, '{LATE}'); END
        """,  # noqa: S608 - names of ours
    ]


def downgrade() -> None:
    raise NotImplementedError("the ledger's schema only goes forward; restore a backup to go back")
