"""The ledger's schema, step by step (Alembic). No step ever touches a row of ``entry`` or ``checkpoint``."""
