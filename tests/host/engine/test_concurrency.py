"""Places for executions: of a workflow, of its owner, of the host."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from innkeeper.engine.concurrency import ExecutionSlots

A, B = "aa" * 20, "bb" * 20


async def blocked(slots: ExecutionSlots, workflow: asyncio.Semaphore, owner: str, per_owner: int = 2) -> bool:
    """Tell whether taking a slot has to wait."""

    async def take() -> None:
        async with slots.take(workflow, owner, per_owner):
            pass

    task = asyncio.create_task(take())
    for _ in range(5):
        await asyncio.sleep(0)
    if task.done():
        return False
    task.cancel()
    await asyncio.wait([task])
    return True


async def test_a_workflow_an_owner_and_the_host_each_have_their_places() -> None:
    slots = ExecutionSlots(3)
    one, two, other = asyncio.Semaphore(1), asyncio.Semaphore(5), asyncio.Semaphore(5)
    async with AsyncExitStack() as held:
        await held.enter_async_context(slots.take(one, A, 2))
        assert await blocked(slots, one, A)
        assert not await blocked(slots, two, A)
        await held.enter_async_context(slots.take(two, A, 2))
        assert await blocked(slots, two, A)
        assert not await blocked(slots, other, B)
        await held.enter_async_context(slots.take(other, B, 2))
        assert await blocked(slots, other, B)
    assert not await blocked(slots, one, A)


async def test_an_owner_without_executions_is_forgotten() -> None:
    slots = ExecutionSlots(1)
    async with slots.take(asyncio.Semaphore(1), A, 2):
        assert slots.owners == 1
        assert await blocked(slots, asyncio.Semaphore(1), B)
        assert slots.owners == 1
    assert slots.owners == 0


async def test_a_wait_that_is_cancelled_holds_nothing() -> None:
    slots = ExecutionSlots(1)
    workflow = asyncio.Semaphore(2)
    async with slots.take(workflow, A, 2):
        assert await blocked(slots, workflow, A)
        assert await blocked(slots, workflow, A)
    async with asyncio.timeout(5):
        async with slots.take(workflow, A, 2):
            pass
