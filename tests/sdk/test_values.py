"""Values as Python objects and as JSON."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_sdk.proto.values.v1 import values_pb2
from innkeeper_sdk.proto.values.v1.values_pb2 import Value
from innkeeper_sdk.values import MAX_DEPTH, ValueFormatError, decimal_text, to_jsonable, unwrap, wrap

FINITE = st.floats(allow_nan=False)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | FINITE
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.just(UTC))
)
OBJECTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(deadline=None)
@given(OBJECTS)
def test_a_wrapped_object_comes_back_the_same_also_over_the_wire(value: object) -> None:
    sent = Value.FromString(wrap(value).SerializeToString())
    back = unwrap(sent)
    assert back == value
    assert type(back) is type(value)


@settings(deadline=None)
@given(OBJECTS)
def test_what_was_wrapped_has_a_json_form(value: object) -> None:
    text = json.dumps(to_jsonable(wrap(value)), allow_nan=False)
    assert json.loads(text) == to_jsonable(wrap(value))


@settings(deadline=None)
@given(st.binary())
def test_any_value_from_the_wire_has_a_json_form_or_is_refused(data: bytes) -> None:
    value = Value()
    try:
        value.ParseFromString(data)
    except Exception:  # noqa: BLE001 - protobuf's own errors: the bytes are no value
        return
    for convert in (unwrap, to_jsonable):
        with contextlib.suppress(ValueFormatError):
            convert(value)  # and nothing else is raised


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, None),
        (True, "bool_value"),
        (1, "int64_value"),
        (2**63 - 1, "int64_value"),
        (-(2**63), "int64_value"),
        (2**63, "bigint_value"),
        (-(2**63) - 1, "bigint_value"),
        (1.0, "float64_value"),
        ("", "string_value"),
        (b"", "bytes_value"),
        (bytearray(b"x"), "bytes_value"),
        (memoryview(b"x"), "bytes_value"),
        (Decimal(0), "decimal_value"),
        (datetime(1970, 1, 1, tzinfo=UTC), "time_value"),
        ([], "list_value"),
        ((), "list_value"),
        ({}, "map_value"),
    ],
)
def test_each_type_has_its_kind(value: object, kind: str | None) -> None:
    assert wrap(value).WhichOneof("value") == kind


def test_a_value_is_wrapped_as_it_is() -> None:
    inner = Value(uint64_value=7)
    wrapped = wrap([inner])
    assert wrapped.list_value.fields[0] == inner
    assert unwrap(wrapped) == [7]


def test_a_time_in_another_zone_is_the_same_instant() -> None:
    there = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert unwrap(wrap(there)) == there
    assert to_jsonable(wrap(there)) == "2026-01-01T10:00:00Z"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "$"),
        ({1, 2}, "$"),
        ([1, object()], "$[1]"),
        ({"a": [{1: 2}]}, "$.a[0]"),
        ({"when": datetime(2026, 1, 1)}, "$.when"),
        (Decimal("NaN"), "$"),
        ([Decimal("-Infinity")], "$[0]"),
        (Decimal((0, (1,), 2**31)), "$"),
        (Decimal("1" * 4301), "$"),
        ("\ud800", "$"),
        ({"\udfff": 1}, "$"),
    ],
)
def test_what_has_no_exact_form_is_refused_with_its_path(value: object, path: str) -> None:
    with pytest.raises(ValueFormatError) as caught:
        wrap(value)
    assert caught.value.path == path


def test_an_object_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueFormatError, match="too deep"):
        wrap(loop)


def test_the_deepest_that_may_be_wrapped_can_be_read_inside_another_message() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    outer = values_pb2.Map()
    outer.fields["x"].CopyFrom(wrap(value))
    assert unwrap(values_pb2.Map.FromString(outer.SerializeToString()).fields["x"]) == value
    with pytest.raises(ValueFormatError, match="too deep"):
        wrap([value])


def test_a_value_built_too_deep_in_memory_is_refused() -> None:
    value = Value()
    for _ in range(60):
        outer = Value()
        outer.list_value.fields.add().CopyFrom(value)
        value = outer
    for convert in (unwrap, to_jsonable):
        with pytest.raises(ValueFormatError, match="too deep"):
            convert(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Value(), None),
        (Value(string_value="é"), "é"),
        (Value(bool_value=False), False),
        (Value(bytes_value=b"\x00\xff"), {"bytes": "AP8="}),
        (Value(int64_value=-(2**63)), -(2**63)),
        (Value(uint64_value=2**64 - 1), 2**64 - 1),
        (Value(float64_value=0.5), 0.5),
        (Value(float64_value=float("nan")), "NaN"),
        (Value(float64_value=float("inf")), "Infinity"),
        (Value(float64_value=float("-inf")), "-Infinity"),
        (Value(bigint_value=values_pb2.BigInt(abs_val=b"\x01" + b"\0" * 8, sign=-1)), "-18446744073709551616"),
        (Value(list_value=values_pb2.List(fields=[Value(), Value(int64_value=1)])), [None, 1]),
    ],
)
def test_json_of_each_kind(value: Value, expected: object) -> None:
    assert to_jsonable(value) == expected
    assert type(to_jsonable(value)) is type(expected)


def test_json_keys_are_sorted() -> None:
    assert json.dumps(to_jsonable(wrap({"b": 1, "a": 2, "c": 3}))) == '{"a": 2, "b": 1, "c": 3}'


def test_json_keeps_all_digits_of_a_time_and_a_datetime_cuts_at_microseconds() -> None:
    value = Value()
    value.time_value.seconds, value.time_value.nanos = 1, 123456789
    assert to_jsonable(value) == "1970-01-01T00:00:01.123456789Z"
    assert unwrap(value) == datetime(1970, 1, 1, 0, 0, 1, 123456, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "nanos"), [(2**62, 0), (-(2**62), 0), (0, -1), (0, 10**9)])
def test_a_time_out_of_range_is_refused(seconds: int, nanos: int) -> None:
    value = wrap({"t": [None]})
    value.map_value.fields["t"].list_value.fields[0].time_value.seconds = seconds
    value.map_value.fields["t"].list_value.fields[0].time_value.nanos = nanos
    for convert in (unwrap, to_jsonable):
        with pytest.raises(ValueFormatError, match="time is out of range") as caught:
            convert(value)
        assert caught.value.path == "$.t[0]"


@pytest.mark.parametrize(("sign", "expected"), [(0, 5), (1, 5), (7, 5), (-1, -5), (-(2**63), -5)])
def test_only_a_negative_sign_changes_a_big_integer(sign: int, expected: int) -> None:
    value = Value(bigint_value=values_pb2.BigInt(abs_val=b"\0\0\x05", sign=sign))
    assert unwrap(value) == expected
    assert to_jsonable(value) == str(expected)


@pytest.mark.parametrize(
    ("coefficient", "exponent", "text"),
    [
        (0, 0, "0"),
        (0, 5, "0"),
        (0, 2**31 - 1, "0"),
        (0, -2, "0.00"),
        (15, 2, "1500"),
        (150, -2, "1.50"),
        (-15, -5, "-0.00015"),
        (-15, -2, "-0.15"),
        (1, 999, "1" + "0" * 999),
        (1, 1000, "1e1000"),
        (-12, 2**31 - 1, "-12e2147483647"),
        (1, -(2**31), "1e-2147483648"),
        (int("7" * 4300), 0, "7" * 4300),
    ],
)
def test_a_decimals_text_is_exact_and_never_huge(coefficient: int, exponent: int, text: str) -> None:
    assert decimal_text(coefficient, exponent) == text
    value = Value(decimal_value=values_pb2.Decimal(exponent=exponent))
    value.decimal_value.coefficient.CopyFrom(wrap(abs(coefficient) + 2**64).bigint_value)
    value.decimal_value.coefficient.abs_val = abs(coefficient).to_bytes(2000, "big")
    value.decimal_value.coefficient.sign = -1 if coefficient < 0 else 1
    assert to_jsonable(value) == text


@settings(deadline=None)
@given(st.integers(-(10**30), 10**30), st.integers(-2000, 2000))
def test_a_decimals_text_reads_back_as_the_same_number(coefficient: int, exponent: int) -> None:
    sign, digits = int(coefficient < 0), tuple(map(int, str(abs(coefficient))))
    assert Decimal(decimal_text(coefficient, exponent)) == Decimal((sign, digits, exponent))


def test_numbers_of_too_many_digits_are_refused_not_computed() -> None:
    huge = values_pb2.BigInt(abs_val=b"\xff" * 100_000, sign=1)
    whole = unwrap(Value(bigint_value=huge))
    assert whole == 2**800_000 - 1
    with pytest.raises(ValueFormatError, match="4300 digits"):
        to_jsonable(Value(bigint_value=huge))
    for convert in (unwrap, to_jsonable):
        with pytest.raises(ValueFormatError, match="4300 digits"):
            convert(Value(decimal_value=values_pb2.Decimal(coefficient=huge)))


@settings(deadline=None)
@given(st.binary())
def test_bytes_are_base64_with_padding(data: bytes) -> None:
    shown = to_jsonable(wrap(data))
    assert isinstance(shown, dict)
    assert base64.b64decode(str(shown["bytes"]), validate=True) == data
