"""Files that are this user's alone: keys, secrets, and what is pinned.

Rules of this module:

1. A directory is 0700 and a file 0600. What is looser, a link, or somebody else's is refused and never changed to fit:
   others may have read it already.
2. A file appears whole or not at all, and is on the disk before anything is built on it. Its writer holds a lock that
   every writer of its directory takes.
3. Errors name what is concerned as the caller does, in ``what``.
4. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from innkeeper_sdk.errors import ConflictError, HostError, VerificationError

__all__ = [
    "create",
    "locked",
    "make_directory",
    "open_private",
    "private_directory",
    "read_all",
    "read_private",
    "replace",
    "take_lock",
]

_LOCK: Final = "lock"
_FILE: Final = "a private file"
_DIRECTORY: Final = "a private directory"
# O_NONBLOCK: a pipe in its place must not hold the process up.
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def private_directory(path: Path, *, make: bool, what: str = _DIRECTORY) -> bool:
    """Check a directory, or make it.

    Args:
        path: The directory.
        make: Whether to make it, and those above it, if it is missing.
        what: What it is, for errors.

    Returns:
        Whether it is there.

    Raises:
        VerificationError: It is not this user's alone.
        HostError: It cannot be looked at or made.
    """
    try:
        if make:
            # The mode of Path.mkdir is for the last directory only; the ones above would be what the umask says.
            for folder in reversed([path, *path.parents]):
                if not folder.exists():
                    folder.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unusable(path, error, what) from error
    if not stat.S_ISDIR(found.st_mode):
        raise VerificationError(f"{what} is no directory", path=str(path), expected="a directory, not a link")
    _check_owner(path, found, what, mode=0o700)
    return True


def take_lock(directory: Path, *, wait: bool, what: str = _FILE) -> int:
    """Return a descriptor that holds the lock of a directory until it is closed.

    Args:
        directory: The directory, which must be there.
        wait: Whether to wait for another process or thread that holds it.
        what: What the lock's file is, for errors.

    Raises:
        ConflictError: Another one holds it, and ``wait`` is false.
        VerificationError: The lock's file is not this user's alone.
        HostError: It cannot be locked.
    """
    path = directory / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _check_file(path, os.fstat(descriptor), what)
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
    except BlockingIOError as error:
        raise ConflictError("a private directory is in use by another process", path=str(directory)) from error
    except OSError as error:
        raise _unusable(path, error, what) from error
    return descriptor


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory against other processes and threads, and wait for it.

    Raises:
        VerificationError: The lock's file is not this user's alone.
        HostError: It cannot be locked.
    """
    descriptor = take_lock(directory, wait=True)
    try:
        yield
    finally:
        os.close(descriptor)


def open_private(path: Path, *, what: str = _FILE) -> int | None:
    """Return a descriptor of a file to read, or None if there is none.

    Args:
        path: The file.
        what: What it is, for errors.

    Raises:
        VerificationError: It is not this user's alone.
        HostError: It cannot be opened.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error, what) from error
    try:
        _check_file(path, os.fstat(descriptor), what)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_all(descriptor: int, path: Path, *, limit: int, what: str = _FILE) -> bytes:
    """Return what a file holds.

    Args:
        descriptor: Of the file, at its beginning.
        path: The file, for errors.
        limit: How many bytes it may have.
        what: What it is, for errors.

    Raises:
        VerificationError: It has more.
        HostError: It cannot be read.
    """
    try:
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _unusable(path, error, what) from error
    if len(content) > limit:
        raise VerificationError(f"{what} is too large", path=str(path), expected=f"at most {limit} bytes")
    return content


def read_private(path: Path, *, limit: int, what: str = _FILE) -> bytes | None:
    """Return what a file holds, or None if there is none.

    Args:
        path: The file.
        limit: How many bytes it may have.
        what: What it is, for errors.

    Raises:
        VerificationError: It is not this user's alone, or has more bytes.
        HostError: It cannot be read.
    """
    descriptor = open_private(path, what=what)
    if descriptor is None:
        return None
    try:
        return read_all(descriptor, path, limit=limit, what=what)
    finally:
        os.close(descriptor)


def create(path: Path, content: bytes, *, what: str = _FILE) -> None:
    """Make a file that is not there, and never replace one. The caller holds the lock.

    Args:
        path: The file.
        content: What it is to hold.
        what: What it is, for errors.

    Raises:
        HostError: It is there already, or cannot be written.
    """
    _put(path, content, os.link, what)


def replace(path: Path, content: bytes, *, what: str = _FILE) -> None:
    """Replace a file, or make it; else as :func:`create`.

    Raises:
        HostError: It cannot be written.
    """
    _put(path, content, os.replace, what)


def make_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a directory with files in it, all or nothing. The caller holds the lock of the directory above.

    Args:
        path: The directory, which is not there.
        files: What is in it, by name.

    Raises:
        HostError: It cannot be written; then it is not there.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with suppress(FileNotFoundError):  # left by a process that was killed; nobody else is here
            shutil.rmtree(temporary)
        temporary.mkdir(mode=0o700)
        for name, content in files.items():
            _write_new(temporary / name, content)
        _sync(temporary)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise _unusable(path, error, _DIRECTORY) from error


def _put(path: Path, content: bytes, name: Callable[[Path, Path], None], what: str) -> None:
    """Write a file beside its place, and then give it its name."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # as above
        try:
            _write_new(temporary, content)
            name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise _unusable(path, error, what) from error


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, _NEW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError, what: str) -> HostError:
    return HostError(
        f"{what} cannot be used: {error.strerror or error}",
        path=str(path),
        hint="check the directory's owner, mode and free space",
    )


def _check_file(path: Path, found: os.stat_result, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise VerificationError(f"{what} is no plain file", path=str(path), expected="a regular file")
    _check_owner(path, found, what, mode=0o600)


def _check_owner(path: Path, found: os.stat_result, what: str, *, mode: int) -> None:
    if found.st_uid != os.geteuid():
        raise VerificationError(
            f"{what} belongs to another user",
            path=str(path),
            expected=f"user {os.geteuid()}",
            actual=f"user {found.st_uid}",
        )
    if found.st_mode & 0o077:
        raise VerificationError(
            f"{what} is open to others",
            path=str(path),
            expected=f"mode {mode:03o}",
            actual=f"mode {stat.S_IMODE(found.st_mode):03o}",
            hint=f"run chmod {mode:03o} {path}, and replace what others may have read",
        )
