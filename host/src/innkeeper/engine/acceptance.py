"""Accepting events: a place in the queue, a durable row, an acknowledgement; in this order.

Rules of this module:

1. An event without a place is neither stored nor acknowledged: the trigger still has it, and the count shows it.
2. An event that has a row is acknowledged again and not executed again; unless this engine does not know that row,
   which happens when a commit was answered by a lost connection.
3. A trigger that does not take an acknowledgement loses nothing: the event is durable.
"""

from __future__ import annotations

import logging
from typing import Final

from attrs import field, frozen

from innkeeper.engine.clock import Clock, at
from innkeeper.engine.events import Broadcast, ExecutionChanged
from innkeeper.engine.executions import Work
from innkeeper.engine.queue import EventQueue
from innkeeper.engine.triggers import Trigger
from innkeeper.store.executions import Accepted, ExecutionRecord, ExecutionStatus
from innkeeper.store.stores import Stores
from innkeeper.store.types import storable_text
from innkeeper.workflows.identity import execution_id
from innkeeper_sdk.capability import TriggerEvent
from innkeeper_sdk.errors import InnkeeperError, WorkflowError

__all__ = ["Acceptance"]

# Ids are scheduled times, request ids, hashes; what is longer is a payload in the wrong field.
_EVENT_ID_BYTES: Final = 1024


@frozen
class Acceptance:
    """Accept the events of one workflow.

    Attributes:
        workflow_id: The workflow.
        queue: Where they wait.
        known: The executions that wait or run in this engine.
        stores: Where they are kept.
        events: Who is told.
        clock: The time.
        logger: Where troubles go.
    """

    workflow_id: str
    queue: EventQueue[Work]
    known: set[str]
    stores: Stores
    events: Broadcast
    clock: Clock
    logger: logging.Logger = field(repr=False)

    async def accept(self, trigger: Trigger, event: TriggerEvent) -> Accepted:
        """Store an event, acknowledge it, and queue its execution.

        Args:
            trigger: The trigger that delivered it.
            event: The event.

        Returns:
            Its execution, and whether it is new.

        Raises:
            QueueFullError: There is no place for it.
            WorkflowError: Its id is not one.
            InnkeeperError: It could not be stored.
        """
        _check(event.id)
        self.queue.reserve()
        try:
            record = ExecutionRecord(
                execution_id=execution_id(self.workflow_id, event.id, trigger.index),
                workflow_id=self.workflow_id,
                trigger_index=trigger.index,
                event_id=event.id,
                status=ExecutionStatus.ACCEPTED,
                accepted_at=at(self.clock),
            )
            accepted = await self.stores.executions.accept(record, event.payload.SerializeToString())
            if accepted.created:
                self.events.publish(ExecutionChanged(accepted.record))
            await self._acknowledge(trigger, event)
            if not accepted.record.status.is_end and accepted.record.execution_id not in self.known:
                self.enqueue(Work(accepted.record, event.payload, recovered=not accepted.created))
            return accepted
        finally:
            self.queue.release()

    def enqueue(self, work: Work) -> None:
        """Queue an execution whose row is stored."""
        self.known.add(work.record.execution_id)
        self.queue.put(work, now=self.clock.monotonic())

    async def _acknowledge(self, trigger: Trigger, event: TriggerEvent) -> None:
        try:
            await trigger.acknowledge(event.id)
        except (InnkeeperError, TimeoutError) as error:
            self.logger.warning(
                "a trigger did not take an acknowledgement",
                extra={
                    "workflow_id": self.workflow_id,
                    "trigger": trigger.index,
                    "event": event.id,
                    "reason": str(error) or "it took too long",
                },
            )


def _check(event_id: str) -> None:
    size = len(event_id.encode("utf-8", "replace"))
    if not 1 <= size <= _EVENT_ID_BYTES or storable_text(event_id) != event_id:
        raise WorkflowError(
            "a trigger delivered an event whose id is not one",
            expected=f"text of 1 to {_EVENT_ID_BYTES} bytes",
            actual=f"{size} bytes" if size != len(event_id) or size > _EVENT_ID_BYTES else repr(event_id),
        )
