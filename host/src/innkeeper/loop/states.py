"""What can be said of one part of a provider that runs as a process.

Rules of this module:

1. A process and each of its helpers are parts of their own, with one generation: they live and end together.
2. ``failed`` and ``unsupported`` are what starting again cannot cure, ``quarantined`` is what it has not cured.
3. Every state but ``ready`` comes with its reason, one sentence for the operator; those on the way to another one may
   come without.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Literal

from attrs import frozen

__all__ = ["PartStatus", "ProcessState"]


class ProcessState(Enum):
    """How a process is; the values are the words of the control protocol and the command line."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    RESTARTING = "restarting"
    QUARANTINED = "quarantined"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"

    @property
    def serves(self) -> bool:
        """Whether its capabilities can be called."""
        return self in (ProcessState.READY, ProcessState.DEGRADED)


@frozen
class PartStatus:
    """A process, or a helper of one, as it is listed.

    Attributes:
        name: Its name in the manifest.
        mode: ``loop`` for the process, ``helper`` for a helper.
        state: How it is.
        reason: One sentence; empty where there is nothing to say.
        since: When it came to be so, in UTC.
        pid: Its process id; None while there is none.
        generation: Counts the launches, from 1; None before the first.
    """

    name: str
    mode: Literal["loop", "helper"]
    state: ProcessState
    reason: str
    since: datetime
    pid: int | None
    generation: int | None
