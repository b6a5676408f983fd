"""What starting providers needs of the rest of the host, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from attrs import frozen

from innkeeper_sdk.capability import Capability, CapabilityInfo, HostRegistry, Visibility
from innkeeper_sdk.manifest import CapabilityDeclaration

__all__ = ["Deadlines", "ProviderRegistry"]


class ProviderRegistry(Protocol):
    """What of the registry the providers' part of the host uses."""

    def declare(
        self,
        provider_id: str,
        capabilities: Iterable[CapabilityDeclaration | str],
        *,
        visibility: Mapping[str, Visibility] | None = None,
    ) -> None:
        """Say what a provider may register."""

    def grant(self, provider_id: str, ids: Iterable[str]) -> None:
        """Say what a provider may use of what is internal to others."""

    def register(self, provider_id: str, capability: Capability, *, info: CapabilityInfo | None = None) -> None:
        """Register a capability."""

    def unregister(self, provider_id: str, capability_id: str) -> None:
        """Take a capability away."""

    def bound(self, provider_id: str) -> HostRegistry:
        """Return the registry as one provider sees it."""


@frozen
class Deadlines:
    """How long each step of a provider may take, in seconds.

    Attributes:
        imports: Its import: generous, since a cold disk and a busy machine are nobody's fault.
        hooks: Its hooks, all together.
        start: The start of one module type, capability or service.
        close: The end of one.
    """

    imports: float = 30.0
    hooks: float = 10.0
    start: float = 30.0
    close: float = 10.0
