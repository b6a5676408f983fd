"""The clock that ticks are measured by.

Rules of this module:

1. Ticks belong to the wall clock. It may jump, and the event loop's own clock stands still while the machine sleeps:
   nobody sleeps long without looking at the wall clock again.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final, Protocol

__all__ = ["Clock", "SystemClock"]

_LONGEST_NAP: Final = 2.0  # seconds; so late, at most, is a tick after the machine slept or its clock was set


class Clock(Protocol):
    """A wall clock."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    async def sleep_until(self, when: datetime) -> None:
        """Sleep until ``when``, or less: the caller looks at the clock again."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time."""
        return datetime.now(UTC)

    async def sleep_until(self, when: datetime) -> None:
        """Sleep until ``when``, at most two seconds."""
        await asyncio.sleep(max(0.0, min((when - self.now()).total_seconds(), _LONGEST_NAP)))
