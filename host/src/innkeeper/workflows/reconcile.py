"""Reconciling: again and again, what is asked for against what is.

Rules of this module:

1. A pass has no memory but the entries: run twice, the second changes nothing.
2. What stops goes before what starts, so that places are free. A source that cannot be read stops nothing.
3. A pass comes every 12 seconds, earlier if a retry is due, and at once when something changed that may help.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from innkeeper.engine.clock import at
from innkeeper.engine.engine import EngineState
from innkeeper.engine.environment import Environment
from innkeeper.store.specs import SpecHeader, SpecStatus
from innkeeper.workflows.entries import Entry
from innkeeper.workflows.lifecycle import Lifecycle
from innkeeper.workflows.locks import Locks
from innkeeper.workflows.sources import Source

__all__ = ["Reconciler"]

# As in the reference: a pass every so many seconds, so many workflows at once.
_TICK: Final = 12.0
_AT_ONCE: Final = 12

# The shortest pause: what stays due must not take the host's time.
_LEAST: Final = 0.1

# Executions that ended are kept this long; their rows are also what makes an event be accepted only once.
_HISTORY: Final = timedelta(days=30)
_PRUNE_EVERY: Final = 3600.0
_PRUNE_BATCH: Final = 1000


class Reconciler:
    """Keep workflows as their source asks for.

    Args:
        source: Where they are listed.
        lifecycle: What starts and stops them.
        locks: One for each owner and name.
        environment: The host.
        logger: Where it is told.
    """

    def __init__(
        self, source: Source, lifecycle: Lifecycle, locks: Locks, *, environment: Environment, logger: logging.Logger
    ) -> None:
        self._source = source
        self._lifecycle = lifecycle
        self._locks = locks
        self._clock = environment.clock
        self._executions = environment.stores.executions
        self._logger = logger
        self._task: asyncio.Task[None] | None = None
        self._prune_at = self._clock.monotonic()

    def start(self) -> None:
        """Reconcile in the background from now on; idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="innkeeper reconciler")

    async def stop(self) -> None:
        """Reconcile no more; what was being started is closed again. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._lifecycle.forget_watches()

    def providers_changed(self) -> None:
        """Try again at once what waits for a provider or failed for want of one."""
        self._lifecycle.changes += 1
        for entry in self._lifecycle.entries.values():
            if entry.verdict is not None and entry.verdict.retry:
                entry.due = self._clock.monotonic()
        self._lifecycle.wake.set()

    async def reconcile(self) -> None:
        """Make one pass.

        Raises:
            InnkeeperError: The source cannot be read; nothing was done.
        """
        listed = {header.workflow_id: header for header in await self._source.list()}
        gone = [
            entry.header
            for workflow_id, entry in self._lifecycle.entries.items()
            if workflow_id not in listed and not entry.simulated
        ]
        needed = [header for header in listed.values() if self._needs(header)]
        ends = [header for header in needed if header.status is not SpecStatus.ACTIVE]
        starts = [header for header in needed if header.status is SpecStatus.ACTIVE]
        await self._converge([*gone, *ends])
        await self._converge(starts)

    async def _run(self) -> None:
        while True:
            self._lifecycle.wake.clear()
            try:
                await self.reconcile()
                await self._prune()
            except Exception:  # whatever it is, the next pass may find it gone
                self._logger.exception("workflows could not be reconciled")
            try:
                async with asyncio.timeout(self._pause()):
                    await self._lifecycle.wake.wait()
            except TimeoutError:
                continue

    def _pause(self) -> float:
        now = self._clock.monotonic()
        entries = self._lifecycle.entries.values()
        due = [entry.due - now for entry in entries if entry.due is not None and entry.verdict is not None]
        return max(_LEAST, min([_TICK, *due]))

    async def _converge(self, headers: Iterable[SpecHeader]) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(header: SpecHeader) -> None:
            async with places, self._locks.hold(header.owner, header.name):
                try:
                    await self._lifecycle.converge(header.workflow_id)
                except Exception:  # one workflow's trouble is no other's
                    self._logger.exception(
                        "a workflow could not be reconciled", extra={"workflow_id": header.workflow_id}
                    )

        async with asyncio.TaskGroup() as group:
            for header in headers:
                group.create_task(one(header))

    def _needs(self, header: SpecHeader) -> bool:
        entry = self._lifecycle.entries.get(header.workflow_id) or Entry(header)
        engine = self._lifecycle.engine(header.workflow_id)
        if header.status is SpecStatus.PAUSED:
            return engine is not None or not entry.settled
        if header.status is SpecStatus.DELETED or engine is not None:
            return header.status is SpecStatus.DELETED or engine is None or engine.state is not EngineState.RUNNING
        return entry.due is not None and entry.due <= self._clock.monotonic()

    async def _prune(self) -> None:
        if self._clock.monotonic() < self._prune_at:
            return
        self._prune_at = self._clock.monotonic() + _PRUNE_EVERY
        before = at(self._clock) - _HISTORY
        while await self._executions.prune(before=before, limit=_PRUNE_BATCH) == _PRUNE_BATCH:
            pass
