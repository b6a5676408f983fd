"""What happens to executions, for whoever watches.

Rules of this module:

1. Only what is durable is told, so that a watcher who reads the store first and listens from before that misses
   nothing. Whoever does both sees some things twice, and knows them by execution id and status, or line.
2. Telling never waits. A watcher that is too slow loses the oldest of what it has not read, and is told how many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from attrs import frozen

from innkeeper.store.executions import ExecutionRecord
from innkeeper.store.logs import LogLine

__all__ = ["Broadcast", "Event", "ExecutionChanged", "LineWritten", "Missed", "Subscription"]


@frozen
class ExecutionChanged:
    """An execution was accepted, begun or finished.

    Attributes:
        record: The execution as it now is.
    """

    record: ExecutionRecord


@frozen
class LineWritten:
    """A line of a workflow's log was stored.

    Attributes:
        line: The line.
    """

    line: LogLine


@frozen
class Missed:
    """The watcher was too slow.

    Attributes:
        count: How many events were lost before the next one.
    """

    count: int


Event = ExecutionChanged | LineWritten

# What a slow reader of a control stream may be behind.
_WAITING: Final = 4096


class Subscription(AsyncIterator[Event | Missed]):
    """One watcher's events, from the moment it was made; a context manager that ends it."""

    def __init__(self, broadcast: Broadcast, limit: int) -> None:
        self._broadcast = broadcast
        self._waiting: deque[Event] = deque()
        self._limit = limit
        self._missed = 0
        self._wake = asyncio.Event()
        self._closed = False

    def tell(self, event: Event) -> None:
        """Add an event, in place of the oldest if there is no room."""
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self._missed += 1
        self._waiting.append(event)
        self._wake.set()

    def close(self) -> None:
        """End it; its reader gets what is waiting, then the end. Idempotent."""
        self._closed = True
        self._wake.set()
        self._broadcast.drop(self)

    async def __anext__(self) -> Event | Missed:
        """Return the next event, or how many were lost before it."""
        while not self._waiting and not self._missed:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return Missed(missed)
        return self._waiting.popleft()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.close()


class Broadcast:
    """Tell every watcher what happens."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []

    def subscribe(self, *, limit: int = _WAITING) -> Subscription:
        """Return the events from now on.

        Args:
            limit: How many may wait to be read.
        """
        subscription = Subscription(self, limit)
        self._subscriptions.append(subscription)
        return subscription

    def publish(self, *events: Event) -> None:
        """Tell every watcher."""
        for subscription in self._subscriptions:
            for event in events:
                subscription.tell(event)

    def drop(self, subscription: Subscription) -> None:
        """Forget a watcher; idempotent."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def close(self) -> None:
        """End every watcher's events."""
        for subscription in list(self._subscriptions):
            subscription.close()
