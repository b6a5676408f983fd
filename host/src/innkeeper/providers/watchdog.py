"""Telling who blocks the event loop.

Rules of this module:

1. The loop beats; a thread listens. When a beat is late, the thread looks at what the loop's thread is doing and names
   the provider whose code is nearest to the top of its stack.
2. One report when a blockade is seen, one when it is over. A blockade that the thread could not see, since C code held
   the interpreter's lock, is told when it is over, without a culprit.
3. A process that was stopped, or a machine that was suspended, is no blockade: then the thread was late itself, and the
   process used no CPU time meanwhile.
4. Nothing is done about it. Host parts share the host's process; what must not block is a process part.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["Blockade", "Watchdog"]

# Twice a second is often enough to be told, and nothing to a host's load.
_BEAT_SECONDS: Final = 0.5
# The share of a late beat that was spent computing: little on a crowded machine, next to nothing while stopped.
_BUSY: Final = 0.1


@frozen
class Blockade:
    """The event loop did not run.

    Attributes:
        seconds: For how long, so far.
        over: Whether it is over.
        provider_id: Whose code was running, None if it is not known or the host's own.
        where: ``file:line`` of that code; empty if it is not known.
    """

    seconds: float
    over: bool
    provider_id: str | None = None
    where: str = ""


class Watchdog:
    """Watches the event loop that it is started on.

    Args:
        package_dirs: Returns the directories of providers' packages, with their ids.
        logger: Where blockades are told.
        seconds: How late a beat may be.
        on_blockade: Called with each report too, in the watchdog's or the loop's thread.
    """

    def __init__(
        self,
        package_dirs: Callable[[], Mapping[Path, str]],
        *,
        logger: logging.Logger,
        seconds: float = 2.0,
        on_blockade: Callable[[Blockade], None] | None = None,
    ) -> None:
        self._package_dirs = package_dirs
        self._logger = logger
        self._seconds = seconds
        self._interval = min(_BEAT_SECONDS, seconds / 4)
        self._on_blockade = on_blockade
        self._beat = 0.0
        self._cpu = 0.0
        self._seen: Blockade | None = None
        self._loop_thread = 0
        self._handle: asyncio.TimerHandle | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start; to be called on the loop that is to be watched."""
        self._loop_thread = threading.get_ident()
        self._beat, self._cpu = time.monotonic(), time.process_time()
        self._schedule(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._listen, name="innkeeper watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; idempotent."""
        self._stopping.set()
        if self._handle is not None:
            self._handle.cancel()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = loop.call_later(self._interval, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now, cpu = time.monotonic(), time.process_time()
        late = now - self._beat - self._interval
        busy = cpu - self._cpu
        self._beat, self._cpu = now, cpu
        seen, self._seen = self._seen, None
        if seen is not None:
            self._tell(Blockade(late, True, seen.provider_id, seen.where))
        elif late >= self._seconds and busy > late * _BUSY:
            self._tell(Blockade(late, True))
        self._schedule(loop)

    def _listen(self) -> None:
        while True:
            before = time.monotonic()
            if self._stopping.wait(self._interval):
                return
            now, beat = time.monotonic(), self._beat
            late = now - beat - self._interval
            # Late itself, this thread knows nothing: see rule 3, and the next beat for C code.
            slept_through = now - before - self._interval >= self._seconds
            if late < self._seconds or slept_through or self._seen is not None:
                continue
            seen = self._look(late)
            # If the loop runs again by now, what was seen was not what blocked it.
            if self._beat == beat:
                self._seen = seen
                self._tell(seen)

    def _look(self, late: float) -> Blockade:
        frame = sys._current_frames().get(self._loop_thread)
        frames = [(Path(at.f_code.co_filename), line) for at, line in traceback.walk_stack(frame)] if frame else []
        providers = self._package_dirs()
        for file, line in frames:
            for directory, id_ in providers.items():
                if file.is_relative_to(directory):
                    return Blockade(late, False, id_, f"{file}:{line}")
        return Blockade(late, False, None, f"{frames[0][0]}:{frames[0][1]}" if frames else "")

    def _tell(self, blockade: Blockade) -> None:
        who = f"provider {blockade.provider_id}" if blockade.provider_id else "the host, or nobody that can be named,"
        where = f" at {blockade.where}" if blockade.where else ""
        verb = "blocked" if blockade.over else "blocks"
        self._logger.warning("%s %s the event loop%s: %.1f s", who, verb, where, blockade.seconds)
        if self._on_blockade is not None:
            self._on_blockade(blockade)
