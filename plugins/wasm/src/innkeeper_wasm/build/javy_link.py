"""Link QuickJS bytecode with the SDK's plugin into one workflow binary.

Rules of this module:

1. The result is the plugin with additions and nothing rewritten: one type, one function per entry point, and
   the bytecode and the entry points' names as passive data segments. Indices of the plugin stay as they are.
2. ``_start`` runs the module's top level; each other entry point runs the function of that name afterwards.
3. What only a linker may call (the plugin's compiler and its raw ``invoke``) is not exported by the result.
4. Every use reserves its own memory in the guest, copies the segment there and hands it to ``invoke``.

These are the steps of Javy 8's static code generation, without its last pass of optimisation: the plugin is
optimised already, and the added functions are a handful of calls.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from innkeeper_wasm.build.wasm_binary import (
    DATA_PASSIVE,
    FUNCTION,
    MEMORY,
    Export,
    Module,
    SectionId,
    WasmFormatError,
    append_to_vector,
    encode_exports,
    encode_s32,
    encode_u32,
    imported_functions,
    parse_exports,
    sized,
    vector_length,
)

__all__ = ["EntryPoint", "link"]

START = "_start"
REALLOC, INVOKE, COMPILE, INITIALIZE = "cabi_realloc", "invoke", "compile-src", "initialize-runtime"
NOT_EXPORTED = frozenset({INVOKE, COMPILE, INITIALIZE})

_TYPE_NOTHING_TO_NOTHING = b"\x60\x00\x00"
_I32 = b"\x7f"
_CALL, _LOCAL_GET, _LOCAL_TEE, _I32_CONST, _END = b"\x10", b"\x20", b"\x22", b"\x41", b"\x0b"
_MEMORY_INIT, _DATA_DROP = b"\xfc\x08", b"\xfc\x09"
_NO_ALIGNMENT = 1
_NONE, _SOME = 0, 1


@frozen
class EntryPoint:
    """A function that the binary offers: its name outside, and the function of the script that it runs."""

    export: str
    function: str


def _const(value: int) -> bytes:
    # i32.const takes a signed number; sizes above 2 GiB keep their bits.
    return _I32_CONST + encode_s32(value - (1 << 32) if value >= 1 << 31 else value)


def _call(function: int) -> bytes:
    return _CALL + encode_u32(function)


def _body(code: bytes, locals_i32: int) -> bytes:
    return sized(encode_u32(1) + encode_u32(locals_i32) + _I32 + code + _END)


@frozen
class _Plugin:
    realloc: int
    invoke: int

    def load(self, segment: int, size: int, local: int) -> bytes:
        """Return code that reserves memory, keeps its address in a local and fills it from a segment."""
        reserve = b"".join(_const(n) for n in (0, 0, _NO_ALIGNMENT, size)) + _call(self.realloc)
        fill = _const(0) + _const(size) + _MEMORY_INIT + encode_u32(segment) + b"\x00"
        return reserve + _LOCAL_TEE + encode_u32(local) + fill

    def start(self, segment: int, size: int) -> bytes:
        """Return the body that runs the top level of the script."""
        run = _LOCAL_GET + b"\x00" + b"".join(_const(n) for n in (size, _NONE, 0, 0)) + _call(self.invoke)
        return _body(self.load(segment, size, 0) + run, 1)

    def function(self, segment: int, size: int, name_segment: int, name_size: int) -> bytes:
        """Return the body that runs one function of the script, once."""
        code = self.load(segment, size, 0) + _DATA_DROP + encode_u32(segment)
        code += self.load(name_segment, name_size, 1) + _DATA_DROP + encode_u32(name_segment)
        code += _LOCAL_GET + b"\x00" + _const(size) + _const(_SOME)
        code += _LOCAL_GET + b"\x01" + _const(name_size) + _call(self.invoke)
        return _body(code, 2)


def link(plugin: bytes, bytecode: bytes, entry_points: Sequence[EntryPoint]) -> bytes:
    """Return the binary that runs the bytecode in the plugin.

    Args:
        plugin: An initialised Javy plugin, as the SDK ships it.
        bytecode: What the same plugin's compiler made of the script.
        entry_points: The functions to export beside ``_start``.

    Returns:
        A module that exports what the plugin does, except its compiler, and ``_start`` and the entry points.

    Raises:
        WasmFormatError: The plugin is no module, or lacks an export, or an entry point's name is taken.
    """
    module = Module.parse(plugin)
    exports = parse_exports(module.payload(SectionId.EXPORT))
    functions = {export.name: export.index for export in exports if export.kind == FUNCTION}
    for name in (REALLOC, INVOKE, COMPILE):
        if name not in functions:
            msg = f"no Javy plugin: the function {name} is not exported"
            raise WasmFormatError(msg)
    if Export("memory", MEMORY, 0) not in exports:
        msg = "no Javy plugin: its first memory is not exported as memory"
        raise WasmFormatError(msg)
    kept = [export for export in exports if export.name not in NOT_EXPORTED]

    first_function = imported_functions(module.payload(SectionId.IMPORT))
    first_function += vector_length(module.payload(SectionId.FUNCTION), "function section")
    first_segment = vector_length(module.payload(SectionId.DATA), "data section")
    made = _Plugin(functions[REALLOC], functions[INVOKE])
    names = [START]
    segments = [bytecode]
    bodies = [made.start(first_segment, len(bytecode))]
    for entry in entry_points:
        function = entry.function.encode()
        bodies.append(made.function(first_segment, len(bytecode), first_segment + len(segments), len(function)))
        names.append(entry.export)
        segments.append(function)

    added = [Export(name, FUNCTION, first_function + index) for index, name in enumerate(names)]
    taken = {export.name for export in kept}
    for export in added:
        if export.name in taken:
            msg = f"two exports would be called {export.name}"
            raise WasmFormatError(msg)
        taken.add(export.name)

    new_type = encode_u32(vector_length(module.payload(SectionId.TYPE), "type section"))
    changes = {
        SectionId.TYPE: ([_TYPE_NOTHING_TO_NOTHING], "type section"),
        SectionId.FUNCTION: ([new_type] * len(bodies), "function section"),
        SectionId.CODE: (bodies, "code section"),
        SectionId.DATA: ([bytes([DATA_PASSIVE]) + sized(data) for data in segments], "data section"),
    }
    for number, (items, what) in changes.items():
        module = module.replace(number, append_to_vector(module.payload(number), items, what))
    module = module.replace(SectionId.EXPORT, encode_exports(kept + added))
    # memory.init and data.drop are valid only in a module that says beforehand how many segments it has.
    module = module.replace(SectionId.DATA_COUNT, encode_u32(first_segment + len(segments)))
    return module.encode()
