"""The vault's keys: the identity that its file is encrypted to, and the key that signs releases.

Rules of this module:

1. ``vault.key`` is an identity file as the program ``age`` takes it, so that a backup can be read without Innkeeper.
2. A key that is missing or damaged is an error and never replaced: a new one could not read the old file.
3. A key is in no repr and no error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pyrage import IdentityError  # type: ignore[import-untyped]  # it has no types
from pyrage.x25519 import Identity  # type: ignore[import-untyped]  # as above

from innkeeper_sdk.private_files import read_private
from innkeeper_vault.errors import VaultDamagedError

__all__ = ["IDENTITY_NAME", "RESTORE", "SIGNING_NAME", "VaultKeys"]

IDENTITY_NAME: Final = "vault.key"
SIGNING_NAME: Final = "signing.key"
RESTORE: Final = "stop the host and restore the whole directory from a backup"

_IDENTITY: Final = re.compile(rb"(AGE-SECRET-KEY-1[0-9A-Z]{58})\n")
_SIGNING: Final = re.compile(rb"([0-9a-f]{64})\n")
_LONGEST: Final = 4096


@frozen
class VaultKeys:
    """The keys of one vault.

    Attributes:
        identity: What the file is encrypted to.
        signing: What releases are signed with.
    """

    identity: Identity = field(repr=False)
    signing: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> VaultKeys:
        """Return new keys."""
        return cls(Identity.generate(), Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, directory: Path) -> VaultKeys:
        """Read the keys of a vault.

        Raises:
            VaultDamagedError: One is missing or is none.
            VerificationError: One is not this user's alone.
            HostError: One cannot be read.
        """
        return cls(_identity(directory / IDENTITY_NAME), _signing(directory / SIGNING_NAME))

    def files(self) -> dict[str, bytes]:
        """Return what is written, by file name."""
        seed = self.signing.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return {IDENTITY_NAME: f"{self.identity}\n".encode(), SIGNING_NAME: seed.hex().encode() + b"\n"}

    @property
    def public_key(self) -> bytes:
        """Return the public part of the signing key: Ed25519, 32 bytes."""
        return self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _identity(path: Path) -> Identity:
    expected = "an age identity on one line"
    text = _matched(path, _IDENTITY, expected)
    try:
        return Identity.from_str(text)
    except IdentityError:
        # From None: what it says may quote the key.
        raise _damaged(path, expected) from None


def _signing(path: Path) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(_matched(path, _SIGNING, "64 hexadecimal digits")))


def _matched(path: Path, pattern: re.Pattern[bytes], expected: str) -> str:
    content = read_private(path, limit=_LONGEST)
    if content is None:
        raise VaultDamagedError("a key of the vault is missing", path=str(path), hint=RESTORE)
    found = pattern.fullmatch(content)
    if found is None:
        raise _damaged(path, expected)
    return found[1].decode()


def _damaged(path: Path, expected: str) -> VaultDamagedError:
    return VaultDamagedError("a key of the vault is damaged", path=str(path), expected=expected, hint=RESTORE)
