"""Schedules as workflow authors write them.

Rules of this module:

1. ``[TZ=<zone> | CRON_TZ=<zone>] SP``, then five or six fields (six: seconds first; five: seconds are 0) or a
   descriptor. Without a prefix the zone is UTC, never the machine's.
2. The grammar and the texts of its faults are those of robfig/cron v3.0.1 as gocron v2 wraps it, so that authors see
   the same words everywhere. Where that parser crashes (a prefix and nothing else) it is the text for missing fields.
3. The work that a schedule costs is bounded by its length.
"""

from __future__ import annotations

import re
from datetime import UTC, timedelta, tzinfo
from typing import Final

from innkeeper_cron.fields import DAY_OF_MONTH, DAY_OF_WEEK, HOUR, MINUTE, MONTH, SECOND, Field, FieldError
from innkeeper_cron.text import TextError, parse_duration
from innkeeper_cron.ticks import Calendar, Interval, Schedule
from innkeeper_cron.zones import ZoneError, zone

__all__ = ["MAX_LENGTH", "ScheduleError", "parse_schedule"]

MAX_LENGTH: Final = 4096  # characters; every number of every field written out takes about 600

_PREFIXES: Final = ("TZ=", "CRON_TZ=")
_EVERY: Final = "@every "
_BOUNDS: Final = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)
# Unicode's White_Space, as Go splits and trims; str.split() also takes U+001C to U+001F.
_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_SPACES: Final = re.compile(f"[{_SPACE}]+")
_DESCRIPTORS: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}


class ScheduleError(ValueError):
    """Raised when a schedule is not valid; ``str()`` is the reference's text."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"gocron: CronJob: crontab parse failure\n{detail}")


def parse_schedule(text: str) -> Schedule:
    """Parse a schedule.

    Args:
        text: The schedule, at most :data:`MAX_LENGTH` characters.

    Returns:
        What it stands for.

    Raises:
        ScheduleError: It is not valid; the first fault from the left is reported.
    """
    if len(text) > MAX_LENGTH:
        raise ScheduleError(f"schedule too long: expected at most {MAX_LENGTH} characters, found {len(text)}")
    where: tzinfo = UTC
    if text.startswith(_PREFIXES):
        prefix, _, text = text.partition(" ")
        name = prefix.partition("=")[2]
        try:
            where = zone(name)
        except ZoneError as error:
            raise ScheduleError(f"provided bad location {name}: {error}") from error
    text = text.strip(_SPACE)
    if text.startswith("@"):
        return _descriptor(text, where)
    return _calendar(_SPACES.split(text) if text else [], where)


def _calendar(fields: list[str], where: tzinfo) -> Calendar:
    if len(fields) not in (5, 6):
        raise ScheduleError(f"expected 5 to 6 fields, found {len(fields)}: [{' '.join(fields)}]")
    if len(fields) == len(_BOUNDS) - 1:
        fields = ["0", *fields]
    try:
        second, minute, hour, day, month, weekday = map(Field.parse, fields, _BOUNDS)
    except FieldError as error:
        raise ScheduleError(str(error)) from error
    return Calendar(second, minute, hour, day, month, weekday, where)


def _descriptor(text: str, where: tzinfo) -> Schedule:
    if text in _DESCRIPTORS:
        return _calendar(_DESCRIPTORS[text].split(), where)
    if not text.startswith(_EVERY):
        raise ScheduleError(f"unrecognized descriptor: {text}")
    try:
        nanoseconds = parse_duration(text.removeprefix(_EVERY))
    except TextError as error:
        raise ScheduleError(f"failed to parse duration {text}: {error}") from error
    return Interval(timedelta(seconds=max(1, nanoseconds // 10**9)))
