"""One workflow's engine: subscribe, register triggers, accept events, execute.

Rules of this module:

1. ``start`` leaves everything standing, or nothing: whatever it opened is closed again, the module too.
2. An event that cannot be accepted is counted and told to the log; it is never lost silently.
3. Draining takes no more events and begins no more executions; those that run go on. Closing ends the registrations,
   then what runs, then the module, in that order. What waits or is cut off stays in the store: the next engine of the
   workflow goes on with it.
4. A simulated engine registers its triggers for real, so that their faults show, but their events start nothing: only
   ``fire`` does.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from enum import Enum
from typing import Final
from uuid import uuid4

from attrs import evolve
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.engine.acceptance import Acceptance
from innkeeper.engine.clock import at
from innkeeper.engine.environment import Environment
from innkeeper.engine.errors import EngineClosedError, EngineDrainingError
from innkeeper.engine.executions import Runner, Work
from innkeeper.engine.helper import Services
from innkeeper.engine.limits import EngineLimits
from innkeeper.engine.logs import LogBuffer
from innkeeper.engine.metrics import UserMetrics
from innkeeper.engine.ports import ChosenModule
from innkeeper.engine.queue import EventQueue, Taken
from innkeeper.engine.subscription import subscribe
from innkeeper.engine.triggers import Trigger, Triggers
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus, Outcome
from innkeeper_sdk.capability import TriggerEvent
from innkeeper_sdk.errors import ConflictError, InnkeeperError, NotFoundError, ProviderError
from innkeeper_sdk.module import WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import TriggerSubscriptionRequest

__all__ = ["Engine", "EngineState"]

# What a trigger may take to say what it would deliver next.
_NEXT_EVENT: Final = 10.0

# What a module may take to close.
_CLOSE: Final = 30.0


class EngineState(Enum):
    """How far an engine is."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    CLOSED = "closed"


class Engine:
    """Run one workflow.

    Args:
        spec: The workflow.
        config: Its configuration.
        module: Its module, not yet started; the engine closes it.
        environment: The host around it.
        simulate: Start executions only by ``fire``.
    """

    def __init__(
        self,
        spec: WorkflowSpec,
        config: bytes,
        module: ChosenModule,
        environment: Environment,
        *,
        simulate: bool = False,
    ) -> None:
        own = EngineLimits.of(environment.limits, owner=spec.owner, workflow_id=spec.workflow_id)
        self._spec = spec
        self._config = config
        self._module = module
        self._environment = environment
        self._own = own
        self._simulate = simulate
        self._state = EngineState.NEW
        self._subscriptions = TriggerSubscriptionRequest()
        self._triggers: Triggers | None = None
        self._places = asyncio.Semaphore(own.executions)
        self._queue: EventQueue[Work] = EventQueue(limit=own.queued_events, seconds=own.queue_seconds)
        self._running: set[asyncio.Task[None]] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._dropped = 0
        # Who waits for the end of an execution, and for the next event of a trigger.
        self._ends: dict[str, asyncio.Future[ExecutionRecord]] = {}
        self._ticks: dict[int, list[asyncio.Future[TriggerEvent]]] = {}
        self._acceptance = Acceptance(
            workflow_id=spec.workflow_id,
            queue=self._queue,
            known=set(),
            stores=environment.stores,
            events=environment.events,
            clock=environment.clock,
            logger=environment.logger,
        )
        self._runner = Runner(
            Services(
                spec=spec,
                registry=environment.registry,
                secrets=environment.secrets,
                limits=environment.limits,
                own=own,
                clock=environment.clock,
                metrics=UserMetrics(spec, own, environment.metrics),
                calls=asyncio.Semaphore(own.capability_calls_at_once),
                secret_calls=asyncio.Semaphore(own.secrets_calls_at_once),
            ),
            config,
            module,
            stores=environment.stores,
            events=environment.events,
            backoff=environment.backoff,
            logger=environment.logger,
        )

    @property
    def state(self) -> EngineState:
        """Return how far it is."""
        return self._state

    @property
    def spec(self) -> WorkflowSpec:
        """Return the workflow."""
        return self._spec

    @property
    def module(self) -> ChosenModule:
        """Return the workflow's module."""
        return self._module

    @property
    def subscriptions(self) -> TriggerSubscriptionRequest:
        """Return what the binary subscribed to; empty before it was asked."""
        return self._subscriptions

    @property
    def active(self) -> int:
        """Return how many executions run."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Return how many events wait."""
        return len(self._queue)

    @property
    def dropped_events(self) -> int:
        """Return how many events could not be accepted."""
        return self._dropped

    @property
    def faults(self) -> list[str]:
        """Return which triggers are silent, and why."""
        return [] if self._triggers is None else self._triggers.faults

    async def start(self) -> None:
        """Start the module, subscribe, and register all triggers.

        Raises:
            ConflictError: It was started before.
            InnkeeperError: It cannot run; everything is closed again.
        """
        if self._state is not EngineState.NEW:
            raise ConflictError("an engine starts once", actual=self._state.value)
        self._state = EngineState.STARTING
        try:
            await self._module.start()
            await self._subscribe()
            await self._register()
            if not self._simulate:
                await self._recover()
            self._run()
        except BaseException:
            await self.close()
            raise

    async def next_event(self, index: int) -> TriggerEvent | None:
        """Return what a trigger would deliver next, or None if it cannot tell.

        Raises:
            NotFoundError: There is no such trigger.
            InnkeeperError: The trigger failed or took too long.
        """
        try:
            return await self._trigger(index).next_event(_NEXT_EVENT)
        except TimeoutError as error:
            raise ProviderError(f"trigger {index} did not say its next event within {_NEXT_EVENT:g} s") from error

    async def fire(self, index: int, event: TriggerEvent | AnyMessage | None = None) -> ExecutionRecord:
        """Execute one event of a simulated engine, and return how it ended.

        Args:
            index: The trigger, from 0.
            event: The event, or its payload; None takes what the trigger would deliver next, or waits for it where
                the trigger cannot tell.

        Raises:
            ConflictError: The engine is not simulated.
            EngineDrainingError: It only finishes what runs.
            EngineClosedError: It has stopped.
            NotFoundError: There is no such trigger.
            InnkeeperError: The event could not be had, accepted or recorded.
        """
        if not self._simulate:
            raise ConflictError("only a simulated workflow can be fired", hint="use innkeeper workflow run")
        self._check_running()
        trigger = self._trigger(index)
        if isinstance(event, AnyMessage):
            event = TriggerEvent(id=f"simulated-{uuid4()}", payload=event)
        if event is None:
            event = await self.next_event(index) or await self._tick(index)
            self._check_running()
        accepted = await self._acceptance.accept(trigger, event)
        if not accepted.created:
            # The same event is simulated again: it needs an execution of its own.
            event = evolve(event, id=f"{event.id}#{uuid4()}")
            accepted = await self._acceptance.accept(trigger, event)
        end = self._ends.setdefault(accepted.record.execution_id, asyncio.get_running_loop().create_future())
        return await asyncio.shield(end)

    def drain(self) -> None:
        """Take no more events and begin no more executions; idempotent."""
        if self._state in (EngineState.NEW, EngineState.STARTING, EngineState.RUNNING):
            self._state = EngineState.DRAINING
            if self._dispatcher is not None:
                self._dispatcher.cancel()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing runs; return whether that is so within the time."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        return not self._running

    async def close(self) -> None:
        """Stop everything and close the module; idempotent, and whoever calls it waits for the end."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"innkeeper close {self._spec.workflow_id}")
        await asyncio.shield(self._closing)

    def _run(self) -> None:
        if self._state is not EngineState.STARTING:
            raise EngineClosedError("the workflow was stopped while it started")
        self._state = EngineState.RUNNING
        self._dispatcher = asyncio.create_task(self._dispatch(), name=f"innkeeper dispatcher {self._spec.workflow_id}")
        self._live_triggers().listen()

    async def _subscribe(self) -> None:
        environment = self._environment
        logs = LogBuffer(
            workflow_id=self._spec.workflow_id,
            execution_id="",
            line_bytes=self._own.log_line_bytes,
            lines=self._own.log_lines,
            clock=environment.clock,
            write=None,
        )
        try:
            self._subscriptions = await subscribe(
                self._config, self._module, limits=self._own, logs=logs, clock=environment.clock
            )
        finally:
            # Also of a subscribing that failed: its lines say why.
            await environment.stores.logs.replace_subscribing(self._spec.workflow_id, logs.take())

    async def _register(self) -> None:
        environment = self._environment
        environment.limits.check(
            "PerWorkflow.TriggerSubscriptionLimit",
            len(self._subscriptions.subscriptions),
            owner=self._spec.owner,
            workflow_id=self._spec.workflow_id,
        )
        self._triggers = Triggers(
            self._spec,
            self._subscriptions.subscriptions,
            registry=environment.registry,
            seconds=self._own.register_seconds,
            backoff=environment.backoff,
            on_event=self._on_event,
            logger=environment.logger,
        )
        await self._triggers.register()

    async def _recover(self) -> None:
        for left in await self._environment.stores.executions.unfinished(self._spec.workflow_id):
            payload = AnyMessage.FromString(left.payload)
            self._acceptance.enqueue(Work(left.record, payload, recovered=True))

    async def _on_event(self, trigger: Trigger, event: TriggerEvent) -> None:
        if self._simulate:
            for tick in self._ticks.pop(trigger.index, []):
                if not tick.done():
                    tick.set_result(event)
            return
        if self._state is not EngineState.RUNNING:
            return
        try:
            await self._acceptance.accept(trigger, event)
        except InnkeeperError as error:
            self._drop(trigger, event, str(error))
        except Exception as error:  # a fault of ours with one event must not end its trigger
            self._environment.logger.exception("an event could not be accepted")
            self._drop(trigger, event, f"the host is at fault: {type(error).__name__}")

    def _drop(self, trigger: Trigger, event: TriggerEvent, reason: str) -> None:
        self._dropped += 1
        self._environment.logger.warning(
            "an event was dropped",
            extra={
                "workflow_id": self._spec.workflow_id,
                "trigger": trigger.index,
                "event": event.id[:128],
                "reason": reason,
                "dropped": self._dropped,
            },
        )

    async def _tick(self, index: int) -> TriggerEvent:
        tick: asyncio.Future[TriggerEvent] = asyncio.get_running_loop().create_future()
        self._ticks.setdefault(index, []).append(tick)
        return await tick

    async def _dispatch(self) -> None:
        slots, owner = self._environment.slots, self._spec.owner
        while True:
            await self._queue.wait()
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(slots.take(self._places, owner, self._own.owner_executions))
                taken = self._queue.take(now=self._environment.clock.monotonic())
                # The slot is the execution's from here.
                task = asyncio.create_task(self._execute(taken, stack.pop_all()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _execute(self, taken: Taken[Work], slot: AsyncExitStack) -> None:
        work = taken.item
        execution = work.record.execution_id
        async with slot:
            try:
                if taken.expired:
                    record = await self._runner.finish(work.record, self._expired())
                else:
                    record = await self._runner.run(work)
            except InnkeeperError as error:
                self._environment.logger.exception(
                    "an execution's end could not be recorded; it will be tried again after the next start",
                    extra=self._runner.fields(work.record),
                )
                self._ended(execution, error)
            else:
                self._ended(execution, record)
            finally:
                self._acceptance.known.discard(execution)

    def _expired(self) -> Outcome:
        return Outcome(
            status=ExecutionStatus.FAILED,
            finished_at=at(self._environment.clock),
            error=f"the event waited longer than {self._own.queue_seconds:g} s to be executed",
        )

    def _ended(self, execution: str, end: ExecutionRecord | InnkeeperError) -> None:
        waiting = self._ends.pop(execution, None)
        if waiting is None or waiting.done():
            return
        if isinstance(end, InnkeeperError):
            waiting.set_exception(end)
        else:
            waiting.set_result(end)

    async def _close(self) -> None:
        self._state = EngineState.CLOSED
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.wait({self._dispatcher})
        if self._triggers is not None:
            await self._triggers.close()
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        try:
            async with asyncio.timeout(_CLOSE):
                await self._module.close()
        except Exception:  # one bad provider never stops the host
            self._environment.logger.exception(
                "a module could not be closed", extra={"workflow_id": self._spec.workflow_id}
            )
        self._queue.clear()
        closed = EngineClosedError("the workflow's engine has stopped")
        for execution in list(self._ends):
            self._ended(execution, closed)
        for tick in [tick for ticks in self._ticks.values() for tick in ticks]:
            if not tick.done():
                tick.set_exception(closed)

    def _check_running(self) -> None:
        if self._state is EngineState.DRAINING:
            raise EngineDrainingError("the workflow only finishes what runs")
        if self._state is not EngineState.RUNNING:
            raise EngineClosedError("the workflow's engine does not run", actual=self._state.value)

    def _live_triggers(self) -> Triggers:
        if self._triggers is None:
            raise EngineClosedError("the workflow's engine has no triggers yet")
        return self._triggers

    def _trigger(self, index: int) -> Trigger:
        triggers = self._live_triggers()
        if not 0 <= index < len(triggers):
            raise NotFoundError(
                f"the workflow has no trigger {index}", expected=f"0 to {len(triggers) - 1}", actual=str(index)
            )
        return triggers[index]
