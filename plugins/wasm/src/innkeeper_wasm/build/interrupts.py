"""Turn signals into one exception, at places where it can be handled.

Rules of this module: the first SIGINT, SIGTERM or SIGHUP raises :class:`Interrupted` in the main thread; what
comes after it is ignored, for only the bounded clean-up is left. While interrupts are held, a signal waits
until they are let go, so that a process that was just started is never forgotten. The handlers of before are
put back at the end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupted(BaseException):
    """Raised when a signal asks this process to stop; no handler of ordinary errors takes it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code by which a shell tells that a command was ended by this signal."""
        return 128 + self.number


class Interrupts:
    """Raise on signals while it is entered; outside the main thread, where Python takes no handlers, do nothing."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: int | None = None
        self._before: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._held:
            self._waiting = number
        else:
            self._stop(number)

    def _stop(self, number: int) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait until the block is left."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting is not None:
            self._stop(self._waiting)
