"""What reports need to outlive the host: signing keys, and the number of the last report.

Rules of this module:

1. One process at a time: the directory is locked while the store is open.
2. Directory and files are this user's alone (see ``innkeeper_sdk.private_files``). A key is made once and never
   replaced.
3. The number only grows. If it is lost while keys are there, that is an error: starting over would sign other reports
   under numbers that were used.
4. Everything here blocks; call it from one thread.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from innkeeper_consensus.signing import SECRET_LENGTH
from innkeeper_sdk.errors import ConflictError, VerificationError
from innkeeper_sdk.private_files import create, private_directory, read_private, replace, take_lock

__all__ = ["SigningStore"]

_KEY_SUFFIX: Final = ".key"
_SEQUENCE: Final = "sequence"
_WHAT: Final = "a file of the signing keys"
_LONGEST: Final = 4096  # bytes of a file; all of ours are shorter
_NUMBER: Final = re.compile(rb"[0-9]{1,20}\n")
_SECRET: Final = re.compile(rb"[0-9a-f]{64}\n")


class SigningStore:
    """Keys and a number in a directory.

    Args:
        directory: Made with mode 0700 if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock: int | None = None

    def open(self) -> None:
        """Lock the directory; idempotent.

        Raises:
            ConflictError: Another process has it.
            VerificationError: It is not this user's alone.
            HostError: It cannot be used.
        """
        if self._lock is not None:
            return
        private_directory(self._directory, make=True, what="the directory of the signing keys")
        try:
            self._lock = take_lock(self._directory, wait=False, what=_WHAT)
        except ConflictError as error:
            raise ConflictError(
                "the signing keys are in use by another process",
                path=str(self._directory),
                hint="stop the other host, or give this one its own data directory",
            ) from error

    def close(self) -> None:
        """Unlock the directory; idempotent."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def secret(self, name: str) -> tuple[bytes, bool]:
        """Return a key's secret, and whether it was made just now.

        Args:
            name: The key's name.

        Raises:
            VerificationError: The file is not what it has to be.
            HostError: It cannot be read or written.
        """
        path = self._directory / (name + _KEY_SUFFIX)
        content = read_private(path, limit=_LONGEST, what=_WHAT)
        if content is not None:
            if not _SECRET.fullmatch(content):
                raise VerificationError(
                    "a signing key is damaged",
                    path=str(path),
                    expected="64 hexadecimal digits and a line end",
                    hint="restore it from a backup; a new key is another signer",
                )
            return bytes.fromhex(content.decode()), False
        self._number()  # so that no key is made beside a lost number
        secret = secrets.token_bytes(SECRET_LENGTH)
        create(path, secret.hex().encode() + b"\n", what=_WHAT)
        return secret, True

    def next_number(self) -> int:
        """Return the next number, stored before it is returned; the first is 1.

        Raises:
            VerificationError: The stored number is damaged or lost.
            HostError: It cannot be read or written.
        """
        number = self._number() + 1
        replace(self._directory / _SEQUENCE, f"{number}\n".encode(), what=_WHAT)
        return number

    def _number(self) -> int:
        path = self._directory / _SEQUENCE
        content = read_private(path, limit=_LONGEST, what=_WHAT)
        if content is None:
            if any(self._directory.glob(f"*{_KEY_SUFFIX}")):
                raise VerificationError(
                    "the number of the last report is lost, and must not start over",
                    path=str(path),
                    expected="the file beside the keys",
                    hint="write a number there that is above every number used, or remove the keys to sign as another",
                )
            create(path, b"0\n", what=_WHAT)
            return 0
        if not _NUMBER.fullmatch(content):
            raise VerificationError(
                "the number of the last report is damaged",
                path=str(path),
                expected="a decimal number and a line end",
                hint="write a number there that is above every number used",
            )
        return int(content)
