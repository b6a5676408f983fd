"""The handler: what an operator asks of workflows, and keeping them as they were asked for.

Rules of this module:

1. Everything about one workflow happens under one lock, that of its owner and name: what was asked for twice at once
   happens one after the other.
2. Every act may be repeated; the second time changes nothing.
3. Paused artifacts stay in the table, unlike in the reference, which blanks them: there is nowhere to fetch the host's
   own deployments from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Final

from attrs import evolve
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.engine.clock import at
from innkeeper.engine.environment import Environment
from innkeeper.engine.ports import SecretSource
from innkeeper.modules.attributes import DeclaredAttribute
from innkeeper.store.executions import ExecutionRecord
from innkeeper.store.specs import Artifacts, SpecHeader, SpecStatus
from innkeeper.workflows.artifacts import Binaries
from innkeeper.workflows.creation import Creation, ModuleFactory, Plan
from innkeeper.workflows.deploying import Deploying
from innkeeper.workflows.deployment import SIMULATION, Deployment, accept
from innkeeper.workflows.engines import Engines
from innkeeper.workflows.entries import Entry, view
from innkeeper.workflows.lifecycle import Lifecycle
from innkeeper.workflows.locks import Locks
from innkeeper.workflows.lookup import find
from innkeeper.workflows.reconcile import Reconciler
from innkeeper.workflows.sources import TableSource
from innkeeper.workflows.views import WorkflowView
from innkeeper_sdk.capability import TriggerEvent
from innkeeper_sdk.errors import ConflictError, NotFoundError

__all__ = ["Handler"]

_LOGGER: Final = logging.getLogger("innkeeper.workflows")

# How long an act waits for executions that run before it says that the workflow drains.
DRAIN_SECONDS: Final = 10.0


class Handler:
    """Keep workflows.

    Args:
        environment: The host around their engines.
        modules: What chooses and loads their modules.
        attributes: The attributes that installed providers declare, by key.
        kinds: The kinds of binaries that enabled providers declare.
        binaries: Where a simulated workflow's binary is found; None if nothing looks for it.
        drain_seconds: How long pausing, deleting and replacing wait for executions that run.
        logger: Where it is told.
    """

    def __init__(
        self,
        environment: Environment,
        modules: ModuleFactory,
        *,
        attributes: Mapping[str, DeclaredAttribute],
        kinds: Collection[str],
        binaries: Binaries | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        logger: logging.Logger = _LOGGER,
    ) -> None:
        self._environment = environment
        self._specs = environment.stores.specs
        self._attributes = attributes
        self._kinds = kinds
        self._binaries = Binaries(self._specs.binary) if binaries is None else binaries
        self._drain_seconds = drain_seconds
        self._logger = logger
        self._locks = Locks()
        self._engines = Engines(environment.limits)
        self._creation = Creation(environment, modules, self._engines, logger=logger)
        self._lifecycle = Lifecycle(environment, self._creation, self._engines, attributes=attributes, logger=logger)
        self._reconciler = Reconciler(
            TableSource(self._specs), self._lifecycle, self._locks, environment=environment, logger=logger
        )
        self._deploying = Deploying(
            environment, self._lifecycle, attributes=attributes, drain_seconds=drain_seconds, logger=logger
        )
        self._stopping = False

    @property
    def draining(self) -> bool:
        """Tell whether the host stops: nothing new is begun."""
        return self._stopping

    async def start(self) -> None:
        """Begin to keep workflows as they were asked for; those that are active are started in the background."""
        self._reconciler.start()

    async def reconcile(self) -> None:
        """Do once, and wait for, what is otherwise done in the background.

        Raises:
            DatabaseError: The workflows cannot be read.
        """
        await self._reconciler.reconcile()

    def providers_changed(self) -> None:
        """Try again at once what waits for a provider or failed for want of one."""
        self._reconciler.providers_changed()

    async def deploy(self, deployment: Deployment, *, paused: bool = False, allow_plain: bool = False) -> WorkflowView:
        """Store a workflow in place of the owner's workflow of that name, and start it.

        Args:
            deployment: The workflow.
            paused: Store it without starting it.
            allow_plain: Permit that a bound workflow becomes unbound; audited.

        Returns:
            The workflow; its state says whether it runs, and if not, why.

        Raises:
            WorkflowError: It is not acceptable.
            LimitExceededError: It is too large, or there is no place for it.
            PlainRefusedError: It would not be bound any more.
            DrainInProgressError: The old one still runs executions; nothing was changed.
            ConflictError: The same content is another workflow already, or the host stops.
        """
        self._check_open()
        accepted = accept(deployment, kinds=self._kinds, declared=self._attributes, limits=self._environment.limits)
        async with self._locks.hold(accepted.owner, deployment.name):
            entry = await self._deploying.deploy(accepted, paused=paused, allow_plain=allow_plain)
            return self._view(entry.header)

    async def activate(self, workflow_id: str) -> WorkflowView:
        """Start a workflow, or try again to.

        Raises:
            NotFoundError: There is none.
            LimitExceededError: There is no place for it.
            ConflictError: It is being deleted or simulated, or the host stops.
        """
        self._check_open()
        header = await self._stored(workflow_id)
        async with self._locks.hold(header.owner, header.name):
            header = await self._stored(workflow_id)
            if header.status is SpecStatus.DELETED:
                raise ConflictError(f"the workflow {header.name} is being deleted", hint="deploy it again")
            await self._deploying.check_places(header.owner, header)
            if header.status is not SpecStatus.ACTIVE:
                await self._specs.set_status(workflow_id, SpecStatus.ACTIVE, at=at(self._environment.clock))
            entry = self._lifecycle.entry(header)
            entry.begin_anew()
            await self._lifecycle.converge(workflow_id)
            return self._view(entry.header)

    async def pause(self, workflow_id: str) -> WorkflowView:
        """Stop a workflow and keep it.

        Raises:
            NotFoundError: There is none.
            DrainInProgressError: Executions still run; it stops by itself when they are over.
            ConflictError: It is being deleted, or simulated.
        """
        header = await self._stored(workflow_id)
        async with self._locks.hold(header.owner, header.name):
            header = await self._stored(workflow_id)
            if header.status is SpecStatus.DELETED:
                raise ConflictError(f"the workflow {header.name} is being deleted")
            if header.status is not SpecStatus.PAUSED:
                await self._specs.set_status(workflow_id, SpecStatus.PAUSED, at=at(self._environment.clock))
            entry = self._lifecycle.entry(evolve(header, status=SpecStatus.PAUSED))
            await self._lifecycle.pause(entry, seconds=self._drain_seconds)
            return self._view(await self._stored(workflow_id))

    async def delete(self, workflow_id: str) -> bool:
        """Stop a workflow and delete it; return whether there was one.

        Raises:
            DrainInProgressError: Executions still run; it goes by itself when they are over.
        """
        header = await self._specs.header(workflow_id)
        if header is None:
            return await self._end_simulation(workflow_id)
        async with self._locks.hold(header.owner, header.name):
            if not await self._specs.set_status(workflow_id, SpecStatus.DELETED, at=at(self._environment.clock)):
                return False
            return await self._lifecycle.delete(header, seconds=self._drain_seconds)

    async def simulate(self, deployment: Deployment, *, secrets: SecretSource) -> WorkflowView:
        """Start a workflow that is in no table and whose events start nothing.

        Args:
            deployment: The workflow.
            secrets: Its secrets.

        Raises:
            InnkeeperError: It cannot run; nothing of it is left.
        """
        self._check_open()
        accepted = accept(deployment, kinds=self._kinds, declared=self._attributes, limits=self._environment.limits)
        header = self._deploying.header(accepted, source=SIMULATION)
        artifacts = Artifacts(binary=deployment.binary, config=deployment.config)
        plan = Plan(header, artifacts, accepted.attributes, accepted.binding, simulate=True, secrets=secrets)
        async with self._locks.hold(header.owner, header.name):
            # Before it is loaded: what runs it elsewhere reads it then.
            self._binaries.keep(header.binary_url, deployment.binary)
            try:
                engine = await self._creation.create(plan)
            except BaseException:
                self._binaries.release(header.binary_url)
                raise
            entry = self._lifecycle.entries[header.workflow_id] = Entry(header, simulated=True)
            return view(entry, engine)

    async def fire(
        self, workflow_id: str, trigger: int, event: TriggerEvent | AnyMessage | None = None
    ) -> ExecutionRecord:
        """Execute one event of a simulated workflow; see :meth:`innkeeper.engine.engine.Engine.fire`.

        Raises:
            NotFoundError: No such workflow runs, or it has no such trigger.
            ConflictError: It is not simulated.
            InnkeeperError: The event could not be had, accepted or recorded.
        """
        engine = self._lifecycle.engine(workflow_id)
        if engine is None:
            raise NotFoundError(f"no workflow {workflow_id} runs")
        return await engine.fire(trigger, event)

    async def find(self, text: str, *, owner: str = "") -> WorkflowView:
        """Return the one workflow that is meant by an id, a name, or a beginning of an id.

        Raises:
            NotFoundError: There is none.
            ConflictError: There are several.
            WorkflowError: The owner is no address.
        """
        return self._view(find(await self._headers(), text, owner))

    async def view(self, workflow_id: str) -> WorkflowView:
        """Return one workflow.

        Raises:
            NotFoundError: There is none.
        """
        return self._view(await self._header_of(workflow_id))

    async def views(self) -> list[WorkflowView]:
        """Return all workflows, oldest first."""
        return [self._view(header) for header in await self._headers()]

    async def drain(self, seconds: float) -> bool:
        """Begin nothing new, and wait for what runs; return whether all of it ended in time."""
        await self._stop()
        engines = self._engines.all()
        for engine in engines:
            engine.drain()
        return all(await asyncio.gather(*(engine.wait_idle(seconds) for engine in engines)))

    async def close(self) -> None:
        """Stop every workflow; what still runs is tried again by the next host. Idempotent."""
        await self._stop()
        engines = self._engines.all()
        await asyncio.gather(*(engine.close() for engine in engines))
        for engine in engines:
            self._engines.pop(engine.spec.workflow_id)

    async def _stop(self) -> None:
        self._stopping = True
        self._engines.seal()
        await self._reconciler.stop()

    async def _end_simulation(self, workflow_id: str) -> bool:
        entry = self._lifecycle.entries.get(workflow_id)
        if entry is None or not entry.simulated:
            return False
        async with self._locks.hold(entry.header.owner, entry.header.name):
            await self._lifecycle.stop(workflow_id, seconds=self._drain_seconds, reason="the simulation was ended")
            ended = self._lifecycle.entries.pop(workflow_id, None) is not None
            if ended:
                self._binaries.release(entry.header.binary_url)
            return ended

    def _check_open(self) -> None:
        if self._stopping:
            raise ConflictError("the host is stopping", hint="try again when it has started")

    async def _header_of(self, workflow_id: str) -> SpecHeader:
        header = await self._lifecycle.known(workflow_id)
        if header is not None:
            return header
        raise NotFoundError(f"there is no workflow {workflow_id}", hint="innkeeper workflow list shows all")

    async def _stored(self, workflow_id: str) -> SpecHeader:
        header = await self._header_of(workflow_id)
        if header.source == SIMULATION:
            raise ConflictError("a simulated workflow is neither paused nor activated", hint="delete it")
        return header

    async def _headers(self) -> list[SpecHeader]:
        simulated = [entry.header for entry in self._lifecycle.entries.values() if entry.simulated]
        return [*await self._specs.headers(), *simulated]

    def _view(self, header: SpecHeader) -> WorkflowView:
        entry = self._lifecycle.entries.get(header.workflow_id) or Entry(header)
        entry.header = header
        return view(entry, self._lifecycle.engine(header.workflow_id))
