"""Making what is be what is asked for, one workflow at a time.

Rules of this module:

1. What is asked for is the row; it is written before anything is done, so that a crash in between changes nothing.
2. Stop before overwrite: a row goes, or is replaced, only after nothing of its workflow runs.
3. A stop waits for what runs, as long as it may; then it says so, and is completed later by whoever comes next.
4. What was accepted and not executed when a workflow stops for good is ended visibly.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from attrs import evolve

from innkeeper.engine.backoff import Backoff
from innkeeper.engine.clock import at
from innkeeper.engine.engine import Engine, EngineState
from innkeeper.engine.environment import Environment
from innkeeper.engine.errors import DrainInProgressError
from innkeeper.engine.events import ExecutionChanged
from innkeeper.modules.attributes import DeclaredAttribute, binding, parse_attributes
from innkeeper.store.audit import AuditEntry
from innkeeper.store.specs import SpecHeader, SpecStatus
from innkeeper.workflows.creation import Creation, Plan
from innkeeper.workflows.engines import Engines
from innkeeper.workflows.entries import Entry
from innkeeper.workflows.verdict import judge
from innkeeper.workflows.views import WorkflowState
from innkeeper_sdk.errors import InnkeeperError, NotFoundError

__all__ = ["Lifecycle"]

# The reference retries an activation this often (chainlink, syncer/v2: 12 s doubling to 5 min, 100 times).
_RETRY: Final = Backoff(first=12.0, most=300.0)
_RETRIES: Final = 100

# A pause between looks at an engine that drains; its end is noticed at once.
_WATCH: Final = 60.0


class Lifecycle:
    """Start and stop workflows.

    The caller holds the workflow's lock.

    Args:
        environment: The host around the engines.
        creation: What makes engines.
        engines: Those that run.
        attributes: The attributes that installed providers declare.
        logger: Where it is told.
    """

    def __init__(
        self,
        environment: Environment,
        creation: Creation,
        engines: Engines,
        *,
        attributes: Mapping[str, DeclaredAttribute],
        logger: logging.Logger,
    ) -> None:
        self._environment = environment
        self._stores = environment.stores
        self._creation = creation
        self._engines = engines
        self._attributes = attributes
        self._logger = logger
        self.entries: dict[str, Entry] = {}
        # Set when a pass of reconciling may find something to do.
        self.wake = asyncio.Event()
        # Counts the changes of providers: what waits for one may have missed it while it was still starting.
        self.changes = 0
        self._watches: dict[str, asyncio.Task[None]] = {}

    def entry(self, header: SpecHeader) -> Entry:
        """Return what is known of a workflow, with its row as it now is."""
        entry = self.entries.setdefault(header.workflow_id, Entry(header))
        entry.header = header
        return entry

    def engine(self, workflow_id: str) -> Engine | None:
        """Return the engine of a workflow, or None."""
        registered = self._engines.get(workflow_id)
        return None if registered is None else registered.engine

    async def known(self, workflow_id: str) -> SpecHeader | None:
        """Return a workflow by its id, simulated or stored, or None."""
        entry = self.entries.get(workflow_id)
        if entry is not None and entry.simulated:
            return entry.header
        return await self._stores.specs.header(workflow_id)

    async def converge(self, workflow_id: str) -> None:
        """Do what a workflow's row asks for, as far as that can be done now."""
        header = await self._stores.specs.header(workflow_id)
        try:
            if header is None:
                await self._vanished(workflow_id)
            elif header.status is SpecStatus.ACTIVE:
                await self._activate(self.entry(header))
            elif header.status is SpecStatus.PAUSED:
                await self.pause(self.entry(header), seconds=0.0)
            else:
                self.entry(header)
                await self.delete(header, seconds=0.0)
        except DrainInProgressError:
            self._logger.debug("a workflow still drains", extra={"workflow_id": workflow_id})

    async def start(self, entry: Entry) -> None:
        """Try to start a workflow; what becomes of it is in its entry."""
        header = entry.header
        entry.starting = True
        changes = self.changes
        try:
            engine = await self._creation.create(await self._plan(header))
        except Exception as error:  # noqa: BLE001 - one workflow that cannot start stops no other
            self._failed(entry, error, missed=changes != self.changes)
            return
        finally:
            entry.starting = False
        entry.begin_anew()
        entry.settled = False
        subscriptions = engine.subscriptions.SerializeToString(deterministic=True)
        if subscriptions != header.subscriptions:
            await self._stores.specs.set_subscriptions(header.workflow_id, subscriptions)
            entry.header = evolve(header, subscriptions=subscriptions)

    async def pause(self, entry: Entry, *, seconds: float) -> None:
        """Stop a workflow that is to be paused; once it is, do nothing.

        Raises:
            DrainInProgressError: Executions still run.
        """
        workflow_id = entry.header.workflow_id
        if self.engine(workflow_id) is not None or not entry.settled:
            await self.stop(workflow_id, seconds=seconds, reason="the workflow was paused")
            entry.settled = True
        entry.begin_anew()

    async def stop(self, workflow_id: str, *, seconds: float, reason: str | None) -> None:
        """Stop a workflow's engine, and end what it has not executed.

        Args:
            workflow_id: The workflow; it may have no engine.
            seconds: How long what runs may go on.
            reason: What is told about events that were accepted and are not executed any more; None leaves them for
                the workflow's next engine.

        Raises:
            DrainInProgressError: Executions still run; no new ones are begun.
        """
        engine = self.engine(workflow_id)
        if engine is not None:
            engine.drain()
            if not await engine.wait_idle(seconds):
                self._watch(engine)
                raise DrainInProgressError(
                    f"the workflow is draining: {engine.active} of its executions still run",
                    hint="it stops when they are over; ask again to wait for that",
                )
            await engine.close()
            self._engines.pop(workflow_id)
            self._place_is_free()
            self._logger.info("a workflow stopped", extra={"workflow_id": workflow_id})
        if reason is not None:
            ended = await self._stores.executions.settle(workflow_id, reason=reason, at=at(self._environment.clock))
            self._environment.events.publish(*map(ExecutionChanged, ended))

    async def delete(self, header: SpecHeader, *, seconds: float) -> bool:
        """Stop a workflow and delete its row; return whether there was one.

        Raises:
            DrainInProgressError: Executions still run.
        """
        await self.stop(header.workflow_id, seconds=seconds, reason="the workflow was deleted")
        audit = AuditEntry(
            time=at(self._environment.clock),
            action="workflow.delete",
            workflow_id=header.workflow_id,
            owner=header.owner,
            name=header.name,
        )
        gone = await self._stores.specs.delete(header.workflow_id, audit=[audit])
        self.entries.pop(header.workflow_id, None)
        return gone

    async def forget_watches(self) -> None:
        """Wait no more for engines that drain; idempotent."""
        watches = list(self._watches.values())
        for watch in watches:
            watch.cancel()
        if watches:
            await asyncio.wait(watches)

    def _watch(self, engine: Engine) -> None:
        async def wait() -> None:
            while not await engine.wait_idle(_WATCH):
                pass
            self.wake.set()

        workflow_id = engine.spec.workflow_id
        if workflow_id not in self._watches:
            watch = self._watches[workflow_id] = asyncio.create_task(wait(), name=f"innkeeper drain {workflow_id}")
            watch.add_done_callback(lambda _: self._watches.pop(workflow_id, None))

    def _place_is_free(self) -> None:
        for entry in self.entries.values():
            if entry.verdict is not None and entry.verdict.wants_place:
                entry.due = self._environment.clock.monotonic()
                self.wake.set()

    async def _plan(self, header: SpecHeader) -> Plan:
        artifacts = await self._stores.specs.artifacts(header.workflow_id)
        if artifacts is None:
            raise NotFoundError(f"the workflow {header.workflow_id} has no row")
        attributes = parse_attributes(header.attributes, self._attributes, stored=True)
        return Plan(header, artifacts, attributes, binding(attributes, self._attributes))

    async def _activate(self, entry: Entry) -> None:
        engine = self.engine(entry.header.workflow_id)
        if engine is not None and engine.state is EngineState.RUNNING:
            return
        if engine is not None:
            # A stop that was given up: the workflow is to run after all.
            await self.stop(entry.header.workflow_id, seconds=0.0, reason=None)
        if entry.due is not None and entry.due <= self._environment.clock.monotonic():
            await self.start(entry)

    async def _vanished(self, workflow_id: str) -> None:
        entry = self.entries.get(workflow_id)
        if entry is None or entry.simulated:
            return
        await self.stop(workflow_id, seconds=0.0, reason="the workflow is not listed any more")
        del self.entries[workflow_id]

    def _failed(self, entry: Entry, error: Exception, *, missed: bool) -> None:
        verdict = judge(error)
        entry.failures += 1
        deferred = verdict.state is WorkflowState.DEFERRED
        if verdict.retry and not deferred and entry.failures > _RETRIES:
            verdict = evolve(verdict, retry=False, reason=f"given up after {entry.failures} tries: {verdict.reason}")
        entry.verdict = verdict
        delay = _RETRY.delay(entry.failures)
        if deferred and missed:
            delay = 0.0
            self.wake.set()
        entry.due = self._environment.clock.monotonic() + delay if verdict.retry else None
        self._logger.log(
            logging.INFO if deferred else logging.ERROR,
            "a workflow is %s",
            verdict.state.value,
            exc_info=None if isinstance(error, InnkeeperError) else error,
            extra={
                "workflow_id": entry.header.workflow_id,
                "workflow": entry.header.name,
                "reason": verdict.reason,
                "tries": entry.failures,
                "retry_in": delay if verdict.retry else None,
            },
        )
