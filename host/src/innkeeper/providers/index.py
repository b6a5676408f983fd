"""The index of installed providers: what a scan found, for as long as nothing has changed.

Rules of this module:

1. The index is keyed by (path, mtime) of every entry of the search path and of every manifest, and by the versions of
   host, SDK and Python. It only saves time: what runs a provider's code does not ask it.
2. It is one private file per Python environment, written whole or not at all, and used only if it is this user's alone
   and has the right shape. Everything else is as if there were none, and ``note`` says why.
3. A directory that was touched a moment ago may be touched again within the same tick of the file system's clock, so
   what is that young is not kept.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import innkeeper_sdk
from innkeeper import __version__
from innkeeper.config.directories import ensure_private
from innkeeper_sdk.errors import ConfigError

__all__ = ["Index"]

_FORMAT: Final = 1
_MAX_BYTES: Final = 16 << 20
# Kernels stamp files by their tick, 10 ms at most; file systems with whole seconds (or two, FAT) show none below.
_TICK_NS: Final = 50_000_000
_COARSE_TICK_NS: Final = 2_000_000_000
_SECOND_NS: Final = 1_000_000_000

# A row is a provider's fields by name; these may be null.
_FIELDS: Final = ("id", "distribution", "version", "value", "location")
_OPTIONAL: Final = ("source", "manifest_path", "error")
_DOCUMENT: Final = "document"

Stamp: TypeAlias = list[tuple[str, int | None]]


class Index:
    """The index of one search path.

    Args:
        directory: Where it is kept; made if it is missing.
        search_path: The entries, absolute.
    """

    def __init__(self, directory: Path, search_path: Sequence[str]) -> None:
        self._directory = directory
        self._file = directory / f"providers-{zlib.crc32(os.fsencode(sys.prefix)):08x}.json"
        self._search_path = list(search_path)
        self._looked = 0
        self.note: str | None = None

    def load(self) -> list[dict[str, Any]] | None:
        """Return the rows of what was found, None if that must be found anew."""
        content = self._read()
        if content is None:
            return None
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            self.note = f"{self._file} is not JSON"
            return None
        if not _is_index(data):
            self.note = f"{self._file} is no index"
            return None
        manifests = [path for path, _ in data["manifests"]]
        fresh = (
            data["key"] == self._key()
            and data["paths"] == _stamp(self._search_path)
            and data["manifests"] == _stamp(manifests)
        )
        return data["rows"] if fresh else None

    def stamp(self) -> Stamp:
        """Return the search path as it is now; to be taken before a scan."""
        self._looked = time.time_ns()
        return [(path, mtime) for path, mtime in _stamp(self._search_path)]

    def store(self, stamp: Stamp, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep what a scan found, unless something is too young to tell.

        Args:
            stamp: What ``stamp`` returned before the scan.
            rows: What was found.
        """
        rows = list(rows)
        manifests = _stamp(sorted({row["manifest_path"] for row in rows if row["manifest_path"] is not None}))
        if any(_is_young(mtime, self._looked) for _, mtime in [*stamp, *manifests]):
            self.note = "something was installed a moment ago"
            return
        data = {"key": self._key(), "paths": stamp, "manifests": manifests, "rows": rows}
        try:
            ensure_private(self._directory, what="cache directory")
            self._write(json.dumps(data))
        except (ConfigError, OSError) as error:
            self.note = f"the index cannot be kept: {error}"

    def _key(self) -> list[Any]:
        return [_FORMAT, __version__, innkeeper_sdk.__version__, sys.version, sys.prefix]

    def _read(self) -> bytes | None:
        try:
            # O_NONBLOCK: a FIFO in its place must not hang the command.
            descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.note = f"{self._file} cannot be read: {error.strerror}"
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            private = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
            if not private or found.st_size > _MAX_BYTES:
                self.note = f"{self._file} is not a private file of this user"
                return None
            return file.read(_MAX_BYTES)

    def _write(self, text: str) -> None:
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(self._file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _stamp(paths: Iterable[str]) -> list[list[Any]]:
    stamps: list[list[Any]] = []
    for path in paths:
        try:
            stamps.append([path, os.stat(path).st_mtime_ns])
        except OSError:
            stamps.append([path, None])
    return stamps


def _is_young(mtime: int | None, looked: int) -> bool:
    """Return whether something that changed at one time may change again without showing it, seen from another."""
    if mtime is None:
        return False
    tick = _TICK_NS if mtime % _SECOND_NS else _COARSE_TICK_NS
    return looked - mtime < tick


def _is_index(data: object) -> bool:
    """Return whether data has the shape of an index; one byte of it may have been anything."""
    if not isinstance(data, dict) or set(data) != {"key", "paths", "manifests", "rows"}:
        return False
    if not all(isinstance(value, list) for value in data.values()):
        return False
    return all(_is_stamp(item) for item in data["manifests"]) and all(_is_row(row) for row in data["rows"])


def _is_stamp(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _is_row(row: object) -> bool:
    return (
        isinstance(row, dict)
        and set(row) == {*_FIELDS, *_OPTIONAL, _DOCUMENT}
        and all(isinstance(row[name], str) for name in _FIELDS)
        and all(row[name] is None or isinstance(row[name], str) for name in _OPTIONAL)
        and (row[_DOCUMENT] is None or isinstance(row[_DOCUMENT], dict))
    )
