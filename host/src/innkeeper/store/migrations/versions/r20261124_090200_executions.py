"""Executions, their logs and their journal, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261124_090200"
down_revision = "20261124_090100"


def upgrade() -> None:
    """Create the tables of the engine."""
    # SQLite counts a row by itself only for a column of type INTEGER.
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "executions",
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("workflow_id", sa.String(64), nullable=False),
        sa.Column("trigger_index", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False, server_default=""),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("dropped_logs", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("execution_id", name="pk_executions"),
        sa.UniqueConstraint(
            "workflow_id", "trigger_index", "event_id", name="uq_executions_workflow_id_trigger_index_event_id"
        ),
    )
    op.create_index("ix_executions_workflow_id_accepted_at", "executions", ["workflow_id", "accepted_at"])
    op.create_index("ix_executions_accepted_at", "executions", ["accepted_at"])
    op.create_index("ix_executions_status_workflow_id", "executions", ["status", "workflow_id"])
    op.create_table(
        "execution_logs",
        sa.Column("id", serial, nullable=False),
        sa.Column("workflow_id", sa.String(64), nullable=False),
        sa.Column("execution_id", sa.String(64), nullable=True),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_execution_logs"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.execution_id"], name="fk_execution_logs_execution_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_execution_logs_execution_id_line", "execution_logs", ["execution_id", "line"])
    op.create_index("ix_execution_logs_workflow_id_id", "execution_logs", ["workflow_id", "id"])
    op.create_table(
        "journal",
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("phase", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("callback_id", sa.Integer(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=True),
        sa.Column("idempotent", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("execution_id", "position", name="pk_journal"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.execution_id"], name="fk_journal_execution_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", serial, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("workflow_id", sa.String(64), nullable=False),
        sa.Column("workflow_owner", sa.String(40), nullable=False),
        sa.Column("workflow_name", sa.String(255), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
