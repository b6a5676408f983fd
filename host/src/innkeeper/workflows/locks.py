"""Locks by key: one thing at a time for each, any number of keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from attrs import define, field

__all__ = ["Locks"]


@define
class _Held:
    lock: asyncio.Lock = field(factory=asyncio.Lock)
    users: int = 0


class Locks:
    """Hand out locks; a key that nobody holds or waits for is forgotten."""

    def __init__(self) -> None:
        self._held: dict[Hashable, _Held] = {}

    def __len__(self) -> int:
        """Return how many keys are held or waited for."""
        return len(self._held)

    @asynccontextmanager
    async def hold(self, *key: Hashable) -> AsyncIterator[None]:
        """Wait until nobody else holds the key, and hold it."""
        held = self._held.setdefault(key, _Held())
        held.users += 1
        try:
            async with held.lock:
                yield
        finally:
            held.users -= 1
            if not held.users:
                del self._held[key]
