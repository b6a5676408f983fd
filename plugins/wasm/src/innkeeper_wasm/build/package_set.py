"""Say which packages a workflow is built with, as something that can be compared and kept.

Rules of this module:

1. Only what decides the packages counts: the dependencies of package.json, the lock file, the project's npm
   settings and the machine. Two workflows with the same of these share one installation, whatever their names.
2. The scripts of package.json are left out: installing never runs code of the workflow. (Projects made by the
   official tools download a compiler there, which this build replaces.)
3. The tools that the official compiler needs and that a workflow may leave to the machine are added in the
   versions that this build is tested with, if the workflow does not name them.
4. Every package comes from a registry: a path means something only where it was written.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from attrs import frozen

from innkeeper_wasm.build.errors import ProjectError
from innkeeper_wasm.build.project import SDK, Json, Project, read_json_object

__all__ = ["TOOLS", "PackageSet", "read_package_set"]

# The versions that this build is tested with. bun bundles and runs the official compiler, which needs typescript's
# checker beside it; the SDK's own development uses this typescript.
TOOLS: Mapping[str, str] = {"bun": "1.4.5", "typescript": "5.9.3"}

LOCK_FILES = ("npm-shrinkwrap.json", "package-lock.json")
OTHER_LOCK_FILES = ("bun.lock", "bun.lockb", "yarn.lock", "pnpm-lock.yaml")
NPM_SETTINGS = ".npmrc"
_LAYOUT = 1  # raised when installations made by older versions of this module must not be used
_NAME = "innkeeper-workflow-packages"
_DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies")
_PEERS = ("peerDependencies", "peerDependenciesMeta")
_LOCAL = ("file:", "link:", "portal:", "workspace:", "./", "../", "/", "~/")


@frozen
class PackageSet:
    """The packages of a workflow.

    Args:
        digest: Names the set; equal for workflows that can share an installation.
        manifest: The package.json to install from.
        lock: The package-lock.json to install from, if the workflow has one.
        exact: Whether the lock file covers all of the manifest, so that it may be taken at its word.
        settings: The project's npm settings, if it has any. They may hold a secret: use, and do not keep.
        notes: What the user should know.
    """

    digest: str
    manifest: bytes
    lock: bytes | None
    exact: bool
    settings: bytes | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Return the set's name; its settings are nobody's business."""
        return f"PackageSet({self.digest})"


def read_package_set(project: Project) -> PackageSet:
    """Return the packages that a workflow is built with.

    Raises:
        ProjectError: Its package.json or lock file is malformed, names no SDK, or names packages by a path.
    """
    source = project.directory / "package.json"
    manifest: dict[str, object] = {"name": _NAME, "version": "0.0.0", "private": True}
    named: set[str] = set()
    for key in (*_DEPENDENCIES, *_PEERS, "overrides"):
        value = project.package.get(key)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise ProjectError(f"`{key}` is not an object", path=str(source))
        if key in _DEPENDENCIES or key == "peerDependencies":
            _check_sources(source, key, value)
        if key in _DEPENDENCIES:
            named |= value.keys()
        manifest[key] = dict(value)
    if SDK not in named:
        raise ProjectError(
            "the workflow does not depend on the official SDK",
            path=str(source),
            expected=f'"{SDK}" in its dependencies',
            actual=", ".join(sorted(named)) or "no dependencies",
            hint=f"run `npm install --save-exact {SDK}` in {project.directory}",
        )
    added = {name: version for name, version in TOOLS.items() if name not in named}
    if added:
        development = cast("dict[str, object]", manifest.get("devDependencies", {}))
        manifest["devDependencies"] = {**development, **added}

    lock = _read_lock(project.directory)
    settings = _read_settings(project.directory)
    content = {
        "layout": _LAYOUT,
        "manifest": manifest,
        "lock": lock,
        "settings": None if settings is None else hashlib.sha256(settings).hexdigest(),
        "machine": [sys.platform, platform.machine(), platform.libc_ver()[0]],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]
    return PackageSet(
        digest=digest,
        manifest=_encode(manifest),
        lock=None if lock is None else _encode(lock),
        exact=lock is not None and not added,
        settings=settings,
        notes=_notes(project.directory, added, locked=lock is not None),
    )


def _encode(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def _check_sources(source: Path, key: str, dependencies: Mapping[str, object]) -> None:
    for name, version in dependencies.items():
        if not isinstance(version, str):
            raise ProjectError(f"`{key}` gives {name} no version", path=str(source), expected="a text")
        if version.startswith(_LOCAL):
            raise ProjectError(
                f"`{key}` takes {name} from a path",
                path=str(source),
                expected="a version from a registry",
                actual=version,
                hint="publish the package, or move its sources into the workflow and import them by path",
            )


def _read_lock(directory: Path) -> Json | None:
    for name in LOCK_FILES:
        path = directory / name
        if not path.is_file():
            continue
        lock = {**read_json_object(path), "name": _NAME, "version": "0.0.0"}
        packages = lock.get("packages")
        if isinstance(packages, dict):
            own = packages.get("")
            kept = {key: own[key] for key in (*_DEPENDENCIES, *_PEERS) if key in own} if isinstance(own, dict) else {}
            lock["packages"] = {**packages, "": {"name": _NAME, "version": "0.0.0", **kept}}
        return lock
    return None


def _read_settings(directory: Path) -> bytes | None:
    path = directory / NPM_SETTINGS
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError("the npm settings cannot be read", path=str(path), actual=error.strerror) from error


def _notes(directory: Path, added: Mapping[str, str], *, locked: bool) -> tuple[str, ...]:
    notes = []
    if added:
        versions = ", ".join(f"{name} {version}" for name, version in added.items())
        notes.append(f"the workflow names no version of these tools, so this build's are taken: {versions}")
    if not locked:
        other = next((name for name in OTHER_LOCK_FILES if (directory / name).exists()), None)
        why = "there is no package-lock.json" if other is None else f"{other} is not read, only package-lock.json is"
        notes.append(
            f"versions are not pinned: {why} (npm install --package-lock-only makes one), "
            "so another machine may build other bytes"
        )
    return tuple(notes)
