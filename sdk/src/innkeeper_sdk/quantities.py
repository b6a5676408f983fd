"""Sizes and durations as limits are written, in manifests and in settings.

Rules of this module:

1. The forms are the reference's: sizes are decimal (``100kb`` is 100000 bytes, chainlink-common ``config/bytes.go``),
   durations are Go's (``30s``, ``1m30s``, ``2h45m``, ``100ms``).
2. A bare number is a count of bytes, or of seconds. Nothing is negative.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

__all__ = ["parse_duration", "parse_size"]

_SIZE: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>b|kb|mb|gb|tb)?", re.ASCII | re.IGNORECASE)
_SIZES: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_PART: Final = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<unit>ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION: Final = re.compile(r"(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", re.ASCII)
_DURATIONS: Final = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
# What a signed 64-bit number holds: bytes, and nanoseconds in Go.
_MOST_BYTES: Final = (1 << 63) - 1
_MOST_SECONDS: Final = _MOST_BYTES / 1e9


def parse_size(value: object) -> int:
    """Return the bytes that a size stands for.

    Args:
        value: A text such as ``100kb`` or ``1.5mb``, or a whole number of bytes.

    Raises:
        ValueError: It is no size; the message says what was found.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_BYTES:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        exact = Decimal(match["number"]) * _SIZES[(match["unit"] or "b").lower()]
        if exact == exact.to_integral_value() and exact <= _MOST_BYTES:
            return int(exact)
    raise ValueError(f"expected a size such as 100kb, found {value!r}")


def parse_duration(value: object) -> float:
    """Return the seconds that a duration stands for.

    Args:
        value: A text such as ``30s`` or ``1m30s``, or a number of seconds.

    Raises:
        ValueError: It is no duration; the message says what was found.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and 0 <= value <= _MOST_SECONDS:
            return float(value)
    elif isinstance(value, str) and (value == "0" or _DURATION.fullmatch(value)):
        parts = _PART.finditer(value)
        seconds = float(sum((Decimal(part["number"]) * _DURATIONS[part["unit"]] for part in parts), Decimal(0)))
        if seconds <= _MOST_SECONDS:
            return seconds
    raise ValueError(f"expected a duration such as 30s or 1m30s, found {value!r}")
