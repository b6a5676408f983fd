"""Deployment attributes of workflows: bytes, empty by default, never NULL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261124_090100"
down_revision = "20261124_090000"


def upgrade() -> None:
    """Add ``attributes`` to ``workflow_specs_v2``."""
    # On SQLite the default must be a blob: with a text '' the rows that are there would give back strings.
    empty = sa.text("x''" if op.get_context().dialect.name == "sqlite" else "'\\x'::bytea")
    op.add_column("workflow_specs_v2", sa.Column("attributes", sa.LargeBinary(), nullable=False, server_default=empty))
