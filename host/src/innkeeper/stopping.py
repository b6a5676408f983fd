"""When a host is told to stop, and how urgently.

Rules of this module:

1. The first signal asks the host to drain and stop; the second, to stop now; the third ends the process at once.
2. After the second, a host that does not manage to stop within some seconds is ended: the guard then ends what it
   started. No provider that blocks the event loop can keep that from happening, so neither depends on the loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import FrameType
from typing import Final

from innkeeper_sdk.errors import ExitCode

__all__ = ["Stopping"]

# SIGHUP: the terminal is gone. One that was ignored on purpose (nohup) stays so.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# What stopping now may take: closing sockets and databases, and ending processes, takes a fraction of it.
_LAST_SECONDS: Final = 5.0


class Stopping:
    """Listen to signals; used as a context in the main thread, with the event loop running.

    Attributes:
        asked: Set when the host is to drain and stop.
        now: Set when it is to stop without draining.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._times = 0
        self._first: int | None = None
        self._last = threading.Timer(_LAST_SECONDS, self._end)
        self._last.daemon = True
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stopping:
        """Take the signals."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        self._last.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal.signal returned

    @property
    def exit_code(self) -> ExitCode:
        """Return what the process ends with, once the host has stopped."""
        if self._first == signal.SIGINT:
            return ExitCode.INTERRUPTED
        return ExitCode.PROBLEMS if self._times > 1 else ExitCode.OK

    def ask(self) -> None:
        """Ask the host to drain and stop, as the first signal does; idempotent."""
        self.asked.set()

    def ask_now(self) -> None:
        """Ask the host to stop without draining; idempotent."""
        self.asked.set()
        self.now.set()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # In the main thread, between two steps of whatever runs there: the loop may be blocked.
        self._times += 1
        if self._first is None:
            self._first = number
        if self._times == 1:
            self._loop.call_soon_threadsafe(self.ask)
        elif self._times == 2:
            self._last.start()
            self._loop.call_soon_threadsafe(self.ask_now)
        else:
            self._end()

    def _end(self) -> None:
        os._exit(self.exit_code)
