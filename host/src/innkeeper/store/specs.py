"""Deployed workflows, as rows of ``workflow_specs_v2``.

Rules of this module:

1. A list never reads binaries; a binary is read by itself, when a module is made of it or asks for it.
2. A row's status that this host does not know means paused: the safe side.
3. What an operator must be able to ask about later is written in the transaction that it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final

from attrs import field, frozen
from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.engine import Connection

from innkeeper.store.audit import AuditEntry, record
from innkeeper.store.database import Database
from innkeeper.store.errors import DatabaseError
from innkeeper.store.models import workflow_specs as table

__all__ = ["Artifacts", "SpecHeader", "SpecStatus", "SpecStore"]


class SpecStatus(Enum):
    """What is asked for."""

    ACTIVE = "active"
    PAUSED = "paused"
    # Its row goes when nothing of it runs any more.
    DELETED = "deleted"


@frozen
class SpecHeader:
    """A deployed workflow without its artifacts.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        owner: 40 hexadecimal digits, without ``0x``.
        name: As deployed.
        tag: As deployed.
        kind: The kind of its binary.
        status: What is asked for.
        attributes: The JSON text as deployed; empty is ``{}``.
        binary_url: Where the binary came from.
        config_url: Where the configuration came from.
        source: The source that lists it.
        created_at: When it was first deployed.
        updated_at: When its row was last changed.
        subscriptions: A serialized ``TriggerSubscriptionRequest``, its last one; empty before the first.
        storage_bytes: What its binary and configuration take.
    """

    workflow_id: str
    owner: str
    name: str
    tag: str
    kind: str
    status: SpecStatus
    attributes: bytes
    binary_url: str
    source: str
    created_at: datetime
    updated_at: datetime
    config_url: str = ""
    subscriptions: bytes = b""
    storage_bytes: int = 0


@frozen
class Artifacts:
    """What a workflow's id is computed of.

    Attributes:
        binary: As stored: after base64, before any decompression.
        config: Its configuration.
    """

    binary: bytes = field(repr=False)
    config: bytes = field(repr=False)


_HEADER: Final = (
    table.c.workflow_id,
    table.c.workflow_owner,
    table.c.workflow_name,
    table.c.workflow_tag,
    table.c.spec_type,
    table.c.status,
    table.c.attributes,
    table.c.binary_url,
    table.c.config_url,
    table.c.source,
    table.c.created_at,
    table.c.updated_at,
    table.c.trigger_subscriptions,
    table.c.storage_bytes,
)


class SpecStore:
    """Read and write deployed workflows.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def headers(self) -> list[SpecHeader]:
        """Return all workflows, oldest first."""
        return await self._headers(select(*_HEADER).order_by(table.c.id))

    async def header(self, workflow_id: str) -> SpecHeader | None:
        """Return one workflow, or None."""
        found = await self._headers(select(*_HEADER).where(table.c.workflow_id == workflow_id))
        return found[0] if found else None

    async def named(self, owner: str, name: str) -> SpecHeader | None:
        """Return the workflow that an owner has under a name, or None."""
        found = await self._headers(
            select(*_HEADER)
            .where(table.c.workflow_owner == owner, table.c.workflow_name == name)
            .order_by(table.c.id.desc())
        )
        return found[0] if found else None

    async def artifacts(self, workflow_id: str) -> Artifacts | None:
        """Return a workflow's binary and configuration, or None.

        Raises:
            DatabaseError: The stored binary is not hexadecimal.
        """

        def query(connection: Connection) -> tuple[str, bytes] | None:
            row = connection.execute(
                select(table.c.workflow, table.c.config).where(table.c.workflow_id == workflow_id)
            ).one_or_none()
            return None if row is None else (row.workflow, row.config)

        found = await self._database.read(query)
        return None if found is None else Artifacts(binary=_binary(found[0], workflow_id), config=found[1])

    async def binary(self, url: str) -> bytes | None:
        """Return the binary that came from a place, or None; of several workflows' one, that of the oldest.

        Raises:
            DatabaseError: The stored binary is not hexadecimal.
        """

        def query(connection: Connection) -> tuple[str, str] | None:
            row = connection.execute(
                select(table.c.workflow, table.c.workflow_id)
                .where(table.c.binary_url == url)
                .order_by(table.c.id)
                .limit(1)
            ).one_or_none()
            return None if row is None else (row.workflow, row.workflow_id)

        found = await self._database.read(query)
        return None if found is None else _binary(*found)

    async def put(
        self, header: SpecHeader, artifacts: Artifacts, *, replaces: str | None = None, audit: Sequence[AuditEntry] = ()
    ) -> None:
        """Store a workflow, in place of its own row and of the one that it replaces.

        Args:
            header: What to store; ``storage_bytes`` is computed.
            artifacts: Its binary and configuration.
            replaces: The id of a workflow whose row goes in the same transaction.
            audit: What to write to the audit log in the same transaction.
        """
        values = {
            "workflow": artifacts.binary.hex(),
            "config": artifacts.config,
            "workflow_owner": header.owner,
            "workflow_name": header.name,
            "workflow_tag": header.tag,
            "spec_type": header.kind,
            "status": header.status.value,
            "attributes": header.attributes,
            "binary_url": header.binary_url,
            "config_url": header.config_url,
            "source": header.source,
            "updated_at": header.updated_at,
            "storage_bytes": len(artifacts.binary) + len(artifacts.config),
        }

        def operation(connection: Connection) -> None:
            if replaces is not None:
                connection.execute(delete(table).where(table.c.workflow_id == replaces))
            mine = table.c.workflow_id == header.workflow_id
            if not connection.execute(update(table).where(mine).values(**values)).rowcount:
                connection.execute(
                    insert(table).values(
                        workflow_id=header.workflow_id,
                        created_at=header.created_at,
                        registered_at=int(header.created_at.timestamp()),
                        **values,
                    )
                )
            for entry in audit:
                record(connection, entry)

        await self._database.write(operation)

    async def set_status(self, workflow_id: str, status: SpecStatus, *, at: datetime) -> bool:
        """Set what is asked for; return whether there is such a workflow."""
        return await self._update(workflow_id, status=status.value, updated_at=at)

    async def set_subscriptions(self, workflow_id: str, subscriptions: bytes) -> bool:
        """Keep what a workflow's binary subscribed to; return whether there is such a workflow."""
        return await self._update(workflow_id, trigger_subscriptions=subscriptions)

    async def delete(self, workflow_id: str, *, audit: Sequence[AuditEntry] = ()) -> bool:
        """Delete a workflow's row; return whether there was one, so that exactly one caller is told yes."""

        def operation(connection: Connection) -> bool:
            gone = connection.execute(delete(table).where(table.c.workflow_id == workflow_id)).rowcount > 0
            for entry in audit if gone else ():
                record(connection, entry)
            return gone

        return await self._database.write(operation)

    async def _update(self, workflow_id: str, **values: object) -> bool:
        statement = update(table).where(table.c.workflow_id == workflow_id).values(**values)
        return await self._database.write(lambda connection: connection.execute(statement).rowcount > 0)

    async def _headers(self, query: Select[Any]) -> list[SpecHeader]:
        return await self._database.read(lambda connection: [_header(row) for row in connection.execute(query).all()])


def _binary(text: str, workflow_id: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise DatabaseError(
            f"the stored binary of workflow {workflow_id} is damaged",
            path="workflow_specs_v2.workflow",
            expected="hexadecimal digits",
            hint="deploy the workflow again",
        ) from error


def _header(row: Row[Any]) -> SpecHeader:
    try:
        status = SpecStatus(row.status)
    except ValueError:
        status = SpecStatus.PAUSED
    return SpecHeader(
        workflow_id=row.workflow_id,
        owner=row.workflow_owner,
        name=row.workflow_name,
        tag=row.workflow_tag,
        kind=row.spec_type,
        status=status,
        attributes=row.attributes,
        binary_url=row.binary_url,
        config_url=row.config_url,
        source=row.source,
        created_at=row.created_at,
        updated_at=row.updated_at,
        subscriptions=row.trigger_subscriptions or b"",
        storage_bytes=row.storage_bytes,
    )
