"""What reports need to outlive the host: signing keys, and the number of the last report.

Rules of this module:

1. One process at a time: the directory is locked while the store is open.
2. Files appear whole or not at all and are on the disk before they are used. Keys are made once, with mode 0600, and a
   key that others can read, that is a link or that belongs to someone else is refused.
3. The number only grows. If it is lost while keys are there, that is an error: starting over would sign other reports
   under numbers that were used.
4. Everything here blocks; call it from one thread.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from innkeeper_consensus.signing import SECRET_LENGTH
from innkeeper_sdk.errors import ConflictError, HostError, InnkeeperError, VerificationError

__all__ = ["SigningStore"]

_KEY_SUFFIX: Final = ".key"
_SEQUENCE: Final = "sequence"
_LOCK: Final = "lock"
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
            HostError: It cannot be used.
        """
        if self._lock is not None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(self._directory, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise ConflictError(
                "the signing keys are in use by another process",
                path=str(self._directory),
                hint="stop the other host, or give this one its own data directory",
            ) from error
        self._lock = descriptor

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
        content = self._read(path)
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
        self._write(path, secret.hex().encode() + b"\n")
        return secret, True

    def next_number(self) -> int:
        """Return the next number, stored before it is returned; the first is 1.

        Raises:
            VerificationError: The stored number is damaged or lost.
            HostError: It cannot be read or written.
        """
        number = self._number() + 1
        self._write(self._directory / _SEQUENCE, f"{number}\n".encode())
        return number

    def _number(self) -> int:
        path = self._directory / _SEQUENCE
        content = self._read(path)
        if content is None:
            if any(self._directory.glob(f"*{_KEY_SUFFIX}")):
                raise VerificationError(
                    "the number of the last report is lost, and must not start over",
                    path=str(path),
                    expected="the file beside the keys",
                    hint="write a number there that is above every number used, or remove the keys to sign as another",
                )
            self._write(path, b"0\n")
            return 0
        if not _NUMBER.fullmatch(content):
            raise VerificationError(
                "the number of the last report is damaged",
                path=str(path),
                expected="a decimal number and a line end",
                hint="write a number there that is above every number used",
            )
        return int(content)

    def _read(self, path: Path) -> bytes | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise VerificationError(
                    "a file of the signing keys is open to others",
                    path=str(path),
                    expected="a regular file of this user's, with mode 0600",
                    actual=f"mode {stat.filemode(status.st_mode)}, user {status.st_uid}",
                    hint=f"run chmod 600 {path}, and make new keys if others may have read it",
                )
            return os.read(descriptor, _LONGEST)
        except OSError as error:
            raise _unusable(path, error) from error
        finally:
            os.close(descriptor)

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.new")
        try:
            with suppress(FileNotFoundError):  # left by a crash; nobody else is here
                temporary.unlink()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                written = os.write(descriptor, content)
                if written != len(content):
                    raise OSError(f"{written} of {len(content)} bytes written")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> InnkeeperError:
    return HostError(
        f"the signing keys cannot be used: {error.strerror or error}",
        path=str(path),
        hint="check the directory's owner, mode and free space",
    )
