"""How many executions may run at once: of a workflow, of an owner, of the host.

Rules of this module:

1. A slot is one place in each of the three; it is taken in that order by everybody, so nobody waits in a circle.
2. Waiting is first come, first served.
3. An owner is forgotten when nothing of it waits or runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from attrs import define

__all__ = ["ExecutionSlots"]


@define
class _Owner:
    places: asyncio.Semaphore
    users: int = 0


class ExecutionSlots:
    """The host's places for executions.

    Args:
        total: How many executions may run at once in this host.
    """

    def __init__(self, total: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._owners: dict[str, _Owner] = {}

    @asynccontextmanager
    async def take(self, workflow: asyncio.Semaphore, owner: str, per_owner: int) -> AsyncIterator[None]:
        """Wait for a slot, and hold it.

        Args:
            workflow: The workflow's own places.
            owner: The workflow's owner.
            per_owner: How many executions of that owner may run at once.
        """
        entry = self._owners.setdefault(owner, _Owner(asyncio.Semaphore(per_owner)))
        entry.users += 1
        try:
            async with AsyncExitStack() as stack:
                for places in (workflow, entry.places, self._total):
                    await stack.enter_async_context(places)
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._owners[owner]

    @property
    def owners(self) -> int:
        """Return how many owners have something that waits or runs."""
        return len(self._owners)
