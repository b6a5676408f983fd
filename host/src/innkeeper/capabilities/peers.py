"""The registry as a provider's process has it, over its LOOP connection.

Rules of this module:

1. The same rights as the host part's, and by the same way: every call is resolved anew for the provider. What was
   handed out before is no right to call it.
2. What may be called and is not ready is handed out all the same; calling it is ``Unavailable`` until it is there.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator

from attrs import evolve

from innkeeper.capabilities.callers import ProviderCaller, Right
from innkeeper.capabilities.registry import Registry
from innkeeper_sdk.capability import (
    Capability,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    TriggerEvent,
    TriggerRegistration,
)

__all__ = ["ProviderPeers"]


class ProviderPeers:
    """What one provider may use of the registry; implements ``innkeeper.loop.peers.Peers``.

    Args:
        registry: The host's.
        provider_id: The provider.
    """

    def __init__(self, registry: Registry, provider_id: str) -> None:
        self._registry = registry
        self._caller = ProviderCaller(provider_id)

    def get(self, capability_id: str) -> Capability:
        """Return a capability whose every call resolves anew.

        Raises:
            NotFoundError: There is none, or this provider may not use it: the two look the same.
        """
        info = self._registry.resolve(self._caller, capability_id, Right.SEE).info
        return _Resolving(self._registry, self._caller, capability_id, info)

    def list(self) -> builtins.list[CapabilityInfo]:
        """Return what this provider may see, sorted by id."""
        return [listed.info for listed in self._registry.list(self._caller)]


class _Resolving(Capability):
    """A capability by what was asked for; each call raises NotFoundError if it is not there for the caller any more."""

    def __init__(self, registry: Registry, caller: ProviderCaller, asked: str, info: CapabilityInfo) -> None:
        self._registry = registry
        self._caller = caller
        self._asked = asked
        self._info = info

    @property
    def info(self) -> CapabilityInfo:
        """Return what was known of it when it was asked for."""
        return self._info

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call; which capability is meant was said before, whatever the request says."""
        return await self._registry.call(self._caller, evolve(request, capability_id=self._asked))

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        """Register a subscription."""
        return await self._now().register_trigger(registration)

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        """End a subscription."""
        await self._now().unregister_trigger(registration)

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        """Tell the trigger that an event is durably accepted."""
        await self._now().ack_event(trigger_id, event_id, method)

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        """Return what the trigger would deliver next."""
        return await self._now().next_event(registration)

    def _now(self) -> Capability:
        return self._registry.resolve(self._caller, self._asked).capability
