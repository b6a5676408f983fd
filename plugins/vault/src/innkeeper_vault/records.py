"""What the vault keeps, and its form in the encrypted file.

Rules of this module:

1. The file's content is deterministic CBOR: ``{"v": 1, "secrets": [[owner, namespace, key, value, version, updated],
   …]}``, sorted, times in milliseconds since the epoch. What is read must be in this form.
2. A value is in no repr and no error.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from attrs import field, frozen

from innkeeper_confidential_workflows.attestation.errors import AttestationError
from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.bodies import SecretName
from innkeeper_confidential_workflows.protocol.fields import NAME_BYTES, OWNER, is_name
from innkeeper_confidential_workflows.protocol.releases import MAX_SECRET_BYTES
from innkeeper_vault.errors import SecretInvalidError

__all__ = [
    "MAX_CONTENT_BYTES",
    "SecretEntry",
    "SecretKey",
    "Secrets",
    "StoredSecret",
    "check_key",
    "check_name",
    "check_value",
    "decode",
    "encode",
    "from_milliseconds",
    "no_text",
    "to_milliseconds",
]

MAX_CONTENT_BYTES: Final = 64 * 1024 * 1024
# A row has seven items, itself one, and with its owner never less than 56 bytes.
_MAX_ITEMS: Final = MAX_CONTENT_BYTES // 8

_VERSION: Final = 1
_FIELDS: Final = (str, str, str, str, int, int)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class SecretKey(NamedTuple):
    """What names a secret.

    Attributes:
        owner: 40 hexadecimal digits, lower case.
        namespace: Normalised.
        key: Its name.
    """

    owner: str
    namespace: str
    key: str


@frozen
class StoredSecret:
    """A secret.

    Attributes:
        value: Its text; never shown.
        version: How often it was set since there was none, from 1.
        updated: When it was set last.
    """

    value: str = field(repr=False)
    version: int
    updated: datetime


@frozen
class SecretEntry:
    """What may be shown of a secret.

    Attributes:
        owner: 40 hexadecimal digits.
        namespace: Normalised.
        key: Its name.
        version: How often it was set since there was none, from 1.
        updated: When it was set last.
    """

    owner: str
    namespace: str
    key: str
    version: int
    updated: datetime


Secrets: TypeAlias = Mapping[SecretKey, StoredSecret]


def to_milliseconds(time: datetime) -> int:
    """Return a time in milliseconds since the epoch."""
    return (time - _EPOCH) // _MILLISECOND


def from_milliseconds(milliseconds: int) -> datetime:
    """Return the time of some milliseconds since the epoch."""
    return _EPOCH + milliseconds * _MILLISECOND


def check_key(owner: str, name: SecretName) -> SecretKey:
    """Return what names a secret, if something can be stored under it.

    Args:
        owner: 40 hexadecimal digits, lower case, without ``0x``.
        name: With its namespace normalised.

    Raises:
        SecretInvalidError: Nothing can.
    """
    if not OWNER.fullmatch(owner):
        raise SecretInvalidError("not an owner", expected="40 hexadecimal digits")
    check_name("namespace", name.namespace)
    check_name("name", name.key)
    return SecretKey(owner, *name)


def check_name(what: str, text: str) -> None:
    """Refuse what cannot be the name or the namespace of a secret, as the protocol has them.

    Args:
        what: Which of the two, for the error.
        text: In NFC.

    Raises:
        SecretInvalidError: It cannot.
    """
    # Whether it can is the protocol's to say; here is only said why not.
    if is_name(text):
        return
    if not text:
        raise SecretInvalidError(f"the {what} is empty", expected=f"1 to {NAME_BYTES} bytes")
    shown = repr(text[:NAME_BYTES])
    if not text.isprintable():
        raise SecretInvalidError(
            f"the {what} has control characters or others that cannot be printed",
            expected="printable characters",
            actual=shown,
        )
    length = len(text.encode("utf-8"))
    if length > NAME_BYTES:
        raise SecretInvalidError(
            f"the {what} is too long", expected=f"at most {NAME_BYTES} bytes in UTF-8", actual=str(length)
        )
    raise SecretInvalidError(f"the {what} is not in the composed form (NFC)", actual=shown)


def check_value(value: str) -> None:
    """Refuse what cannot be the value of a secret. The error does not show it.

    Raises:
        SecretInvalidError: It is empty, too long, or no text.
    """
    if not value:
        raise SecretInvalidError("the secret is empty", hint="give it with --file FILE or on standard input")
    length = _utf8_length(value)
    if length is None:
        raise no_text()
    if length > MAX_SECRET_BYTES:
        raise SecretInvalidError(
            "the secret is too long", expected=f"at most {MAX_SECRET_BYTES} bytes in UTF-8", actual=str(length)
        )


def no_text() -> SecretInvalidError:
    """Return the refusal of a value that is no text."""
    return SecretInvalidError(
        "the secret is not UTF-8 text, which it must be because guests get secrets as text",
        hint="encode it, with base64 for instance",
    )


def _utf8_length(value: str) -> int | None:
    # No error is raised from here: it would hold the value.
    try:
        return len(value.encode("utf-8"))
    except UnicodeEncodeError:
        return None


def encode(secrets: Secrets) -> bytes:
    """Return the content of the file."""
    rows = [
        [*key, secret.value, secret.version, to_milliseconds(secret.updated)] for key, secret in sorted(secrets.items())
    ]
    return cbor.encode({"v": _VERSION, "secrets": rows})


def decode(content: bytes) -> Secrets | None:
    """Return what the content of a file says, or None if it is none.

    No error comes out of here: its context would hold values.
    """
    try:
        return _decoded(cbor.decode(content, limit=MAX_CONTENT_BYTES, what="the content", items=_MAX_ITEMS))
    except (AttestationError, OverflowError):
        return None


def _decoded(value: Any) -> Secrets | None:
    if type(value) is not dict or value.keys() != {"v", "secrets"} or value["v"] != _VERSION:
        return None
    rows = value["secrets"]
    if type(rows) is not list or not all(map(_is_row, rows)):
        return None
    secrets = {
        SecretKey(owner, namespace, key): StoredSecret(text, version, from_milliseconds(updated))
        for owner, namespace, key, text, version, updated in rows
    }
    return secrets if len(secrets) == len(rows) else None


def _is_row(row: object) -> bool:
    return (
        type(row) is list
        and [type(cell) for cell in row] == list(_FIELDS)
        and OWNER.fullmatch(row[0]) is not None
        and is_name(row[1])
        and is_name(row[2])
        and row[4] >= 1
    )
