"""The audit log: acts of an operator that lower a protection or remove a workflow.

Rules of this module:

1. An entry is written in the transaction of the act, so that there is neither one without the other.
2. Nothing here is ever changed or pruned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from innkeeper.store.database import Database
from innkeeper.store.models import audit_log

__all__ = ["AuditEntry", "AuditStore", "record"]


@frozen
class AuditEntry:
    """One act.

    Attributes:
        time: When.
        action: What, in one word with dots.
        workflow_id: On which workflow.
        owner: Whose.
        name: Its name.
        detail: More, as a JSON object.
    """

    time: datetime
    action: str
    workflow_id: str
    owner: str
    name: str
    detail: Mapping[str, str] = field(factory=dict)


def record(connection: Connection, entry: AuditEntry) -> None:
    """Write an entry in the transaction of its act."""
    connection.execute(
        insert(audit_log).values(
            time=entry.time,
            action=entry.action,
            workflow_id=entry.workflow_id,
            workflow_owner=entry.owner,
            workflow_name=entry.name,
            detail=json.dumps(dict(entry.detail), sort_keys=True),
        )
    )


class AuditStore:
    """Read the audit log.

    Args:
        database: Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self, workflow_id: str | None = None) -> list[AuditEntry]:
        """Return the entries, oldest first: of one workflow, or all."""
        query = select(audit_log).order_by(audit_log.c.id)
        if workflow_id is not None:
            query = query.where(audit_log.c.workflow_id == workflow_id)

        def run(connection: Connection) -> list[AuditEntry]:
            return [
                AuditEntry(
                    time=row.time,
                    action=row.action,
                    workflow_id=row.workflow_id,
                    owner=row.workflow_owner,
                    name=row.workflow_name,
                    detail=json.loads(row.detail),
                )
                for row in connection.execute(query).all()
            ]

        return await self._database.read(run)
