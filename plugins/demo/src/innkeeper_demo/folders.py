"""The temporary directory of a demonstration, and those that killed ones have left.

Rules of this module:

1. A directory is a demonstration's by the marker in it, and in use as long as the marker is locked: by the process that
   made it, and by its host, which may outlive that process for a moment. Locks end with their holders, whatever ends
   those.
2. Only a directory of this user, with a marker of this user, that nobody uses is removed. What is not exactly that is
   left alone.
3. Its path is short enough for the sockets below it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from innkeeper_sdk.control_socket import SOCKET_PATH_LIMIT
from innkeeper_sdk.errors import HostError

__all__ = ["make_folder", "remove", "sweep"]

_PREFIX: Final = "ik-"
MARKER_NAME: Final = "innkeeper-demo.lock"
_MARK: Final = b"a demonstration of innkeeper; may be removed when nobody has this file locked\n"

_LONGEST: Final = "/ik-12345678/run/confidential-workflows-2/0123456789/plugin0123456789"


def make_folder() -> tuple[Path, IO[bytes]]:
    """Return a new directory, and its locked marker: the directory is in use as long as a process has that open.

    Raises:
        HostError: There is no place for it.
    """
    for place in _places():
        if len(os.fsencode(place)) <= SOCKET_PATH_LIMIT - len(_LONGEST) and os.access(place, os.W_OK | os.X_OK):
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            marker = (folder / MARKER_NAME).open("xb", buffering=0)
            # Marked only once it is locked: what has no mark yet is nobody's to remove.
            fcntl.flock(marker, fcntl.LOCK_EX)
            marker.write(_MARK)
            return folder, marker
    raise HostError("there is no temporary directory with a path short enough for a socket", hint="set TMPDIR")


def sweep() -> list[Path]:
    """Remove the directories of demonstrations that were killed, and return them."""
    removed = []
    for place in _places():
        for folder in Path(place).glob(f"{_PREFIX}*"):
            with _abandoned(folder) as abandoned:
                if abandoned:
                    remove(folder)
                    removed.append(folder)
    return removed


def remove(folder: Path) -> None:
    """Remove a demonstration's directory, its marker last: what cannot be removed now is found by a later sweep."""
    for path in folder.iterdir():
        if path.name == MARKER_NAME:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if [path.name for path in folder.iterdir()] == [MARKER_NAME]:
        shutil.rmtree(folder, ignore_errors=True)


def _places() -> list[str]:
    return list(dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")))  # noqa: S108 - only own directories count


@contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Tell whether a directory is a demonstration's of this user that nobody uses; its marker is locked meanwhile."""
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            yield False
            return
        descriptor = os.open(folder / MARKER_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    with open(descriptor, "rb", buffering=0) as marker:
        about = os.fstat(descriptor)
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid() and marker.read(len(_MARK) + 1) == _MARK
