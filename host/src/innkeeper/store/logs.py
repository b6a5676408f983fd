"""Lines of workflow logs.

Rules of this module:

1. Lines are written many at a time; a line that was read back is durable.
2. A line belongs to an execution, or to the subscribing of its workflow when it has no execution id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from attrs import frozen
from sqlalchemy import Row, delete, insert, select
from sqlalchemy.engine import Connection

from innkeeper.store.database import Database
from innkeeper.store.models import execution_logs as table

__all__ = ["LogLine", "LogStore", "add_lines"]


@frozen
class LogLine:
    """One line.

    Attributes:
        workflow_id: The workflow that wrote it.
        execution_id: The execution that wrote it; empty while subscribing.
        line: Counts the lines of its execution, or of its subscribing, from 0.
        time: When it was written.
        message: The text.
        id: Its place among all stored lines; 0 for one that was not read from the store.
    """

    workflow_id: str
    execution_id: str
    line: int
    time: datetime
    message: str
    id: int = 0


_ADD: Final = insert(table)


def add_lines(connection: Connection, lines: Sequence[LogLine]) -> None:
    """Write lines in a transaction that is under way."""
    if lines:
        connection.execute(
            _ADD,
            [
                {
                    "workflow_id": line.workflow_id,
                    "execution_id": line.execution_id or None,
                    "line": line.line,
                    "time": line.time,
                    "message": line.message,
                }
                for line in lines
            ],
        )


class LogStore:
    """Read and write lines.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lines(
        self,
        *,
        workflow_id: str | None = None,
        execution_id: str | None = None,
        tail: int = 0,
        after: int = 0,
        limit: int | None = None,
    ) -> list[LogLine]:
        """Return lines, oldest first.

        Args:
            workflow_id: Only those of this workflow.
            execution_id: Only those of this execution.
            tail: Only the newest so many; 0 is all.
            after: Only those whose ``id`` is above this one, to read page by page.
            limit: At most so many, from the oldest; None is all.
        """
        query = select(table).where(table.c.id > after)
        if workflow_id is not None:
            query = query.where(table.c.workflow_id == workflow_id)
        if execution_id is not None:
            query = query.where(table.c.execution_id == execution_id)
        query = query.order_by(table.c.id.desc()).limit(tail) if tail else query.order_by(table.c.id).limit(limit)
        found = await self._database.read(lambda connection: [_line(row) for row in connection.execute(query).all()])
        return found[::-1] if tail else found

    async def replace_subscribing(self, workflow_id: str, lines: Sequence[LogLine]) -> None:
        """Write the lines of a workflow's newest subscribing in place of those of the one before."""

        def operation(connection: Connection) -> None:
            connection.execute(delete(table).where(table.c.workflow_id == workflow_id, table.c.execution_id.is_(None)))
            add_lines(connection, lines)

        await self._database.write(operation)


def _line(row: Row[Any]) -> LogLine:
    return LogLine(
        workflow_id=row.workflow_id,
        execution_id=row.execution_id or "",
        line=row.line,
        time=row.time,
        message=row.message,
        id=row.id,
    )
