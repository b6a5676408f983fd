"""The tables, as the newest migration leaves them.

Rules of this module:

1. These records of tables and the migrations agree; a test compares them on both databases.
2. ``workflow_specs_v2`` is the reference node's table, with ``attributes`` (bytes, empty by default, never NULL).
   Ours differs in two points: ``config`` is bytes, because a workflow's configuration need not be text, and
   ``binary_url`` has an index, because a binary is also found by it.
3. An execution is unique by workflow, trigger index and event id: that is what makes accepting an event idempotent.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from innkeeper.store.types import BigSerial, EmptyBytes, UtcDateTime

__all__ = ["audit_log", "execution_logs", "executions", "journal", "metadata", "workflow_specs"]

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

workflow_specs: Final = Table(
    "workflow_specs_v2",
    metadata,
    Column("id", Integer, primary_key=True),
    # Hexadecimal, of the binary after base64 and before any decompression.
    Column("workflow", Text, nullable=False),
    Column("config", LargeBinary, nullable=False, server_default=EmptyBytes()),
    Column("workflow_id", String(64), nullable=False),
    Column("workflow_owner", String(40), nullable=False),
    Column("workflow_name", String(255), nullable=False),
    # active, paused; deleted while it drains before its row goes.
    Column("status", Text, nullable=False, server_default=""),
    Column("binary_url", Text, nullable=False, server_default=""),
    Column("config_url", Text, nullable=False, server_default=""),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("spec_type", String(255), nullable=False, server_default="yaml"),
    Column("workflow_tag", String(255), nullable=False),
    Column("registered_at", BigInteger, nullable=False, server_default="0"),
    Column("source", Text, nullable=False, server_default=""),
    Column("storage_bytes", BigInteger, nullable=False, server_default="0"),
    # A serialized sdk.v1alpha.TriggerSubscriptionRequest: what the binary last subscribed to.
    Column("trigger_subscriptions", LargeBinary, nullable=True),
    Column("attributes", LargeBinary, nullable=False, server_default=EmptyBytes()),
    UniqueConstraint("workflow_id"),
    Index(None, "workflow_owner", "workflow_name"),
    Index(None, "binary_url"),
)

executions: Final = Table(
    "executions",
    metadata,
    Column("execution_id", String(64), primary_key=True),
    Column("workflow_id", String(64), nullable=False),
    Column("trigger_index", Integer, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    # A serialized google.protobuf.Any: the event.
    Column("payload", LargeBinary, nullable=False),
    # A serialized sdk.v1alpha.ExecutionResult.
    Column("result", LargeBinary, nullable=True),
    Column("error", Text, nullable=False, server_default=""),
    Column("accepted_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime, nullable=True),
    Column("finished_at", UtcDateTime, nullable=True),
    Column("seconds", Float, nullable=True),
    Column("dropped_logs", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("workflow_id", "trigger_index", "event_id"),
    Index(None, "workflow_id", "accepted_at"),
    Index(None, "accepted_at"),
    Index(None, "status", "workflow_id"),
)

execution_logs: Final = Table(
    "execution_logs",
    metadata,
    Column("id", BigSerial, primary_key=True),
    Column("workflow_id", String(64), nullable=False),
    # NULL for lines written while subscribing.
    Column("execution_id", String(64), ForeignKey("executions.execution_id", ondelete="CASCADE"), nullable=True),
    # Counts the lines of one execution from 0.
    Column("line", Integer, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "execution_id", "line"),
    Index(None, "workflow_id", "id"),
)

journal: Final = Table(
    "journal",
    metadata,
    Column("execution_id", String(64), ForeignKey("executions.execution_id", ondelete="CASCADE"), primary_key=True),
    # The order in which things were asked and answered, from 0.
    Column("position", Integer, primary_key=True, autoincrement=False),
    # Which run of the guest asked: 0 its handler, 1 its pre-hook. Each numbers its calls anew.
    Column("phase", SmallInteger, nullable=False, server_default="0"),
    Column("kind", String(16), nullable=False),
    Column("callback_id", Integer, nullable=True),
    Column("digest", LargeBinary, nullable=True),
    Column("idempotent", Boolean, nullable=False, server_default=false()),
    Column("value", LargeBinary, nullable=True),
)

audit_log: Final = Table(
    "audit_log",
    metadata,
    Column("id", BigSerial, primary_key=True),
    Column("time", UtcDateTime, nullable=False),
    Column("action", String(64), nullable=False),
    Column("workflow_id", String(64), nullable=False),
    Column("workflow_owner", String(40), nullable=False),
    Column("workflow_name", String(255), nullable=False),
    # A JSON object.
    Column("detail", Text, nullable=False),
)
