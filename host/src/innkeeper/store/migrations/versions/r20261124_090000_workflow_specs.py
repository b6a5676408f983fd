"""The table of deployed workflows, as the reference node had it before attributes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261124_090000"
down_revision = None


def upgrade() -> None:
    """Create ``workflow_specs_v2``."""
    empty = sa.text("x''" if op.get_context().dialect.name == "sqlite" else "'\\x'::bytea")
    op.create_table(
        "workflow_specs_v2",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("config", sa.LargeBinary(), nullable=False, server_default=empty),
        sa.Column("workflow_id", sa.String(64), nullable=False),
        sa.Column("workflow_owner", sa.String(40), nullable=False),
        sa.Column("workflow_name", sa.String(255), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, server_default=""),
        sa.Column("binary_url", sa.Text(), nullable=False, server_default=""),
        sa.Column("config_url", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spec_type", sa.String(255), nullable=False, server_default="yaml"),
        sa.Column("workflow_tag", sa.String(255), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("source", sa.Text(), nullable=False, server_default=""),
        sa.Column("storage_bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("trigger_subscriptions", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_workflow_specs_v2"),
        sa.UniqueConstraint("workflow_id", name="uq_workflow_specs_v2_workflow_id"),
    )
    op.create_index(
        "ix_workflow_specs_v2_workflow_owner_workflow_name", "workflow_specs_v2", ["workflow_owner", "workflow_name"]
    )
