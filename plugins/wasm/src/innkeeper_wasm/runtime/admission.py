"""Admitting a binary: sizes, brotli, and what its imports and exports say of it.

The order of the checks and their texts are the reference's.
"""

from __future__ import annotations

from collections.abc import Iterable

import brotli
import wasmtime

from innkeeper_wasm.runtime.facts import MAX_UNKNOWN_IMPORTS, ModuleShape
from innkeeper_wasm.runtime.imports import functions
from innkeeper_wasm.runtime.limits import CompileLimits
from innkeeper_wasm.runtime.refusals import (
    BinaryKind,
    Refusal,
    RefusalCode,
    check_binary_size,
    check_stored_size,
)

__all__ = ["VERSION_PREFIX", "decompress", "inspect"]

VERSION_PREFIX = "version_v2"
_MAX_NAME = 200


def decompress(data: bytes, kind: BinaryKind, limits: CompileLimits) -> bytes:
    """Return the wasm binary (or WAT text) of a stored one.

    Raises:
        Refusal: If it is too large before or after, or is not brotli.
    """
    if kind is BinaryKind.BROTLI:
        check_stored_size(len(data), kind, limits)
        data = _unbrotli(data, limits.binary_bytes)
    check_binary_size(len(data), limits)
    return data


def _unbrotli(data: bytes, limit: int) -> bytes:
    """Return at most ``limit + 1`` bytes of what is compressed: a bomb is cut, not inflated."""
    decompressor = brotli.Decompressor()
    parts: list[bytes] = []
    total = 0
    pending = data
    try:
        while total <= limit and not decompressor.is_finished():
            part = decompressor.process(pending, output_buffer_limit=min(limit + 1 - total, 1 << 20))
            if not part and decompressor.can_accept_more_data() and not pending:
                raise Refusal(RefusalCode.NOT_BROTLI, "failed to decompress binary: unexpected EOF")
            pending = b""
            parts.append(part)
            total += len(part)
    except brotli.error as error:
        raise Refusal(RefusalCode.NOT_BROTLI, f"failed to decompress binary: {error}") from error
    return b"".join(parts)[: limit + 1]


def inspect(module: wasmtime.Module) -> ModuleShape:
    """Return what imports and exports of a compiled module say.

    Raises:
        Refusal: If it does not export a memory as ``memory``.
    """
    exports = {export.name: export.type for export in module.exports}
    if "memory" not in exports:
        raise Refusal(RefusalCode.NO_MEMORY, 'module does not export "memory"')
    if not isinstance(exports["memory"], wasmtime.MemoryType):
        raise Refusal(RefusalCode.NO_MEMORY, 'module export "memory" is not a memory')
    imports = list(module.imports)
    version = ""
    parameters: int | None = None
    for item in imports:
        if item.module != "env" or item.name is None:
            continue
        if item.name.startswith(VERSION_PREFIX):
            version = item.name  # The last one counts.
        elif item.name == "call_capability" and isinstance(item.type, wasmtime.FuncType):
            parameters = len(item.type.params)
    if len(version) > _MAX_NAME:
        raise Refusal(RefusalCode.INVALID, f"the version import has {len(version)} characters, at most {_MAX_NAME} fit")
    return ModuleShape(
        version_import=version,
        call_capability_parameters=parameters,
        unknown_imports=_unknown(((item.module, item.name or "") for item in imports), version, parameters),
        has_start=isinstance(exports.get("_start"), wasmtime.FuncType),
    )


def _unknown(imports: Iterable[tuple[str, str]], version: str, parameters: int | None) -> list[str]:
    known = functions(parameters).keys() | {("env", version)}
    names = sorted({f"{module}::{name}"[:_MAX_NAME] for module, name in imports if (module, name) not in known})
    return names[:MAX_UNKNOWN_IMPORTS]
