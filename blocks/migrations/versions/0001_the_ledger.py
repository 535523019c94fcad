"""The record, its index, arrivals, leases and looks."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MESSAGE = "the ledger is append-only: nothing in it is changed or removed; record a new entry instead"


def upgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    key = sa.String(collation="C") if postgres else sa.String()
    instant: sa.types.TypeEngine[Any] = sa.DateTime(timezone=True) if postgres else sa.String(27)
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    opened = "closed IS NULL"

    # --- the record
    op.create_table(
        "entry",
        sa.Column("seq", number, primary_key=True, autoincrement=False),
        sa.Column("journey", key, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("kind", key, nullable=False),
        sa.Column("at", instant, nullable=False),
        sa.Column("once", key, unique=True),
        sa.Column("hash", key, nullable=False),
        sa.Column("record", key, nullable=False),
        sa.UniqueConstraint("journey", "n"),
    )
    op.create_table(
        "checkpoint",
        sa.Column("number", number, primary_key=True, autoincrement=False),
        sa.Column("hash", key, nullable=False),
        sa.Column("record", key, nullable=False),
        sa.Column("signature", key, nullable=False),
    )
    for statement in _append_only_postgres() if postgres else _append_only_sqlite():
        op.execute(statement)

    # --- its index: every row can be made again from the record
    op.create_table(
        "journey",
        sa.Column("journey", key, primary_key=True),
        sa.Column("partner", key),
        sa.Column("stream", key),
        sa.Column("name", key),
        sa.Column("folded", key),
        sa.Column("size", number),
        sa.Column("digest", key),
        sa.Column("repository", key),
        sa.Column("repository_id", key),
        sa.Column("stage", key),
        sa.Column("kind", key, nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("opened", instant, nullable=False),
        sa.Column("changed", instant, nullable=False),
    )
    op.create_index("journey_opened", "journey", ["opened", "journey"])
    op.create_index("journey_stream", "journey", ["partner", "stream", "opened", "journey"])
    op.create_index("journey_digest", "journey", ["digest"])
    op.create_index("journey_repository_id", "journey", ["repository_id"])
    unsettled = sa.text("digest IS NOT NULL AND (stage IS NULL OR stage NOT IN ('cleared', 'left'))")
    op.create_index("journey_unsettled", "journey", ["digest"], sqlite_where=unsettled, postgresql_where=unsettled)
    op.create_table(
        "quarantine_case",
        sa.Column("journey", key, primary_key=True),
        sa.Column("code", key),
        sa.Column("reason", key),
        sa.Column("owner", key),
        sa.Column("due", instant),
        sa.Column("state", key),
        sa.Column("opened", instant, nullable=False),
        sa.Column("changed", instant, nullable=False),
    )
    op.create_index("quarantine_case_state", "quarantine_case", ["state", "opened"])

    # --- what changes: who works on what, and what stands at the partners
    op.create_table(
        "lease",
        sa.Column("resource", key, primary_key=True),
        sa.Column("owner", key, nullable=False),
        sa.Column("fence", number, nullable=False),
        sa.Column("until", instant, nullable=False),
    )
    op.create_table("fence", sa.Column("last", number, nullable=False))
    op.execute("INSERT INTO fence (last) VALUES (0)")
    op.create_table(
        "look",
        sa.Column("partner", key, primary_key=True),
        sa.Column("stream", key, primary_key=True),
        sa.Column("at", instant, nullable=False),
        sa.Column("files", number, nullable=False),
        sa.Column("empties", number, nullable=False),
    )
    op.create_table(
        "arrival",
        sa.Column("journey", key, primary_key=True),
        sa.Column("partner", key, nullable=False),
        sa.Column("stream", key, nullable=False),
        # SHA-256 of folder and name: a name may be longer than an index takes.
        sa.Column("place", sa.LargeBinary(), nullable=False),
        sa.Column("folder", key, nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("size", number, nullable=False),
        sa.Column("modified", instant),
        sa.Column("file_kind", key, nullable=False),
        sa.Column("stage", key, nullable=False),
        sa.Column("digest", key),
        sa.Column("first_seen", instant, nullable=False),
        sa.Column("unchanged_since", instant, nullable=False),
        sa.Column("last_seen", instant, nullable=False),
        sa.Column("looks", number, nullable=False),
        sa.Column("closed", instant),
    )
    if postgres:  # every look updates every row: leave room for that on the same page
        op.execute("ALTER TABLE arrival SET (fillfactor = 70)")
    where: dict[str, Any] = {"sqlite_where": sa.text(opened), "postgresql_where": sa.text(opened)}
    op.create_index("arrival_place", "arrival", ["partner", "stream", "place"], unique=True, **where)
    op.create_index("arrival_order", "arrival", ["partner", "stream", "first_seen", "journey"], **where)


def _append_only_postgres() -> list[str]:
    return [
        f"""
        CREATE FUNCTION countersign_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$
        """,
        *(
            f"""
            CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION countersign_append_only()
            """
            for table in ("entry", "checkpoint")
        ),
    ]


def _append_only_sqlite() -> list[str]:
    # INSERT OR REPLACE removes rows without asking the DELETE triggers (unless recursive_triggers is on,
    # https://www.sqlite.org/lang_conflict.html), so an insert that meets an existing row is refused as well.
    taken = {
        "entry": "seq = NEW.seq OR once = NEW.once OR (journey = NEW.journey AND n = NEW.n)",
        "checkpoint": "number = NEW.number",
    }
    statements = []
    for table, same in taken.items():
        for act in ("UPDATE", "DELETE"):
            statements.append(f"""
                CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table}
                BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END
            """)
        statements.append(f"""
            CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
            WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})
            BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END
        """)  # noqa: S608 - names of ours
    return [dedent(statement) for statement in statements]


def downgrade() -> None:
    raise NotImplementedError("the ledger's schema only goes forward; restore a backup to go back")
