"""The events of one registration, between the ticker and whoever drains them.

Rules of this module:

1. Pushing never waits: a full stream refuses the event, and the pusher says so in its log.
2. After the stream is closed its reader still gets what was in it, then the end, or the fault it was closed with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from innkeeper_sdk.capability import CapabilityError, TriggerEvent

__all__ = ["EventStream"]


class EventStream(AsyncIterator[TriggerEvent]):
    """A bounded stream of events.

    Args:
        capacity: How many events it holds.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._events: deque[TriggerEvent] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._fault: CapabilityError | None = None

    def push(self, event: TriggerEvent) -> bool:
        """Append an event; return whether there was room for it."""
        if self._closed or len(self._events) >= self._capacity:
            return False
        self._events.append(event)
        self._changed.set()
        return True

    def close(self, fault: CapabilityError | None = None) -> None:
        """End the stream; the first call decides how.

        Args:
            fault: What its reader is told at the end; None for a plain end.
        """
        if not self._closed:
            self._closed, self._fault = True, fault
            self._changed.set()

    async def __anext__(self) -> TriggerEvent:
        """Return the next event.

        Raises:
            StopAsyncIteration: The stream has ended.
            CapabilityError: It has ended with a fault.
        """
        while not self._events:
            if self._fault is not None:
                raise self._fault
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()
