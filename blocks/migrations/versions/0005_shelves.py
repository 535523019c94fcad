"""The index of digests grows shelf by shelf: a new journey is written beside the newest ones, however many there are.

Digests are as good as random: in one index of all, a thousand new ones lie on nearly as many pages, each of them read, and written twice.
Journeys from before this version all stand on shelf 0, to which a ledger with more entries than a shelf holds adds next to nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("journey", sa.Column("shelf", number, nullable=False, server_default="0"))
    op.drop_index("journey_digest", "journey")
    op.create_index("journey_digest", "journey", ["shelf", "digest"])


def downgrade() -> None:
    raise NotImplementedError("the ledger's schema only goes forward; restore a backup to go back")
