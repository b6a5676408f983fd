"""When a schedule ticks.

Rules of this module:

1. A tick is a whole second in UTC. Ticks are strictly increasing.
2. A calendar ticks at every instant whose *local* time matches its fields. So a local time that does not exist is
   skipped that day, and one that exists twice ticks twice.
3. Day rule: if one of the two day fields is a star, both must match; otherwise either may.
4. A calendar without a match up to the end of the fifth year after the start has no next tick.
5. An interval ticks its delay after its last tick; it knows no zone.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Protocol

from attrs import field, frozen

from innkeeper_cron.fields import Field

__all__ = ["Calendar", "Interval", "Schedule"]

_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_YEARS: Final = 5  # the reference's horizon
# No zone changes its offset twice within less than seven days from 2026 on (Gaza comes closest), so that between two
# probes of an offset at most one change can hide.
_PROBE: Final = timedelta(days=3)


class Schedule(Protocol):
    """Something that ticks."""

    def next(self, after: datetime) -> datetime | None:
        """Return the first tick after an instant, in UTC; None if there is none within the horizon."""

    def resume(self, last: datetime, now: datetime) -> datetime | None:
        """Return the first tick after the last one that is not past, in UTC; None if there is none."""


@frozen
class Interval:
    """Ticks a fixed delay apart.

    Attributes:
        delay: Whole seconds, at least one.
    """

    delay: timedelta

    def next(self, after: datetime) -> datetime | None:
        """Return ``after``, without its fraction of a second, plus the delay; None beyond the calendar's end."""
        return self._plus(after, 1)

    def resume(self, last: datetime, now: datetime) -> datetime | None:
        """Return the first instant a whole number of delays after the last tick that is not past."""
        return self._plus(last, max(1, -((last - now) // self.delay)))

    def _plus(self, start: datetime, delays: int) -> datetime | None:
        try:
            return start.astimezone(UTC).replace(microsecond=0) + delays * self.delay
        except OverflowError:
            return None


@frozen
class Calendar:
    """Ticks where the local time matches six fields.

    Attributes:
        second: Seconds.
        minute: Minutes.
        hour: Hours.
        day: Days of the month.
        month: Months.
        weekday: Days of the week, Sunday being 0.
        zone: Whose local time counts.
    """

    second: Field
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field
    zone: tzinfo = field(default=UTC)

    def next(self, after: datetime) -> datetime | None:
        """Return the first instant after ``after`` whose local time matches."""
        at = after.astimezone(UTC).replace(microsecond=0) + _SECOND
        last_year = at.astimezone(self.zone).year + _YEARS
        while True:
            offset = self._offset(at)
            local = self._match((at + offset).replace(tzinfo=None), last_year)
            if local is None:
                return None
            tick = local.replace(tzinfo=UTC) - offset
            change = self._change(at, tick, offset)
            if change is None:
                return tick
            at = change

    def resume(self, last: datetime, now: datetime) -> datetime | None:
        """Return the first match after the last tick that is not past."""
        return self.next(max(last, now - _MICROSECOND))

    def _offset(self, at: datetime) -> timedelta:
        offset = at.astimezone(self.zone).utcoffset()
        return timedelta(0) if offset is None else offset

    def _change(self, start: datetime, end: datetime, offset: timedelta) -> datetime | None:
        """Return the first second in (start, end] at which the zone leaves ``offset``."""
        if self.zone is UTC:
            return None
        low = start
        while low < end:
            high = min(low + _PROBE, end)
            if self._offset(high) != offset:
                while high - low > _SECOND:
                    middle = low + (high - low) // _SECOND // 2 * _SECOND
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _match(self, local: datetime, last_year: int) -> datetime | None:
        """Return the first matching local time that is not before ``local``."""
        if not (self.second.numbers and self.minute.numbers and self.hour.numbers):
            return None
        today = local.date()
        if local.month in self.month.numbers and self._day_matches(today):
            found = self._time(local.time())
            if found is not None:
                return datetime.combine(today, found)
        day = self._later_day(today, last_year)
        if day is None:
            return None
        return datetime.combine(day, time(self.hour.numbers[0], self.minute.numbers[0], self.second.numbers[0]))

    def _time(self, start: time) -> time | None:
        """Return the first matching time of day that is not before ``start``."""
        hours, minutes, seconds = self.hour.numbers, self.minute.numbers, self.second.numbers
        hour = bisect_left(hours, start.hour)
        if hour == len(hours):
            return None
        if hours[hour] > start.hour:
            return time(hours[hour], minutes[0], seconds[0])
        minute = bisect_left(minutes, start.minute)
        if minute < len(minutes) and minutes[minute] == start.minute:
            second = bisect_left(seconds, start.second)
            if second < len(seconds):
                return time(start.hour, start.minute, seconds[second])
            minute += 1
        if minute < len(minutes):
            return time(start.hour, minutes[minute], seconds[0])
        return time(hours[hour + 1], minutes[0], seconds[0]) if hour + 1 < len(hours) else None

    def _later_day(self, today: date, last_year: int) -> date | None:
        day = today + timedelta(days=1)
        while day.year <= last_year:
            if day.month not in self.month.numbers:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            elif self._day_matches(day):
                return day
            else:
                day += timedelta(days=1)
        return None

    def _day_matches(self, day: date) -> bool:
        in_month = day.day in self.day.numbers
        in_week = day.isoweekday() % 7 in self.weekday.numbers
        return (in_month and in_week) if self.day.star or self.weekday.star else (in_month or in_week)
