"""The enclave's scratch directory: private, and gone with the enclave.

Rules of this module:

1. Each start makes its own, 0700, and holds a lock in it for as long as it runs.
2. One whose launcher was killed is found by its lock, which nobody holds, and is removed by the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from innkeeper_confidential_workflows.launcher.errors import LaunchError

__all__ = ["scratch_directory"]

_PREFIX: Final = "enclave-"
_UNLOCKED: Final = ".new-"
_LOCK: Final = "lock"


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Have a directory for as long as the block lasts.

    Args:
        parent: Where it is made; a private directory.

    Raises:
        LaunchError: It cannot be made.
    """
    try:
        for old in parent.glob(f"{_PREFIX}*"):
            _remove_stale(old)
        made = Path(tempfile.mkdtemp(prefix=_UNLOCKED, dir=parent))
        lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = made.rename(parent / (_PREFIX + made.name.removeprefix(_UNLOCKED)))
    except OSError as error:
        raise LaunchError(
            f"the enclave's scratch directory cannot be made: {error.strerror}", path=str(parent)
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        os.close(lock)


def _remove_stale(directory: Path) -> None:
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # Another launcher is removing it; or it is nothing of ours.
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    except BlockingIOError:  # In use.
        return
    finally:
        os.close(lock)
