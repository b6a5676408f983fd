"""Values of limits, read and printed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper.capabilities.amounts import parse_amount, show_amount
from innkeeper_sdk.manifest import LimitType

SIZE, DURATION, INTEGER, BOOLEAN = LimitType.SIZE, LimitType.DURATION, LimitType.INTEGER, LimitType.BOOLEAN


@pytest.mark.parametrize(
    ("limit_type", "value", "text"),
    [
        (SIZE, 0, "0b"),
        (SIZE, 999, "999b"),
        (SIZE, 1000, "1kb"),
        (SIZE, 9_500, "9.5kb"),
        (SIZE, 100_000, "100kb"),
        (SIZE, 1_100_000, "1.1mb"),
        (SIZE, 1_234_567, "1.234567mb"),
        (SIZE, 2 * 10**9, "2gb"),
        (SIZE, 10**12, "1tb"),
        (DURATION, 0.0, "0s"),
        (DURATION, 1e-9, "1ns"),
        (DURATION, 1.5e-6, "1.5µs"),
        (DURATION, 0.1, "100ms"),
        (DURATION, 1.5, "1.5s"),
        (DURATION, 10.0, "10s"),
        (DURATION, 60.0, "1m0s"),
        (DURATION, 90.25, "1m30.25s"),
        (DURATION, 3600.0, "1h0m0s"),
        (DURATION, 90061.0, "25h1m1s"),
        (INTEGER, 0, "0"),
        (INTEGER, 1000, "1000"),
        (BOOLEAN, True, "true"),
        (BOOLEAN, False, "false"),
    ],
)
def test_values_are_printed_as_the_reference_prints_them(limit_type: LimitType, value: float, text: str) -> None:
    assert show_amount(limit_type, value) == text
    if limit_type in (SIZE, DURATION):
        assert parse_amount(limit_type, text) == value


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_a_printed_size_reads_back(size: int) -> None:
    assert parse_amount(SIZE, show_amount(SIZE, size)) == size


@settings(deadline=None)
@given(st.integers(0, 10**15))
def test_a_printed_duration_reads_back(nanoseconds: int) -> None:
    seconds = nanoseconds / 10**9
    assert parse_amount(DURATION, show_amount(DURATION, seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("limit_type", "raw"),
    [
        (SIZE, "1kib"),
        (SIZE, -1),
        (SIZE, True),
        (SIZE, None),
        (DURATION, "5 minutes"),
        (DURATION, "-5s"),
        (DURATION, False),
        (INTEGER, "5"),
        (INTEGER, 5.0),
        (INTEGER, -1),
        (INTEGER, True),
        (INTEGER, 2**63),
        (INTEGER, None),
        (BOOLEAN, 1),
        (BOOLEAN, "true"),
        (BOOLEAN, None),
    ],
)
def test_another_type_is_refused_and_named(limit_type: LimitType, raw: object) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_amount(limit_type, raw)
    assert repr(raw) in str(caught.value)
