"""Telling watchers what happens."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from innkeeper.engine.events import Broadcast, LineWritten, Missed, Subscription
from innkeeper.store.logs import LogLine


def event(number: int) -> LineWritten:
    return LineWritten(LogLine("w", "e", number, datetime(2026, 1, 1, tzinfo=UTC), "m"))


async def read(subscription: Subscription, count: int) -> list[object]:
    async with asyncio.timeout(5):
        return [await anext(subscription) for _ in range(count)]


async def test_every_watcher_gets_what_happens_from_when_it_came() -> None:
    broadcast = Broadcast()
    first = broadcast.subscribe()
    broadcast.publish(event(1))
    second = broadcast.subscribe()
    broadcast.publish(event(2), event(3))
    assert await read(first, 3) == [event(1), event(2), event(3)]
    assert await read(second, 2) == [event(2), event(3)]


async def test_a_watcher_waits_for_what_happens() -> None:
    broadcast = Broadcast()
    with broadcast.subscribe() as subscription:
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0)
        broadcast.publish(event(1))
        assert await asyncio.wait_for(waiting, 5) == event(1)


async def test_a_watcher_that_is_too_slow_loses_the_oldest_and_is_told_how_many() -> None:
    broadcast = Broadcast()
    slow = broadcast.subscribe(limit=2)
    broadcast.publish(*(event(number) for number in range(5)))
    assert await read(slow, 3) == [Missed(3), event(3), event(4)]
    broadcast.publish(event(5))
    assert await read(slow, 1) == [event(5)]


async def test_a_watcher_that_ends_gets_what_waits_and_nothing_more() -> None:
    broadcast = Broadcast()
    with broadcast.subscribe() as subscription:
        broadcast.publish(event(1))
    broadcast.publish(event(2))
    assert [found async for found in subscription] == [event(1)]
    subscription.close()


async def test_closing_ends_every_watcher_also_one_that_waits() -> None:
    broadcast = Broadcast()
    subscription = broadcast.subscribe()
    waiting = asyncio.create_task(anext(subscription))
    await asyncio.sleep(0)
    broadcast.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)
