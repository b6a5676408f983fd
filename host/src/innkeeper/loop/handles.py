"""A capability of a process, as the registry holds it: bound to one generation.

Rules of this module:

1. When the generation is over, what waits for it ends at once with ``Unavailable``, whatever the connection does; and
   nothing new is begun.
2. Nothing is sent again here: whether a call may be repeated is for who made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self, TypeVar

from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    ErrorCode,
    TriggerEvent,
    TriggerRegistration,
)

__all__ = ["Handle"]

_T = TypeVar("_T")


class Handle(Capability):
    """A capability until its generation is over.

    Args:
        capability: The capability, over its connection.
    """

    def __init__(self, capability: Capability) -> None:
        self._capability = capability
        self._waiting: set[asyncio.Timeout] = set()
        self._over = False

    @property
    def info(self) -> CapabilityInfo:
        """Return what the process said of it when it added it."""
        return self._capability.info

    def end(self) -> None:
        """End what waits, and let nothing new begin; idempotent."""
        if self._over:
            return
        self._over = True
        for timeout in self._waiting:
            timeout.reschedule(asyncio.get_running_loop().time())

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call.

        Raises:
            CapabilityError: It failed, or the generation is over.
        """
        return await self.until_end(lambda: self._capability.execute(request))

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        """Register a subscription; its events end with an error when the generation is over.

        Raises:
            CapabilityError: It was refused, or the generation is over.
        """
        return _Events(self, await self.until_end(lambda: self._capability.register_trigger(registration)))

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        """End a subscription; it has ended with its generation.

        Raises:
            CapabilityError: It failed.
        """
        if not self._over:
            await self.until_end(lambda: self._capability.unregister_trigger(registration))

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        """Tell the trigger that an event is durably accepted.

        Raises:
            CapabilityError: It failed, or the generation is over.
        """
        await self.until_end(lambda: self._capability.ack_event(trigger_id, event_id, method))

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        """Return what the trigger would deliver next.

        Raises:
            CapabilityError: It failed, or the generation is over.
        """
        return await self.until_end(lambda: self._capability.next_event(registration))

    async def until_end(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Wait for something, but not longer than the generation lives.

        Raises:
            CapabilityError: The generation is over.
        """
        if self._over:
            raise _gone(self.info.id)
        # A timeout that the end makes due: the standard library then tells this cancellation from any other.
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._waiting.add(timeout)
                return await call()
        except TimeoutError:
            if timeout.expired():
                raise _gone(self.info.id) from None
            raise
        finally:
            self._waiting.discard(timeout)


class _Events(AsyncIterator[TriggerEvent]):
    def __init__(self, handle: Handle, events: AsyncIterator[TriggerEvent]) -> None:
        self._handle = handle
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TriggerEvent:
        return await self._handle.until_end(self._next)

    async def _next(self) -> TriggerEvent:
        return await self._events.__anext__()

    async def aclose(self) -> None:
        """End the iteration."""
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()


def _gone(capability_id: str) -> CapabilityError:
    return CapabilityError(f"the process of capability {capability_id} has ended", error_code=ErrorCode.Unavailable)
