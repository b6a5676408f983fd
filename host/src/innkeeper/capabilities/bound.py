"""The registry as one provider holds it.

Rules of this module:

1. The identity is part of the object: a provider never passes a caller, and cannot have another one's.
2. Every question, whether something is ready too, is asked of ``resolve``: there is no second way to say yes.
3. Who may not use a capability waits for it as little as for one that does not exist.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, NoReturn

from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    ErrorCode,
    HostRegistry,
)
from innkeeper_sdk.errors import NotFoundError

if TYPE_CHECKING:
    from innkeeper.capabilities.callers import ProviderCaller
    from innkeeper.capabilities.registry import Registry

__all__ = ["bind"]


def bind(registry: Registry, caller: ProviderCaller) -> HostRegistry:
    """Return the registry as one provider may have it.

    Args:
        registry: The host's.
        caller: The provider, as the host knows it.
    """

    # The registry and the identity are cells of these methods, no attributes: a provider cannot take another's identity
    # by mistake. It is no wall against intent, for code in this process can read the cells too. Host parts are trusted
    # code of the operator's choosing; the boundary is the process: what is not trusted runs in one of its own.
    class Bound:
        """The registry, bound to one provider."""

        __slots__ = ()

        async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
            """Call a capability that this provider may call.

            Raises:
                NotFoundError: There is none, or this provider may not use it.
                CapabilityError: The call failed.
            """
            return await registry.call(caller, request)

        async def list(self) -> builtins.list[CapabilityInfo]:
            """Return the capabilities that this provider may see, sorted by id."""
            return [listed.info for listed in registry.list(caller)]

        def ready(self, capability_id: str) -> bool:
            """Return whether a call would be taken now."""
            try:
                return _ready(registry, caller, capability_id)
            except NotFoundError:
                return False

        async def wait_ready(self, capability_id: str) -> None:
            """Return once a call would be taken.

            Raises:
                NotFoundError: There is no such capability, or this provider may not use it; also while waiting.
            """
            while True:
                # Taken before the look, so that no change falls between the two.
                change = registry.next_change
                if _ready(registry, caller, capability_id):
                    return
                await change.wait()

        def __repr__(self) -> str:
            return f"<registry bound to the provider {caller.provider_id}>"

        def __reduce__(self) -> NoReturn:
            raise TypeError("a bound registry cannot be copied or sent elsewhere")

    return Bound()


def _ready(registry: Registry, caller: ProviderCaller, capability_id: str) -> bool:
    try:
        registry.resolve(caller, capability_id)
    except CapabilityError as error:
        if error.error_code is not ErrorCode.Unavailable:
            raise
        return False
    return True
