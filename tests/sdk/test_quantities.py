"""Sizes and durations as limits are written."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.quantities import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100kb", 100_000),
        ("1.5MB", 1_500_000),
        ("9.5kb", 9_500),
        ("2 gb", 2 * 10**9),
        ("1tb", 10**12),
        ("5b", 5),
        ("5", 5),
        (7, 7),
        (0, 0),
    ],
)
def test_sizes_are_decimal(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value", ["", "kb", "-1kb", "1e3", "0.1b", "10kib", "٣kb", "99999999999tb", -1, 1.5, True, None, "1kb\n2"]
)
def test_what_is_no_size_says_what_was_found(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 100kb, found"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("2h45m", 9900.0),
        ("100ms", 0.1),
        ("1µs", 1e-6),
        (".5s", 0.5),
        ("0", 0.0),
        (30, 30.0),
        (0.25, 0.25),
    ],
)
def test_durations_are_those_of_go(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "5", "s", "-1s", "1s2", "5m ", "1d", "٣s", "9999999999h", -1, True, None, float("nan"), float("inf")],
)
def test_what_is_no_duration_says_what_was_found(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 30s or 1m30s, found"):
        parse_duration(value)


@given(st.text(max_size=30))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        with suppress(ValueError):
            assert parse(text) >= 0
