"""Deterministic CBOR: one value, one encoding.

Rules of this module:

1. Encoded are maps with text keys, arrays, texts, byte strings, whole numbers and null, in the deterministic form of
   RFC 8949 §4.2. Floats, booleans, tags and simple values are no part of the protocol.
2. What is decoded must be exactly what this module would have encoded: no trailing byte, no longer form of a number, no
   indefinite length, no other order of keys, no key twice. So a body has one reader's meaning only.
3. Bytes and items are counted before anything is decoded: an item of one byte costs a hundred bytes of memory and a
   microsecond of a lock that the whole process waits for. What decodes is the decoder of documents, which takes no tag.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import cbor2

from innkeeper_confidential_workflows.attestation import cbor as strict
from innkeeper_confidential_workflows.protocol.errors import malformed, too_large

__all__ = ["MAX_ITEMS", "Value", "check_size", "decode", "encode"]

Value: TypeAlias = "int | str | bytes | list[Any] | tuple[Any, ...] | dict[str, Any] | None"

# Map, list of items, item: nothing of the protocol is deeper.
_MAX_DEPTH: Final = 4
# Several times what the largest body, grant or release has: a hundred names or items, each in parts.
MAX_ITEMS: Final = 4096
# Kinds of items (RFC 8949 §3.1): those that have bytes behind their heads, those that have items, and how many for each
# that they count; and the tag, which has one, and is refused only when that one is decoded.
_STRINGS: Final = (2, 3)
_CONTAINERS: Final = {4: 1, 5: 2}
_TAG: Final = 6
# The largest whole number of the protocol: a signed one of 64 bits, as in protobuf.
_MAX_INTEGER: Final = 2**63 - 1


def encode(value: Value) -> bytes:
    """Encode a value.

    Args:
        value: Whose parts are of the types of rule 1.

    Raises:
        TypeError: One is not.
    """
    _check(value)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, *, limit: int, what: str, items: int = MAX_ITEMS) -> Value:
    """Decode a value.

    Args:
        data: One encoded value.
        limit: How many bytes it may have.
        what: What it is, for errors.
        items: How many items it may have: all that are in it, and it.

    Returns:
        The value; its arrays are lists.

    Raises:
        AttestationError: ``too_large``, or ``malformed``: not what :func:`encode` returns for any value.
    """
    check_size(data, limit=limit, what=what)
    if _has_more_items(data, items):
        raise too_large(f"{what} has more than {items} items")
    try:
        value: Value = strict.decode(data, max_depth=_MAX_DEPTH)
        _check(value)
    except (strict.NotStrictError, TypeError):
        # From None: the decoder's own words quote the input.
        raise malformed(f"{what} is no CBOR of the protocol") from None
    if cbor2.dumps(value, canonical=True) != data:
        raise malformed(f"{what} is not in the deterministic form")
    return value


def check_size(data: bytes, *, limit: int, what: str) -> None:
    """Refuse what is no bytes, or too many.

    Raises:
        AttestationError: ``malformed`` or ``too_large``.
    """
    if type(data) is not bytes:
        raise malformed(f"{what} is no byte string")
    if len(data) > limit:
        raise too_large(f"{what} has {len(data)} bytes, at most {limit} are allowed")


def _has_more_items(data: bytes, most: int) -> bool:
    """Return whether there are more items than so many; of what is none, only that its end is found."""
    at, seen, left = 0, 0, 1
    while left and at < len(data):
        kind, low = data[at] >> 5, data[at] & 0x1F
        at += 1
        seen, left = seen + 1, left - 1
        if seen > most:
            return True
        # The number behind the head: of a length, or of items, or itself. Other forms are refused where they are met.
        width = 1 << (low - 24) if 24 <= low <= 27 else 0
        number = int.from_bytes(data[at : at + width], "big") if width else low
        at += width
        if kind in _STRINGS:
            at += number
        elif kind in _CONTAINERS:
            left += number * _CONTAINERS[kind]
        elif kind == _TAG:
            left += 1
    return False


def _check(value: object) -> None:
    # type(), since a boolean is an int to isinstance.
    if value is None or type(value) in (str, bytes):
        return
    if type(value) is int:
        if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
            raise TypeError("a number of more than 64 bits")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError("a key that is no text")
            _check(item)
    else:
        raise TypeError(f"{type(value).__name__} is no part of the protocol")
