"""The life of one process, as a table: ``(state, event) → (state, effects)``.

Rules of this module:

1. No input or output, no clock, no tasks: the supervisor says what has happened, and does what is said here.
2. Every pair of a state and an event has its answer. What comes too late changes nothing, and says so by having no
   effects; nothing has an effect once the process is stopped.
3. A process that ended is reaped before the next one is launched, and before it is called stopped.
4. A life begins with a launch, in the state ``starting``.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from innkeeper.loop.plans import RestartPolicy
from innkeeper.loop.states import ProcessState

__all__ = ["Effect", "Event", "Restarts", "step"]


class Event(Enum):
    """What can happen to a process."""

    LAUNCH = auto()  # its pause is over
    READY = auto()  # its capabilities are there, or it answers again
    LATE = auto()  # it missed a health check
    FELL = auto()  # it ended, hung, or did not start; there will be another one
    SPENT = auto()  # the same, and the budget of restarts is spent
    HOPELESS = auto()  # the same, and the next one would end the same way
    REFUSED = auto()  # it is no plugin for this host
    REAPED = auto()  # nothing of it is left
    STOP = auto()  # the host wants it to end


class Effect(Enum):
    """What is to be done, in the order in which it is said."""

    LAUNCH = auto()  # start the next generation
    ABANDON = auto()  # take its capabilities away, and end what waits for it
    CLOSE = auto()  # ask it to end
    REAP = auto()  # end everything that belongs to it
    PAUSE = auto()  # start it again after a while
    SETTLE = auto()  # tell whoever waits for the start or the end


_S = ProcessState
_E = Event
_F = Effect

_DOWN: Final = (_F.ABANDON, _F.REAP)

_TABLE: Final[dict[tuple[ProcessState, Event], tuple[ProcessState, tuple[Effect, ...]]]] = {
    (_S.STARTING, _E.READY): (_S.READY, (_F.SETTLE,)),
    (_S.STARTING, _E.FELL): (_S.RESTARTING, _DOWN),
    (_S.STARTING, _E.SPENT): (_S.QUARANTINED, _DOWN),
    (_S.STARTING, _E.HOPELESS): (_S.FAILED, _DOWN),
    (_S.STARTING, _E.REFUSED): (_S.UNSUPPORTED, _DOWN),
    (_S.STARTING, _E.STOP): (_S.STOPPING, _DOWN),
    (_S.READY, _E.LATE): (_S.DEGRADED, ()),
    (_S.READY, _E.FELL): (_S.RESTARTING, _DOWN),
    (_S.READY, _E.SPENT): (_S.QUARANTINED, _DOWN),
    (_S.READY, _E.STOP): (_S.STOPPING, (_F.CLOSE, *_DOWN)),
    (_S.DEGRADED, _E.READY): (_S.READY, ()),
    (_S.DEGRADED, _E.LATE): (_S.DEGRADED, ()),
    (_S.DEGRADED, _E.FELL): (_S.RESTARTING, _DOWN),
    (_S.DEGRADED, _E.SPENT): (_S.QUARANTINED, _DOWN),
    (_S.DEGRADED, _E.STOP): (_S.STOPPING, (_F.CLOSE, *_DOWN)),
    (_S.RESTARTING, _E.REAPED): (_S.RESTARTING, (_F.PAUSE,)),
    (_S.RESTARTING, _E.LAUNCH): (_S.STARTING, (_F.LAUNCH,)),
    (_S.RESTARTING, _E.STOP): (_S.STOPPING, (_F.REAP,)),
    (_S.QUARANTINED, _E.REAPED): (_S.QUARANTINED, (_F.SETTLE,)),
    (_S.QUARANTINED, _E.STOP): (_S.STOPPING, (_F.REAP,)),
    (_S.FAILED, _E.REAPED): (_S.FAILED, (_F.SETTLE,)),
    (_S.FAILED, _E.STOP): (_S.STOPPING, (_F.REAP,)),
    (_S.UNSUPPORTED, _E.REAPED): (_S.UNSUPPORTED, (_F.SETTLE,)),
    (_S.UNSUPPORTED, _E.STOP): (_S.STOPPING, (_F.REAP,)),
    (_S.STOPPING, _E.REAPED): (_S.STOPPED, (_F.SETTLE,)),
}


def step(state: ProcessState, event: Event) -> tuple[ProcessState, tuple[Effect, ...]]:
    """Return what becomes of a process, and what is to be done.

    Args:
        state: How it is.
        event: What has happened.
    """
    return _TABLE.get((state, event), (state, ()))


class Restarts:
    """When to start a process again: later each time, and not too often.

    Args:
        policy: The pauses and the budget.
        spread: Returns a factor from 0 to 1, so that processes that fell together do not rise together.
    """

    def __init__(self, policy: RestartPolicy, spread: Callable[[], float] = random.random) -> None:
        self._policy = policy
        self._spread = spread
        self._times: deque[float] = deque()

    def spend(self, now: float) -> bool:
        """Take one restart out of the budget; return whether there was one.

        Args:
            now: In seconds of any clock that only goes forward.
        """
        while self._times and self._times[0] <= now - self._policy.window_seconds:
            self._times.popleft()
        if len(self._times) >= self._policy.budget:
            return False
        self._times.append(now)
        return True

    def pause(self) -> float:
        """Return how long to wait before the restart that was taken last, in seconds.

        It doubles with every restart within the window, up to the longest, and is shortened by up to a half at random.
        """
        # The exponent is bounded because a float is not.
        doubled = self._policy.backoff_first_seconds * 2.0 ** min(len(self._times) - 1, 63)
        return min(doubled, self._policy.backoff_most_seconds) * (1.0 - 0.5 * self._spread())
