"""A workflow's triggers, kept registered.

Rules of this module:

1. All or nothing: every trigger's capability is resolved before the first is registered, and if one registration
   fails, or all together are too slow, those that stand are taken back.
2. A registration that ends or fails later is made again, with growing pauses, for as long as the engine lives; until
   then the trigger says why it is silent. It is never silently dead: whatever ends its listening but ``close`` is such
   a failure. A capability that comes back, that of a process that was started again, is not kept waiting.
3. Unregistering is repeated and never fatal: whoever refuses it is told to the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from innkeeper.capabilities.callers import WorkflowCaller
from innkeeper.capabilities.faults import class_name, words
from innkeeper.engine.backoff import Backoff
from innkeeper.engine.errors import TriggerRegistrationError
from innkeeper.engine.helper import metadata
from innkeeper.engine.ports import CapabilityRegistry, ResolvedCapability
from innkeeper.workflows.identity import trigger_reference, trigger_registration_id
from innkeeper_sdk.capability import CapabilityError, TriggerEvent, TriggerRegistration
from innkeeper_sdk.errors import InnkeeperError
from innkeeper_sdk.module import WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import TriggerSubscription

__all__ = ["OnEvent", "Trigger", "Triggers"]

OnEvent = Callable[["Trigger", TriggerEvent], Awaitable[None]]

# What a provider may take to let go of a registration, or to take note of an acknowledgement.
_COURTESY = 5.0


class Trigger:
    """One subscription.

    Args:
        spec: The workflow.
        index: Its place among the workflow's subscriptions.
        subscription: What the binary asked for.
        registry: The way to its capability.
    """

    def __init__(
        self, spec: WorkflowSpec, index: int, subscription: TriggerSubscription, registry: CapabilityRegistry
    ) -> None:
        self.index = index
        self.subscription = subscription
        self.registration = TriggerRegistration(
            trigger_id=trigger_registration_id(spec.workflow_id, index),
            metadata=metadata(spec, reference_id=trigger_reference(index)),
            method=subscription.method,
            payload=subscription.payload,
        )
        self.fault = ""
        self._caller = WorkflowCaller(spec.owner, spec.workflow_id)
        self._registry = registry
        self._resolved: ResolvedCapability | None = None
        self._events: AsyncIterator[TriggerEvent] | None = None
        # Whether it may stand at its capability.
        self._stands = False

    def __str__(self) -> str:
        """Return what an operator knows it by."""
        return f"trigger {self.index} ({self.subscription.id})"

    def resolve(self) -> ResolvedCapability:
        """Find the capability anew.

        Raises:
            NotFoundError: There is none that the workflow may use.
            CapabilityError: Its provider is not ready.
        """
        self._resolved = self._registry.resolve(self._caller, self.subscription.id)
        return self._resolved

    async def renewed(self) -> None:
        """Wait until its id stands for another object than the one that was found last: that one is gone for good."""
        while True:
            # Taken before the look, so that no change falls between the two.
            change = self._registry.next_change
            with suppress(InnkeeperError):
                found = self._registry.resolve(self._caller, self.subscription.id)
                if self._resolved is None or found.capability is not self._resolved.capability:
                    return
            await change.wait()

    async def register(self) -> None:
        """Register it at the capability that was found.

        Raises:
            CapabilityError: It was refused.
        """
        resolved = self._resolved or self.resolve()
        self._stands = True
        try:
            self._events = await resolved.capability.register_trigger(self.registration)
        except CapabilityError:
            self._stands = False
            raise

    def events(self) -> AsyncIterator[TriggerEvent]:
        """Return its events; it is registered."""
        if self._events is None:
            raise TriggerRegistrationError(f"{self} is not registered")
        return self._events

    async def acknowledge(self, event_id: str) -> None:
        """Tell the capability that an event is durable.

        Raises:
            CapabilityError: It failed.
            TimeoutError: It took too long.
        """
        if self._resolved is not None:
            async with asyncio.timeout(_COURTESY):
                await self._resolved.capability.ack_event(
                    self.registration.trigger_id, event_id, self.registration.method
                )

    async def next_event(self, seconds: float) -> TriggerEvent | None:
        """Return what it would deliver next, or None if it cannot tell.

        Raises:
            InnkeeperError: It failed.
            TimeoutError: It took too long.
        """
        async with asyncio.timeout(seconds):
            return await self.resolve().capability.next_event(self.registration)

    async def unregister(self) -> None:
        """End it at the capability; idempotent.

        Raises:
            CapabilityError: It failed.
            TimeoutError: It took too long.
        """
        stands, self._stands = self._stands, False
        events, self._events = self._events, None
        if self._resolved is None or not stands:
            return
        async with asyncio.timeout(_COURTESY):
            await self._resolved.capability.unregister_trigger(self.registration)
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()


class Triggers:
    """All triggers of a workflow.

    Args:
        spec: The workflow.
        subscriptions: What its binary asked for.
        registry: The way to their capabilities.
        seconds: How long registering all of them may take.
        backoff: The pauses between tries to register one again.
        on_event: Takes each event; it does not raise.
        logger: Where troubles go.
    """

    def __init__(
        self,
        spec: WorkflowSpec,
        subscriptions: Sequence[TriggerSubscription],
        *,
        registry: CapabilityRegistry,
        seconds: float,
        backoff: Backoff,
        on_event: OnEvent,
        logger: logging.Logger,
    ) -> None:
        self.all = tuple(
            Trigger(spec, index, subscription, registry) for index, subscription in enumerate(subscriptions)
        )
        self._seconds = seconds
        self._backoff = backoff
        self._on_event = on_event
        self._logger = logger
        self._fields = {"workflow_id": spec.workflow_id}
        self._listeners: list[asyncio.Task[None]] = []

    def __getitem__(self, index: int) -> Trigger:
        """Return a trigger by its index."""
        return self.all[index]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.all)

    @property
    def faults(self) -> list[str]:
        """Return why triggers are silent, those that are."""
        return [f"{trigger}: {trigger.fault}" for trigger in self.all if trigger.fault]

    async def register(self) -> None:
        """Register all, or none.

        Raises:
            TriggerRegistrationError: One was refused, or all together were too slow; its cause says why.
        """
        for trigger in self.all:
            try:
                trigger.resolve()
            except InnkeeperError as error:
                raise TriggerRegistrationError(f"failed to register {trigger}: {error}") from error
        tasks = {asyncio.create_task(trigger.register()): trigger for trigger in self.all}
        try:
            await asyncio.wait(tasks, timeout=self._seconds, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            unfinished = [task for task in tasks if task.cancel()]
            if unfinished:
                await asyncio.wait(unfinished)
        failed = [task for task in tasks if task.cancelled() or task.exception() is not None]
        if not failed:
            return
        await self._take_back(self.all)
        for task in failed:
            refusal = None if task.cancelled() else task.exception()
            if refusal is not None:
                raise TriggerRegistrationError(f"failed to register {tasks[task]}: {words(refusal)}") from refusal
        names = ", ".join(str(tasks[task]) for task in failed)
        raise TriggerRegistrationError(
            f"failed to register {names} within {self._seconds:g} s",
            hint="raise PerWorkflow.TriggerRegistrationsTimeout if it needs longer",
        ) from TimeoutError()

    def listen(self) -> None:
        """Begin to take events."""
        self._listeners = [
            asyncio.create_task(self._listen(trigger), name=f"innkeeper {trigger}") for trigger in self.all
        ]

    async def close(self) -> None:
        """Take no more events, and end all registrations; idempotent."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.cancel()
        if listeners:
            await asyncio.wait(listeners)
        await self._take_back(self.all)

    async def _take_back(self, triggers: Sequence[Trigger]) -> None:
        results = await asyncio.gather(*(trigger.unregister() for trigger in triggers), return_exceptions=True)
        for trigger, result in zip(triggers, results, strict=True):
            if isinstance(result, BaseException):
                self._warn("a trigger could not be unregistered", trigger, result)

    async def _listen(self, trigger: Trigger) -> None:
        failures = 0
        while True:
            trigger.fault = ""
            try:
                async for event in trigger.events():
                    failures = 0
                    await self._on_event(trigger, event)
                trigger.fault = "its events ended"
                self._warn("a trigger's events ended; it will be registered again", trigger)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the last resort, see rule 2
                self._pass_on_cancellation()
                trigger.fault = words(error)
                self._warn("a trigger failed; it will be registered again", trigger, error)
            failures = await self._register_again(trigger, failures)

    async def _register_again(self, trigger: Trigger, failures: int) -> int:
        while True:
            failures += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.delay(failures)):
                    await trigger.renewed()
            await self._take_back([trigger])
            try:
                trigger.resolve()
                async with asyncio.timeout(self._seconds):
                    await trigger.register()
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the last resort, see rule 2
                self._pass_on_cancellation()
                late = issubclass(type(error), TimeoutError)
                trigger.fault = "registering it took too long" if late else words(error)
                self._warn("a trigger could not be registered again", trigger, error)
            else:
                self._logger.info("a trigger is registered again", extra=self._of(trigger))
                return failures

    def _pass_on_cancellation(self) -> None:
        """Go on ending if the listener was cancelled, whatever a provider made of that."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    def _of(self, trigger: Trigger) -> dict[str, str | int]:
        return {**self._fields, "trigger": trigger.index, "capability": trigger.subscription.id}

    def _warn(self, message: str, trigger: Trigger, error: BaseException | None = None) -> None:
        reason = {} if error is None else {"reason": words(error) or class_name(error)}
        self._logger.warning(message, extra={**self._of(trigger), **reason})
