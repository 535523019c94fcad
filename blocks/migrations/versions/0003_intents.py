"""Intents are found without reading the whole record: an index of the few entries that are asked for by their kind.

Only of those: an index of all kinds would make every entry dearer, and a database may take it for questions about one journey.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INTENTS = "kind IN ('case-recording', 'recorded', 'removing')"


def upgrade() -> None:
    some = sa.text(INTENTS)
    op.create_index("entry_intent", "entry", ["kind", "seq"], sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    raise NotImplementedError("the ledger's schema only goes forward; restore a backup to go back")
