"""The host's key: what this host signs with, and what its process parts know it by.

Rules of this module:

1. It is made once per data directory, whole or not at all, and never replaced: who was told of it before would take the
   host for another one.
2. A key that somebody else could have read or put there is none: a file that others may read, that is not this user's,
   or that is no plain file is refused, and so is one that holds no key.
3. It signs nothing but prefixed messages (see ``innkeeper_sdk.signing``), and is in no ``repr``.
"""

from __future__ import annotations

import os
import secrets
import stat
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
from innkeeper_sdk.signing import peer_id_payload

__all__ = ["KEY_NAME", "HostKeyError", "SigningKey", "load_or_create"]

KEY_NAME: Final = "host.key"

# The PEM text of an Ed25519 key has 119 bytes.
_MOST: Final = 4096
_EXPECTED: Final = "an Ed25519 private key in PEM"


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
        if not _there(path):
            _create(path)
        return SigningKey(_load(path))
    except OSError as error:
        raise HostKeyError(f"the host's key {path} cannot be used: {error.strerror}", path=str(path)) from error


def _there(path: Path) -> bool:
    # A link that leads nowhere is there, too: it is refused when it is opened.
    return os.path.lexists(path)


def _create(path: Path) -> None:
    content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Under a name that no crash has left behind; the link below is what makes it the key, and refuses to replace one.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(file, "wb") as writer:
            writer.write(content)
            writer.flush()
            os.fsync(file)
        os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _load(path: Path) -> Ed25519PrivateKey:
    # O_NONBLOCK: a pipe in its place must not hold the host up.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as reader:
        _check(path, os.fstat(reader.fileno()))
        content = reader.read(_MOST + 1)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The error's own text could show what is in the file.
        raise _damaged(path, "something else") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(path, "a key of another kind")
    return key


def _check(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise HostKeyError(f"the host's key {path} is no plain file", path=str(path), hint="move it away")
    if found.st_uid != os.geteuid():
        raise HostKeyError(
            f"the host's key {path} belongs to another user",
            path=str(path),
            expected=f"user {os.geteuid()}",
            actual=f"user {found.st_uid}",
        )
    if mode & 0o077:
        raise HostKeyError(
            f"the host's key {path} can be used by others",
            path=str(path),
            expected="mode 600",
            actual=f"mode {mode:03o}",
            hint=f"if nobody else has read it, chmod 600 {path}; else remove it, and the host makes a new one",
        )


def _damaged(path: Path, actual: str) -> HostKeyError:
    return HostKeyError(
        f"the host's key {path} is damaged",
        path=str(path),
        expected=_EXPECTED,
        actual=actual,
        hint="restore it; a new one, made when it is removed, makes this another host to those that know it",
    )
