"""The registry: the only way from a caller to a capability.

Rules of this module:

1. Every path to a capability goes through ``resolve``: it keeps what the caller may use, *then* resolves the version
   among that, then authorises the result once more. The rights are in ``callers``, the versions in ``ids``, and what
   stands under which id in ``book``.
2. One function builds the one not-found error, for a malformed id too: who may not use a capability cannot tell it
   from one that does not exist. That it exists and is not ready is told only to those who may use it.
3. Versions are resolved among what is declared, ready or not: which capability an id stands for does not change with
   the health of a provider.
4. To see is not to hold: only the right to call gives out the capability. A provider never names a caller; it holds
   what ``bound`` returns, which does that for it.

Not thread-safe: for the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import builtins
import difflib
import time
from collections.abc import Mapping
from typing import Literal, overload

from attrs import evolve, frozen

from innkeeper.capabilities.book import SHOWN, Book, Slot
from innkeeper.capabilities.bound import bind
from innkeeper.capabilities.callers import Caller, Operator, ProviderCaller, Right, WorkflowCaller, permits
from innkeeper.capabilities.containment import unavailable
from innkeeper.capabilities.ids import choose, parse
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    ErrorCode,
    HostRegistry,
    Visibility,
)
from innkeeper_sdk.errors import NotFoundError, VerificationError
from innkeeper_sdk.manifest import CAPABILITY_ID_LENGTH

__all__ = ["Listed", "Registry", "Resolved"]


@frozen
class Listed:
    """A capability as its caller may see it.

    Attributes:
        info: What the host knows it by.
        provider_id: Its provider.
        visibility: Its effective visibility.
        ready: Whether it can be called now.
        granted_to: The providers that it is granted to, sorted.
        call_limits: The name of the limit that counts a method's calls, by method; methods of one limit share it.
    """

    info: CapabilityInfo
    provider_id: str
    visibility: Visibility
    ready: bool
    granted_to: tuple[str, ...]
    call_limits: Mapping[str, str]


@frozen
class Resolved(Listed):
    """A capability that its caller may call.

    Attributes:
        capability: The capability, contained: it raises nothing but CapabilityError.
    """

    capability: Capability


class Registry(Book):
    """Keep capabilities, and give each caller what it may use of them."""

    @overload
    def resolve(self, caller: Caller, capability_id: str, right: Literal[Right.CALL] = Right.CALL) -> Resolved: ...

    @overload
    def resolve(self, caller: Caller, capability_id: str, right: Literal[Right.SEE]) -> Listed: ...

    def resolve(self, caller: Caller, capability_id: str, right: Right = Right.CALL) -> Listed:
        """Return the capability that an asked id stands for, to this caller.

        Args:
            caller: Who asks, as the host knows it.
            capability_id: What was asked for; anything.
            right: What for. ``SEE`` tells of it, ``CALL`` gives it out.

        Raises:
            NotFoundError: There is none, or the caller does not have the right: the two look the same.
            CapabilityError: The caller may call it, and its provider is not ready (``Unavailable``).
        """
        asked = parse(capability_id)
        named = {} if asked is None else self.named(asked.name)
        chosen = choose(asked, [slot.id for slot in named.values() if self._permits(caller, slot, right)])
        slot = None if chosen is None else named.get(chosen.text)
        if slot is None or not self._permits(caller, slot, right):
            raise self.not_found(capability_id)
        if right is Right.SEE:
            return self._listed(slot)
        if slot.contained is None:
            raise unavailable(slot.id.text)
        listed = self._listed(slot)
        return Resolved(
            info=listed.info,
            provider_id=listed.provider_id,
            visibility=listed.visibility,
            ready=listed.ready,
            granted_to=listed.granted_to,
            call_limits=listed.call_limits,
            capability=slot.contained,
        )

    def list(self, caller: Caller) -> builtins.list[Listed]:
        """Return what a caller may see, sorted by id."""
        seen = [slot for slot in self.slots() if self._permits(caller, slot, Right.SEE)]
        return [self._listed(slot) for slot in sorted(seen, key=lambda slot: slot.id.text)]

    async def call(self, caller: Caller, request: CapabilityRequest) -> CapabilityResponse:
        """Resolve and execute.

        Args:
            caller: Who asks, as the host knows it.
            request: The call; its ``capability_id`` is what was asked for, its ``deadline`` is kept.

        Returns:
            The answer.

        Raises:
            NotFoundError: There is no such capability for this caller.
            CapabilityError: The call failed, was too late, or the provider is not ready.
            VerificationError: The request's metadata is of another workflow than its caller.
        """
        resolved = self.resolve(caller, request.capability_id)
        _check_metadata(caller, request)
        if request.capability_id != resolved.info.id:
            request = evolve(request, capability_id=resolved.info.id)
        if request.deadline is None:
            return await resolved.capability.execute(request)
        try:
            async with asyncio.timeout(request.deadline - time.monotonic()):
                return await resolved.capability.execute(request)
        except TimeoutError:
            raise CapabilityError(
                f"capability {resolved.info.id} did not answer in time", error_code=ErrorCode.DeadlineExceeded
            ) from None

    def bound(self, provider_id: str) -> HostRegistry:
        """Return the registry as this provider may have it: its identity is part of the object."""
        return bind(self, ProviderCaller(provider_id))

    def suggestions(self, caller: Caller, capability_id: str) -> tuple[str, ...]:
        """Return ids that the operator may have meant, nearest first; nobody else is helped to guess."""
        if not isinstance(caller, Operator):
            return ()
        ids = [listed.info.id for listed in self.list(caller)]
        return tuple(difflib.get_close_matches(capability_id[:CAPABILITY_ID_LENGTH], ids, n=3))

    def not_found(self, capability_id: str) -> NotFoundError:
        """Return the one error for a capability that is not there, or not there for its caller.

        Args:
            capability_id: What was asked for; it is repeated as it is, cut after 1024 characters.
        """
        return NotFoundError(f"capability {capability_id!s:.{SHOWN}} not found")

    def _permits(self, caller: Caller, slot: Slot, right: Right) -> bool:
        return permits(
            caller,
            right,
            provider_id=slot.provider_id,
            visibility=slot.visibility,
            granted_to=self.granted_to(slot.id.text),
        )

    def _listed(self, slot: Slot) -> Listed:
        return Listed(
            info=slot.info,
            provider_id=slot.provider_id,
            visibility=slot.visibility,
            ready=slot.contained is not None,
            granted_to=self.granted_to(slot.id.text),
            call_limits=slot.call_limits,
        )


def _check_metadata(caller: Caller, request: CapabilityRequest) -> None:
    if not isinstance(caller, WorkflowCaller):
        return
    said = (request.metadata.workflow_owner, request.metadata.workflow_id)
    known = (caller.owner, caller.workflow_id)
    if said != known:
        raise VerificationError(
            "the metadata of a call is of another workflow than its caller",
            expected=f"owner {known[0]}, workflow {known[1]}",
            actual=f"owner {said[0]}, workflow {said[1]}",
        )
