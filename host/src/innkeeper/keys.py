"""The host's key: what this host signs with, and what its process parts know it by.

Rules of this module:

1. It is made once per data directory, whole or not at all, and never replaced: who was told of it before would take the
   host for another one.
2. A key that somebody else could have read or put there is none: a file that others may read, that is not this user's,
   or that is no plain file is refused, and so is one that holds no key.
3. It signs nothing but prefixed messages (see ``innkeeper_sdk.signing``), and is in no ``repr``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from innkeeper_sdk.errors import HostError
from innkeeper_sdk.private_files import create, read_private
from innkeeper_sdk.signing import peer_id_payload

__all__ = ["KEY_NAME", "HostKeyError", "SigningKey", "load_or_create"]

KEY_NAME: Final = "host.key"

# The PEM text of an Ed25519 key has 119 bytes.
_MOST: Final = 4096
_WHAT: Final = "the host's key"


class HostKeyError(HostError):
    """Raised when the host's key cannot be made, read or trusted."""

    code = "host-key"


class SigningKey:
    """The host's key; implements ``innkeeper_sdk.hooks.HostKey``.

    Args:
        key: The private key.
    """

    __slots__ = ("_key", "_public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def public_key(self) -> bytes:
        """Return the public key, 32 bytes."""
        return self._public

    def sign(self, prefix: str, message: bytes) -> bytes:
        """Return the signature, 64 bytes, of a message under a prefix.

        Raises:
            ValueError: The prefix is empty.
        """
        return self._key.sign(peer_id_payload(prefix, message))

    def __repr__(self) -> str:
        """Return what the key is known by."""
        return f"<host key {self._public.hex()}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or sent elsewhere."""
        raise TypeError("the host's key stays in the host's process")


def load_or_create(directory: Path) -> SigningKey:
    """Return the key of a data directory, made if there is none.

    Args:
        directory: The host's data directory, private and locked by this host.

    Raises:
        HostKeyError: It cannot be made or read, others could read it, or it is damaged.
    """
    path = directory / KEY_NAME
    try:
        content = read_private(path, limit=_MOST, what=_WHAT)
        if content is None:
            content = _new()
            create(path, content, what=_WHAT)
    except HostError as error:
        raise HostKeyError(
            error.message, path=error.path, expected=error.expected, actual=error.actual, hint=error.hint
        ) from error
    return SigningKey(_parsed(content, path))


def _new() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _parsed(content: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The error's own text could show what is in the file.
        raise _damaged(path, "something else") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(path, "a key of another kind")
    return key


def _damaged(path: Path, actual: str) -> HostKeyError:
    return HostKeyError(
        f"{_WHAT} is damaged",
        path=str(path),
        expected="an Ed25519 private key in PEM",
        actual=actual,
        hint="restore it; a new one, made when it is removed, makes this another host to those that know it",
    )
