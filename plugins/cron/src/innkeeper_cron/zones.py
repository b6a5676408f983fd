"""Time zones by their IANA names.

Rules of this module:

1. A name is one of the IANA list that the ``tzdata`` package carries, so that no name reaches into the file system or
   stands for the machine's own zone.
2. No name, like ``UTC``, is UTC.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

__all__ = ["ZoneError", "zone"]


class ZoneError(ValueError):
    """Raised when there is no such zone; ``str()`` is the reference's text."""


def zone(name: str) -> tzinfo:
    """Return a time zone.

    Args:
        name: Its IANA name, in the list's own case; empty for UTC.

    Raises:
        ZoneError: There is no zone of that name.
    """
    if name in ("", "UTC"):
        return UTC
    if ".." in name or name[0] in "/\\":
        raise ZoneError("time: invalid location name")
    if name not in _names():
        raise ZoneError(f"unknown time zone {name}")
    return ZoneInfo(name)


@cache
def _names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())
