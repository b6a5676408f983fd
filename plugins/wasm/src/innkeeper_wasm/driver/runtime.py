"""Compile binaries and execute them: the face of this package.

Nothing is started before it is needed. If the root process dies, what was in flight fails with a typed error or
outcome, and the next use starts a new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from innkeeper_wasm.driver.cache import ModuleCache
from innkeeper_wasm.driver.compiling import Compiler
from innkeeper_wasm.driver.errors import LegacyDagError, RuntimeLostError
from innkeeper_wasm.driver.execution import Execution
from innkeeper_wasm.driver.modules import CompiledModule, RuntimeStats, ZygoteStats
from innkeeper_wasm.driver.records import Callbacks, Outcome
from innkeeper_wasm.driver.root import RootCommand, RootProcess
from innkeeper_wasm.driver.zygote import ZygoteKey
from innkeeper_wasm.driver.zygotes import HotSetLimits, PrefixEnded, Zygotes
from innkeeper_wasm.runtime.limits import CompileLimits, GuestLimits
from innkeeper_wasm.runtime.outcome import Ending, EndingKind
from innkeeper_wasm.runtime.wire import Request

__all__ = ["Runtime"]

DEFAULT_MEMORY_BYTES = 100_000_000
"""``WASMMemoryLimit``."""
_CLOSE_SECONDS = 5.0


class Runtime:
    """The processes that compile and execute guests, for one event loop.

    Args:
        cache_dir: Directory for compiled modules, private to this user; made if it is missing.
        logger: Where the driver talks.
        hot_set: How many zygotes are kept.
        cache_entries: Most compiled modules that are kept on disk.
        cache_bytes: Most bytes of them.
        root: How the process that forks all others is started.

    Raises:
        ConfigError: If the cache directory is not private.
    """

    def __init__(
        self,
        cache_dir: Path,
        *,
        logger: logging.Logger | None = None,
        hot_set: HotSetLimits | None = None,
        cache_entries: int = 1000,
        cache_bytes: int = 4_000_000_000,
        root: RootCommand | None = None,
    ) -> None:
        self._command = root
        self._logger = logger or logging.getLogger("innkeeper.wasm")
        self._compiler = Compiler(
            ModuleCache(cache_dir, max_entries=cache_entries, max_bytes=cache_bytes), self._ensure_root
        )
        self._zygotes = Zygotes(self._ensure_root, hot_set or HotSetLimits(), self._logger)
        self._modules: dict[str, CompiledModule] = {}
        self._running: set[Execution] = set()
        self._root: RootProcess | None = None
        self._starting: asyncio.Task[RootProcess] | None = None
        self._closed = False

    async def start(self) -> None:
        """Start the process that all others are forked from, so that the first use need not wait for it.

        Raises:
            RuntimeLostError: If it cannot be started.
        """
        await self._ensure_root()

    async def compile(
        self, binary: bytes, *, text: bool = False, limits: CompileLimits | None = None
    ) -> CompiledModule:
        """Admit and compile a binary, or find it compiled.

        Args:
            binary: The binary as stored: wasm or brotli of wasm, or with ``text`` the text format (WAT).
            text: Whether it is text; never guessed.
            limits: What it may cost.

        Returns:
            The module, also for a legacy DAG, which only :meth:`execute` refuses. Give it back with :meth:`release`.

        Raises:
            BinaryRefusedError: If the binary is not admitted; the subclass says why.
            RuntimeLostError: If the root process cannot be started, or goes away meanwhile.
        """
        key, entry = await self._compiler.compile(binary, limits or CompileLimits(), text=text)
        module = self._modules.get(key)
        if module is None:
            module = self._modules[key] = CompiledModule(key, entry)
        else:
            os.close(entry.descriptor)
        module.users += 1
        return module

    def release(self, module: CompiledModule) -> None:
        """Say that a module is not used any more; the last one who does ends its zygotes."""
        module.users -= 1
        if module.users == 0 and self._modules.pop(module.key, None) is module:
            self._zygotes.forget(module.key)
            os.close(module.descriptor)

    async def execute(
        self,
        module: CompiledModule,
        *,
        request: bytes,
        callbacks: Callbacks,
        don_seed: int,
        node_seed: int,
        deadline: float,
        prefix_seconds: float = 10.0,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        limits: GuestLimits | None = None,
        label: str = "execution",
        silent: bool = False,
    ) -> Outcome:
        """Run a guest once, in a process of its own.

        Args:
            module: What to run.
            request: The serialised ExecuteRequest; ``max_response_size`` is already set in it.
            callbacks: Who answers the guest.
            don_seed: Seed of DON mode, signed 64-bit; see :func:`innkeeper_wasm.runtime.seeds.don_seed`.
            node_seed: Seed of NODE mode, the same.
            deadline: When the execution is killed, in the event loop's time.
            prefix_seconds: How long a guest may run before its first host call, if its zygote must be built.
            memory_bytes: Most memory of the guest.
            limits: Its other limits.
            label: What its notices in the log name it.
            silent: Whether its notices are dropped: their numbers are the guest's own, and one that has broken out
                says in them what it likes.

        Returns:
            How it ended; however a guest behaves, that is no exception.

        Raises:
            LegacyDagError: If the module is a legacy DAG.
            RuntimeLostError: If the processes that run guests cannot be started.
            ValueError: If the module has been released.
        """
        if module.users <= 0:
            raise ValueError(f"module {module.key} has been released")
        if module.is_legacy_dag:
            raise LegacyDagError
        work = Request(request=request, don_seed=don_seed, node_seed=node_seed, limits=limits or GuestLimits())
        loop = asyncio.get_running_loop()
        started = loop.time()
        key = ZygoteKey(module.key, memory_bytes)
        cold = False
        try:
            for last in (False, True):
                async with asyncio.timeout_at(deadline):
                    zygote, built = await self._zygotes.get(key, module.descriptor, module.facts, prefix_seconds)
                cold |= built
                execution = Execution(
                    work,
                    callbacks,
                    logger=self._logger,
                    label=label,
                    fork=zygote.execute,
                    give_up=zygote.kill,
                    silent=silent,
                )
                self._running.add(execution)
                try:
                    ending = await execution.run(deadline)
                finally:
                    self._running.discard(execution)
                # A zygote that died unnoticed: nothing of the guest has run, so nothing is repeated.
                if ending.kind is not EndingKind.LOST or execution.begun or last or self._closed:
                    break
        except PrefixEnded as ended:
            return Outcome(ending=ended.ending, seconds=loop.time() - started, cold=ended.built)
        except TimeoutError:
            ending = Ending(kind=EndingKind.DEADLINE, text="the guest has not made its first host call yet")
            return Outcome(ending=ending, seconds=loop.time() - started, cold=True)
        except OSError as error:
            raise RuntimeLostError(f"an execution could not be started: {error}") from error
        finally:
            if module.users <= 0:  # Released meanwhile: a zygote may have been built since.
                self._zygotes.forget(module.key)
        return Outcome(ending=ending, response=execution.response, seconds=loop.time() - started, cold=cold)

    def stats(self) -> RuntimeStats:
        """Return what processes there are."""
        root = self._root
        zygotes = tuple(
            ZygoteStats(
                module=zygote.module,
                pid=zygote.pid,
                executions=tuple(zygote.children.pids),
                private_bytes=zygote.private_bytes,
                layers=zygote.layers,
            )
            for zygote in self._zygotes.all
        )
        if root is None or not root.alive:
            return RuntimeStats(root=None, zygotes=zygotes)
        return RuntimeStats(root=root.pid, wasmtime=root.wasmtime, zygotes=zygotes)

    async def close(self) -> None:
        """End every process and wait for it. Executions that run end as lost."""
        self._closed = True
        for execution in list(self._running):
            execution.abort("the runtime was closed")
        await self._zygotes.close(_CLOSE_SECONDS)
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._root is not None:
            await self._root.stop()
        for module in self._modules.values():
            os.close(module.descriptor)
        self._modules.clear()

    async def _ensure_root(self) -> RootProcess:
        if self._closed:
            raise RuntimeLostError("the runtime was closed")
        if self._root is not None and self._root.alive:
            return self._root
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_root())
        # Shielded: others may wait for it too.
        return await asyncio.shield(self._starting)

    async def _start_root(self) -> RootProcess:
        try:
            self._root = await RootProcess.start(self._logger, self._command)
        finally:
            self._starting = None
        return self._root
