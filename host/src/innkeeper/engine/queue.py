"""The events that wait to be executed.

Rules of this module:

1. First in, first out. An event has its place before it is accepted, so that one for which there is no place is never
   accepted, and one that is accepted is never turned away.
2. What an earlier host has accepted comes in whatever the limit: it was promised.
3. An event that waited too long is not executed; whoever takes it is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from attrs import frozen

from innkeeper.engine.errors import QueueFullError

__all__ = ["EventQueue", "Taken"]

T = TypeVar("T")


@frozen
class Taken(Generic[T]):
    """An event that was taken from the queue.

    Attributes:
        item: The event.
        expired: Whether it waited too long.
    """

    item: T
    expired: bool


class EventQueue(Generic[T]):
    """Hold events until they can be executed.

    Args:
        limit: How many may wait.
        seconds: How long each may wait.
    """

    def __init__(self, *, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._items: deque[tuple[float, T]] = deque()
        self._reserved = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._items)

    def reserve(self) -> None:
        """Keep a place for an event that is about to be accepted.

        Raises:
            QueueFullError: There is none.
        """
        if len(self._items) + self._reserved >= self._limit:
            raise QueueFullError("the workflow's event queue is full", expected=f"at most {self._limit} waiting events")
        self._reserved += 1

    def release(self) -> None:
        """Give a kept place back."""
        self._reserved -= 1

    def put(self, item: T, *, now: float) -> None:
        """Add an event.

        Args:
            item: The event.
            now: The monotonic time from which it waits.
        """
        self._items.append((now + self._seconds, item))
        self._filled.set()

    async def wait(self) -> None:
        """Wait until there is an event."""
        await self._filled.wait()

    def take(self, *, now: float) -> Taken[T]:
        """Return the event that waits longest.

        Raises:
            IndexError: There is none.
        """
        deadline, item = self._items.popleft()
        if not self._items:
            self._filled.clear()
        return Taken(item, expired=now > deadline)

    def clear(self) -> list[T]:
        """Empty the queue, and return what was in it."""
        items = [item for _, item in self._items]
        self._items.clear()
        self._filled.clear()
        return items
