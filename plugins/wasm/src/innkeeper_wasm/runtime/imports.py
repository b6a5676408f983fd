"""Every function that a guest can import, with its wasm type, and the linker that offers them.

No function is wasmtime's own, WASI included: all go through one gate, because the first call of *any* of them is where
executions are forked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import wasmtime
from attrs import frozen

__all__ = ["ENV", "WASI", "WASI_MODULE", "Signature", "functions", "link"]

WASI_MODULE = "wasi_snapshot_preview1"


@frozen
class Signature:
    """The type of an import.

    Args:
        parameters: One letter per parameter: ``i`` for i32, ``I`` for i64.
        result: The same for the result, or nothing.
    """

    parameters: str
    result: str = "i"


ENV: Mapping[str, Signature] = {
    "send_response": Signature("ii"),
    "await_capabilities": Signature("iiii", "I"),
    "get_secrets": Signature("iiii", "I"),
    "await_secrets": Signature("iiii", "I"),
    "log": Signature("ii", ""),
    "emit_metric": Signature("ii"),
    "switch_modes": Signature("i", ""),
    "random_seed": Signature("i", "I"),
    "now": Signature("i"),
}
"""The ``env`` functions, but ``call_capability``, which has two types, and the version marker, which has many names."""

_CALL_CAPABILITY = {2: ("call_capability_v1", Signature("ii", "I")), 4: ("call_capability_v2", Signature("iiii", "I"))}

WASI: Mapping[str, Signature] = {
    "args_get": Signature("ii"),
    "args_sizes_get": Signature("ii"),
    "clock_res_get": Signature("ii"),
    "clock_time_get": Signature("iIi"),
    "environ_get": Signature("ii"),
    "environ_sizes_get": Signature("ii"),
    "fd_advise": Signature("iIIi"),
    "fd_allocate": Signature("iII"),
    "fd_close": Signature("i"),
    "fd_datasync": Signature("i"),
    "fd_fdstat_get": Signature("ii"),
    "fd_fdstat_set_flags": Signature("ii"),
    "fd_fdstat_set_rights": Signature("iII"),
    "fd_filestat_get": Signature("ii"),
    "fd_filestat_set_size": Signature("iI"),
    "fd_filestat_set_times": Signature("iIIi"),
    "fd_pread": Signature("iiiIi"),
    "fd_prestat_dir_name": Signature("iii"),
    "fd_prestat_get": Signature("ii"),
    "fd_pwrite": Signature("iiiIi"),
    "fd_read": Signature("iiii"),
    "fd_readdir": Signature("iiiIi"),
    "fd_renumber": Signature("ii"),
    "fd_seek": Signature("iIii"),
    "fd_sync": Signature("i"),
    "fd_tell": Signature("ii"),
    "fd_write": Signature("iiii"),
    "path_create_directory": Signature("iii"),
    "path_filestat_get": Signature("iiiii"),
    "path_filestat_set_times": Signature("iiiiIIi"),
    "path_link": Signature("iiiiiii"),
    "path_open": Signature("iiiiiIIii"),
    "path_readlink": Signature("iiiiii"),
    "path_remove_directory": Signature("iii"),
    "path_rename": Signature("iiiiii"),
    "path_symlink": Signature("iiiii"),
    "path_unlink_file": Signature("iii"),
    "poll_oneoff": Signature("iiii"),
    "proc_exit": Signature("i", ""),
    "proc_raise": Signature("i"),
    "random_get": Signature("ii"),
    "sched_yield": Signature(""),
    "sock_accept": Signature("iii"),
    "sock_recv": Signature("iiiiii"),
    "sock_send": Signature("iiiii"),
    "sock_shutdown": Signature("ii"),
}


def functions(call_capability_parameters: int | None) -> dict[tuple[str, str], tuple[str, Signature]]:
    """Return what is linked for every V2 guest, its version marker excepted.

    Args:
        call_capability_parameters: How many parameters the guest's import of ``call_capability`` declares; exactly 4
            selects the newer form, anything else the older.

    Returns:
        (module, name) → (name of the method that implements it, type).
    """
    table = {("env", name): (name, signature) for name, signature in ENV.items()}
    table["env", "call_capability"] = _CALL_CAPABILITY[4 if call_capability_parameters == 4 else 2]
    table |= {(WASI_MODULE, name): (name, signature) for name, signature in WASI.items()}
    return table


def link(
    engine: wasmtime.Engine,
    version_import: str,
    call_capability_parameters: int | None,
    gate: Callable[[str, str], Callable[..., int | None]],
) -> wasmtime.Linker:
    """Return a linker that offers every import.

    Args:
        engine: The engine of the module to be linked.
        version_import: The name of the version marker that admission has found.
        call_capability_parameters: As for :func:`functions`.
        gate: Given the module and the name of a method, returns the function that the guest calls; its first argument
            is the :class:`wasmtime.Caller`.
    """
    linker = wasmtime.Linker(engine)
    linker.define_func("env", version_import, wasmtime.FuncType([], []), lambda: None)
    types = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
    for (module, name), (method, signature) in functions(call_capability_parameters).items():
        type_ = wasmtime.FuncType(
            [types[letter]() for letter in signature.parameters], [types[letter]() for letter in signature.result]
        )
        linker.define_func(module, name, type_, gate(module, method), access_caller=True)
    return linker
