"""The bundle: all that an enclave can load, and nothing else.

Rules of this module:

1. What is in the bundle is what is measured, and all that can be imported beside the standard library: the enclave's
   interpreter is started on a directory of links to it, isolated and without ``site``.
2. Compiled Python files are never read: they are no part of the measurement, and a planted one would be code. So the
   interpreter looks for them in a directory that is empty, and writes none.
3. A file is named by where it is in the bundle, never by where it is on this machine: an install measures the same
   wherever it lies.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from attrs import frozen

from innkeeper_confidential_workflows.launcher.errors import LaunchError

__all__ = ["APPLICATION", "INTERPRETER_FLAGS", "Bundle", "Member", "SourceFile", "find_bundle"]

APPLICATION: Final = ("innkeeper_confidential_workflows", "innkeeper_sdk", "innkeeper_wasm")
"""Ours."""
_LIBRARIES: Final = ("attr", "attrs", "brotli", "cbor2", "cryptography", "google.protobuf", "google._upb", "wasmtime")
"""What ours imports in the enclave; a test compares it with what is loaded there."""
_PARTS: Final = ("_brotli", "_cffi_backend")
"""Modules of these that lie beside them, where they have any."""

INTERPRETER_FLAGS: Final = ("-I", "-S", "-B")

_MAIN: Final = "__main__.py"
_BOOTSTRAP: Final = Path(__file__).with_name("bootstrap.py")
_SKIPPED: Final = frozenset({"__pycache__"})
_SKIPPED_OF_LIBRARY: Final = _SKIPPED | {"dist-packages", "site-packages", "test", "tests"}
"""What an interpreter without ``site`` does not look into, and the standard library's own tests."""


@frozen
class Member:
    """Something that can be imported.

    Attributes:
        name: Where it is in the bundle, such as ``google/protobuf``.
        path: Where it is on this machine: a directory or a file.
    """

    name: str
    path: Path


@frozen
class SourceFile:
    """A file of what is measured.

    Attributes:
        name: Its name in the measurement.
        path: Where it is on this machine.
    """

    name: str
    path: Path


@frozen(kw_only=True)
class Bundle:
    """What an enclave can load.

    Attributes:
        application: Our packages.
        libraries: What they import.
        interpreter: The program that runs them.
        runtime: The interpreter's own library, if it has one, and the standard library.
    """

    application: tuple[Member, ...]
    libraries: tuple[Member, ...]
    interpreter: Path
    runtime: tuple[Member, ...]

    def files(self) -> list[SourceFile]:
        """Return what is measured, sorted by name.

        Raises:
            LaunchError: A directory cannot be read.
        """
        found = [file for member in (*self.application, *self.libraries) for file in _files(member, _SKIPPED)]
        found += [file for member in self.runtime for file in _files(member, _SKIPPED_OF_LIBRARY)]
        found.append(SourceFile("interpreter/python", self.interpreter))
        return sorted(found, key=lambda file: file.name)

    def link(self, directory: Path) -> None:
        """Make a directory of links to what can be imported.

        Args:
            directory: A private one, which does not exist yet.

        Raises:
            LaunchError: It cannot be made.
        """
        try:
            directory.mkdir(mode=0o700)
            for member in (*self.application, *self.libraries):
                link = directory / member.name
                link.parent.mkdir(mode=0o700, exist_ok=True)
                link.symlink_to(member.path, target_is_directory=member.path.is_dir())
            (directory / _MAIN).symlink_to(_BOOTSTRAP)
        except OSError as error:
            raise LaunchError(f"the enclave's bundle cannot be made: {error}", path=str(directory)) from error

    def command(self, directory: Path, cache: Path) -> tuple[str, ...]:
        """Return what goes before the name of a module to run it.

        Args:
            directory: What :meth:`link` has made.
            cache: Where the interpreter looks for compiled Python files: nothing is there.
        """
        return (str(self.interpreter), *INTERPRETER_FLAGS, "-X", f"pycache_prefix={cache}", str(directory))


def find_bundle() -> Bundle:
    """Return the bundle of this installation, without importing anything of it.

    Raises:
        LaunchError: A part of it is missing.
    """
    return Bundle(
        application=tuple(_member(name) for name in APPLICATION),
        libraries=(
            *(_member(name) for name in _LIBRARIES),
            *(Member(path.name, path) for name in _PARTS if (path := _locate(name)) is not None),
        ),
        interpreter=Path(os.path.realpath(sys.executable)),
        runtime=tuple(_runtime()),
    )


def _member(name: str) -> Member:
    path = _locate(name)
    if path is None:
        raise LaunchError(f"the enclave's bundle lacks {name}", hint="install innkeeper-confidential-workflows anew")
    *parents, _ = name.split(".")
    return Member("/".join((*parents, path.name)), path)


def _locate(name: str) -> Path | None:
    spec = find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(os.path.realpath(next(iter(spec.submodule_search_locations))))
    return None if spec.origin is None else Path(os.path.realpath(spec.origin))


def _runtime() -> Iterator[Member]:
    standard = Path(sysconfig.get_path("stdlib"))
    yield Member("interpreter/lib", standard)
    platform = Path(sysconfig.get_path("platstdlib"))
    # In a virtual environment it is said to be there, where no interpreter without ``site`` looks.
    base = Path(sys.base_prefix)
    if platform != standard and platform.is_relative_to(base):
        yield Member("interpreter/platlib", platform)
    archive = standard.parent / f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    if archive.exists():
        yield Member("interpreter/archive", archive)  # It comes before the standard library.
    library = sysconfig.get_config_var("INSTSONAME")
    directory = sysconfig.get_config_var("LIBDIR")
    if library and directory and (path := Path(directory) / library).exists():
        yield Member(f"interpreter/{library}", path)


def _files(member: Member, skipped: frozenset[str]) -> Iterator[SourceFile]:
    if not member.path.is_dir():
        yield SourceFile(member.name, member.path)
        return
    seen: set[str] = set()
    for directory, names, files in os.walk(member.path, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(directory)
        if real in seen:  # A link back up.
            names.clear()
            continue
        seen.add(real)
        names[:] = [name for name in names if name not in skipped]
        inside = Path(directory).relative_to(member.path).as_posix()
        prefix = member.name if inside == "." else f"{member.name}/{inside}"
        for name in files:
            yield SourceFile(f"{prefix}/{name}", Path(directory, name))


def _unreadable(error: OSError) -> None:
    raise LaunchError(f"the enclave cannot be measured: {error.strerror}", path=str(error.filename))
