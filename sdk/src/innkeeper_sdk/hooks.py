"""The hooks that a provider's host part implements.

Rules of this module:

1. Hooks are few; each returns records or objects that the host registers. None has a side effect.
2. A hook gets one argument, the provider's context; everything of the host that a provider may use is in it.
3. What a provider returns must be declared in its manifest, or the host refuses it.

A provider's entry point names its plugin: a module or an object with functions marked ``@hookimpl``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pluggy
from attrs import field, frozen

from innkeeper_sdk.capability import Capability, HostRegistry
from innkeeper_sdk.module import LimitValue, ModuleType

__all__ = ["HookSpecs", "HostKey", "Limits", "ProviderContext", "Service", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("innkeeper")
hookimpl = pluggy.HookimplMarker("innkeeper")


class Limits(Protocol):
    """The declared limits, with the operator's settings applied."""

    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> LimitValue:
        """Return a limit's value for a workflow: its own, else its owner's, else the global one, else the default.

        Args:
            name: As declared in this provider's manifest or by the host.
            owner: 40 hexadecimal digits.
            workflow_id: 64 hexadecimal digits.

        Returns:
            Bytes of a size, seconds of a duration, a count, or a switch.

        Raises:
            KeyError: No manifest declares it.
        """


class HostKey(Protocol):
    """The host's signing key; whoever has its public half can tell what this host said."""

    @property
    def public_key(self) -> bytes:
        """Return the public key: Ed25519, 32 bytes."""

    def sign(self, prefix: str, message: bytes) -> bytes:
        """Sign a message under a prefix.

        Args:
            prefix: What the message is, such as ``grant/1``; not empty. No two kinds of message share one.
            message: Any bytes.

        Returns:
            The signature, 64 bytes, over ``innkeeper_sdk.signing.peer_id_payload(prefix, message)``.

        Raises:
            ValueError: The prefix is empty.
        """


@frozen
class ProviderContext:
    """What a host part is given.

    Attributes:
        provider: The provider's id.
        config: The ``config`` of its entry in plugins.yaml, checked against its schema, references resolved.
        environment: ``production`` or ``development``.
        data_dir: A directory of its own that stays.
        cache_dir: A directory of its own that may be emptied at any time.
        runtime_dir: A directory of its own that goes with the host.
        logger: Its logger.
        registry: The registry, bound to this provider.
        limits: The limits.
        host_key: The host's signing key.
    """

    provider: str
    config: Mapping[str, Any]
    environment: str
    data_dir: Path
    cache_dir: Path
    runtime_dir: Path
    logger: logging.Logger
    registry: HostRegistry = field(repr=False)
    limits: Limits = field(repr=False)
    host_key: HostKey = field(repr=False)


class Service(Protocol):
    """Something that lives as long as its provider."""

    async def start(self) -> None:
        """Start."""

    async def close(self) -> None:
        """Stop; idempotent."""


class HookSpecs:
    """The hooks, as pluggy reads them."""

    @hookspec
    def innkeeper_modules(self, context: ProviderContext) -> Sequence[ModuleType]:
        """Return the module types that the manifest declares."""
        raise NotImplementedError

    @hookspec
    def innkeeper_capabilities(self, context: ProviderContext) -> Sequence[Capability]:
        """Return the capabilities that the manifest declares for the host part."""
        raise NotImplementedError

    @hookspec
    def innkeeper_services(self, context: ProviderContext) -> Sequence[Service]:
        """Return services to start after everything else of this provider."""
        raise NotImplementedError
