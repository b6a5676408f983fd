"""CBOR from outside: one item, no tags, no doubles, and one error for everything else."""

from __future__ import annotations

import math
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation.cbor import MAX_DEPTH, NotStrictError, decode

SCALARS = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def depth(value: Any) -> int:
    if isinstance(value, list | dict) and value:
        children = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, children))
    return 0


@given(VALUES)
def test_what_an_encoder_makes_is_read_back_if_it_nests_no_deeper_than_allowed(value: Any) -> None:
    data = cbor2.dumps(value)
    if depth(value) <= MAX_DEPTH:
        assert decode(data) == value
    else:
        with pytest.raises(NotStrictError):
            decode(data)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, indefinite: bool) -> None:
    try:
        decode(data, indefinite=indefinite)
    except NotStrictError:
        pass
    else:
        assert data


@given(VALUES, st.binary(min_size=1, max_size=3))
def test_nothing_may_follow(value: Any, rest: bytes) -> None:
    with pytest.raises(NotStrictError):
        decode(cbor2.dumps(value) + rest)


@given(st.integers(0, 2**64 - 1), SCALARS)
def test_every_tag_is_refused(tag: int, value: Any) -> None:
    data = cbor2.dumps(cbor2.CBORTag(tag, value))

    with pytest.raises(NotStrictError):
        decode(data)
    with pytest.raises(NotStrictError):
        decode(b"\x81" + data)


@pytest.mark.parametrize(
    "data",
    ["a201000102", "a2616101616102", "a201000100", "a201001801 00", "a20100f500", "a20100f93c0000", "bf01000100ff"],
)
def test_no_key_may_come_twice_in_whatever_encoding(data: str) -> None:
    with pytest.raises(NotStrictError, match="Duplicate"):
        decode(bytes.fromhex(data), indefinite=True)


@pytest.mark.parametrize("data", ["9f01ff", "bf0102ff", "5f4101ff", "7f6161ff"])
def test_lengths_come_first_unless_it_is_said_that_they_need_not(data: str) -> None:
    with pytest.raises(NotStrictError):
        decode(bytes.fromhex(data))
    assert decode(bytes.fromhex(data), indefinite=True)


@pytest.mark.parametrize("data", ["", "ff", "1c", "1f", "5c", "82 01", "61ff", "f800", "a101", "bf01ff", "fc"])
def test_what_is_not_well_formed_is_refused(data: str) -> None:
    with pytest.raises(NotStrictError):
        decode(bytes.fromhex(data), indefinite=True)


def test_numbers_without_a_value_are_values() -> None:
    assert math.isnan(decode(bytes.fromhex("f97e00")))
