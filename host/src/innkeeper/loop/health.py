"""What missed health checks mean.

Rules of this module:

1. A verdict is a pure function of what was seen: how many checks in a row were missed, and what the policy allows.
2. One check that is missed is news, not an end: the machine may be busy.
"""

from __future__ import annotations

from enum import Enum

from innkeeper.loop.plans import RestartPolicy

__all__ = ["Verdict", "judge"]


class Verdict(Enum):
    """How a process is, seen from outside."""

    WELL = "well"
    LATE = "late"
    HUNG = "hung"


def judge(missed: int, policy: RestartPolicy) -> Verdict:
    """Return how a process is.

    Args:
        missed: How many health checks in a row it has missed by now.
        policy: How many it may miss.
    """
    if missed == 0:
        return Verdict.WELL
    return Verdict.HUNG if missed >= policy.ping_failures else Verdict.LATE
