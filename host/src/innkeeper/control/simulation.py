"""Firing a trigger of a simulated workflow: what is told until the execution has finished.

Rules of this module:

1. One trigger of a workflow is fired at a time, so that the lines that come meanwhile are its execution's.
2. Lines are told as they come; the finished execution has them all, as they are stored.
3. A client that goes ends the firing; an execution that has begun ends by itself, at its deadline at the latest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.control import convert
from innkeeper.engine.events import Broadcast, ExecutionChanged, LineWritten
from innkeeper.store.executions import ExecutionRecord
from innkeeper.store.logs import LogStore
from innkeeper.workflows.handler import Handler
from innkeeper.workflows.locks import Locks
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

__all__ = ["Simulation"]

# A trigger that can tell its next event does so at once; a person is told only when there is something to wait for.
_PATIENCE: Final = 1.0
_WAITING: Final = "it has no event to give yet; the execution starts with the next one that it delivers"


class Simulation:
    """Fire triggers of simulated workflows.

    Args:
        handler: What fires them.
        events: What tells of their executions.
        logs: Where the executions' lines are.
    """

    def __init__(self, handler: Handler, events: Broadcast, logs: LogStore) -> None:
        self._handler = handler
        self._events = events
        self._logs = logs
        self._locks = Locks()

    async def fire(
        self, workflow_id: str, trigger: int, event: AnyMessage | None
    ) -> AsyncIterator[pb.FireTriggerUpdate]:
        """Fire a trigger, and yield what happens until its execution has finished.

        Args:
            workflow_id: The simulated workflow.
            trigger: The trigger's index.
            event: The event's message; None is the event that the trigger would deliver next.

        Raises:
            InnkeeperError: There is no such workflow or trigger, or the event could not be had or accepted.
        """
        async with self._locks.hold(workflow_id):
            with self._events.subscribe() as subscription:
                firing = asyncio.create_task(self._handler.fire(workflow_id, trigger, event))
                # Its reader gets what is waiting, then the end.
                firing.add_done_callback(lambda _: subscription.close())
                patience: float | None = _PATIENCE
                try:
                    while True:
                        try:
                            async with asyncio.timeout(patience):
                                told = await anext(subscription)
                        except TimeoutError:
                            patience = None
                            yield pb.FireTriggerUpdate(waiting=_WAITING)
                            continue
                        except StopAsyncIteration:
                            break
                        match told:
                            case LineWritten(line) if line.workflow_id == workflow_id:
                                yield pb.FireTriggerUpdate(log=convert.log_line(line))
                            case ExecutionChanged(record) if record.workflow_id == workflow_id:
                                patience = None
                    yield pb.FireTriggerUpdate(execution=await self._finished(await firing))
                finally:
                    firing.cancel()

    async def _finished(self, record: ExecutionRecord) -> pb.Execution:
        message = convert.execution(record)
        message.logs.extend(map(convert.log_line, await self._logs.lines(execution_id=record.execution_id)))
        return message
