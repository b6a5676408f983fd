"""Copy a workflow's sources to a private place where the official tools may write.

Rules of this module:

1. The official compiler writes beside the entry file and wants ``node_modules`` above it; both happen in the
   copy.
2. Hidden files and directories (``.git``, ``.env`` and so on) and ``node_modules`` are not copied: no source
   imports them, and secrets have no business in a build.
3. Links are followed, so that the copy holds files only; the number and size of files are limited, which also
   ends a circle of links.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from attrs import define, field

from innkeeper_wasm.build.errors import ProjectError

__all__ = ["copy_sources"]

MAX_ENTRIES = 20_000
MAX_BYTES = 256 * 1024 * 1024


@define
class _Copier:
    skip: Collection[Path]
    entries: int = field(default=0)
    bytes: int = field(default=0)

    def directory(self, source: Path, target: Path) -> None:
        target.mkdir()
        self.count(source, 0)
        with os.scandir(source) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                path = Path(entry.path)
                if entry.name.startswith(".") or entry.name == "node_modules" or path in self.skip:
                    continue
                if entry.is_dir():
                    self.directory(path, target / entry.name)
                elif entry.is_file():
                    self.file(path, target / entry.name)

    def file(self, source: Path, target: Path) -> None:
        shutil.copyfile(source, target)
        self.count(source, target.stat().st_size)

    def count(self, source: Path, size: int) -> None:
        self.entries += 1
        self.bytes += size
        if self.entries > MAX_ENTRIES or self.bytes > MAX_BYTES:
            raise ProjectError(
                "the workflow's directory holds too much to be its source",
                path=str(source),
                expected=f"at most {MAX_ENTRIES} files and directories and {MAX_BYTES >> 20} MiB",
                hint="keep other files elsewhere, or name the directory of the workflow itself",
            )


def copy_sources(root: Path, target: Path, *, skip: Collection[Path]) -> None:
    """Copy the sources below a directory.

    Args:
        root: Where they are.
        target: Where the copy goes; it must not exist yet.
        skip: Directories to leave out: those of the build itself, if it takes place below ``root``.

    Raises:
        ProjectError: A file cannot be read, or there is more than sources are.
    """
    try:
        _Copier(skip).directory(root, target)
    except OSError as error:
        raise ProjectError(
            "a file of the workflow cannot be copied", path=str(error.filename or root), actual=error.strerror
        ) from error
