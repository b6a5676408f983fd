"""Values that workflows and capabilities exchange, as Python objects and as JSON.

Rules of this module:

1. Nothing is guessed: what has no exact form is refused with its path (``$.items[3]``), in either direction.
2. Wrapping: an integer is int64 if it fits, else a big integer; a datetime must have a time zone; None is the value
   without a kind, which stands for nothing.
3. Unwrapping: every integer is ``int``, a time is a UTC ``datetime``. A datetime ends at microseconds: what a time
   has beyond them is cut there, and only there.
4. JSON: bytes are ``{"bytes": base64}``, int64, uint64 and floats numbers, big integers and decimals texts, times
   RFC 3339 with all their digits, nothing is null. NaN and the infinities, which JSON has not, are the texts ``NaN``,
   ``Infinity`` and ``-Infinity``, as in protobuf's JSON. Keys are sorted: the same value gives the same JSON.
5. A decimal's text is written out (``1500``, ``0.00015``), its digits as they are (``1.50``). Only one that would be
   longer than 1000 characters is ``<coefficient>e<exponent>``: an exponent may be two thousand million.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from innkeeper_sdk.errors import InnkeeperError
from innkeeper_sdk.proto.values.v1 import values_pb2
from innkeeper_sdk.proto.values.v1.values_pb2 import Value

__all__ = ["MAX_DEPTH", "JsonValue", "PlainValue", "ValueFormatError", "decimal_text", "to_jsonable", "unwrap", "wrap"]

PlainValue: TypeAlias = (
    bool | int | float | str | bytes | Decimal | datetime | list["PlainValue"] | dict[str, "PlainValue"] | None
)
JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

# Protobuf parsers stop at 100 nested messages. A list or map in a value takes two, and what carries the value some.
MAX_DEPTH: Final = 48
# What can be read at all is no deeper than this; only a value built in memory can be.
_READ_DEPTH: Final = 50

_INT64: Final = range(-(2**63), 2**63)
_INT32: Final = range(-(2**31), 2**31)
# Where Python stops turning integers into text, because the work is quadratic.
_DIGITS: Final = 4300
_BOUND: Final = 10**_DIGITS
_PLAIN: Final = 1000


class ValueFormatError(InnkeeperError):
    """Raised when a value has no exact form on the other side."""

    code = "value-invalid"


def wrap(value: object) -> Value:
    """Turn a Python object into a value.

    Args:
        value: None, bool, int, float, str, bytes, Decimal, datetime, a sequence, a mapping with text keys, or a Value.

    Returns:
        A new value.

    Raises:
        ValueFormatError: It has no exact form, or is nested deeper than ``MAX_DEPTH``; the path says where.
    """
    wrapped = Value()
    _wrap(value, wrapped, "$", 0)
    return wrapped


def unwrap(value: Value) -> PlainValue:
    """Turn a value into a Python object.

    Args:
        value: The value, from anyone.

    Returns:
        The object; a new one all through.

    Raises:
        ValueFormatError: A time is out of its range, a decimal has more than 4300 digits, or the value is nested
            deeper than it can be read.
    """
    return _unwrap(value, "$", 0)


def to_jsonable(value: Value) -> JsonValue:
    """Turn a value into what ``json.dumps`` takes.

    Args:
        value: The value, from anyone.

    Returns:
        The JSON value, with sorted keys.

    Raises:
        ValueFormatError: A time is out of its range, a number has more than 4300 digits, or the value is nested
            deeper than it can be read.
    """
    return _jsonable(value, "$", 0)


def _wrap(value: object, into: Value, path: str, depth: int) -> None:  # noqa: C901, PLR0912 - one case per kind
    if depth > MAX_DEPTH:
        raise ValueFormatError("a value is nested too deep", path=path, expected=f"at most {MAX_DEPTH} levels")
    match value:
        case None:
            pass
        case Value():
            into.CopyFrom(value)
        case bool():
            into.bool_value = value
        case int():
            if value in _INT64:
                into.int64_value = value
            else:
                into.bigint_value.CopyFrom(_bigint(value))
        case float():
            into.float64_value = value
        case str():
            into.string_value = _text(value, path)
        case bytes() | bytearray() | memoryview():
            into.bytes_value = bytes(value)
        case Decimal():
            _wrap_decimal(value, into.decimal_value, path)
        case datetime():
            if value.tzinfo is None:
                raise ValueFormatError("a datetime has no time zone", path=path, hint="use datetime.now(UTC)")
            into.time_value.FromDatetime(value)
        case Mapping():
            into.map_value.SetInParent()
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueFormatError("a key is not text", path=path, expected="str", actual=type(key).__name__)
                _wrap(item, into.map_value.fields[_text(key, path)], f"{path}.{key}", depth + 1)
        case Sequence():
            into.list_value.SetInParent()
            for index, item in enumerate(value):
                _wrap(item, into.list_value.fields.add(), f"{path}[{index}]", depth + 1)
        case _:
            raise ValueFormatError("an object is no value", path=path, actual=type(value).__name__)


def _unwrap(value: Value, path: str, depth: int) -> PlainValue:  # noqa: C901, PLR0911 - one case per kind
    _check_depth(path, depth)
    match value.WhichOneof("value"):
        case None:
            return None
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "bytes_value":
            return value.bytes_value
        case "int64_value":
            return value.int64_value
        case "uint64_value":
            return value.uint64_value
        case "float64_value":
            return value.float64_value
        case "bigint_value":
            return _integer(value.bigint_value)
        case "decimal_value":
            coefficient = _integer(value.decimal_value.coefficient)
            return _decimal(coefficient, value.decimal_value.exponent, path)
        case "time_value":
            _time_text(value.time_value, path)
            return value.time_value.ToDatetime(tzinfo=UTC)
        case "list_value":
            return [_unwrap(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value.list_value.fields)]
        case "map_value":
            return {k: _unwrap(v, f"{path}.{k}", depth + 1) for k, v in value.map_value.fields.items()}


def _jsonable(value: Value, path: str, depth: int) -> JsonValue:  # noqa: C901, PLR0911 - one case per kind
    _check_depth(path, depth)
    match value.WhichOneof("value"):
        case "bytes_value":
            return {"bytes": base64.b64encode(value.bytes_value).decode("ascii")}
        case "float64_value":
            return _float(value.float64_value)
        case "bigint_value":
            return _digits(_integer(value.bigint_value), path)
        case "decimal_value":
            return decimal_text(_integer(value.decimal_value.coefficient), value.decimal_value.exponent, path=path)
        case "time_value":
            return _time_text(value.time_value, path)
        case "list_value":
            return [_jsonable(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value.list_value.fields)]
        case "map_value":
            fields = sorted(value.map_value.fields.items())
            return {k: _jsonable(v, f"{path}.{k}", depth + 1) for k, v in fields}
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int64_value":
            return value.int64_value
        case "uint64_value":
            return value.uint64_value
        case None:
            return None


def decimal_text(coefficient: int, exponent: int, *, path: str = "$") -> str:
    """Return ``coefficient * 10^exponent`` as text, exactly.

    Args:
        coefficient: Of at most 4300 digits.
        exponent: Any 32-bit number.
        path: Where it stands, for the error.

    Raises:
        ValueFormatError: The coefficient has more digits.
    """
    digits, sign = _digits(abs(coefficient), path), "-" if coefficient < 0 else ""
    if coefficient == 0 and exponent > 0:
        return "0"
    if len(digits) + abs(exponent) > _PLAIN:
        return f"{sign}{digits}e{exponent}" if exponent else sign + digits
    if exponent >= 0:
        return sign + digits + "0" * exponent
    digits = digits.rjust(1 - exponent, "0")
    return f"{sign}{digits[:exponent]}.{digits[exponent:]}"


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _check_depth(path: str, depth: int) -> None:
    if depth > _READ_DEPTH:
        raise ValueFormatError("a value is nested too deep", path=path, expected=f"at most {_READ_DEPTH} levels")


def _text(value: str, path: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueFormatError(
            "a text is not Unicode", path=path, actual=f"a lone surrogate at {error.start}"
        ) from None
    return value


def _bigint(value: int) -> values_pb2.BigInt:
    size = (value.bit_length() + 7) // 8
    sign = (value > 0) - (value < 0)
    return values_pb2.BigInt(abs_val=abs(value).to_bytes(size, "big"), sign=sign)


def _integer(value: values_pb2.BigInt) -> int:
    # As in the reference (Go): only a negative sign changes anything, so a sign of 0 does not make a zero.
    absolute = int.from_bytes(value.abs_val, "big")
    return -absolute if value.sign < 0 else absolute


def _too_long(path: str) -> ValueFormatError:
    return ValueFormatError("a number is too long to be written out", path=path, expected=f"at most {_DIGITS} digits")


def _digits(value: int, path: str) -> str:
    if not -_BOUND < value < _BOUND:
        raise _too_long(path)
    return str(value)


def _decimal(coefficient: int, exponent: int, path: str) -> Decimal:
    digits = tuple(map(int, _digits(abs(coefficient), path)))
    return Decimal((int(coefficient < 0), digits, exponent))


def _wrap_decimal(value: Decimal, into: values_pb2.Decimal, path: str) -> None:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueFormatError("a decimal is not a number", path=path, actual=str(value))
    if exponent not in _INT32:
        raise ValueFormatError("a decimal's exponent has more than 32 bits", path=path, actual=str(exponent))
    if len(digits) > _DIGITS:
        raise _too_long(path)
    absolute = int("".join(map(str, digits)))
    into.coefficient.CopyFrom(_bigint(-absolute if sign else absolute))
    into.exponent = exponent


def _time_text(value: Timestamp, path: str) -> str:
    try:
        return value.ToJsonString()
    except ValueError as error:
        raise ValueFormatError("a time is out of range", path=path, actual=str(error)) from None
