"""Texts and numbers as the reference's runtime writes and reads them.

Rules of this module:

1. Workflow authors see these texts through the official SDKs, so they are the reference's to the letter: durations as
   Go prints and parses them, numbers as ``strconv.Atoi`` takes them, quoted strings as ``strconv.Quote`` writes them.
2. Nothing here knows of schedules; every fault is a :class:`TextError` whose text the caller puts into its own.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["TextError", "format_duration", "parse_duration", "parse_int"]

_INT64_MAX: Final = 2**63 - 1
_INT64_DIGITS: Final = 19
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
# Nanoseconds of each unit; both spellings of micro, U+00B5 and U+03BC, are taken.
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_TERM: Final = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<unit>[^.0-9]*)", re.ASCII)


class TextError(ValueError):
    """Raised when a text is no number or no duration; ``str()`` is the reference's text."""


def parse_int(text: str) -> int:
    """Return the decimal integer that a text stands for.

    Args:
        text: An optional sign and ASCII digits; nothing else.

    Returns:
        A signed 64-bit integer.

    Raises:
        TextError: It is no integer, or needs more than 64 bits.
    """
    if not _INTEGER.fullmatch(text):
        raise TextError(f"strconv.Atoi: parsing {_quote(text)}: invalid syntax")
    digits = text.lstrip("+-").lstrip("0")
    value = int(digits or "0") if len(digits) <= _INT64_DIGITS else _INT64_MAX + 2
    if text.startswith("-"):
        value = -value
    if not -_INT64_MAX - 1 <= value <= _INT64_MAX:
        raise TextError(f"strconv.Atoi: parsing {_quote(text)}: value out of range")
    return value


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a duration such as ``1h30m`` or ``-1.5s``.

    Args:
        text: An optional sign, then terms of a decimal number and a unit (ns, us, ms, s, m, h), or ``0``.

    Returns:
        Nanoseconds, within 64 bits.

    Raises:
        TextError: It is no duration.
    """
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise _not_a_duration(text)
    total, position = 0, 0
    while position < len(rest):
        term = _TERM.match(rest, position)
        if term is None or not (term["whole"] or term["fraction"]):
            raise _not_a_duration(text)
        total += _term(term, text)
        position = term.end()
    if total > (2**63 if text.startswith("-") else _INT64_MAX):
        raise _not_a_duration(text)
    return -total if text.startswith("-") else total


def format_duration(seconds: float) -> str:
    """Return a duration as Go prints it: ``30s``, ``1m0s``, ``1h30m0s``, ``1.5s``, ``500ms``, ``0s``.

    Args:
        seconds: Not negative.
    """
    nanoseconds = round(seconds * 10**9)
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("\u00b5s", 10**3), ("ms", 10**6)):
        if nanoseconds < size * 10**3:
            return _decimal(nanoseconds, size) + unit
    hours, rest = divmod(nanoseconds, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    text = _decimal(rest, _UNITS["s"]) + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _term(term: re.Match[str], text: str) -> int:
    if not term["unit"]:
        raise TextError(f"time: missing unit in duration {_quote_ascii(text)}")
    unit = _UNITS.get(term["unit"])
    if unit is None:
        raise TextError(f"time: unknown unit {_quote_ascii(term['unit'])} in duration {_quote_ascii(text)}")
    whole = term["whole"].lstrip("0")
    if len(whole) > _INT64_DIGITS:
        raise _not_a_duration(text)
    # Digits beyond the nanosecond of the largest unit cannot change the result.
    fraction = (term["fraction"] or "")[:_INT64_DIGITS]
    scale: int = 10 ** len(fraction)
    return int(whole or "0") * unit + int(fraction or "0") * unit // scale


def _not_a_duration(text: str) -> TextError:
    return TextError(f"time: invalid duration {_quote_ascii(text)}")


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0")


def _quote(text: str) -> str:
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _quote_ascii(text: str) -> str:
    # The time package quotes on its own: bytes outside printable ASCII become \xNN.
    quoted = []
    for byte in text.encode("utf-8", "surrogatepass"):
        if byte in (0x22, 0x5C):
            quoted.append("\\" + chr(byte))
        else:
            quoted.append(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}")
    return '"' + "".join(quoted) + '"'
