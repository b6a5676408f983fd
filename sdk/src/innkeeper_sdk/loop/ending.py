"""The end of a plugin's process: who may ask for it, and that it comes.

Rules of this module:

1. The process ends when its host asks (Shutdown, SIGTERM), when the broker's stream ends, and when its parent is
   another than it was: a plugin without a host is of no use to anybody.
2. Asking is safe everywhere, in a signal handler too: it writes one byte to a pipe.
3. A thread of its own waits for it, so that a blocked loop does not keep the process alive: what is not closed within
   the grace is left, and the process ends by force.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

__all__ = ["GRACE_SECONDS", "Ending", "Reason"]

# go-plugin's client kills a process that has not ended two seconds after Shutdown.
GRACE_SECONDS: Final = 1.8

_POLL_SECONDS: Final = 0.5


class Reason(Enum):
    """Why the process ends; the values are what is written to the pipe."""

    SHUTDOWN = b"s"
    TERMINATED = b"t"
    STREAM_ENDED = b"e"
    PARENT_GONE = b"p"


class Ending:
    """Wait for a reason to end, and see to it that the process does.

    Args:
        grace: Seconds from the reason to the end by force.
    """

    def __init__(self, *, grace: float = GRACE_SECONDS) -> None:
        self._grace = grace
        self._parent = os.getppid()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._closed = False

    def request(self, reason: Reason) -> None:
        """Ask for the end; only the first reason counts."""
        # A full pipe has a reason in it already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, reason.value)

    def start(self, on_end: Callable[[Reason], object], clean: Callable[[], object]) -> None:
        """Begin to wait.

        Args:
            on_end: Called once, in another thread, with the reason.
            clean: Called before an end by force, in another thread.
        """
        threading.Thread(target=self._wait, args=(on_end, clean), name="ending", daemon=True).start()

    def closed(self) -> None:
        """Take note that everything is closed, so that an end by force is a clean one too."""
        self._closed = True

    def _wait(self, on_end: Callable[[Reason], object], clean: Callable[[], object]) -> None:
        on_end(self._reason())
        # An end that comes by itself takes this thread with it.
        time.sleep(self._grace)
        clean()
        os._exit(0 if self._closed else 1)

    def _reason(self) -> Reason:
        while True:
            ready, _, _ = select.select([self._read], [], [], _POLL_SECONDS)
            if ready:
                return Reason(os.read(self._read, 1))
            if os.getppid() != self._parent:
                return Reason.PARENT_GONE
