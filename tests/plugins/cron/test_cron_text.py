"""Texts and numbers as the reference's runtime writes and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_cron.text import TextError, format_duration, parse_duration, parse_int

SECOND = 10**9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (30, "30s"),
        (60, "1m0s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (5400.5, "1h30m0.5s"),
        (1.5, "1.5s"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (0.000_002_5, "2.5µs"),
        (0.000_000_001, "1ns"),
        (100 * 3600, "100h0m0s"),
    ],
)
def test_durations_print_as_in_go(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("5s", 5 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("-1.5s", -1_500_000_000),
        ("+.5s", SECOND // 2),
        ("1.s", SECOND),
        ("1us1µs1μs", 3000),
        ("3ns2ms", 2_000_003),
        ("0.000000001s", 1),
        ("1.00000000000000000000000000000000001s", SECOND),
        ("000000000000000000000000000000001s", SECOND),
        ("9223372036854775807ns", 2**63 - 1),
        ("-9223372036854775808ns", -(2**63)),
    ],
)
def test_durations_parse_as_in_go(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("x", 'time: invalid duration "x"'),
        (".s", 'time: invalid duration ".s"'),
        ("1", 'time: missing unit in duration "1"'),
        ("1s2", 'time: missing unit in duration "1s2"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1é", 'time: unknown unit "\\xc3\\xa9" in duration "1\\xc3\\xa9"'),
        ('1"\\', 'time: unknown unit "\\"\\\\" in duration "1\\"\\\\"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("99999999999999999999h", 'time: invalid duration "99999999999999999999h"'),
        ("٣s", 'time: invalid duration "\\xd9\\xa3s"'),
    ],
)
def test_no_durations_are_refused_in_the_words_of_go(text: str, fault: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_duration(text)
    assert str(caught.value) == fault


@given(st.integers(min_value=0, max_value=10**9))
def test_a_printed_duration_parses_to_itself(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds * SECOND


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("+7", 7), ("-0", 0), ("-12", -12), ("007", 7), ("9223372036854775807", 2**63 - 1)],
)
def test_integers_parse_as_in_go(text: str, number: int) -> None:
    assert parse_int(text) == number


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", 'parsing "": invalid syntax'),
        ("d", 'parsing "d": invalid syntax'),
        ("1_000", 'parsing "1_000": invalid syntax'),
        ("٣", 'parsing "٣": invalid syntax'),
        (" 1", 'parsing " 1": invalid syntax'),
        ('a"\\', 'parsing "a\\"\\\\": invalid syntax'),
        ("\n\x01\x7f\u200b\U000e0001", 'parsing "\\n\\x01\\x7f\\u200b\\U000e0001": invalid syntax'),
        ("9223372036854775808", 'parsing "9223372036854775808": value out of range'),
        ("-9223372036854775809", 'parsing "-9223372036854775809": value out of range'),
        ("1" + "0" * 5000, f'parsing "1{"0" * 5000}": value out of range'),
    ],
)
def test_no_integers_are_refused_in_the_words_of_go(text: str, fault: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_int(text)
    assert str(caught.value) == f"strconv.Atoi: {fault}"
