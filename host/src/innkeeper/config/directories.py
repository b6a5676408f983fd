"""The host's directories: private, and checked before anything is trusted to them.

Rules of this module:

1. A directory that the host makes is 0700. One that stands already must belong to this user and be writable by nobody
   else; it is never changed to fit, since somebody may have had a reason.
2. The runtime directory is where sockets are, and so who may command the host: no symbolic link may stand in for it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from innkeeper_sdk.errors import ConfigError

__all__ = ["ensure_private", "private_fault"]


def ensure_private(path: Path, *, what: str, follow: bool = True) -> Path:
    """Make a directory if it is missing, and check that it is this user's alone to write.

    Args:
        path: The directory.
        what: What it is, for errors, such as ``data directory``.
        follow: Whether a symbolic link may stand in for it.

    Returns:
        The same path.

    Raises:
        ConfigError: It cannot be made, or others could write there.
    """
    try:
        _make(path)
        found = path.stat() if follow else path.lstat()
    except OSError as error:
        raise ConfigError(f"the {what} {path} cannot be made: {error.strerror}", path=str(path)) from error
    fault = private_fault(found)
    if fault is not None:
        raise ConfigError(
            f"the {what} {path} {fault}",
            path=str(path),
            expected=f"a directory of user {os.geteuid()} that nobody else can write",
            # Only what is a directory of this user is safe to be changed on our advice.
            hint=f"chmod 700 {path}, or name another one" if fault.startswith("can be written") else "name another one",
        )
    return path


def _make(path: Path) -> None:
    # The mode of Path.mkdir is for the last directory only; the ones above would be what the umask says.
    missing = [path, *path.parents]
    for folder in reversed(missing):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def private_fault(found: os.stat_result) -> str | None:
    """Return why something is not a directory that only this user can write, None if it is one."""
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}"
    if found.st_mode & 0o022:
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):03o})"
    return None
