"""One timer for every registration.

Rules of this module:

1. One task and one heap serve all entries; between ticks nothing runs but a look at the clock every few seconds.
2. A tick is delivered once, with its scheduled time, however late; ticks that were missed besides it are skipped.
3. What is due is delivered before anything is computed, so that many entries at one second do not delay each other.
4. If the clock is set back by more than a little, ticks are computed anew: those of the repeated time are delivered
   again under the ids that they had, and those after a clock that had run ahead are not lost.
5. A fault of one entry ends that entry alone; a fault of the clock ends them all, with that fault.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Final

from attrs import define, field

from innkeeper_cron.clock import Clock
from innkeeper_cron.ticks import Schedule

__all__ = ["Entry", "Ticker"]

_SET_BACK: Final = timedelta(seconds=5)  # more than any slewing of the clock between two looks at it
_CROWD: Final = 64  # dead heap items that are left alone, so that removing is cheap


@define(eq=False)
class Entry:
    """One schedule that ticks.

    Attributes:
        schedule: When.
        deliver: Called with the scheduled time of each tick; must not wait.
        fail: Called once when the entry ends by a fault.
        pending: The next tick; None once there is none.
        live: Whether it still ticks.
    """

    schedule: Schedule
    deliver: Callable[[datetime], None] = field(repr=False)
    fail: Callable[[Exception], None] = field(repr=False)
    pending: datetime | None = None
    live: bool = True


class Ticker:
    """A timer.

    Args:
        clock: What it goes by.
        logger: Where faults are told.
    """

    def __init__(self, clock: Clock, logger: logging.Logger) -> None:
        self._clock = clock
        self._logger = logger
        self._entries: dict[int, Entry] = {}
        self._heap: list[tuple[datetime, int, Entry]] = []
        self._numbers = count()
        self._wake = asyncio.Event()
        self._seen: datetime | None = None
        self._task: asyncio.Task[None] | None = None
        self._fault: Exception | None = None

    def start(self) -> None:
        """Start to tick."""
        self._task = asyncio.create_task(self._run(), name="ticker")

    async def close(self) -> None:
        """Stop to tick; idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        self._entries.clear()
        self._heap.clear()

    def add(self, entry: Entry) -> bool:
        """Let an entry tick from now on; return False, and leave it out, if it never will.

        Raises:
            RuntimeError: This ticker has failed.
        """
        if self._fault is not None:
            raise RuntimeError("the ticker has failed") from self._fault
        entry.pending = entry.schedule.next(self._clock.now())
        if entry.pending is None:
            return False
        self._entries[id(entry)] = entry
        if not self._heap or entry.pending < self._heap[0][0]:
            self._wake.set()
        self._push(entry)
        return True

    def remove(self, entry: Entry) -> None:
        """Let an entry tick no more."""
        entry.live = False
        self._entries.pop(id(entry), None)
        if len(self._heap) > 2 * len(self._entries) + _CROWD:
            self._heap = [item for item in self._heap if item[2].live]
            heapq.heapify(self._heap)

    async def _run(self) -> None:
        try:
            while True:
                now = self._clock.now()
                if self._seen is not None and now < self._seen - _SET_BACK:
                    self._start_over(now)
                self._seen = now
                self._tick(now)
                await self._sleep()
        except Exception as error:
            self._logger.exception("the ticker failed; its triggers end")
            self._fault = error
            for entry in list(self._entries.values()):
                self._end(entry, error)

    async def _sleep(self) -> None:
        """Sleep until the first tick, a little less, or until an earlier one is added."""
        self._wake.clear()
        if not self._heap:
            await self._wake.wait()
            return
        tasks = [
            asyncio.ensure_future(self._clock.sleep_until(self._heap[0][0])),
            asyncio.ensure_future(self._wake.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tick(self, now: datetime) -> None:
        due = []
        while self._heap and self._heap[0][0] <= now:
            tick, _, entry = heapq.heappop(self._heap)
            if entry.live and entry.pending == tick:
                due.append((tick, entry))
        for tick, entry in due:
            self._guarded(entry, partial(entry.deliver, tick))
        for tick, entry in due:
            self._guarded(entry, partial(self._go_on, entry, tick, now))

    def _go_on(self, entry: Entry, tick: datetime, now: datetime) -> None:
        entry.pending = entry.schedule.resume(tick, now)
        self._push(entry)

    def _start_over(self, now: datetime) -> None:
        self._logger.warning("the clock was set back from %s to %s; ticks are computed anew", self._seen, now)
        self._heap.clear()
        for entry in list(self._entries.values()):
            self._guarded(entry, partial(self._begin, entry, now))

    def _begin(self, entry: Entry, now: datetime) -> None:
        entry.pending = entry.schedule.next(now)
        self._push(entry)

    def _push(self, entry: Entry) -> None:
        if entry.pending is None:
            self._logger.warning("%s has no further tick", entry.schedule)
        else:
            heapq.heappush(self._heap, (entry.pending, next(self._numbers), entry))

    def _guarded(self, entry: Entry, act: Callable[[], None]) -> None:
        if not entry.live:
            return
        try:
            act()
        except Exception as error:
            self._logger.exception("a trigger failed and ends: %s", entry.schedule)
            self._end(entry, error)

    def _end(self, entry: Entry, error: Exception) -> None:
        self.remove(entry)
        entry.fail(error)
