"""One host per data directory, and per name in a runtime directory.

Rules of this module:

1. The lock is the kernel's (``flock``): it goes with the process, whatever ends it, so a lock is never stale.
2. The file stays: removing it would let two hosts hold locks on two files of one name. What it says is for people.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Final

from innkeeper_sdk.errors import ConflictError, HostError

__all__ = ["HostLock"]

LOCK_NAME: Final = "host.lock"


class HostLock:
    """Hold a directory for this process.

    Args:
        directory: It must exist.
        holder: What others are told of the holder, beside its process id.

    Raises:
        ConflictError: Another host holds it; the message names its process.
        HostError: The lock's file cannot be used.
    """

    def __init__(self, directory: Path, holder: dict[str, str]) -> None:
        self.path = directory / LOCK_NAME
        try:
            # Not truncated before the lock is ours: it says who has it.
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HostError(f"the lock cannot be opened: {error.strerror}", path=str(self.path)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, 0)
            os.write(self._file, json.dumps({"pid": os.getpid(), **holder}).encode() + b"\n")
        except BlockingIOError:
            other = _read(self._file)
            os.close(self._file)
            raise ConflictError(
                f"another host has this directory: process {other.get('pid', 'unknown')}"
                f"{' (' + str(other['name']) + ')' if 'name' in other else ''}",
                path=str(directory),
                hint="stop it, or choose another directory",
            ) from None
        except OSError as error:
            os.close(self._file)
            raise HostError(f"the lock cannot be taken: {error.strerror}", path=str(self.path)) from error

    def release(self) -> None:
        """Let the directory go; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _read(file: int) -> dict[str, Any]:
    try:
        told = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}  # it has just taken the lock, and not yet said who it is
    return told if isinstance(told, dict) else {}
