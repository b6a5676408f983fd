"""``poll_oneoff``: which events a guest gets, and how long it sleeps for them. Pure, but for the clock.

Only relative clock subscriptions sleep; the longest of them counts. The sleep is real, and ends early only with the
process.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from innkeeper_wasm.runtime.memory import AccessError, LinearMemory, read, write

__all__ = ["EVENT_BYTES", "MAX_SUBSCRIPTIONS", "SUBSCRIPTION_BYTES", "events_of", "poll_oneoff"]

SUBSCRIPTION_BYTES = 48
EVENT_BYTES = 32
MAX_SUBSCRIPTIONS = 67_108_863
"""The reference's upper bound, before the limit of subscriptions is looked at."""

SUCCESS, BADF, FAULT, INVAL, NOTSUP = 0, 8, 21, 28, 58
_CLOCK, _FD_READ, _FD_WRITE = 0, 1, 2

_SUBSCRIPTION = struct.Struct("<QB7x8xQ8xH6x")  # userdata, tag, (clock id), timeout, (precision), flags
_EVENT = struct.Struct("<QBxI18x")  # userdata, errno, type


def events_of(subscriptions: bytes) -> tuple[bytes, int]:
    """Return the events that answer the subscriptions, in their order, and the sleep before them in nanoseconds."""
    events = []
    longest = 0
    for userdata, tag, timeout, flags in _SUBSCRIPTION.iter_unpack(subscriptions):
        error = INVAL
        if tag == _CLOCK and flags == 0:
            error = SUCCESS
            if timeout < 1 << 63:  # A longer one is a negative duration to the reference.
                longest = max(longest, timeout)
        elif tag == _CLOCK:
            error = NOTSUP
        elif tag in (_FD_READ, _FD_WRITE):
            error = BADF
        events.append(_EVENT.pack(userdata, error, tag))
    return b"".join(events), longest


def poll_oneoff(
    memory: LinearMemory,
    subscriptions: int,
    events: int,
    count: int,
    count_result: int,
    *,
    limit: int,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Answer a guest's ``poll_oneoff``.

    Args:
        memory: The guest's memory.
        subscriptions: Where its subscriptions are.
        events: Where it wants the events.
        count: How many subscriptions there are.
        count_result: Where it wants the number of events.
        limit: Most subscriptions that are allowed.
        sleep: Sleeps for so many seconds.

    Returns:
        A WASI errno.
    """
    if not 0 < count <= MAX_SUBSCRIPTIONS or count > limit:
        return INVAL
    try:
        wanted = read(memory, subscriptions, count * SUBSCRIPTION_BYTES)
    except AccessError:
        return FAULT
    answer, nanoseconds = events_of(wanted)
    _sleep(nanoseconds, sleep)
    if write(memory, struct.pack("<I", count), count_result, 4) < 0:
        return FAULT
    if write(memory, answer, events, len(answer)) < 0:
        return FAULT
    return SUCCESS


_LONGEST_SLEEP = 1 << 22
"""Seconds of one call: far below what a C ``time_t`` computation can overflow on."""


def _sleep(nanoseconds: int, sleep: Callable[[float], None]) -> None:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    while seconds > _LONGEST_SLEEP:
        sleep(_LONGEST_SLEEP)
        seconds -= _LONGEST_SLEEP
    if seconds or rest:
        sleep(seconds + rest / 1e9)
