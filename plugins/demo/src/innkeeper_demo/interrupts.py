"""Turn the signals that ask this process to stop into one exception, where it can be handled.

Rules of this module: the first signal raises, in the main thread; what comes after it is ignored, for only the bounded
clean-up is left. While interrupts are held a signal waits until they are let go, so that a process that is just being
started is never forgotten. An exception that a signal raises can be lost, in a callback of some library for one: it is
raised once more where ``check`` is asked, and at the end. The handlers of before are put back at the end.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["Interrupted", "check", "held", "interrupts"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Raised when a signal asks this process to stop; no handler of ordinary errors takes it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    """What the handler has to know: signals are of the process, so there is one."""

    holding = False
    waiting: int | None = None
    asked: int | None = None


@contextmanager
def interrupts() -> Iterator[None]:
    """Raise ``Interrupted`` on the first signal while the context is open."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        _State.asked = number
        if _State.holding:
            _State.waiting = number
        else:
            raise Interrupted(number)

    _State.asked = None
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
        check()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Let a signal wait until the context is left; for the main thread, and not to be nested."""
    _State.holding = True
    try:
        yield
    finally:
        _State.holding = False
        number, _State.waiting = _State.waiting, None
        if number is not None:
            raise Interrupted(number)


def check() -> None:
    """Raise ``Interrupted`` if a signal has asked this process to stop."""
    if _State.asked is not None:
        raise Interrupted(_State.asked)
