"""A zygote: a guest held in its first host call, and forked there for each execution.

The prefix of a run, up to the first host call of any kind, depends on no input: the guest has no other way to learn
anything. So it is run once, and every execution goes on from there. The marker function that says which SDK a guest was
built with does nothing and does not count.

Steps: load the compiled module (its digest checked, from the very file that is mapped) → link → confine →
instantiate and run ``_start`` → inside the first host call: say ``warm``, then fork per execution. A guest that
ends before that is reported as ``ended``, and every execution of it would end so.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import resource
import socket
from collections.abc import Callable
from typing import Any, NoReturn

import wasmtime

from innkeeper_wasm.runtime import control, landlock, seccomp
from innkeeper_wasm.runtime.engine import new_engine
from innkeeper_wasm.runtime.env import Env
from innkeeper_wasm.runtime.execution import Execution
from innkeeper_wasm.runtime.forking import ForkServer, Job
from innkeeper_wasm.runtime.guest import Guest, HostFactory
from innkeeper_wasm.runtime.imports import WASI_MODULE, link
from innkeeper_wasm.runtime.limits import HOST_SIDE_BYTES
from innkeeper_wasm.runtime.mappings import Range, drop, read_only_ranges
from innkeeper_wasm.runtime.memory import GuestMemory
from innkeeper_wasm.runtime.outcome import MAX_TEXT_BYTES, Ending, EndingKind
from innkeeper_wasm.runtime.process import (
    OOM_ZYGOTE,
    OomScore,
    drop_capabilities,
    limit,
    private_dirty_bytes,
    writable_private_bytes,
)
from innkeeper_wasm.runtime.wasi import Wasi

__all__ = ["NO_START", "Zygote", "run"]

NO_START = "could not get start function"
_LINKING = "error linking wasm: "

_OPEN_FILES = 4096
_CHUNK_BYTES = 1 << 20


class ModuleRefused(Exception):
    """Raised when the compiled module is not the one that was asked for, or does not fit the engine."""


class Zygote:
    """The process that runs a guest's prefix.

    Args:
        channel: The control socket to the driver.
        settings: The message that asked for the zygote.
        wrap: See :class:`~innkeeper_wasm.runtime.execution.Execution`.
    """

    def __init__(self, channel: socket.socket, settings: dict[str, Any], wrap: HostFactory | None = None) -> None:
        self._wrap = wrap
        self._channel = channel
        self._settings = settings
        self._memory = GuestMemory()
        self._guest = Guest(self._memory)
        self._imports = {"env": Env(self._guest), WASI_MODULE: Wasi(self._guest)}
        self._execution: Execution | None = None
        self._filter: bytes | None = None
        self._oom = OomScore()
        self._oom.set(OOM_ZYGOTE)
        self._usage = _open_usage()
        self._tables: list[Range] = []
        self._layers = ["no_new_privs", "rlimits"]

    def run(self, compiled: int) -> NoReturn:
        """Run the guest of the compiled module in a descriptor."""
        try:
            engine = new_engine()
            module = load(engine, compiled, self._settings["compiled_sha256"])
            self._tables = read_only_ranges(compiled)
            os.close(compiled)
        except ModuleRefused as error:
            self._say("refused", text=str(error)[:MAX_TEXT_BYTES])
            os._exit(0)
        linker = link(
            engine, self._settings["version_import"], self._settings["call_capability_parameters"], self._gate
        )
        store = wasmtime.Store(engine)
        store.set_limits(memory_size=self._settings["memory_bytes"], instances=1, tables=1, memories=1)
        self._confine()
        gc.freeze()
        self._end(_run_guest(linker, store, module))

    def _confine(self) -> None:
        limit(resource.RLIMIT_CORE, 0)
        limit(resource.RLIMIT_FSIZE, 0)
        limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
        limit(
            resource.RLIMIT_DATA,
            writable_private_bytes() + self._settings["memory_bytes"] + HOST_SIDE_BYTES,
        )
        drop_capabilities()
        if version := landlock.deny_all():
            self._layers.append(f"landlock:{version}")
        code = seccomp.local_program(seccomp.ZYGOTE)
        if code is not None:
            # Before its own: then the kernel cannot be asked any more.
            self._filter = seccomp.local_program(seccomp.EXECUTION)
            seccomp.install(code)
            self._layers.append("seccomp")

    def _gate(self, module: str, method: str) -> Callable[..., int | None]:
        memory = self._memory
        target: Callable[..., int | None] = getattr(self._imports[module], method)

        def host_call(caller: wasmtime.Caller, *arguments: int) -> int | None:
            memory.attach(caller)
            execution = self._execution or self._serve()
            try:
                return target(*arguments)
            except Exception as error:  # noqa: BLE001 - nothing may unwind into the guest
                execution.failed(method, error)

        return host_call

    def _serve(self) -> Execution:
        """Fork executions for ever; return in each of them."""
        drop(self._tables)
        self._say("warm", private_bytes=_private_bytes(self._usage), layers=self._layers)
        server = ForkServer(self._channel, oom=self._oom, own_score=OOM_ZYGOTE)
        gc.freeze()
        job = server.accept()
        self._execution = Execution(job.descriptors[0], self._guest, self._filter, self._wrap)
        return self._execution

    def _end(self, ending: Ending) -> NoReturn:
        if self._execution is not None:
            self._execution.end(ending)
        self._say("ended", kind=ending.kind, text=ending.text[:MAX_TEXT_BYTES])
        os._exit(0)

    def _say(self, op: str, **fields: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # The driver does not want to know any more.
            control.send(self._channel, control.encode(op, **fields))


def run(job: Job, wrap: HostFactory | None = None) -> NoReturn:
    """Be the zygote that a job of the root process asks for.

    Args:
        job: Its message has ``memory_bytes``, ``version_import``, ``call_capability_parameters`` and
            ``compiled_sha256``; its descriptors are the compiled module and the control socket.
        wrap: What calls of its executions go through; see :class:`~innkeeper_wasm.runtime.execution.Execution`.
    """
    compiled, channel = job.descriptors
    Zygote(socket.socket(fileno=channel), job.message, wrap).run(compiled)


def load(engine: wasmtime.Engine, compiled: int, sha256: str) -> wasmtime.Module:
    """Map the compiled module in a descriptor.

    Args:
        engine: The engine it was compiled for.
        compiled: A descriptor of the file.
        sha256: What its digest must be, as hexadecimal digits.

    Raises:
        ModuleRefused: If it has another digest, or wasmtime does not take it.
    """
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(compiled, _CHUNK_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
    if digest.hexdigest() != sha256:
        raise ModuleRefused(f"the compiled module has digest {digest.hexdigest()}, expected {sha256}")
    try:
        return wasmtime.Module.deserialize_file(engine, f"/proc/self/fd/{compiled}")
    except wasmtime.WasmtimeError as error:
        raise ModuleRefused(f"the compiled module does not fit this engine: {error}") from error


def _run_guest(linker: wasmtime.Linker, store: wasmtime.Store, module: wasmtime.Module) -> Ending:
    """Instantiate and run to the end; host calls leave by ending the process instead."""
    try:
        instance = linker.instantiate(store, module)
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        return Ending(kind=EndingKind.LINK, text=_LINKING + str(error).strip())
    start = instance.exports(store).get("_start")
    if not isinstance(start, wasmtime.Func):
        return Ending(kind=EndingKind.LINK, text=NO_START)
    try:
        start(store)
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        return Ending(kind=EndingKind.TRAP, text=str(error).strip())
    return Ending(kind=EndingKind.RETURN)


def _open_usage() -> int | None:
    try:
        return os.open("/proc/self/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _private_bytes(usage: int | None) -> int:
    """Return what this process has dirtied for itself alone: what its end would give back."""
    if usage is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return private_dirty_bytes(os.pread(usage, 4096, 0))
