"""The one engine configuration of this package, and the name under which compiled modules of it may be kept.

Neither epochs nor fuel: deadlines are kept by killing the process, which makes guests 17-19 % faster and stops host
functions too. ``cranelift_opt_level`` and ``native_unwind_info`` are the reference's. Memories do not move (the engine
reserves all that a guest can address), so that their address need not be asked at each access.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import wasmtime

__all__ = ["engine_digest", "new_engine", "wasmtime_version"]

_SETTINGS = {"cranelift_opt_level": "speed_and_size", "native_unwind_info": False, "memory_may_move": False}


def new_engine() -> wasmtime.Engine:
    """Return a new engine; compile child and zygote must have equal ones for a compiled module to be loadable."""
    config = wasmtime.Config()
    for name, value in _SETTINGS.items():
        setattr(config, name, value)
    return wasmtime.Engine(config)


def wasmtime_version() -> str:
    """Return the version of the installed distribution, without importing ``importlib.metadata`` (35-56 ms)."""
    package = Path(wasmtime.__file__).parent
    for entry in package.parent.glob("wasmtime-*.dist-info"):
        return entry.name.removeprefix("wasmtime-").removesuffix(".dist-info")
    stat = package.stat()
    return f"unknown-{stat.st_mtime_ns}"


def engine_digest() -> str:
    """Return a digest of all that decides whether a compiled module fits this engine, as 16 hexadecimal digits."""
    parts = {"settings": _SETTINGS, "wasmtime": wasmtime_version(), "machine": platform.machine()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
