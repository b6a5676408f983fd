"""The wall around a provider's capability in the host's process.

Rules of this module:

1. What comes out of a provider is an answer of the right type, a CapabilityError, or the cancellation of the caller.
   Anything else, ``SystemExit``, ``KeyboardInterrupt`` and a cancellation that nobody asked for included, becomes a
   private system error.
2. The text of a foreign exception goes nowhere: it may hold what a workflow must not see or what a log must not
   keep. The log names the exception's class and the line that raised it.
3. A revoked wall lets no new work through. Ending what stands (unregister, acknowledge) always passes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Self, TypeVar, cast

from innkeeper.capabilities.faults import class_name, contain, is_a, location
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    ErrorCode,
    ErrorVisibility,
    Origin,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.errors import NotFoundError, UnavailableError

__all__ = ["Contained", "location", "unavailable"]

_T = TypeVar("_T")

# What a workflow may know of a foreign exception: its class of failure, never its text.
_KINDS: Final[tuple[tuple[type[BaseException], ErrorCode, str], ...]] = (
    (NotFoundError, ErrorCode.NotFound, "something that it uses was not found"),
    (UnavailableError, ErrorCode.Unavailable, "something that it uses is not available"),
    (TimeoutError, ErrorCode.DeadlineExceeded, "something that it uses did not answer in time"),
)


def unavailable(capability_id: str) -> CapabilityError:
    """Return the error for a capability that its caller may use and whose provider is not ready."""
    return CapabilityError(
        f"capability {capability_id} is not available", error_code=ErrorCode.Unavailable, origin=Origin.SYSTEM
    )


class Contained(Capability):
    """A provider's capability, as the rest of the host holds it.

    Args:
        capability: The provider's object.
        info: What the host has bound to it.
        provider_id: Its provider.
        logger: Where faults go.
    """

    def __init__(
        self, capability: Capability, *, info: CapabilityInfo, provider_id: str, logger: logging.Logger
    ) -> None:
        self._capability = capability
        self._info = info
        self._provider_id = provider_id
        self._logger = logger
        self._revoked = False

    @property
    def info(self) -> CapabilityInfo:
        """Return what the host has bound, not what the provider says now."""
        return self._info

    def revoke(self) -> None:
        """Let no new work through any more."""
        self._revoked = True

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call.

        Raises:
            CapabilityError: It failed, or its provider is not there any more.
        """
        self._check_alive()
        response = await self.guard("execute", lambda: self._capability.execute(request))
        return self._typed("execute", response, CapabilityResponse)

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        """Register a subscription; what its events raise is contained too.

        Raises:
            CapabilityError: It was refused or failed, or its provider is not there any more.
        """
        self._check_alive()
        events = await self.guard("register_trigger", lambda: self._capability.register_trigger(registration))
        if not is_a(events, AsyncIterator):
            raise self._fault("register_trigger", TypeError())
        return _Events(self, events)

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        """End a subscription.

        Raises:
            CapabilityError: It failed.
        """
        await self.guard("unregister_trigger", lambda: self._capability.unregister_trigger(registration))

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        """Tell the trigger that an event is durably accepted.

        Raises:
            CapabilityError: It failed.
        """
        await self.guard("ack_event", lambda: self._capability.ack_event(trigger_id, event_id, method))

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        """Return what the trigger would deliver next.

        Raises:
            CapabilityError: It would be refused or failed, or its provider is not there any more.
        """
        self._check_alive()
        event = await self.guard("next_event", lambda: self._capability.next_event(registration))
        return None if event is None else self._typed("next_event", event, TriggerEvent)

    async def guard(
        self,
        what: str,
        function: Callable[[], Awaitable[_T]],
        passes: tuple[type[BaseException], ...] = (CapabilityError,),
    ) -> _T:
        """Call into the provider.

        Args:
            what: The call's name, for the log.
            function: The call, with what it looks up on the provider's objects.
            passes: The exceptions that are its contract.

        Raises:
            CapabilityError: It failed.
        """
        return await contain(function, passes=passes, fault=lambda error: self._fault(what, error))

    def event(self, event: object) -> TriggerEvent:
        """Return an event that the provider delivered.

        Raises:
            CapabilityError: It is none.
        """
        return self._typed("an event", event, TriggerEvent)

    def _check_alive(self) -> None:
        if self._revoked:
            raise unavailable(self._info.id)

    def _typed(self, what: str, value: object, cls: type[_T]) -> _T:
        if is_a(value, cls):
            return cast(_T, value)
        raise self._fault(what, TypeError())

    def _fault(self, what: str, error: BaseException) -> CapabilityError:
        code, text = next(
            ((code, text) for kind, code, text in _KINDS if is_a(error, kind)),
            (ErrorCode.Internal, "its provider is at fault"),
        )
        self._logger.error(
            "provider %s: capability %s failed in %s: %s %s",
            self._provider_id,
            self._info.id,
            what,
            class_name(error),
            location(error),
        )
        return CapabilityError(
            f"capability {self._info.id} failed: {text}",
            error_code=code,
            origin=Origin.SYSTEM,
            visibility=ErrorVisibility.PRIVATE,
        )


class _Events(AsyncIterator[TriggerEvent]):
    """The events of one subscription, contained."""

    def __init__(self, contained: Contained, events: AsyncIterator[TriggerEvent]) -> None:
        self._contained = contained
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TriggerEvent:
        passes = (CapabilityError, StopAsyncIteration)
        return self._contained.event(await self._contained.guard("an event", self._next, passes=passes))

    async def aclose(self) -> None:
        """End the iteration, where the provider's iterator can be ended.

        Raises:
            CapabilityError: It failed.
        """
        await self._contained.guard("the end of its events", self._close)

    async def _next(self) -> TriggerEvent:
        return await self._events.__anext__()

    async def _close(self) -> None:
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()
