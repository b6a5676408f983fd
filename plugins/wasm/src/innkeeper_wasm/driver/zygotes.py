"""Zygotes, as the driver keeps them: built on first use, hot while there is room, drained when there is not.

Rules of this module:

1. One zygote per (compiled module, memory limit). Whoever asks first builds it; whoever asks meanwhile waits for
   the same.
2. A zygote that dies is forgotten, and built again on next use. One whose guest ends before its first host call is
   kept as that ending: every execution of it would end so.
3. The hot set is bounded by number and by bytes. What is used longest ago is drained: it forks no more, and ends
   when the executions it has forked have.
4. A guest that makes no host call by the deadline of its prefix is killed. That is not kept: the machine may have been
   busy.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from attrs import field, frozen, validators

from innkeeper_wasm.driver.errors import RuntimeLostError
from innkeeper_wasm.driver.root import RootProcess
from innkeeper_wasm.driver.zygote import Zygote, ZygoteKey
from innkeeper_wasm.runtime.facts import BinaryFacts
from innkeeper_wasm.runtime.outcome import Ending, EndingKind

__all__ = ["HotSetLimits", "PrefixEnded", "Zygotes"]

_AT_ONCE = 8
"""Prefixes that are run at a time: their deadline must not pass while they wait for each other."""
_TRIES = 4


@frozen(kw_only=True)
class HotSetLimits:
    """Bound the zygotes that are kept.

    Args:
        count: Most zygotes.
        bytes: Most bytes that they may have dirtied for themselves, together.
    """

    count: int = field(default=64, validator=validators.ge(1))
    bytes: int = field(default=1_000_000_000, validator=validators.ge(1))


class PrefixEnded(Exception):
    """Raised when a guest has ended, or was ended, before its first host call.

    Args:
        ending: How.
        built: Whether that was found out now.
    """

    def __init__(self, ending: Ending, *, built: bool) -> None:
        super().__init__(ending.text)
        self.ending = ending
        self.built = built


class Zygotes:
    """The zygotes of one driver.

    Args:
        root: Returns the root process, started if need be.
        limits: How many are kept.
        logger: Where evictions and rebuilds are told.
    """

    def __init__(
        self, root: Callable[[], Awaitable[RootProcess]], limits: HotSetLimits, logger: logging.Logger
    ) -> None:
        self._root = root
        self._limits = limits
        self._logger = logger
        self._hot: OrderedDict[ZygoteKey, Zygote] = OrderedDict()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._building: dict[ZygoteKey, asyncio.Task[Zygote]] = {}
        self._draining: set[Zygote] = set()

    @property
    def all(self) -> list[Zygote]:
        """All zygotes whose processes are there, draining ones too."""
        return [*self._hot.values(), *self._draining]

    async def get(
        self, key: ZygoteKey, descriptor: int, facts: BinaryFacts, prefix_seconds: float
    ) -> tuple[Zygote, bool]:
        """Return the zygote of a key, and whether it had to be built.

        Args:
            key: What it is for.
            descriptor: The compiled module; it stays the caller's.
            facts: What the compile child has reported of it.
            prefix_seconds: Time the guest has for its prefix, if it must be run.

        Raises:
            PrefixEnded: If the guest ended, or was ended, in its prefix.
            RuntimeLostError: If the zygote could not be made.
        """
        built = False
        for _ in range(_TRIES):
            zygote = self._hot.get(key)
            if zygote is None or (zygote.gone and zygote.ending is None):
                zygote = await self._built(key, descriptor, facts, prefix_seconds)
                built = True
            else:
                self._hot.move_to_end(key)
            if zygote.ending is not None:
                raise PrefixEnded(zygote.ending, built=built)
            if not zygote.gone:  # It may have been evicted, or have died, before this one's turn came.
                return zygote, built
        raise RuntimeLostError(f"{_TRIES} zygotes in a row were gone before they were used", hint="raise the hot set")

    async def _built(self, key: ZygoteKey, descriptor: int, facts: BinaryFacts, prefix_seconds: float) -> Zygote:
        """Build a zygote, or wait for whoever is building it."""
        task = self._building.get(key)
        if task is None:
            own = os.dup(descriptor)
            task = asyncio.create_task(self._build(key, own, facts, prefix_seconds))
            self._building[key] = task
            task.add_done_callback(lambda done: self._build_done(key, own, done))
        # Not awaited itself: the others who wait for it must not be cancelled with this one.
        await asyncio.wait([task])
        if task.cancelled():
            raise RuntimeLostError("the runtime was closed")
        return task.result()

    async def _build(self, key: ZygoteKey, descriptor: int, facts: BinaryFacts, prefix_seconds: float) -> Zygote:
        async with self._slots:
            zygote = await self._warm(key, descriptor, facts, prefix_seconds)
        self._hot[key] = zygote
        self._hot.move_to_end(key)
        self._evict()
        return zygote

    async def _warm(self, key: ZygoteKey, descriptor: int, facts: BinaryFacts, prefix_seconds: float) -> Zygote:
        zygote = Zygote(await self._root(), key, descriptor, facts)
        try:
            async with asyncio.timeout(prefix_seconds):
                await asyncio.shield(zygote.warm)
                await asyncio.shield(zygote.born)
        except TimeoutError:
            zygote.kill()
            raise PrefixEnded(
                Ending(
                    kind=EndingKind.PREFIX_DEADLINE,
                    text=f"the guest ran {prefix_seconds:g} s before its first host call",
                ),
                built=True,
            ) from None
        except BaseException:
            zygote.kill()
            raise
        if zygote.ending is None:
            zygote.measure()
        return zygote

    def _build_done(self, key: ZygoteKey, descriptor: int, task: asyncio.Task[Zygote]) -> None:
        del self._building[key]
        os.close(descriptor)
        if not task.cancelled():
            task.exception()  # Looked at: whoever waited for it may be gone.

    def _evict(self) -> None:
        while len(self._hot) > 1 and (
            len(self._hot) > self._limits.count
            or sum(zygote.private_bytes for zygote in self._hot.values()) > self._limits.bytes
        ):
            key, zygote = self._hot.popitem(last=False)
            self._logger.debug("zygote of %s is evicted", key.module)
            self._drain(zygote)

    def forget(self, module: str) -> None:
        """Drain the zygotes of a compiled module that is not used any more."""
        for key in [key for key in self._hot if key.module == module]:
            self._drain(self._hot.pop(key))

    def _drain(self, zygote: Zygote) -> None:
        zygote.drain()
        if not zygote.exited.done():
            self._draining.add(zygote)
            zygote.exited.add_done_callback(lambda _: self._draining.discard(zygote))

    async def close(self, seconds: float) -> None:
        """Kill every execution, have every zygote end, and wait for it for so long."""
        building = list(self._building.values())
        for task in building:
            task.cancel()
        if building:
            await asyncio.wait(building)
        zygotes = self.all
        self._hot.clear()
        for zygote in zygotes:
            zygote.children.kill()
            zygote.drain()
        ends = [zygote.exited for zygote in zygotes if not zygote.exited.done()]
        if ends:
            await asyncio.wait(ends, timeout=seconds)
