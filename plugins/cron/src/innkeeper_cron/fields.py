"""One field of a schedule: which numbers it stands for, and whether it is a star.

Rules of this module:

1. A field is a comma list of ``*``, ``?``, ``n``, ``a-b``, each with an optional ``/step``; ``n/step`` means
   ``n-max/step``. Empty list items are skipped, so a field of commas alone matches nothing.
2. A field is a *star* if one of its items is ``*`` or ``?`` with a step of at most 1: the day rule asks for it.
3. The texts of the faults are the reference's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from innkeeper_cron.text import TextError, parse_int

__all__ = ["DAY_OF_MONTH", "DAY_OF_WEEK", "HOUR", "MINUTE", "MONTH", "SECOND", "Bounds", "Field", "FieldError"]

_MONTHS: Final = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


class FieldError(ValueError):
    """Raised when a field is not valid; ``str()`` is the reference's text."""


@frozen
class Bounds:
    """What a field may contain.

    Attributes:
        low: Smallest number.
        high: Largest number.
        names: Lower-case names of numbers.
    """

    low: int
    high: int
    names: Mapping[str, int] = field(factory=dict)


SECOND: Final = Bounds(0, 59)
MINUTE: Final = Bounds(0, 59)
HOUR: Final = Bounds(0, 23)
DAY_OF_MONTH: Final = Bounds(1, 31)
MONTH: Final = Bounds(1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)})
DAY_OF_WEEK: Final = Bounds(0, 6, {name: number for number, name in enumerate(_DAYS)})


@frozen
class Field:
    """The numbers that a field stands for.

    Attributes:
        numbers: Ascending, without repetition; empty if the field matches nothing.
        star: Whether it counts as "any" in the day rule.
    """

    numbers: tuple[int, ...]
    star: bool = False

    @classmethod
    def parse(cls, text: str, bounds: Bounds) -> Field:
        """Parse a field.

        Args:
            text: The field, without white space.
            bounds: What it may contain.

        Raises:
            FieldError: It is not valid; the first fault from the left is reported.
        """
        numbers: set[int] = set()
        star = False
        for item in filter(None, text.split(",")):
            found, any_number = _item(item, bounds)
            numbers.update(found)
            star = star or any_number
        return cls(tuple(sorted(numbers)), star)


def _item(item: str, bounds: Bounds) -> tuple[range, bool]:
    span, *steps = item.split("/")
    start, *ends = span.split("-")
    if start in ("*", "?"):
        low, high, star = bounds.low, bounds.high, True
    elif len(ends) > 1:
        _number(start, bounds)
        raise FieldError(f"too many hyphens: {item}")
    else:
        low, star = _number(start, bounds), False
        high = _number(ends[0], bounds) if ends else low
    if len(steps) > 1:
        raise FieldError(f"too many slashes: {item}")
    step = _integer(steps[0]) if steps else 1
    if steps and not ends:
        high = bounds.high
    if low < bounds.low:
        raise FieldError(f"beginning of range ({low}) below minimum ({bounds.low}): {item}")
    if high > bounds.high:
        raise FieldError(f"end of range ({high}) above maximum ({bounds.high}): {item}")
    if low > high:
        raise FieldError(f"beginning of range ({low}) beyond end of range ({high}): {item}")
    if step == 0:
        raise FieldError(f"step of range should be a positive number: {item}")
    return range(low, high + 1, step), star and step == 1


def _number(text: str, bounds: Bounds) -> int:
    named = bounds.names.get(text.lower())
    return _integer(text) if named is None else named


def _integer(text: str) -> int:
    try:
        number = parse_int(text)
    except TextError as error:
        raise FieldError(f"failed to parse int from {text}: {error}") from error
    if number < 0:
        raise FieldError(f"negative number ({number}) not allowed: {text}")
    return number
