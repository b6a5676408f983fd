"""Small parts of the engine: pauses, the queue, the clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from innkeeper.engine.backoff import Backoff
from innkeeper.engine.clock import DonTime, SystemClock, at
from innkeeper.engine.errors import QueueFullError
from innkeeper.engine.queue import EventQueue
from tests.host.engine.engine_world import ScriptedClock

MILLISECOND = 1_000_000


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first=12.0, most=300.0)
    assert [backoff.delay(failures) for failures in range(8)] == [0, 12, 24, 48, 96, 192, 300, 300]
    assert backoff.delay(10**9) == 300


@given(st.integers(0, 10_000))
def test_no_pause_is_shorter_than_the_one_before(failures: int) -> None:
    backoff = Backoff(first=0.5, most=60.0)
    assert backoff.delay(failures) <= backoff.delay(failures + 1) <= 60.0


class QueueMachine(RuleBasedStateMachine):
    """The queue against a list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: EventQueue[int] = EventQueue(limit=3, seconds=10.0)
        self.expected: list[tuple[float, int]] = []
        self.reserved = 0
        self.now = 0.0
        self.number = 0

    @rule()
    def reserve(self) -> None:
        if len(self.expected) + self.reserved >= 3:
            with pytest.raises(QueueFullError, match="at most 3 waiting events"):
                self.queue.reserve()
        else:
            self.queue.reserve()
            self.reserved += 1

    @rule()
    def release(self) -> None:
        if self.reserved:
            self.queue.release()
            self.reserved -= 1

    @rule()
    def put(self) -> None:
        self.queue.put(self.number, now=self.now)
        self.expected.append((self.now + 10.0, self.number))
        self.number += 1

    @rule()
    def take(self) -> None:
        if not self.expected:
            with pytest.raises(IndexError):
                self.queue.take(now=self.now)
            return
        taken = self.queue.take(now=self.now)
        deadline, item = self.expected.pop(0)
        assert (taken.item, taken.expired) == (item, self.now > deadline)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == [item for _, item in self.expected]
        self.expected = []

    @invariant()
    def length(self) -> None:
        assert len(self.queue) == len(self.expected)


TestQueue = QueueMachine.TestCase


async def test_waiting_for_an_event_ends_when_there_is_one() -> None:
    queue: EventQueue[str] = EventQueue(limit=1, seconds=1.0)
    waiting = asyncio.create_task(queue.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put("event", now=0.0)
    await asyncio.wait_for(waiting, 5)
    queue.take(now=0.0)
    again = asyncio.create_task(queue.wait())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


def test_don_time_has_milliseconds_and_grows_though_the_clock_stands_or_goes_back() -> None:
    clock = ScriptedClock(wall=5 * MILLISECOND + 999)
    don = DonTime(clock)
    assert [don.read(), don.read()] == [5 * MILLISECOND, 6 * MILLISECOND]
    clock.wall = MILLISECOND
    assert don.read() == 7 * MILLISECOND
    clock.wall = 100 * MILLISECOND
    assert don.read() == 100 * MILLISECOND


def test_don_time_goes_on_after_what_was_replayed() -> None:
    don = DonTime(ScriptedClock(wall=MILLISECOND))
    assert don.replay(50 * MILLISECOND) == 50 * MILLISECOND
    assert don.read() == 51 * MILLISECOND


def test_a_clocks_time_is_aware_and_exact_to_the_microsecond() -> None:
    assert at(ScriptedClock(wall=1_767_225_900_123_456_789)) == datetime(2026, 1, 1, 0, 5, 0, 123456, UTC)


def test_the_machines_clock_is_the_machines() -> None:
    clock = SystemClock()
    first, second = clock.monotonic(), clock.monotonic()
    assert first <= second
    assert abs(datetime.now(UTC).timestamp() - clock.now() / 1e9) < 60
