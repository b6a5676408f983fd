"""The clocks of the engine.

Rules of this module:

1. Nothing else of the engine asks for the time; tests hand it another clock.
2. Deadlines are on the monotonic clock, which every process of this machine shares.
3. The DON's time has milliseconds and grows with every read of an execution, as the reference's does. A DON of one
   operator has this node's time; ``DonTime`` is where another source would go.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

__all__ = ["Clock", "DonTime", "SystemClock", "at"]

_MILLISECOND: Final = 1_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What time it is."""

    def now(self) -> int:
        """Return nanoseconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back, that of ``time.monotonic``."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        """Return nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Return seconds of ``time.monotonic``."""
        return time.monotonic()


class DonTime:
    """The DON's time for one execution.

    Args:
        clock: This node's time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def read(self) -> int:
        """Return the time of the next read, at least a millisecond after the one before, in nanoseconds."""
        self._last = max(self._clock.now() // _MILLISECOND * _MILLISECOND, self._last + _MILLISECOND)
        return self._last

    def replay(self, value: int) -> int:
        """Return a time that an earlier attempt was told; later reads are after it."""
        self._last = max(self._last, value)
        return value


def at(clock: Clock) -> datetime:
    """Return the clock's time as an aware datetime, in UTC."""
    return _EPOCH + timedelta(microseconds=clock.now() // 1000)
