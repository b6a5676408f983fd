"""poll_oneoff: the checks before memory is touched, the events, and the sleep."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.runtime.polling import EVENT_BYTES, events_of, poll_oneoff

SECOND = 1_000_000_000


class Memory:
    def __init__(self, size: int = 4096) -> None:
        self.data = bytearray(size)
        self.reads = 0

    def size(self) -> int:
        return len(self.data)

    def load(self, start: int, length: int) -> bytes:
        self.reads += 1
        return bytes(self.data[start : start + length])

    def store(self, start: int, data: bytes) -> None:
        self.data[start : start + len(data)] = data


def subscription(userdata: int = 0, tag: int = 0, clock: int = 0, timeout: int = 0, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, tag, clock, timeout, 0, flags)


def poll(
    memory: Memory, count: int, *, limit: int = 128, at: tuple[int, int, int] = (0, 2048, 4000)
) -> tuple[int, float]:
    slept: list[float] = []
    result = poll_oneoff(memory, at[0], at[1], count, at[2], limit=limit, sleep=slept.append)
    return result, sum(slept)


@pytest.mark.parametrize(
    "count", [0, -1, -(1 << 31), 129, 100_000_000 // 48, (1 << 31) // 48 - 1, (1 << 31) // 48, (1 << 31) - 1]
)
def test_a_count_beyond_its_limits_is_refused_before_memory_is_touched(count: int) -> None:
    memory = Memory()
    assert poll(memory, count) == (28, 0)
    assert memory.reads == 0


def test_the_limit_itself_is_allowed() -> None:
    memory = Memory(16384)
    assert poll(memory, 128, at=(0, 8192, 16000)) == (0, 0)
    assert poll(memory, 3, limit=2) == (28, 0)


@pytest.mark.parametrize("at", [(4090, 2048, 4000), (0, 4090, 4000), (0, 2048, 4094), (-1, 2048, 4000), (0, -1, 4000)])
def test_memory_outside_is_a_fault(at: tuple[int, int, int]) -> None:
    assert poll(Memory(), 1, at=at)[0] == 21


@pytest.mark.parametrize(
    ("tag", "flags", "errno"), [(0, 0, 0), (0, 1, 58), (1, 0, 8), (2, 0, 8), (3, 0, 28), (255, 0, 28)]
)
def test_each_kind_of_subscription_has_its_errno(tag: int, flags: int, errno: int) -> None:
    memory = Memory()
    memory.data[:48] = subscription(userdata=0x1122334455667788, tag=tag, flags=flags)
    assert poll(memory, 1) == (0, 0)
    assert memory.data[4000:4004] == struct.pack("<I", 1)
    assert memory.data[2048 : 2048 + EVENT_BYTES] == struct.pack("<QBBI18x", 0x1122334455667788, errno, 0, tag)


def test_the_longest_relative_timeout_is_slept_and_absolute_or_negative_ones_are_not() -> None:
    memory = Memory()
    memory.data[: 48 * 4] = (
        subscription(timeout=2 * SECOND)
        + subscription(timeout=3 * SECOND + 500_000_000)
        + subscription(timeout=99 * SECOND, flags=1)
        + subscription(timeout=1 << 63)
    )
    assert poll(memory, 4) == (0, 3.5)


def test_a_sleep_of_centuries_is_slept_in_parts_that_a_clock_can_count() -> None:
    memory = Memory()
    memory.data[:48] = subscription(timeout=(1 << 63) - 1)
    slept: list[float] = []
    assert poll_oneoff(memory, 0, 2048, 1, 4000, limit=128, sleep=slept.append) == 0
    assert max(slept) <= 1 << 22
    assert sum(slept) == pytest.approx(((1 << 63) - 1) / 1e9)


@given(st.binary(min_size=48 * 3, max_size=48 * 3))
def test_any_bytes_have_events_in_order_with_their_own_data(subscriptions: bytes) -> None:
    events, nanoseconds = events_of(subscriptions)
    assert len(events) == 3 * EVENT_BYTES
    assert 0 <= nanoseconds < 1 << 63
    for index in range(3):
        assert events[index * 32 : index * 32 + 8] == subscriptions[index * 48 : index * 48 + 8]
        assert events[index * 32 + 10] == subscriptions[index * 48 + 8]
