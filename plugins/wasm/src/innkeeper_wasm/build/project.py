"""Read a workflow's directory: what is to be built, and from which packages.

Rules of this module:

1. Nothing in the directory is changed.
2. The entry file is ``main`` of package.json, else ``main.ts``, else ``src/main.ts``. A ``main`` that names
   JavaScript which is not there is what projects made by the official tools have (the place of an output that
   is never made): it is passed over, and said.
3. A workflow may import what lies beside its directory, in the project that it is part of. That project is the
   nearest directory above with a ``project.yaml``, the mark of the official tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from attrs import frozen

from innkeeper_wasm.build.errors import ProjectError

__all__ = ["SDK", "Json", "Project", "read_json_object", "read_project"]

SDK = "@chainlink/cre-sdk"
PROJECT_MARK = "project.yaml"
TYPE_SETTINGS = "tsconfig.json"
ENTRIES = ("main.ts", "src/main.ts")
JSON_LIMIT = 16 * 1024 * 1024  # bytes of package.json or a lock file
_JAVASCRIPT = frozenset({".js", ".mjs", ".cjs"})
_SOURCES = frozenset({".ts", ".mts", ".cts", ".tsx", ".jsx"}) | _JAVASCRIPT

Json = Mapping[str, object]


@frozen
class Project:
    """A workflow to build.

    Args:
        directory: The workflow's directory, absolute.
        root: The directory that holds all that the workflow may import: ``directory`` or one above it.
        entry: The entry file, relative to ``directory``.
        package: What package.json says.
        notes: What the user should know about how the above were chosen.
    """

    directory: Path
    root: Path
    entry: Path
    package: Json
    notes: tuple[str, ...]

    @property
    def settings(self) -> Path | None:
        """The nearest TypeScript settings of the workflow, if it has any."""
        for directory in (self.directory, *self.directory.parents):
            if (directory / TYPE_SETTINGS).is_file():
                return directory / TYPE_SETTINGS
            if directory == self.root:
                break
        return None


def read_json_object(path: Path) -> Json:
    """Return the object that a JSON file holds.

    Raises:
        ProjectError: The file cannot be read, is too large, or holds something else.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(JSON_LIMIT + 1)
        if len(raw) > JSON_LIMIT:
            raise ProjectError("the file is too large", path=str(path), expected=f"at most {JSON_LIMIT} bytes")
        value: object = json.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise ProjectError("the file cannot be read", path=str(path), actual=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise ProjectError("the file is not JSON", path=str(path), actual=str(error)) from error
    if not isinstance(value, dict):
        raise ProjectError("the file is not JSON of the right kind", path=str(path), expected="an object")
    return cast("Json", value)


def read_project(directory: Path, root: Path | None = None) -> Project:
    """Return the workflow that a directory holds.

    Args:
        directory: The workflow's directory.
        root: The directory that holds all that it imports; ``None`` finds the project that it is part of.

    Raises:
        ProjectError: The directory is none, or no workflow, or not inside ``root``.
    """
    try:
        directory = directory.resolve(strict=True)
        root = None if root is None else root.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ProjectError("the directory cannot be read", path=str(directory), actual=str(error)) from error
    if not directory.is_dir():
        raise ProjectError("not a directory", path=str(directory), expected="the directory of a workflow")
    manifest = directory / "package.json"
    if not manifest.is_file():
        raise ProjectError(
            f"{directory} is no TypeScript workflow",
            expected="a package.json in it",
            actual="none",
            hint="name the directory of a workflow, as examples/clock is one",
        )
    package = read_json_object(manifest)
    root = _find_root(directory) if root is None else root
    if not directory.is_relative_to(root):
        raise ProjectError(
            "the workflow does not lie in its root", path=str(directory), expected=f"a path below {root}"
        )
    entry, notes = _find_entry(directory, package)
    return Project(directory, root, entry, package, notes)


def _find_root(directory: Path) -> Path:
    for candidate in (directory, *directory.parents):
        if (candidate / PROJECT_MARK).is_file():
            return candidate
        if (candidate / ".git").exists():
            break
    return directory


def _find_entry(directory: Path, package: Json) -> tuple[Path, tuple[str, ...]]:
    named = package.get("main")
    notes: tuple[str, ...] = ()
    if named is not None:
        if not isinstance(named, str) or not named:
            raise ProjectError(
                "`main` is not the name of a file", path=str(directory / "package.json"), actual=repr(named)
            )
        path = (directory / named).resolve()
        if path.is_file():
            return _check_entry(directory, path), notes
        if path.suffix not in _JAVASCRIPT:
            raise ProjectError(
                "the entry file does not exist",
                path=str(path),
                hint=f'correct "main" in {directory / "package.json"}',
            )
        notes = (f"package.json names {named} as main, which does not exist",)
    for name in ENTRIES:
        path = (directory / name).resolve()
        if path.is_file():
            return _check_entry(directory, path), notes
    raise ProjectError(
        f"{directory} has no entry file",
        expected=f'{" or ".join(ENTRIES)}, or the file that "main" in package.json names',
        actual=notes[0] if notes else "none of them",
    )


def _check_entry(directory: Path, path: Path) -> Path:
    if not path.is_relative_to(directory):
        raise ProjectError(
            "the entry file lies outside the workflow", path=str(path), expected=f"a path below {directory}"
        )
    if path.suffix not in _SOURCES:
        raise ProjectError(
            "the entry file is not a script", path=str(path), expected=", ".join(sorted(_SOURCES)), actual=path.suffix
        )
    return path.relative_to(directory)
