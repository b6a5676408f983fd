"""The order of the values that MEDIAN compares.

Rules of this module:

1. Only values of one kind are compared with each other.
2. Comparing costs no more than the values' own size: a decimal with a huge exponent is never written out.
3. A float that is no number comes before every number, as Go sorts, so that the order is total and the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from math import isnan
from typing import Any, Final

from innkeeper_sdk.proto.values.v1.values_pb2 import BigInt, Value

__all__ = ["ORDERED", "integer", "normal"]

_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_NANOSECONDS: Final = 10**9


def integer(number: BigInt) -> int:
    """Return the integer that a message stands for: only whether the sign is negative counts."""
    magnitude = int.from_bytes(number.abs_val, "big")
    return -magnitude if number.sign < 0 else magnitude


def normal(value: Value) -> Value:
    """Return a value as the reference's own types write it: a big integer shortest, with sign -1, 0 or 1."""
    result = Value()
    result.CopyFrom(value)
    if value.WhichOneof("value") == "bigint_value":
        number = integer(value.bigint_value)
        magnitude = abs(number)
        result.bigint_value.abs_val = magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big")
        result.bigint_value.sign = (number > 0) - (number < 0)
    return result


def _decimal(value: Value) -> Decimal:
    number = value.decimal_value
    return Decimal(integer(number.coefficient)).scaleb(number.exponent, _EXACT)


def _float(value: Value) -> tuple[bool, float]:
    number = value.float64_value
    return (False, 0.0) if isnan(number) else (True, number)


def _time(value: Value) -> int:
    return value.time_value.seconds * _NANOSECONDS + value.time_value.nanos


# By the kinds that have an order.
ORDERED: Final[dict[str, Callable[[Value], Any]]] = {
    "int64_value": lambda value: value.int64_value,
    "uint64_value": lambda value: value.uint64_value,
    "float64_value": _float,
    "decimal_value": _decimal,
    "bigint_value": lambda value: integer(value.bigint_value),
    "time_value": _time,
}
