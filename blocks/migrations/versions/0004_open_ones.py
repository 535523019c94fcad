"""What is open is found without reading what is over: journeys, cases, and journeys by the kind of their first entry.

Without these, questions of flows and sweeps cost as much as the ledger is old. The index of unsettled journeys is replaced by one that
tells their stages too.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UNSETTLED = "stage IS NULL OR stage NOT IN ('cleared', 'left')"
OPEN = "state IS NULL OR state <> 'resolved'"
FIRST = "n = 1"


def upgrade() -> None:
    for name, table, columns, condition in (
        ("journey_open", "journey", ["stage", "opened", "journey", "digest"], UNSETTLED),
        ("quarantine_case_open", "quarantine_case", ["opened", "journey"], OPEN),
        ("entry_first", "entry", ["kind", "seq"], FIRST),
    ):
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
    op.drop_index("journey_unsettled", "journey")


def downgrade() -> None:
    raise NotImplementedError("the ledger's schema only goes forward; restore a backup to go back")
