"""Run by Alembic. The connection, and the transaction around it, are ``Ledger.migrate``'s."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=None,
    # SQLite rolls schema changes back as well, once BEGIN is said by us and not by the driver.
    transactional_ddl=True,
)
context.run_migrations()
