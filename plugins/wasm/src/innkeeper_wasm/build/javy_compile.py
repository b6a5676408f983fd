"""Compile a script to QuickJS bytecode with the compiler that the SDK's plugin carries.

Rules of this module:

1. The plugin is called with memory and time of its own: one instance per script, at most 1 GiB of memory; the
   time is limited by whoever runs this process.
2. It gets no host. A compiler needs none: what it writes to its standard error is kept for the message, it sees
   an empty environment, and every other call ends the compilation with an error that names the call.
3. Pointers from the plugin are checked against its memory before they are used.

Source of the calling convention: the canonical ABI of WebAssembly components as Javy 8 uses it; ``compile-src``
returns a pointer to three 32-bit numbers: 0 or 1 (bytecode or error), address, length.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import cast

import wasmtime

from innkeeper_wasm.build.errors import LinkError

__all__ = ["compile_script"]

MEMORY_LIMIT = 1 << 30  # bytes; a script of 0.7 MB takes 10 MB
STDERR_LIMIT = 64 * 1024  # bytes kept of what the plugin prints
MAX_IOVECS = 1024  # as IOV_MAX of Linux
_WASI = "wasi_snapshot_preview1"
_STDERR = 2
_SUCCESS, _BAD_DESCRIPTOR, _INVALID = 0, 8, 28  # WASI errno
_U32 = 0xFFFF_FFFF
_SIGNATURES = {
    "cabi_realloc": (["i32"] * 4, ["i32"]),
    "compile-src": (["i32"] * 2, ["i32"]),
    "invoke": (["i32"] * 5, []),
}


class _Instance:
    """One instance of the plugin, with the few host functions that it may call."""

    def __init__(self, plugin: bytes) -> None:
        engine = wasmtime.Engine()
        try:
            module = wasmtime.Module(engine, plugin)
        except wasmtime.WasmtimeError as error:
            raise LinkError("the SDK's plugin is not a WebAssembly module", actual=_first_line(error)) from error
        check_plugin(module)
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=MEMORY_LIMIT)
        self._memory: wasmtime.Memory | None = None
        self.stderr = bytearray()
        linker = wasmtime.Linker(engine)
        for item in module.imports:
            if not isinstance(item.type, wasmtime.FuncType):
                raise LinkError(f"the SDK's plugin imports {item.module}.{item.name}, which is not a function")
            linker.define_func(
                item.module, item.name or "", item.type, self._host_function(item.module, item.name or "")
            )
        self._exports = linker.instantiate(self._store, module).exports(self._store)
        self._memory = cast("wasmtime.Memory", self._exports["memory"])

    def _host_function(self, module: str, name: str) -> Callable[..., int | None]:
        offered: dict[str, Callable[..., int]] = {
            "fd_write": self._fd_write,
            "environ_sizes_get": self._environ_sizes_get,
            "environ_get": lambda *_: _SUCCESS,
        }
        if module == _WASI and name in offered:
            return offered[name]

        def refuse(*_: int) -> int | None:
            raise LinkError(f"the SDK's plugin called {module}.{name} while it compiled the script")

        return refuse

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of the plugin's memory."""
        memory, address, size = self._memory, address & _U32, size & _U32
        if memory is None or address + size > memory.data_len(self._store):
            raise LinkError("the SDK's plugin named memory that it does not have", actual=f"{size} bytes at {address}")
        return bytes(memory.read(self._store, address, address + size))

    def write(self, address: int, data: bytes) -> None:
        """Write into the plugin's memory."""
        self.read(address, len(data))
        cast("wasmtime.Memory", self._memory).write(self._store, data, address & _U32)

    def call(self, name: str, *arguments: int) -> int:
        """Call an export and return its result as an unsigned number."""
        function = cast("wasmtime.Func", self._exports[name])
        return cast("int", function(self._store, *arguments)) & _U32

    def _fd_write(self, descriptor: int, vectors: int, count: int, written: int) -> int:
        if descriptor != _STDERR:
            return _BAD_DESCRIPTOR
        if not 0 <= count <= MAX_IOVECS:
            return _INVALID
        total = 0
        for address, size in struct.iter_unpack("<II", self.read(vectors, 8 * count)):
            self.stderr += self.read(address, size)[: max(0, STDERR_LIMIT - len(self.stderr))]
            total += size
        self.write(written, struct.pack("<I", total & _U32))
        return _SUCCESS

    def _environ_sizes_get(self, count: int, size: int) -> int:
        self.write(count, bytes(4))
        self.write(size, bytes(4))
        return _SUCCESS


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def check_plugin(module: wasmtime.Module) -> None:
    """Raise unless the module has the exports of a Javy plugin.

    Raises:
        LinkError: An export is missing or has another type.
    """
    types = {export.name: export.type for export in module.exports}
    if not isinstance(types.get("memory"), wasmtime.MemoryType):
        raise LinkError("the SDK's plugin is not a Javy plugin", expected="an exported memory", actual="none")
    for name, (parameters, results) in _SIGNATURES.items():
        found = types.get(name)
        expected = f"the function {name}({', '.join(parameters)})"
        if not isinstance(found, wasmtime.FuncType):
            raise LinkError("the SDK's plugin is not a Javy plugin", expected=expected, actual="none")
        if [str(t) for t in found.params] != parameters or [str(t) for t in found.results] != results:
            actual = f"{name}({', '.join(str(t) for t in found.params)})"
            raise LinkError(
                "the SDK's plugin speaks another interface",
                expected=expected,
                actual=actual,
                hint="use a release of @chainlink/cre-sdk that is built for Javy 8",
            )


def compile_script(plugin: bytes, script: bytes) -> bytes:
    """Return the bytecode of a script.

    Args:
        plugin: An initialised Javy plugin.
        script: A JavaScript module, UTF-8.

    Raises:
        LinkError: The plugin is none, or it refuses the script; the error has what QuickJS says about it.
    """
    instance = _Instance(plugin)
    try:
        address = instance.call("cabi_realloc", 0, 0, 1, len(script))
        instance.write(address, script)
        result = instance.call("compile-src", address, len(script))
    except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
        raise LinkError(
            "the SDK's plugin failed while it compiled the script",
            actual=_cause(error),
            detail=instance.stderr.decode(errors="replace"),
        ) from error
    refused, start, size = struct.unpack("<III", instance.read(result, 12))
    data = instance.read(start, size)
    if refused:
        raise LinkError(
            f"QuickJS does not take the bundled script: {data.decode(errors='replace').strip()}",
            detail=instance.stderr.decode(errors="replace"),
        )
    return data


def _cause(error: Exception) -> str:
    """Return the line of a trap that says why, which stands after the backtrace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    marks = [index for index, line in enumerate(lines) if line == "Caused by:"]
    return lines[marks[-1] + 1] if marks and marks[-1] + 1 < len(lines) else lines[0]
