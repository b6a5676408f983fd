"""A private place for one build, below the build directory.

Rules of this module:

1. It lies at the same place relative to the packages in every build directory. The bundler writes relative
   paths as comments between modules, and how it lays out its output depends on their lengths: the same sources
   would become other bytes at other distances.
2. Settings of directories above the build directory take no part: files that a tool would look for upwards end
   at ours. Packages above it cannot be hidden from the tools, so they are named.
3. A place is locked while its build runs. Places that nobody has locked were left by builds that were killed,
   and are removed by the next build.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from innkeeper_wasm.build.errors import ProjectError
from innkeeper_wasm.build.locking import locked, try_lock

__all__ = ["build_stage", "packages_above"]

# Settings that end the tools' search upwards. Every workflow whose types are checked has settings of its own below.
_BARRIERS = {"package.json": '{"private": true}\n', "tsconfig.json": '{"files": []}\n'}


def packages_above(build_directory: Path) -> Path | None:
    """Return the nearest directory of packages that lies above a build directory, if there is one."""
    return next((p / "node_modules" for p in build_directory.parents if (p / "node_modules").is_dir()), None)


def _sweep(parent: Path) -> None:
    for lock in parent.glob("*.lock"):
        file = try_lock(lock)
        if file is None:
            continue
        with file:
            place = lock.with_suffix("")
            if place.exists():
                shutil.rmtree(place)
            lock.unlink()


@contextmanager
def build_stage(build_directory: Path) -> Iterator[Path]:
    """Make a place for one build, and remove it at the end.

    Args:
        build_directory: The build directory; it exists.

    Yields:
        An empty directory that no one else uses.

    Raises:
        ProjectError: It cannot be made.
    """
    parent = build_directory / "stage"
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        # Making a place is two steps, its lock and the lock's locking, between which no one may sweep.
        with locked(build_directory / "stage.lock"):
            for name, content in _BARRIERS.items():
                if not (parent / name).exists():
                    (parent / name).write_text(content, encoding="utf-8")
            _sweep(parent)
            place = Path(tempfile.mkdtemp(dir=parent))
            lock = place.with_suffix(".lock")
            held = try_lock(lock)
    except OSError as error:
        raise ProjectError(
            "there is no place for the build", path=str(error.filename or parent), actual=error.strerror
        ) from error
    if held is None:
        raise ProjectError("the place for the build belongs to another one", path=str(place))
    with held:
        try:
            yield place
        finally:
            # What cannot be removed now keeps its lock file, by which a later sweep finds it.
            shutil.rmtree(place, ignore_errors=True)
            if not place.exists():
                lock.unlink(missing_ok=True)
