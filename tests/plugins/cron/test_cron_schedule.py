"""The schedule grammar: what is taken, what is refused, and in which words."""

from __future__ import annotations

import string
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from innkeeper_cron.schedule import MAX_LENGTH, ScheduleError, parse_schedule
from innkeeper_cron.ticks import Calendar, Interval

FIELDS = ("second", "minute", "hour", "day", "month", "weekday")


def calendar(text: str) -> Calendar:
    schedule = parse_schedule(text)
    assert isinstance(schedule, Calendar)
    return schedule


@pytest.mark.parametrize(
    ("text", "field", "numbers", "star"),
    [
        ("* * * * *", "second", (0,), False),
        ("* * * * *", "minute", tuple(range(60)), True),
        ("*/20 * * * * *", "second", (0, 20, 40), False),
        ("? ? ? ? ? ?", "weekday", tuple(range(7)), True),
        ("5/20 * * * * *", "second", (5, 25, 45), False),
        ("10-20/5 * * * * *", "second", (10, 15, 20), False),
        ("1,3,,5, * * * * *", "second", (1, 3, 5), False),
        ("+7 * * * * *", "second", (7,), False),
        (", * * * * *", "second", (), False),
        ("0 0 0 1 JAN,feb-Apr *", "month", (1, 2, 3, 4), False),
        ("0 0 0 * * Mon-FRI", "weekday", (1, 2, 3, 4, 5), False),
        ("0 0 0 */1 * *", "day", tuple(range(1, 32)), True),
        ("0 0 0 */2 * *", "day", tuple(range(1, 32, 2)), False),
        ("0 0 0 1,* * *", "day", tuple(range(1, 32)), True),
        ("0 0 0 *-5 * *", "day", tuple(range(1, 32)), True),
        ("59/99999999999 * * * * *", "second", (59,), False),
        ("@yearly", "month", (1,), False),
        ("@annually", "day", (1,), False),
        ("@monthly", "month", tuple(range(1, 13)), True),
        ("@weekly", "weekday", (0,), False),
        ("@daily", "hour", (0,), False),
        ("@midnight", "minute", (0,), False),
        ("@hourly", "hour", tuple(range(24)), True),
    ],
)
def test_a_field_stands_for_its_numbers(text: str, field: str, numbers: tuple[int, ...], star: bool) -> None:
    parsed = getattr(calendar(text), field)
    assert (parsed.numbers, parsed.star) == (numbers, star)


@pytest.mark.parametrize("text", ["  0 0 12 * * *\t", "\u30000\u00a00\u200a12 * * *\n", "TZ=UTC 0 0 12 * * *"])
def test_white_space_around_and_between_fields_does_not_matter(text: str) -> None:
    assert calendar(text) == calendar("0 0 12 * * *")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("@every 1h30m", 5400),
        ("@every 90s", 90),
        ("@every 2.9s", 2),
        ("@every 10ms", 1),
        ("@every -5s", 1),
        ("@every 0", 1),
        ("TZ=Asia/Tokyo @every 5m", 300),
        ("  @every 2s  ", 2),
    ],
)
def test_an_interval_has_whole_seconds_and_at_least_one(text: str, seconds: int) -> None:
    assert parse_schedule(text) == Interval(timedelta(seconds=seconds))


@pytest.mark.parametrize("prefix", ["TZ=", "CRON_TZ="])
def test_a_prefix_names_the_zone(prefix: str) -> None:
    assert calendar(f"{prefix}America/New_York 0 12 * * *").zone == ZoneInfo("America/New_York")
    assert calendar(f"{prefix}America/New_York @daily").zone == ZoneInfo("America/New_York")
    assert calendar(f"{prefix} 0 12 * * *").zone is UTC


def test_without_a_prefix_the_zone_is_utc_and_never_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert calendar("0 12 * * *").zone is UTC


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "expected 5 to 6 fields, found 0: []"),
        ("   ", "expected 5 to 6 fields, found 0: []"),
        ("TZ=UTC", "expected 5 to 6 fields, found 0: []"),
        ("CRON_TZ=UTC ", "expected 5 to 6 fields, found 0: []"),
        ("* * *", "expected 5 to 6 fields, found 3: [* * *]"),
        ("1 2 3 4 5 6 7", "expected 5 to 6 fields, found 7: [1 2 3 4 5 6 7]"),
        ("d * * * * *", 'failed to parse int from d: strconv.Atoi: parsing "d": invalid syntax'),
        ("TZ=moon * * * * *", "provided bad location moon: unknown time zone moon"),
        ("TZ=moon", "provided bad location moon: unknown time zone moon"),
        ("CRON_TZ=utc * * * * *", "provided bad location utc: unknown time zone utc"),
        ("TZ=Local * * * * *", "provided bad location Local: unknown time zone Local"),
        ("TZ=localtime * * * * *", "provided bad location localtime: unknown time zone localtime"),
        ("TZ=../zoneinfo/UTC * * * * *", "provided bad location ../zoneinfo/UTC: time: invalid location name"),
        ("TZ=/etc/localtime * * * * *", "provided bad location /etc/localtime: time: invalid location name"),
        ("TZ=America * * * * *", "provided bad location America: unknown time zone America"),
        ("TZ=a\x00b * * * * *", "provided bad location a\x00b: unknown time zone a\x00b"),
        ("0 0 0 * * 7", "end of range (7) above maximum (6): 7"),
        ("0 0 0 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("0 0 0 5-3 * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("*/0 * * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * * *", "too many hyphens: 1-2-3"),
        ("x-2-3 * * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("1/2/3 * * * * *", "too many slashes: 1/2/3"),
        ("*/-1 * * * * *", "negative number (-1) not allowed: -1"),
        ("-1 * * * * *", 'failed to parse int from : strconv.Atoi: parsing "": invalid syntax'),
        ("60 * * * * *", "end of range (60) above maximum (59): 60"),
        ("0 60 * * * *", "end of range (60) above maximum (59): 60"),
        ("0 0 24 * * *", "end of range (24) above maximum (23): 24"),
        ("0 0 0 32 * *", "end of range (32) above maximum (31): 32"),
        ("0 0 0 * 13 *", "end of range (13) above maximum (12): 13"),
        ("0 0 0 * 0 *", "beginning of range (0) below minimum (1): 0"),
        ("0 0 0 L * *", 'failed to parse int from L: strconv.Atoi: parsing "L": invalid syntax'),
        ("0 0 0 * * 5#2", 'failed to parse int from 5#2: strconv.Atoi: parsing "5#2": invalid syntax'),
        ("0 0 0 mon * *", 'failed to parse int from mon: strconv.Atoi: parsing "mon": invalid syntax'),
        ("0 0 0 * * monday", 'failed to parse int from monday: strconv.Atoi: parsing "monday": invalid syntax'),
        ("H * * * * *", 'failed to parse int from H: strconv.Atoi: parsing "H": invalid syntax'),
        ("a b * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'),
        ("@x", "unrecognized descriptor: @x"),
        ("@reboot", "unrecognized descriptor: @reboot"),
        ("@Daily", "unrecognized descriptor: @Daily"),
        ("@daily *", "unrecognized descriptor: @daily *"),
        ("@every", "unrecognized descriptor: @every"),
        ("@every x", 'failed to parse duration @every x: time: invalid duration "x"'),
        ("@every 1d", 'failed to parse duration @every 1d: time: unknown unit "d" in duration "1d"'),
        (
            "*" * (MAX_LENGTH + 1),
            f"schedule too long: expected at most {MAX_LENGTH} characters, found {MAX_LENGTH + 1}",
        ),
    ],
)
def test_a_faulty_schedule_is_refused_in_the_words_of_the_reference(text: str, detail: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    assert str(caught.value) == f"gocron: CronJob: crontab parse failure\n{detail}"


_ITEMS = st.text(alphabet=string.digits + "*?-/,+LWjanmoSUN", max_size=8)
_NEARLY = st.builds(
    lambda prefix, fields: prefix + " ".join(fields),
    st.sampled_from(["", "TZ=UTC ", "CRON_TZ=Europe/Berlin ", "TZ=", "@every ", "@"]),
    st.lists(_ITEMS, max_size=8),
)


@given(st.one_of(st.text(max_size=60), _NEARLY))
@example("0" * MAX_LENGTH)
@example("1-" * (MAX_LENGTH // 2))
@example(" " * MAX_LENGTH)
def test_the_parser_takes_or_refuses_any_text_and_never_crashes(text: str) -> None:
    try:
        schedule = parse_schedule(text)
    except ScheduleError:
        return
    assert isinstance(schedule, Calendar | Interval)


@given(st.data())
def test_a_written_field_parses_to_exactly_what_it_says(data: st.DataObject) -> None:
    bounds = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    texts, expected = [], []
    for low, high in bounds:
        numbers = data.draw(st.sets(st.integers(low, high), min_size=1, max_size=6))
        texts.append(",".join(map(str, numbers)))
        expected.append(tuple(sorted(numbers)))
    parsed = calendar(" ".join(texts))
    assert [getattr(parsed, name).numbers for name in FIELDS] == expected
