"""Locks between builds that share a build directory.

Rules of this module: a lock is a file that is held open and locked; it ends with the process that holds it,
however that ends, so that whoever gets it knows that what it protects is nobody's.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["locked", "try_lock"]


def try_lock(path: Path) -> BinaryIO | None:
    """Return the locked file, which the caller closes, or ``None`` if another process holds it."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock; ``waiting`` is called if another process has it at first."""
    file = try_lock(path)
    if file is None:
        if waiting is not None:
            waiting()
        file = path.open("wb")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
