"""The fields that bodies, grants and replies have in common, and what a good one is.

Rules of this module:

1. A field has one spelling: hexadecimal is lower case without ``0x``, a text is in NFC, a namespace is never empty.
   What has two spellings could be compared as different and used as the same.
2. Nothing is repaired on the way in. Whoever builds a record from what a person or a guest wrote normalises first.
3. An error names the field and never quotes it: it may be anybody's bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from attrs import Attribute

from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.errors import malformed, too_large

__all__ = [
    "BINARY_SHA256_BYTES",
    "CHALLENGE_ID_BYTES",
    "CLOCK_NONCE_BYTES",
    "MAX_ERROR_CHARACTERS",
    "NAME_BYTES",
    "NONCE_BYTES",
    "OWNER",
    "VERSION",
    "capability_text",
    "check_name",
    "error_text",
    "exactly",
    "hex_or_empty",
    "is_name",
    "lower_hex",
    "mapping_of",
    "matching",
    "natural",
    "sized",
    "take",
]

# Of every map of the protocol.
VERSION: Final = 1
BINARY_SHA256_BYTES: Final = 32
CHALLENGE_ID_BYTES: Final = 16
NONCE_BYTES: Final = 32
# Of a reading of the time, chosen by the enclave.
CLOCK_NONCE_BYTES: Final = 16
# Of a secret's key and of its namespace, each, in UTF-8.
NAME_BYTES: Final = 64
# Of a capability's id and of a method's name, as a guest gives them: far more than any that there is.
TEXT_LENGTH: Final = 4096
# Of why a secret is not released; two names that are quoted, with all of their characters escaped, have 256.
MAX_ERROR_CHARACTERS: Final = 512

OWNER: Final = re.compile(r"[0-9a-f]{40}", re.ASCII)

_MAX_NATURAL: Final = 2**63 - 1

_T = TypeVar("_T")
Check = Callable[[Any, "Attribute[Any]", Any], None]


def is_name(text: object) -> bool:
    """Return whether something can be a secret's key or its namespace.

    Args:
        text: Anything. A name is a text in NFC of 1 to 64 bytes whose characters can be printed.
    """
    return (
        type(text) is str
        and text.isprintable()
        and 1 <= len(text.encode("utf-8")) <= NAME_BYTES
        and unicodedata.is_normalized("NFC", text)
    )


def check_name(_: Any, attribute: Attribute[str], value: object) -> None:
    """Refuse what is no name; an attrs validator.

    Raises:
        AttestationError: ``malformed``.
    """
    if not is_name(value):
        raise malformed(f"{attribute.name} is no name of 1 to {NAME_BYTES} bytes in NFC that can be printed")


def lower_hex(length: int) -> Check:
    """Return a validator of hexadecimal texts of a length, in lower case."""
    return matching(re.compile(rf"[0-9a-f]{{{length}}}", re.ASCII), f"{length} lower-case hexadecimal digits")


def hex_or_empty(length: int) -> Check:
    """Return a validator of hexadecimal texts of a length, in lower case, or of none at all."""
    pattern = re.compile(rf"(?:[0-9a-f]{{{length}}})?", re.ASCII)
    return matching(pattern, f"{length} lower-case hexadecimal digits, or empty")


def matching(pattern: re.Pattern[str], expected: str) -> Check:
    """Return a validator of texts that match a pattern whole."""

    def check(_: Any, attribute: Attribute[str], value: object) -> None:
        if type(value) is not str or not pattern.fullmatch(value):
            raise malformed(f"{attribute.name} is not {expected}")

    return check


def capability_text(_: Any, attribute: Attribute[str], value: object) -> None:
    """Refuse what is no text, or too long a one; an attrs validator.

    Whether there is such a capability or method is the registry's to say, in the one way that it says it.

    Raises:
        AttestationError: ``malformed`` or ``too_large``.
    """
    if type(value) is not str:
        raise malformed(f"{attribute.name} is no text")
    if len(value) > TEXT_LENGTH:
        raise too_large(f"{attribute.name} has {len(value)} characters, at most {TEXT_LENGTH} are allowed")


def error_text(_: Any, attribute: Attribute[str], value: object) -> None:
    """Refuse what is no reason for a refusal; an attrs validator.

    Raises:
        AttestationError: ``malformed``.
    """
    if type(value) is not str or not 1 <= len(value) <= MAX_ERROR_CHARACTERS:
        raise malformed(f"{attribute.name} is no text of 1 to {MAX_ERROR_CHARACTERS} characters")


def sized(length: int) -> Check:
    """Return a validator of byte strings of a length."""

    def check(_: Any, attribute: Attribute[bytes], value: object) -> None:
        if type(value) is not bytes or len(value) != length:
            raise malformed(f"{attribute.name} is no byte string of {length} bytes")

    return check


def natural(least: int = 0) -> Check:
    """Return a validator of whole numbers from ``least`` up to 63 bits."""

    def check(_: Any, attribute: Attribute[int], value: object) -> None:
        if type(value) is not int or not least <= value <= _MAX_NATURAL:
            raise malformed(f"{attribute.name} is no whole number of at least {least}")

    return check


def mapping_of(
    data: bytes, keys: frozenset[str], *, limit: int, what: str, items: int = cbor.MAX_ITEMS
) -> dict[str, Any]:
    """Decode a map that has exactly these keys, and ``v``, which must be 1.

    Args:
        data: The encoded map.
        keys: Its keys, ``v`` apart.
        limit: How many bytes it may have.
        what: What it is, for errors.
        items: How many items may be in it.

    Returns:
        The map, without ``v``; its values' types are not checked.

    Raises:
        AttestationError: ``malformed`` or ``too_large``.
    """
    value = cbor.decode(data, limit=limit, what=what, items=items)
    if type(value) is not dict:
        raise malformed(f"{what} is no map")
    version = value.pop("v", None)
    if type(version) is not int or version != VERSION:
        raise malformed(f"{what} is not of version {VERSION}")
    exactly(value, keys, what=what)
    return value


def exactly(value: Mapping[str, Any], keys: frozenset[str], *, what: str) -> None:
    """Refuse a map with a key too many or too few.

    Raises:
        AttestationError: ``malformed``.
    """
    if missing := keys - value.keys():
        raise malformed(f"{what} has no {' and no '.join(sorted(missing))}")
    if len(value) != len(keys):
        raise malformed(f"{what} has a key that it must not have")


def take(value: object, kind: type[_T], what: str) -> _T:
    """Return a value that is exactly of a type: no subclass, so no boolean for a number.

    Raises:
        AttestationError: ``malformed``.
    """
    if type(value) is not kind:
        raise malformed(f"{what} is no {kind.__name__}")
    return value
