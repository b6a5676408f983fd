"""Compiling a binary: a compile child, its deadline, and the cache in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from innkeeper_wasm.driver.cache import CacheEntry, ModuleCache, sha256_of
from innkeeper_wasm.driver.channel import ControlChannel
from innkeeper_wasm.driver.children import Child, signal_name
from innkeeper_wasm.driver.errors import CompileLimitError, RuntimeLostError, refused
from innkeeper_wasm.driver.root import RootProcess
from innkeeper_wasm.runtime.facts import BinaryFacts
from innkeeper_wasm.runtime.limits import CompileLimits
from innkeeper_wasm.runtime.refusals import (
    BinaryKind,
    Refusal,
    RefusalCode,
    check_binary_size,
    check_stored_size,
    stored,
)

__all__ = ["Compiler"]

_AT_ONCE = 2
"""Compilations at a time: the compiler uses every core as it is."""
_REAP_SECONDS = 5.0
_WRITE_CHUNK_BYTES = 1 << 22


class Compiler:
    """Compile binaries, each once.

    Args:
        cache: Where compiled modules are kept.
        root: Returns the root process, started if need be.
    """

    def __init__(self, cache: ModuleCache, root: Callable[[], Awaitable[RootProcess]]) -> None:
        self._cache = cache
        self._root = root
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def compile(self, binary: bytes, limits: CompileLimits, *, text: bool) -> tuple[str, CacheEntry]:
        """Return the key and the entry of a binary, compiled now or earlier.

        Raises:
            BinaryRefusedError: If it is not admitted.
            RuntimeLostError: If the root process goes away meanwhile.
        """
        kind = stored(binary, text=text)
        try:
            check_stored_size(len(binary), kind, limits)
            if kind is not BinaryKind.BROTLI:
                check_binary_size(len(binary), limits)
        except Refusal as refusal:
            raise refused(refusal) from None
        digest = await sha256_of(binary)
        root = await self._root()
        key = f"{digest}-{'text' if text else 'binary'}-{root.engine}"
        async with self._one_at_a_time(key):
            entry = await self._cache.open(key)
            if entry is None:
                entry = await self._compile(key, binary, limits, text=text)
        try:
            check_binary_size(entry.facts.binary_bytes, limits)
        except Refusal as refusal:
            os.close(entry.descriptor)
            raise refused(refusal) from None
        return key, entry

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)

    async def _compile(self, key: str, binary: bytes, limits: CompileLimits, *, text: bool) -> CacheEntry:
        async with self._slots:
            root = await self._root()
            source = await _memory_file(binary)
            output, path = self._cache.new_file()
            try:
                facts = await self._report(root, source, output, limits, text=text)
                return await self._cache.store(key, facts, path)
            finally:
                path.unlink(missing_ok=True)

    async def _report(
        self, root: RootProcess, source: int, output: int, limits: CompileLimits, *, text: bool
    ) -> BinaryFacts:
        """Run a compile child, and return its report; ``source`` and ``output`` are its own."""
        answer: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()

        def on_message(message: dict[str, Any], descriptors: list[int]) -> None:
            for descriptor in descriptors:
                os.close(descriptor)
            if not answer.done():
                answer.set_result(message)

        def on_closed() -> None:
            if not answer.done():
                answer.set_result(None)

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = ControlChannel(ours, on_message, on_closed)
        child = root.children.fork("compile", (source, output, theirs.detach()), text=text, limits=limits.to_json())
        try:
            async with asyncio.timeout(limits.wall_seconds):
                return await _facts(await answer, child, limits)
        except TimeoutError:
            raise CompileLimitError(
                f"the binary did not compile in {limits.wall_seconds:g} s", hint="make it smaller"
            ) from None
        finally:
            child.kill()
            channel.close()
            await asyncio.wait([child.exited], timeout=_REAP_SECONDS)


async def _facts(message: dict[str, Any] | None, child: Child, limits: CompileLimits) -> BinaryFacts:
    if message is None:
        raise await _death(child, limits)
    try:
        match message:
            case {"op": "compiled", "facts": facts}:
                return BinaryFacts.from_json(facts)
            case {"op": "refused", "code": str(code), "text": str(text)}:
                refusal = Refusal(RefusalCode(code), text)
            case _:
                raise ValueError(f"{message['op']!r}")  # noqa: TRY301 - three ways to say nonsense, one answer
    except ValueError as error:
        raise RuntimeLostError(f"the compile child reports what it must not: {error}") from error
    raise refused(refusal)


async def _death(child: Child, limits: CompileLimits) -> Exception:
    """Return the error for a compile child that ended without a report."""
    try:
        async with asyncio.timeout(_REAP_SECONDS):
            status = await asyncio.shield(child.exited)
    except TimeoutError:
        status = None
    if status is None:
        return RuntimeLostError(
            f"the compile child went away: {child.problem or 'the process that runs guests has ended'}",
            hint="try again",
        )
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return CompileLimitError(f"the binary did not compile in {limits.cpu_seconds} s of processor time")
    if code > 0:
        return RuntimeLostError(
            f"the compile child ended with status {code} and no report", hint="the log has what it said, and try again"
        )
    return CompileLimitError(
        f"the compiler was ended by {signal_name(-code)}",
        expected=f"at most {limits.memory_bytes} bytes of memory and {limits.output_bytes} bytes of output",
    )


async def _memory_file(data: bytes) -> int:
    """Return a sealed file in memory with these bytes."""
    descriptor = os.memfd_create("binary", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[:_WRITE_CHUNK_BYTES]) :]
            await asyncio.sleep(0)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
