"""The binaries of this enclave: fetched through the parent, hashed, compiled here, and kept compiled.

Rules of this module:

1. What is compiled is what was hashed: the exact bytes as they are stored, compared in constant time with the digest
   that the request names. Anything else is refused before a compiler sees it.
2. A size that is told is only a hint: reading ends at the limit, whatever the parent goes on to send.
3. Nothing that was compiled elsewhere is ever loaded. A compiled module is found by the digest of its binary alone.
4. Compiled modules are kept by last use, so many of them; one that is in use is not dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import Final

from attrs import define

from innkeeper_confidential_workflows.enclave.link import HostLink
from innkeeper_confidential_workflows.enclave.requests import HASH_MISMATCH
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_wasm.driver import BinaryRefusedError, CompiledModule, CompileLimits, Runtime

__all__ = ["Binaries"]

_CAPACITY: Final = 64
"""As many as there are warm guests at most (``HotSetLimits``)."""


@define
class _Kept:
    module: CompiledModule
    users: int = 0


class Binaries:
    """The compiled modules of one enclave.

    Args:
        link: The questions to the parent.
        runtime: What compiles.
        limits: What compiling one may cost; also how large it may be as it is stored.
        capacity: Most modules that are kept while nothing uses them.
    """

    def __init__(
        self, link: HostLink, runtime: Runtime, *, limits: CompileLimits | None = None, capacity: int = _CAPACITY
    ) -> None:
        self._link = link
        self._runtime = runtime
        self._limits = limits or CompileLimits()
        self._capacity = capacity
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._locks: dict[bytes, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def use(self, locator: str, sha256: bytes) -> AsyncIterator[CompiledModule]:
        """Have a binary compiled for as long as the block lasts.

        Args:
            locator: Where the parent finds it.
            sha256: What its digest must be.

        Raises:
            CapabilityError: It cannot be had, is another one, is too large, or is not admitted.
        """
        async with self._one_at_a_time(sha256):
            kept = self._kept.get(sha256)
            if kept is None:
                kept = self._kept[sha256] = _Kept(await self._compile(locator, sha256))
            self._kept.move_to_end(sha256)
            kept.users += 1
        try:
            yield kept.module
        finally:
            kept.users -= 1
            self._evict()

    async def _compile(self, locator: str, sha256: bytes) -> CompiledModule:
        binary = await self._fetch(locator)
        if not compare_digest(hashlib.sha256(binary).digest(), sha256):
            raise CapabilityError(
                f"{HASH_MISMATCH}: what was fetched is not the binary that the request names",
                error_code=ErrorCode.FailedPrecondition,
            )
        try:
            module = await self._runtime.compile(binary, limits=self._limits)
            try:
                module.require_runnable()
            except BaseException:
                self._runtime.release(module)
                raise
        except BinaryRefusedError as error:
            raise CapabilityError(str(error), error_code=ErrorCode.FailedPrecondition, origin=Origin.USER) from None
        return module

    async def _fetch(self, locator: str) -> bytes:
        limit = self._limits.compressed_bytes
        binary = bytearray()
        while True:
            chunk = await self._link.read(locator, len(binary))
            binary += chunk.data
            if chunk.size > limit or len(binary) > limit:
                raise CapabilityError(
                    f"the binary has more than {limit} bytes", error_code=ErrorCode.LimitExceeded, origin=Origin.USER
                )
            if not chunk.data or len(binary) >= chunk.size:
                return bytes(binary)

    @asynccontextmanager
    async def _one_at_a_time(self, sha256: bytes) -> AsyncIterator[None]:
        """Have each binary fetched once, however many ask for it; another binary does not wait for it."""
        lock, users = self._locks.get(sha256, (asyncio.Lock(), 0))
        self._locks[sha256] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(sha256)
            if users > 1:
                self._locks[sha256] = (lock, users - 1)

    def _evict(self) -> None:
        idle = [sha256 for sha256, kept in self._kept.items() if not kept.users]
        for sha256 in idle[: max(0, len(self._kept) - self._capacity)]:
            self._runtime.release(self._kept.pop(sha256).module)
