"""The compile child: bytes in one descriptor, a compiled module out of another, one report, and the end.

It runs the compiler on input that nobody has looked at yet, so it has limits of time, memory and output (a bomb
hits them, not the host), no files but its three descriptors, and is gone afterwards. The driver kills it when it
takes too long.
"""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import socket
from typing import NoReturn

import wasmtime
from attrs import asdict

from innkeeper_wasm.runtime import control, landlock, seccomp
from innkeeper_wasm.runtime.admission import decompress, inspect
from innkeeper_wasm.runtime.engine import new_engine
from innkeeper_wasm.runtime.facts import BinaryFacts
from innkeeper_wasm.runtime.forking import Job
from innkeeper_wasm.runtime.limits import CompileLimits
from innkeeper_wasm.runtime.process import OOM_EXECUTION, OomScore, drop_capabilities, limit, limit_processor_time
from innkeeper_wasm.runtime.refusals import WASM_MAGIC, BinaryKind, Refusal, RefusalCode, stored

__all__ = ["MAX_REFUSAL_BYTES", "run"]

MAX_REFUSAL_BYTES = 4096
"""Longest text of a refusal: compiler errors quote the input."""


def run(job: Job) -> NoReturn:
    """Be the compile child that a job of the root process asks for.

    Args:
        job: Its message has ``text`` (whether the input is WAT) and ``limits``; its descriptors are the input, the
            output (both files or memory files) and the socket for the report.
    """
    source, output, channel = job.descriptors
    answer_to = socket.socket(fileno=channel)
    limits = CompileLimits(**job.message["limits"])
    score = OomScore()
    score.set(OOM_EXECUTION)
    score.close()
    _confine(limits)
    try:
        report = control.encode(
            "compiled", facts=compile_binary(source, output, limits, text=job.message["text"]).to_json()
        )
    except Refusal as refusal:
        report = _refused(refusal.code, refusal.text)
    except MemoryError:
        report = _refused(RefusalCode.COMPILE_LIMIT, f"compiling needs more than {limits.memory_bytes} bytes of memory")
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        report = _refused(RefusalCode.COMPILE_LIMIT, f"the compiled module has more than {limits.output_bytes} bytes")
    control.send(answer_to, report)
    os._exit(0)


def _refused(code: RefusalCode, text: str) -> bytes:
    text = text.encode("utf-8", "replace")[:MAX_REFUSAL_BYTES].decode("utf-8", "ignore")
    return control.encode("refused", code=code, text=text)


def _confine(limits: CompileLimits) -> None:
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_FSIZE, limits.output_bytes)
    limit(resource.RLIMIT_AS, limits.memory_bytes)
    limit_processor_time(limits.cpu_seconds)
    drop_capabilities()
    landlock.deny_all()
    code = seccomp.local_program(seccomp.COMPILE)
    if code is not None:
        seccomp.install(code)


def compile_binary(source: int, output: int, limits: CompileLimits, *, text: bool) -> BinaryFacts:
    """Compile the binary in one descriptor into another, and return what is known of both.

    Raises:
        Refusal: If the binary is not admitted.
    """
    data = _read(source, max(limits.compressed_bytes, limits.binary_bytes) + 1)
    kind = stored(data, text=text)
    binary = decompress(data, kind, limits)
    if kind is BinaryKind.BROTLI and not binary.startswith(WASM_MAGIC):
        # wasmtime would take it for WAT, which is only for those who have said so.
        raise Refusal(RefusalCode.INVALID, "error creating wasmtime module: the decompressed binary is not WebAssembly")
    try:
        module = wasmtime.Module(new_engine(), binary)
    except wasmtime.WasmtimeError as error:
        raise Refusal(RefusalCode.INVALID, f"error creating wasmtime module: {error}") from error
    shape = inspect(module)
    compiled = bytes(module.serialize())
    view = memoryview(compiled)
    while view:
        view = view[os.write(output, view) :]
    return BinaryFacts(
        **asdict(shape),
        kind=kind,
        stored_bytes=len(data),
        binary_bytes=len(binary),
        compiled_bytes=len(compiled),
        compiled_sha256=hashlib.sha256(compiled).hexdigest(),
    )


def _read(source: int, limit_: int) -> bytes:
    parts = []
    total = 0
    while total < limit_ and (part := os.pread(source, min(1 << 20, limit_ - total), total)):
        parts.append(part)
        total += len(part)
    return b"".join(parts)
