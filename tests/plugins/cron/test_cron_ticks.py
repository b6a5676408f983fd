"""When schedules tick: fields, days, zones, horizons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_cron.schedule import parse_schedule
from innkeeper_cron.ticks import Calendar, Interval, Schedule

SECOND = timedelta(seconds=1)
ZONES = ["UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "Asia/Beirut"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def ticks(text: str, after: str, count: int) -> list[str]:
    schedule, last, found = parse_schedule(text), at(after), []
    for _ in range(count):
        tick = schedule.next(last)
        assert tick is not None
        found.append(tick.isoformat())
        last = tick
    return found


def matches(calendar: Calendar, instant: datetime) -> bool:
    """Say whether an instant's local time matches, by the words of the day rule and nothing of the search."""
    local = instant.astimezone(calendar.zone)
    in_month, in_week = local.day in calendar.day.numbers, (local.weekday() + 1) % 7 in calendar.weekday.numbers
    both = calendar.day.star or calendar.weekday.star
    return (
        local.second in calendar.second.numbers
        and local.minute in calendar.minute.numbers
        and local.hour in calendar.hour.numbers
        and local.month in calendar.month.numbers
        and ((in_month and in_week) if both else (in_month or in_week))
    )


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 */5 * * * *", "2026-01-01T00:00:00Z", ["2026-01-01T00:05:00+00:00", "2026-01-01T00:10:00+00:00"]),
        ("*/5 * * * *", "2026-01-01T00:04:59.999Z", ["2026-01-01T00:05:00+00:00", "2026-01-01T00:10:00+00:00"]),
        ("* * * * * *", "2026-12-31T23:59:58.5Z", ["2026-12-31T23:59:59+00:00", "2027-01-01T00:00:00+00:00"]),
        ("30 15 10 * * *", "2026-01-01T10:15:30Z", ["2026-01-02T10:15:30+00:00", "2026-01-03T10:15:30+00:00"]),
        ("5 10,20 3 * * *", "2026-01-01T03:10:06Z", ["2026-01-01T03:20:05+00:00", "2026-01-02T03:10:05+00:00"]),
        ("0 0 0 29 2 *", "2026-01-01T00:00:00Z", ["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00"]),
        ("0 0 0 31 * *", "2026-01-31T00:00:00Z", ["2026-03-31T00:00:00+00:00", "2026-05-31T00:00:00+00:00"]),
        ("@yearly", "2026-01-01T00:00:00Z", ["2027-01-01T00:00:00+00:00", "2028-01-01T00:00:00+00:00"]),
        ("@weekly", "2026-01-01T00:00:00Z", ["2026-01-04T00:00:00+00:00", "2026-01-11T00:00:00+00:00"]),
        ("@every 90s", "2026-01-01T00:00:00.75Z", ["2026-01-01T00:01:30+00:00", "2026-01-01T00:03:00+00:00"]),
        ("TZ=Asia/Tokyo 0 9 * * *", "2026-01-01T00:00:00Z", ["2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"]),
        # Days: one star, so both must match; no star, so either may; a step above 1 is no star.
        ("0 0 0 13 * *", "2026-01-01T00:00:00Z", ["2026-01-13T00:00:00+00:00", "2026-02-13T00:00:00+00:00"]),
        ("0 0 0 13 * FRI", "2026-01-08T00:00:00Z", ["2026-01-09T00:00:00+00:00", "2026-01-13T00:00:00+00:00"]),
        ("0 0 0 */2 * 5", "2026-01-01T00:00:00Z", ["2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"]),
        ("0 0 0 */1 * 5", "2026-01-01T00:00:00Z", ["2026-01-02T00:00:00+00:00", "2026-01-09T00:00:00+00:00"]),
        ("0 0 0 ? * 5", "2026-01-01T00:00:00Z", ["2026-01-02T00:00:00+00:00", "2026-01-09T00:00:00+00:00"]),
    ],
)
def test_the_next_ticks_are_those_of_the_fields(text: str, after: str, expected: list[str]) -> None:
    assert ticks(text, after, 2) == expected


def test_a_local_time_that_exists_twice_ticks_twice() -> None:
    assert ticks("TZ=America/New_York 30 1 * * *", "2026-10-31T12:00:00Z", 3) == [
        "2026-11-01T05:30:00+00:00",  # -04:00
        "2026-11-01T06:30:00+00:00",  # -05:00
        "2026-11-02T06:30:00+00:00",
    ]


def test_a_doubled_time_before_the_current_one_still_ticks_in_its_second_pass() -> None:
    assert ticks("TZ=America/New_York 15 1 * * *", "2026-11-01T05:30:00Z", 1) == ["2026-11-01T06:15:00+00:00"]


def test_a_local_time_that_does_not_exist_is_skipped_that_day() -> None:
    assert ticks("TZ=America/New_York 30 2 * * *", "2026-03-07T12:00:00Z", 2) == [
        "2026-03-09T06:30:00+00:00",
        "2026-03-10T06:30:00+00:00",
    ]


def test_a_zone_whose_day_starts_at_one_has_no_midnight_that_day() -> None:
    # Lebanon sets its clocks forward at 00:00: 29 March 2026 begins at 01:00.
    assert ticks("TZ=Asia/Beirut 0 0 * * *", "2026-03-28T12:00:00Z", 1) == ["2026-03-29T21:00:00+00:00"]


def test_a_shift_of_half_an_hour_doubles_half_an_hour() -> None:
    # Lord Howe goes from +11:00 to +10:30 at 02:00 on 5 April 2026.
    assert ticks("TZ=Australia/Lord_Howe 45 1 * * *", "2026-04-04T12:00:00Z", 2) == [
        "2026-04-04T14:45:00+00:00",
        "2026-04-04T15:15:00+00:00",
    ]


def test_every_hour_of_the_clock_ticks_once_an_hour_across_both_shifts() -> None:
    for start in ("2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z"):
        found = [at(tick) for tick in ticks("TZ=America/New_York 0 * * * *", start, 24)]
        assert all(later - earlier == timedelta(hours=1) for earlier, later in pairwise(found))


@pytest.mark.parametrize(
    "text",
    [
        "0 0 0 30 2 *",
        "TZ=America/New_York 0 0 0 30 2 *",
        "0 0 0 31 4,6,9,11 *",
        ", * * * * *",
        "* , * * * *",
        "* * , * * *",
        "* * * , * *",
        "* * * * , *",
        "* * * * * ,",
    ],
)
def test_a_schedule_that_matches_nothing_has_no_next_tick(text: str) -> None:
    assert parse_schedule(text).next(at("2026-01-01T00:00:00Z")) is None


def test_the_horizon_is_the_end_of_the_fifth_year_after() -> None:
    # 2100 is no leap year: from 2096 on, eight years pass without a 29 February.
    leap_day = parse_schedule("0 0 0 29 2 *")
    assert leap_day.next(at("2096-03-01T00:00:00Z")) is None
    assert leap_day.next(at("2098-12-31T23:59:59Z")) == at("2104-02-29T00:00:00Z")
    assert leap_day.next(at("2098-12-31T23:59:58Z")) is None


def test_an_interval_beyond_the_calendar_has_no_next_tick() -> None:
    assert Interval(timedelta(days=900_000)).next(at("9000-01-01T00:00:00Z")) is None


@pytest.mark.parametrize(
    ("text", "last", "now", "expected"),
    [
        # On time, late within the period, exactly on a tick, and hours late: phase kept, one tick each.
        ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
        ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:01:30Z"),
        ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z", "2026-01-01T00:01:30Z"),
        ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30.001Z", "2026-01-01T00:03:00Z"),
        ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T08:00:01Z", "2026-01-01T08:01:30Z"),
        ("0 * * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.002Z", "2026-01-01T00:01:00Z"),
        ("0 * * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z"),
        ("0 * * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:05:00.5Z", "2026-01-01T00:06:00Z"),
        # A clock that was set back does not repeat the last tick.
        ("0 * * * * *", "2026-01-01T00:05:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:06:00Z"),
        ("@every 60s", "2026-01-01T00:05:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:06:00Z"),
    ],
)
def test_after_a_tick_what_is_past_is_skipped(text: str, last: str, now: str, expected: str) -> None:
    assert parse_schedule(text).resume(at(last), at(now)) == at(expected)


_INSTANTS = st.datetimes(datetime(2026, 1, 1), datetime(2037, 12, 31)).map(lambda naive: naive.replace(tzinfo=UTC))


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        st.integers(2, high).map(lambda step: f"*/{step}"),
        st.lists(number, min_size=1, max_size=4).map(lambda numbers: ",".join(map(str, numbers))),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    )


_CALENDARS = st.builds(
    lambda zone, *fields: parse_schedule(f"TZ={zone} {' '.join(fields)}"),
    st.sampled_from(ZONES),
    *(_field(low, high) for low, high in ((0, 59), (0, 59), (0, 23), (1, 28), (1, 12), (0, 6))),
)


@given(_CALENDARS, _INSTANTS)
def test_ticks_strictly_increase_and_match_their_fields(schedule: Schedule, start: datetime) -> None:
    assert isinstance(schedule, Calendar)
    last = start
    for _ in range(5):
        tick = schedule.next(last)
        assert tick is not None
        assert tick > last
        assert tick.microsecond == 0
        assert matches(schedule, tick)
        last = tick


@settings(deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    fields=st.tuples(_field(0, 59), _field(0, 23), st.just("*"), st.just("*"), _field(0, 6)),
    day=st.sampled_from(["2026-03-08", "2026-11-01", "2026-04-04", "2026-03-29", "2026-02-15", "2026-10-25"]),
    hour=st.integers(0, 23),
)
def test_no_instant_that_matches_is_passed_over(zone: str, fields: tuple[str, ...], day: str, hour: int) -> None:
    # On days on which the zones shift, every whole minute up to the tick found is tried.
    schedule = parse_schedule(f"TZ={zone} {' '.join(fields)}")
    assert isinstance(schedule, Calendar)
    instant = at(f"{day}T{hour:02}:00:00Z")
    tick = schedule.next(instant)
    assert tick is not None
    for _ in range(3 * 24 * 60):
        instant += timedelta(minutes=1)
        if instant >= tick:
            break
        assert not matches(schedule, instant)


@given(_CALENDARS, _INSTANTS, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_resuming_gives_the_first_tick_that_is_not_past(schedule: Schedule, last: datetime, late: timedelta) -> None:
    now = last + late
    resumed, tick = schedule.resume(last, now), schedule.next(last)
    assert resumed is not None
    assert resumed >= now
    assert resumed > last
    assert tick is not None
    assert tick == resumed or tick < now


def test_two_shifts_a_week_apart_are_both_seen() -> None:
    # The closest pair of shifts in the IANA data from 2026 on: Gaza in October 2040.
    schedule = parse_schedule("TZ=Asia/Gaza 30 1 * * *")
    assert isinstance(schedule, Calendar)
    start, end = at("2040-10-10T00:00:00Z"), at("2040-11-05T00:00:00Z")
    minutes = [start + timedelta(minutes=count) for count in range((end - start) // timedelta(minutes=1))]
    assert len({minute.astimezone(ZoneInfo("Asia/Gaza")).utcoffset() for minute in minutes}) == 2
    found, instant = [], start
    while (tick := schedule.next(instant)) is not None and tick < end:
        found.append(tick)
        instant = tick
    assert found == [minute for minute in minutes if matches(schedule, minute)]
