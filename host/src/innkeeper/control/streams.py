"""What of the host's events a client follows.

Rules of this module:

1. A log is read from the store; events only say that there is more to read. So a slow client misses no line, and the
   host keeps none for it.
2. Changes of executions are events alone: a client that is too slow for them is told so, and its stream ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from innkeeper.engine.events import Broadcast, ExecutionChanged, LineWritten, Missed
from innkeeper.store.executions import ExecutionRecord
from innkeeper.store.logs import LogLine, LogStore
from innkeeper_sdk.errors import UnavailableError

__all__ = ["execution_changes", "log_lines"]

# Lines in memory for one client, and how many lately sent ones are remembered to spare an empty read of the store.
_PAGE: Final = 500
_LATELY: Final = 8 * _PAGE


async def log_lines(
    logs: LogStore, events: Broadcast, *, workflow_id: str, execution_id: str = "", tail: int = 0, follow: bool = False
) -> AsyncIterator[LogLine]:
    """Yield a workflow's lines, oldest first.

    Args:
        logs: Where they are.
        events: What tells that there are more.
        workflow_id: Whose.
        execution_id: Only those of this execution.
        tail: Only the newest so many of the lines so far; 0 is all.
        follow: Go on with those that come, until the host stops.
    """
    # Before the first read: what is written after it is told.
    with events.subscribe() as subscription:
        last = 0
        lately: set[tuple[str, int, object]] = set()
        first = await logs.lines(
            workflow_id=workflow_id, execution_id=execution_id or None, tail=tail, limit=None if tail else _PAGE
        )
        page = first
        while True:
            while page:
                for line in page:
                    last = line.id
                    lately.add(_key(line))
                    yield line
                page = await logs.lines(
                    workflow_id=workflow_id, execution_id=execution_id or None, after=last, limit=_PAGE
                )
            if not follow:
                return
            if len(lately) > _LATELY:
                lately.clear()
            async for event in subscription:
                if isinstance(event, Missed) or (
                    isinstance(event, LineWritten)
                    and event.line.workflow_id == workflow_id
                    and execution_id in ("", event.line.execution_id)
                    and _key(event.line) not in lately
                ):
                    break
            else:
                return
            page = await logs.lines(workflow_id=workflow_id, execution_id=execution_id or None, after=last, limit=_PAGE)


async def execution_changes(events: Broadcast, *, workflow_id: str = "") -> AsyncIterator[ExecutionRecord]:
    """Yield executions as they change, until the host stops.

    Args:
        events: What tells.
        workflow_id: Only those of this workflow.

    Raises:
        UnavailableError: The reader was too slow.
    """
    with events.subscribe() as subscription:
        async for event in subscription:
            if isinstance(event, Missed):
                raise UnavailableError(
                    f"{event.count} events were lost: they came faster than they were read",
                    hint="read the list of executions and watch again",
                )
            if isinstance(event, ExecutionChanged) and workflow_id in ("", event.record.workflow_id):
                yield event.record


def _key(line: LogLine) -> tuple[str, int, object]:
    # The time tells the lines of a later attempt, which count from 0 again.
    return (line.execution_id, line.line, line.time)
