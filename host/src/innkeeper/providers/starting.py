"""Starting one provider, part by part, and taking it back.

Rules of this module:

1. Each step (import, hooks, every start and close) has its own deadline and is contained.
2. The host part comes first, then the processes, which may call it at once, then services.
3. Capabilities are unregistered before anything is closed; closing goes in the reverse order of starting, and goes on
   when something fails.
"""

from __future__ import annotations

import logging

from innkeeper.capabilities.faults import class_name
from innkeeper.providers.contexts import Contexts
from innkeeper.providers.loading import Parts, call_hooks, import_plugin
from innkeeper.providers.parts import HOST_PART
from innkeeper.providers.ports import Deadlines, ProviderRegistry
from innkeeper.providers.slots import Open, Slot
from innkeeper.providers.states import ProviderState
from innkeeper_sdk.capability import Capability
from innkeeper_sdk.errors import ConfigError, InnkeeperError, ProviderFailedError
from innkeeper_sdk.hooks import ProviderContext, Service
from innkeeper_sdk.manifest import Manifest
from innkeeper_sdk.module import ModuleType

__all__ = ["Starter"]


class Starter:
    """Start providers, and take them back.

    Args:
        contexts: Makes what each is given.
        registry: The registry.
        deadlines: How long steps may take.
        logger: Where failures of the end go.
    """

    def __init__(
        self, contexts: Contexts, registry: ProviderRegistry, *, deadlines: Deadlines, logger: logging.Logger
    ) -> None:
        self._contexts = contexts
        self._registry = registry
        self._deadlines = deadlines
        self._logger = logger

    async def start(self, slot: Slot) -> None:
        """Start every part of a provider.

        Raises:
            InnkeeperError: One cannot be started; what was started stays so until ``undo``.
        """
        item, manifest = slot.item, slot.item.manifest
        if manifest is None:
            raise RuntimeError(f"{item.id} is to be started, but it is not installed")
        context = self._contexts.make(item, manifest, slot.wall)
        try:
            # Before anything is imported: what its processes lack, its host part would miss.
            plans = self._contexts.plans(item, manifest, context, slot.wall)
        except InnkeeperError:
            slot.set_host(ProviderState.STOPPED)
            raise
        parts = await self._load(slot, manifest, context)
        slot.modules = parts.modules
        for name, module in parts.modules.items():
            await self._open(slot, f"the module type {name}", module)
        for capability, info in parts.capabilities:
            await self._open(slot, f"the capability {info.id}", capability)
            self._registry.register(item.id, capability, info=info)
            slot.registered.append(info.id)
        slot.set_host(ProviderState.READY)
        if plans:
            slot.opened.append(Open("its processes", slot.processes.close, slot.processes.end_seconds(plans)))
            await slot.processes.start(plans, manifest.processes)
        for service in parts.services:
            await self._open(slot, f"the service {class_name(service)}", service)

    async def _load(self, slot: Slot, manifest: Manifest, context: ProviderContext) -> Parts:
        discovered = slot.item.discovered
        if discovered is None or not any(part.mode == HOST_PART for part in slot.item.parts):
            # Commands, checks, declarations and processes: nothing that the host would import it for.
            return Parts({}, [], [])
        plugin = await slot.wall.in_thread(
            "its import", lambda: import_plugin(discovered), seconds=self._deadlines.imports
        )
        return await slot.wall.in_thread(
            "its hooks",
            lambda: call_hooks(plugin, context, manifest, slot.item.entry.mode),
            seconds=self._deadlines.hooks,
        )

    async def _open(self, slot: Slot, what: str, part: ModuleType | Capability | Service) -> None:
        # Also what fails to start is closed: it may have got half-way. Its methods are looked up inside the wall.
        slot.opened.append(Open(what, lambda: part.close(), self._deadlines.close))  # noqa: PLW0108 - see above
        await slot.wall.in_task(
            f"the start of {what}",
            lambda: part.start(),  # noqa: PLW0108 - see above
            seconds=self._deadlines.start,
        )

    async def undo(self, slot: Slot) -> list[str]:
        """Take back everything that a provider was started with; return what went wrong."""
        faults = []
        slot.processes.withdraw()
        while slot.registered:
            self._registry.unregister(slot.item.id, slot.registered.pop())
        while slot.opened:
            opened = slot.opened.pop()
            try:
                await slot.wall.in_task(f"the end of {opened.what}", opened.close, seconds=opened.seconds)
            except ProviderFailedError as error:
                faults.append(error.message)
                self._logger.warning("provider %s: %s", slot.item.id, error.message)
        if slot.host.state is ProviderState.READY:
            slot.set_host(ProviderState.STOPPED)
        slot.modules = {}
        if slot.item.starts:
            try:
                self._contexts.clear(slot.item)
            except ConfigError as error:
                faults.append(error.message)
                self._logger.warning("provider %s: %s", slot.item.id, error.message)
        return faults
