"""What Alembic runs: the revisions, on the connection that :mod:`innkeeper.store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from innkeeper.store.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # One transaction, the caller's, around all revisions: also on SQLite, where it is one because we begin it.
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
