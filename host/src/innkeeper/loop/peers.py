"""What a plugin is given of the host's registry, and what it may put there.

Rules of this module:

1. Both are bound to the plugin's provider: nothing that crosses the wire names a caller.
2. What a provider may use is decided anew at every call; a capability that was handed out is no right to call it.
3. A caller is told the registry's own sentence for what is not there, and nothing else of the host's errors.
4. A trigger knows its registrations by their ids, whoever made them. A plugin's stand under its provider's name, so
   that it neither replaces nor ends those of a workflow or of another provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from attrs import evolve

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
from innkeeper_sdk.errors import NotFoundError, UnavailableError

__all__ = ["Peer", "Peers", "Registrar"]

_T = TypeVar("_T")


class Peers(Protocol):
    """What a provider may use of the host's registry."""

    def get(self, capability_id: str) -> Capability:
        """Return a capability whose every call resolves anew for this provider.

        Raises:
            NotFoundError: There is none, or this provider may not use it: the two look the same.
        """

    def list(self) -> list[CapabilityInfo]:
        """Return what this provider may see, sorted by id."""


class Registrar(Protocol):
    """Where a provider's capabilities are registered."""

    def register(self, capability: Capability, info: CapabilityInfo) -> None:
        """Register a capability.

        Raises:
            InnkeeperError: It may not be, or is already.
        """

    def unregister(self, capability_id: str) -> None:
        """Take a capability away; idempotent."""


class Peer(Capability):
    """A capability of the host's registry, as it is served to a plugin.

    Args:
        capability: From the registry.
        owner: The provider that it is served to.
    """

    def __init__(self, capability: Capability, *, owner: str) -> None:
        self._capability = capability
        self._owner = owner
        self._info = capability.info

    @property
    def info(self) -> CapabilityInfo:
        """Return what was known of it when it was asked for."""
        return self._info

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call.

        Raises:
            CapabilityError: It failed, or is not there for this provider any more.
        """
        return await _said(lambda: self._capability.execute(request))

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        """Register a subscription.

        Raises:
            CapabilityError: It was refused, or is not there for this provider any more.
        """
        return await _said(lambda: self._capability.register_trigger(self._own(registration)))

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        """End a subscription.

        Raises:
            CapabilityError: It failed, or is not there for this provider any more.
        """
        await _said(lambda: self._capability.unregister_trigger(self._own(registration)))

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        """Tell the trigger that an event is durably accepted.

        Raises:
            CapabilityError: It failed, or is not there for this provider any more.
        """
        await _said(lambda: self._capability.ack_event(self._own_id(trigger_id), event_id, method))

    def _own(self, registration: TriggerRegistration) -> TriggerRegistration:
        return evolve(registration, trigger_id=self._own_id(registration.trigger_id))

    def _own_id(self, trigger_id: str) -> str:
        # No provider's id and no workflow's registration has a slash.
        return f"{self._owner}/{trigger_id}"


async def _said(call: Callable[[], Awaitable[_T]]) -> _T:
    try:
        return await call()
    except NotFoundError as error:
        raise CapabilityError(error.message, error_code=ErrorCode.NotFound) from None
    except UnavailableError as error:
        raise CapabilityError(error.message, error_code=ErrorCode.Unavailable) from None
