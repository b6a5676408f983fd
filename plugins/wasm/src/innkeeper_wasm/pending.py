"""What a guest has started and not yet awaited, by the ids that it has chosen.

Rules of this module:

1. A call is started, then awaited. Its id is burned for the whole execution: a second start with it is refused, and
   so is a second await.
2. A start takes a slot of the workflow's pool of pending calls, and the guest waits until there is one; the slot is
   free again when the call is answered, not when it is awaited.
3. What the guest did not await is cancelled when the execution is over.
4. An execution has so many ids and no more: what is known of a call, and its answer until it is awaited, is memory of
   the process that serves all guests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from innkeeper_wasm.driver import CallRefused

__all__ = ["PendingCalls"]

R = TypeVar("R")

# Far more than the limits of calls and of journals let through.
_MAX_CALLS: Final = 10_000


class PendingCalls(Generic[R]):
    """The calls of one kind, of one execution.

    Args:
        pool: The workflow's pool of pending calls.
        prefix: What the refusal of a start begins with.
    """

    def __init__(self, pool: asyncio.Semaphore, prefix: str) -> None:
        self._pool = pool
        self._prefix = prefix
        self._calls: dict[int, asyncio.Task[R] | None] = {}

    async def start(self, call_id: int, work: Coroutine[Any, Any, R]) -> None:
        """Start a call.

        Args:
            call_id: The guest's id of it.
            work: What answers it; closed if it is not started.

        Raises:
            CallRefused: The id is burned, or the execution has used up its ids.
        """
        try:
            await self._pool.acquire()
        except BaseException:
            work.close()
            raise
        if call_id in self._calls:
            refusal = "duplicate callback id not allowed"
        elif len(self._calls) >= _MAX_CALLS:
            refusal = f"too many calls in one execution, at most {_MAX_CALLS} are allowed"
        else:
            refusal = ""
        if refusal:
            self._pool.release()
            work.close()
            raise CallRefused(self._prefix + refusal)
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._pool.release())
        self._calls[call_id] = task

    async def take(self, call_id: int) -> R:
        """Return the answer of a call, once it is there, and burn its id.

        Raises:
            CallRefused: The id is unknown or already awaited.
            Exception: What the call has raised.
        """
        task = self._calls.get(call_id)
        if task is None:
            raise CallRefused(f"failed to get call from store : {call_id}")
        self._calls[call_id] = None
        return await task

    async def close(self) -> None:
        """Cancel what was not answered, and wait for it to be gone."""
        tasks = [task for task in self._calls.values() if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
