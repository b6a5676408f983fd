"""Values of limits: read as the operator writes them, and written as the reference prints them.

Rules of this module:

1. Sizes are decimal and printed in their largest unit without trailing zeros (``999b``, ``9.5kb``, ``1.1mb``;
   chainlink-common ``config/bytes.go``); durations are printed as in Go (``10s``, ``1m0s``, ``1.5s``, ``100ms``).
2. A value has exactly the type of its limit: a switch is no number and a number no switch.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from innkeeper_sdk.manifest import LimitType
from innkeeper_sdk.module import LimitValue
from innkeeper_sdk.quantities import parse_duration, parse_size

__all__ = ["parse_amount", "show_amount"]

_SIZES: Final = ((10**12, "tb"), (10**9, "gb"), (10**6, "mb"), (10**3, "kb"))
_MOST: Final = (1 << 63) - 1  # what a signed 64-bit number of the reference holds
_NANOSECONDS: Final = 10**9
_SMALL: Final = ((10**6, "ms"), (10**3, "µs"), (1, "ns"))


def parse_amount(limit_type: LimitType, raw: object) -> LimitValue:
    """Return the value that a text, a number or a switch stands for.

    Args:
        limit_type: What is counted.
        raw: As it stands in YAML.

    Returns:
        Bytes of a size, seconds of a duration, a count, or a switch.

    Raises:
        ValueError: It is not of this type; the message says what was expected.
    """
    match limit_type:
        case LimitType.SIZE:
            return parse_size(raw)
        case LimitType.DURATION:
            return parse_duration(raw)
        case LimitType.INTEGER:
            if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= _MOST:
                return raw
            raise ValueError(f"expected a whole number, at least 0, found {raw!r}")
        case LimitType.BOOLEAN:
            if isinstance(raw, bool):
                return raw
            raise ValueError(f"expected true or false, found {raw!r}")


def show_amount(limit_type: LimitType, value: LimitValue) -> str:
    """Return a value as the reference prints it.

    Args:
        limit_type: What is counted.
        value: Bytes, seconds, a count or a switch.
    """
    match limit_type:
        case LimitType.SIZE:
            return _size(int(value))
        case LimitType.DURATION:
            return _duration(round(Decimal(str(value)) * _NANOSECONDS))
        case LimitType.INTEGER:
            return str(int(value))
        case LimitType.BOOLEAN:
            return "true" if value else "false"


def _size(size: int) -> str:
    for unit, suffix in _SIZES:
        if size >= unit:
            return f"{_decimal(size, unit)}{suffix}"
    return f"{size}b"


def _duration(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    for unit, suffix in _SMALL if nanoseconds < _NANOSECONDS else ():
        if nanoseconds >= unit:
            return f"{_decimal(nanoseconds, unit)}{suffix}"
    minutes, rest = divmod(nanoseconds, 60 * _NANOSECONDS)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, _NANOSECONDS)}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _decimal(number: int, unit: int) -> str:
    text = f"{Decimal(number) / unit:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
