"""Put our linker where the official compiler looks for the Javy command line.

Rules of this module: the compiler looks in the cache of its home directory, by version and machine; so it is
given a home directory of its own, below the build directory, whose cache holds a small script. The script names
this interpreter, without the user's environment and site directories.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from innkeeper_wasm.build.errors import LinkError
from innkeeper_wasm.build.packages import PLUGIN, Installation
from innkeeper_wasm.build.project import SDK

__all__ = ["prepare_home"]

_VERSION = re.compile(r"""JAVY_VERSION\s*=\s*['"](v[0-9][0-9A-Za-z.+-]{0,40})['"]""")
_MACHINES = ("linux-x64", "linux-arm64")  # as Node.js names them
_LINKER = "innkeeper_wasm.build.javy_cli"


def _wanted_versions(installation: Installation) -> list[str]:
    """Return the Javy versions that the installed SDK may ask for: that of its plugin, wherever npm put it."""
    places = (installation.node_modules, installation.node_modules / SDK / "node_modules")
    versions = []
    for place in places:
        shared = place / PLUGIN / "scripts" / "shared.ts"
        if not shared.is_file():
            continue
        match = _VERSION.search(shared.read_text(encoding="utf-8", errors="replace"))
        if match is None:
            raise LinkError(
                "the SDK does not say which linker it wants",
                path=str(shared),
                expected="JAVY_VERSION",
                hint=f"use {SDK} 1.21.1, with which this build is tested",
            )
        versions.append(match[1])
    return versions


def prepare_home(installation: Installation, build_directory: Path) -> Path:
    """Return a home directory for the official compiler, with our linker in its cache.

    Raises:
        LinkError: The SDK does not say what it looks for, or the directory cannot be written.
    """
    script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m {_LINKER} "$@"\n'.encode()
    home = build_directory / "home" / hashlib.sha256(script).hexdigest()[:24]
    try:
        for version in _wanted_versions(installation):
            for machine in _MACHINES:
                place = home / ".cache" / "javy" / version / machine / "javy"
                if not (place.is_file() and place.read_bytes() == script):
                    _write_program(place, script)
    except OSError as error:
        raise LinkError(
            "the linker cannot be put in its place", path=str(error.filename or home), actual=error.strerror
        ) from error
    return home


def _write_program(place: Path, content: bytes) -> None:
    # Written beside its place and renamed, for another build may be running it.
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o755)
        Path(name).rename(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
