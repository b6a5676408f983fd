"""How fast a schedule may tick.

Rules of this module:

1. The judgement is the reference's: the next twelve ticks from 2026-01-01T00:00:00Z on, none closer to the one before
   it than the limit; equal is fine. So it never depends on when a workflow is registered.
2. A schedule that never ticks is its author's fault; one that ticks fewer than twelve times cannot be judged.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from innkeeper_cron.text import format_duration
from innkeeper_cron.ticks import Schedule
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin

__all__ = ["check_rate", "never_ticks"]

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_TICKS: Final = 12


def check_rate(schedule: Schedule, fastest: float) -> None:
    """Refuse a schedule that ticks faster than a limit, or hardly ever.

    Args:
        schedule: The schedule.
        fastest: Least number of seconds between two ticks.

    Raises:
        CapabilityError: It is too fast, never ticks, or cannot be judged.
    """
    last: datetime | None = None
    for count in range(_TICKS):
        tick = schedule.next(last or _START)
        if tick is None and last is None:
            raise never_ticks()
        if tick is None:
            raise CapabilityError(
                f"expected {_TICKS} ticks from {_START:%Y-%m-%d} on to judge the schedule by, found {count}",
                error_code=ErrorCode.Internal,
            )
        if last is not None and (tick - last).total_seconds() < fastest:
            raise CapabilityError(
                f"maximum fastest cron schedule is {format_duration(fastest)}",
                error_code=ErrorCode.LimitExceeded,
                origin=Origin.USER,
            )
        last = tick


def never_ticks() -> CapabilityError:
    """Return the error for a schedule without a next tick; the text is gocron's."""
    return CapabilityError(
        "failed to initialize job: gocron: CronJob: invalid crontab",
        error_code=ErrorCode.InvalidArgument,
        origin=Origin.USER,
    )
