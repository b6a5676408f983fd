"""Executions: accepted, tried, finished.

Rules of this module:

1. ``accepted → running (attempt n) → running (attempt n + 1) … → one of the ends``; an end is never left again. The
   database refuses other steps, whoever asks for them.
2. An event is accepted once: by workflow, trigger index and event id.
3. An attempt that is begun again drops the log lines of the one before: it will write them again.
4. A finished execution's lines and journal are settled in the transaction that finishes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final

from attrs import field, frozen
from sqlalchemy import Row, Update, and_, bindparam, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from innkeeper.store.database import Database
from innkeeper.store.journal import EntryKind
from innkeeper.store.logs import LogLine, add_lines
from innkeeper.store.models import execution_logs, journal
from innkeeper.store.models import executions as table
from innkeeper.store.types import storable_text
from innkeeper.store.writer import Operation
from innkeeper_sdk.errors import ConflictError

__all__ = ["Accepted", "ExecutionRecord", "ExecutionStatus", "ExecutionStore", "Outcome", "Unfinished"]


class ExecutionStatus(Enum):
    """How far an execution is, or how it ended."""

    # Its event is stored; it has not been tried.
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESS = "success"
    # The workflow answered with an error of its own.
    ERROR = "error"
    # The module or the host could not finish it.
    FAILED = "failed"
    TIMEOUT = "timeout"
    # It ended with a call whose effect is unknown.
    IN_DOUBT = "in_doubt"

    @property
    def is_end(self) -> bool:
        """Tell whether nothing comes after it."""
        return self not in _UNFINISHED


_UNFINISHED: Final = frozenset({ExecutionStatus.ACCEPTED, ExecutionStatus.RUNNING})


@frozen
class ExecutionRecord:
    """An execution as stored.

    Attributes:
        execution_id: 64 hexadecimal digits.
        workflow_id: 64 hexadecimal digits.
        trigger_index: The subscription whose event it handles.
        event_id: The trigger's id of that event.
        status: How far it is.
        attempt: Its tries so far.
        result: A serialized ``ExecutionResult``; empty until there is one.
        error: Why it failed, or the workflow's own error.
        accepted_at: When its event was stored.
        started_at: When its last attempt began.
        finished_at: When it ended.
        seconds: What its last attempt took.
        dropped_logs: Lines that were not kept because a limit was passed.
    """

    execution_id: str
    workflow_id: str
    trigger_index: int
    event_id: str
    status: ExecutionStatus
    accepted_at: datetime
    attempt: int = 0
    result: bytes = b""
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    dropped_logs: int = 0


@frozen
class Accepted:
    """What came of accepting an event.

    Attributes:
        record: The execution: the new one, or the one that this event already has.
        created: Whether it is new.
    """

    record: ExecutionRecord
    created: bool


@frozen
class Unfinished:
    """An execution that a stopped host left behind.

    Attributes:
        record: The execution.
        payload: Its event, a serialized ``google.protobuf.Any``.
    """

    record: ExecutionRecord
    payload: bytes = field(repr=False)


@frozen
class Outcome:
    """How an execution ended.

    Attributes:
        status: One of the ends.
        finished_at: When.
        result: A serialized ``ExecutionResult``; empty without one.
        error: Why, if it is not a success.
        seconds: What the attempt took; None if it was never tried.
        dropped_logs: Lines that were not kept.
    """

    status: ExecutionStatus
    finished_at: datetime
    result: bytes = b""
    error: str = ""
    seconds: float | None = None
    dropped_logs: int = 0


_COLUMNS: Final = tuple(column for column in table.c if column.name != "payload")

# Built once: building a statement costs more than SQLite takes to run it.
_ACCEPT_SQLITE: Final = sqlite.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
_ACCEPT_POSTGRESQL: Final = postgresql.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
_CHANGE: Final = update(table).where(
    table.c.execution_id == bindparam("of"), table.c.status.in_([status.value for status in _UNFINISHED])
)
_BEGIN: Final = _CHANGE.values({name: bindparam(name) for name in ("status", "attempt", "started_at")})
_END: Final = _CHANGE.values(
    {name: bindparam(name) for name in ("status", "result", "error", "finished_at", "seconds", "dropped_logs")}
)
_DROP_LINES: Final = delete(execution_logs).where(execution_logs.c.execution_id == bindparam("of"))
_DROP_JOURNAL: Final = delete(journal).where(journal.c.execution_id == bindparam("of"))


class ExecutionStore:
    """Read and write executions.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(self, record: ExecutionRecord, payload: bytes) -> Accepted:
        """Store an event, once.

        Args:
            record: The execution of the event, with status ``accepted``.
            payload: The event, a serialized ``google.protobuf.Any``.

        Returns:
            Whether it is new; if not, the execution that this event already has.

        Raises:
            ConflictError: Another event of the workflow has the same execution id.
        """
        values = {
            "execution_id": record.execution_id,
            "workflow_id": record.workflow_id,
            "trigger_index": record.trigger_index,
            "event_id": record.event_id,
            "status": ExecutionStatus.ACCEPTED.value,
            "payload": payload,
            "accepted_at": record.accepted_at,
        }

        def operation(connection: Connection) -> Accepted:
            once = _ACCEPT_POSTGRESQL if connection.dialect.name == "postgresql" else _ACCEPT_SQLITE
            if connection.execute(once, values).rowcount > 0:
                return Accepted(record=record, created=True)
            row = connection.execute(
                select(*_COLUMNS).where(
                    table.c.workflow_id == record.workflow_id,
                    table.c.trigger_index == record.trigger_index,
                    table.c.event_id == record.event_id,
                )
            ).one_or_none()
            if row is None:
                # The formula of execution ids has no separators, so event "1" of trigger 11 and event "11" of
                # trigger 1 share one.
                raise ConflictError(
                    f"event {record.event_id!r} of trigger {record.trigger_index} has another event's execution id",
                    actual=record.execution_id,
                )
            return Accepted(record=_record(row), created=False)

        return await self._database.write(operation)

    def begin(self, execution_id: str, *, attempt: int, at: datetime) -> Operation[None]:
        """Return the operation that begins an attempt; it raises ConflictError if the execution has ended."""

        def operation(connection: Connection) -> None:
            _step(
                connection,
                _BEGIN,
                {"of": execution_id, "status": ExecutionStatus.RUNNING.value, "attempt": attempt, "started_at": at},
            )
            if attempt > 1:
                connection.execute(_DROP_LINES, {"of": execution_id})

        return operation

    def finish(self, execution_id: str, outcome: Outcome, lines: Sequence[LogLine]) -> Operation[None]:
        """Return the operation that ends an execution; it raises ConflictError if it has ended before.

        Args:
            execution_id: Which.
            outcome: How it ended.
            lines: The lines of its log that are not stored yet.
        """

        def operation(connection: Connection) -> None:
            _end(connection, execution_id, outcome)
            add_lines(connection, lines)

        return operation

    async def get(self, execution_id: str) -> ExecutionRecord | None:
        """Return one execution, or None."""
        query = select(*_COLUMNS).where(table.c.execution_id == execution_id)

        def run(connection: Connection) -> ExecutionRecord | None:
            row = connection.execute(query).one_or_none()
            return None if row is None else _record(row)

        return await self._database.read(run)

    async def newest(
        self, *, workflow_id: str | None = None, status: ExecutionStatus | None = None, limit: int = 100
    ) -> list[ExecutionRecord]:
        """Return executions, newest first: of one workflow, with one status, or all; at most ``limit``."""
        query = select(*_COLUMNS).order_by(table.c.accepted_at.desc(), table.c.execution_id).limit(limit)
        if workflow_id is not None:
            query = query.where(table.c.workflow_id == workflow_id)
        if status is not None:
            query = query.where(table.c.status == status.value)
        return await self._database.read(lambda connection: [_record(row) for row in connection.execute(query).all()])

    async def unfinished(self, workflow_id: str) -> list[Unfinished]:
        """Return a workflow's executions that have not ended, oldest first."""
        query = select(table).where(_unfinished(workflow_id)).order_by(table.c.accepted_at, table.c.execution_id)
        return await self._database.read(
            lambda connection: [
                Unfinished(record=_record(row), payload=row.payload) for row in connection.execute(query).all()
            ]
        )

    async def settle(self, workflow_id: str, *, reason: str, at: datetime) -> list[ExecutionRecord]:
        """End what is unfinished of a workflow that will not run again.

        An execution with an unanswered call that may not be repeated ends in doubt, every other one fails.

        Args:
            workflow_id: Which workflow; nothing of it is running.
            reason: Why, for the operator.
            at: When.

        Returns:
            The executions that it ended.
        """
        asked = journal.alias("asked")
        answered = journal.alias("answered")
        in_doubt = exists().where(
            asked.c.execution_id == table.c.execution_id,
            asked.c.kind == EntryKind.STARTED.value,
            asked.c.idempotent.is_(False),
            ~exists().where(
                answered.c.execution_id == asked.c.execution_id,
                answered.c.kind == EntryKind.ANSWERED.value,
                answered.c.phase == asked.c.phase,
                answered.c.callback_id == asked.c.callback_id,
            ),
        )
        query = select(table.c.execution_id, in_doubt.label("in_doubt")).where(_unfinished(workflow_id))

        def operation(connection: Connection) -> list[ExecutionRecord]:
            ended = []
            for execution_id, doubtful in connection.execute(query).all():
                status = ExecutionStatus.IN_DOUBT if doubtful else ExecutionStatus.FAILED
                text = f"{reason}; the effect of an unanswered call is unknown" if doubtful else reason
                _end(connection, execution_id, Outcome(status=status, finished_at=at, error=text))
                ended.append(
                    _record(connection.execute(select(*_COLUMNS).where(table.c.execution_id == execution_id)).one())
                )
            return ended

        return await self._database.write(operation)

    async def prune(self, *, before: datetime, limit: int = 1000) -> int:
        """Delete executions that ended before a moment, with their lines and journals.

        Args:
            before: The moment.
            limit: At most so many, so that the write lock is not held for long.

        Returns:
            How many were deleted.
        """
        old = select(table.c.execution_id).where(table.c.finished_at < before).limit(limit)
        statement = delete(table).where(table.c.execution_id.in_(old.scalar_subquery()))
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)


def _unfinished(workflow_id: str) -> Any:
    return and_(table.c.workflow_id == workflow_id, table.c.status.in_([status.value for status in _UNFINISHED]))


def _step(connection: Connection, statement: Update, values: dict[str, object]) -> None:
    if not connection.execute(statement, values).rowcount:
        raise ConflictError(
            f"execution {values['of']} cannot become {values['status']}", actual="no such execution, or it has ended"
        )


def _end(connection: Connection, execution_id: str, outcome: Outcome) -> None:
    _step(
        connection,
        _END,
        {
            "of": execution_id,
            "status": outcome.status.value,
            "result": outcome.result or None,
            "error": storable_text(outcome.error),
            "finished_at": outcome.finished_at,
            "seconds": outcome.seconds,
            "dropped_logs": outcome.dropped_logs,
        },
    )
    if outcome.status is not ExecutionStatus.IN_DOUBT:
        # Kept for an execution in doubt: it tells which call it is about.
        connection.execute(_DROP_JOURNAL, {"of": execution_id})


def _record(row: Row[Any]) -> ExecutionRecord:
    return ExecutionRecord(
        execution_id=row.execution_id,
        workflow_id=row.workflow_id,
        trigger_index=row.trigger_index,
        event_id=row.event_id,
        status=ExecutionStatus(row.status),
        accepted_at=row.accepted_at,
        attempt=row.attempt,
        result=row.result or b"",
        error=row.error,
        started_at=row.started_at,
        finished_at=row.finished_at,
        seconds=row.seconds,
        dropped_logs=row.dropped_logs,
    )
