"""The providers of a running host: started so that a bad one harms nobody, and stopped in the end.

Rules of this module:

1. Each step of each provider (import, hooks, every start and close) has its own deadline and is contained; a failure
   becomes the provider's state, with its reason, and undoes what the provider had registered.
2. Providers start at the same time, each after those that it needs. Ids are declared before any of their code runs, in
   the order of plugins.yaml, so that who may register what does not depend on who is faster.
3. Only ``required: true`` stops the host, and the error names the provider and says why.
4. Capabilities are unregistered before anything is closed; closing goes in the reverse order of starting, and goes on
   when something fails.

For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from innkeeper.capabilities.faults import class_name, location
from innkeeper.config.settings import Settings
from innkeeper.providers.catalog import Catalog, CatalogEntry
from innkeeper.providers.containment import Wall, WalledError
from innkeeper.providers.contexts import Contexts
from innkeeper.providers.loading import Parts, call_hooks, import_plugin
from innkeeper.providers.ports import Deadlines, ProviderRegistry
from innkeeper.providers.states import ProviderState, ProviderStatus, ProviderStatusRow
from innkeeper_sdk.capability import Capability
from innkeeper_sdk.errors import ConfigError, InnkeeperError, ProviderFailedError
from innkeeper_sdk.hooks import Limits, Service
from innkeeper_sdk.manifest import Manifest
from innkeeper_sdk.module import ModuleType

__all__ = ["LoadedModuleType", "Providers"]


@frozen
class LoadedModuleType:
    """A module type that is ready."""

    provider_id: str
    module_type: ModuleType
    manifest: Manifest


@frozen
class _Open:
    """Something that was started, or nearly, and is to be closed."""

    what: str
    close: Callable[[], Awaitable[None]]


@define(eq=False)
class _Slot:
    """A provider while the host runs."""

    item: CatalogEntry
    wall: Wall
    status: ProviderStatus
    settled: asyncio.Event = field(factory=asyncio.Event)
    closed: asyncio.Event = field(factory=asyncio.Event)
    opened: list[_Open] = field(factory=list)
    registered: list[str] = field(factory=list)
    modules: dict[str, ModuleType] = field(factory=dict)


class Providers:
    """The providers of a host.

    Args:
        catalog: What may be loaded, from a scan.
        settings: The host's settings; its directories exist.
        registry: The registry.
        limits: The limits in force.
        logger: Where failures go; each provider gets a child of it.
        deadlines: How long steps may take.
        environ: What ``$env`` refers to.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        settings: Settings,
        registry: ProviderRegistry,
        limits: Limits,
        logger: logging.Logger,
        deadlines: Deadlines | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._registry = registry
        self._logger = logger
        self._deadlines = deadlines or Deadlines()
        self._contexts = Contexts(
            settings=settings,
            registry=registry,
            limits=limits,
            logger=logger,
            environ=os.environ if environ is None else environ,
        )
        self._callbacks: list[Callable[[ProviderStatusRow], None]] = []
        now = datetime.now(UTC)
        self._slots: Final = {
            item.id: _Slot(
                item,
                Wall(item.id, None if item.discovered is None else item.discovered.package_dir),
                ProviderStatus(item.state, item.reason if not item.starts else "", now),
            )
            for item in catalog.entries
        }

    async def start(self) -> None:
        """Start every provider that is to be started; return when each is ready or has failed.

        Raises:
            ProviderFailedError: A required one failed. What was started stays so until ``close``.
        """
        for slot in self._slots.values():
            if slot.item.starts:
                self._declare(slot)
            if slot.status.state is not ProviderState.STARTING:
                slot.settled.set()
                if slot.status.state is ProviderState.FAILED:
                    self._logger.error("provider %s cannot be started: %s", slot.item.id, slot.status.reason)
        self._check_required()
        tasks = {
            asyncio.create_task(self._start(slot), name=f"innkeeper start {id_}")
            for id_, slot in self._slots.items()
            if not slot.settled.is_set()
        }
        try:
            pending = tasks
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                self._check_required()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop every provider, those that others need last; idempotent, also after a failed or cancelled start."""
        dependents: dict[str, list[asyncio.Event]] = {}
        for slot in self._slots.values():
            for need in slot.item.manifest.needs if slot.item.manifest is not None else ():
                dependents.setdefault(need, []).append(slot.closed)
        await asyncio.gather(*(self._stop(slot, dependents.get(id_, ())) for id_, slot in self._slots.items()))

    def statuses(self) -> list[ProviderStatusRow]:
        """Return every entry of plugins.yaml with how it is, in their order."""
        return [_row(slot) for slot in self._slots.values()]

    def module_types(self) -> Mapping[str, LoadedModuleType]:
        """Return the module types that are ready, by name, in the order of plugins.yaml."""
        return {
            name: LoadedModuleType(id_, module, slot.item.manifest)
            for id_, slot in self._slots.items()
            if slot.status.state.serves and slot.item.manifest is not None
            for name, module in slot.modules.items()
        }

    def abandoned(self) -> list[str]:
        """Return the names of coroutines of providers that do not let themselves be cancelled.

        While there is one, an event loop that waits for its tasks never ends: leave the process with ``os._exit``.
        """
        return [task.get_name() for slot in self._slots.values() for task in slot.wall.abandoned]

    def package_dirs(self) -> Mapping[Path, str]:
        """Return the directories of providers' packages, with their ids: whose code a stack is in."""
        found = {slot.item.discovered.package_dir: id_ for id_, slot in self._slots.items() if slot.item.discovered}
        return {path: id_ for path, id_ in found.items() if path is not None}

    def subscribe(self, callback: Callable[[ProviderStatusRow], None]) -> Callable[[], None]:
        """Call a function at every change of a provider's state.

        Returns:
            What ends it.
        """
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    def _declare(self, slot: _Slot) -> None:
        item, manifest = slot.item, slot.item.manifest
        if manifest is None:
            raise RuntimeError(f"{item.id} is to be started, but its manifest was not read")
        try:
            self._registry.declare(item.id, manifest.capabilities, visibility=item.entry.visibility)
            self._registry.grant(item.id, item.entry.grants)
        except InnkeeperError as error:
            self._set(slot, ProviderState.FAILED, str(error))

    async def _start(self, slot: _Slot) -> None:
        try:
            await self._wait_for_needs(slot)
            parts = await self._load(slot)
            await self._start_parts(slot, parts)
        except InnkeeperError as error:
            await self._fail(slot, error)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever got through the wall is this provider's failure
            where = f"{class_name(error)} {location(error)}"
            await self._fail(slot, ProviderFailedError(f"it cannot be started: {where}", provider=slot.item.id))
        else:
            reason = slot.item.reason
            self._set(slot, ProviderState.DEGRADED if reason else ProviderState.READY, reason)
        finally:
            slot.settled.set()

    async def _wait_for_needs(self, slot: _Slot) -> None:
        for need in slot.item.manifest.needs if slot.item.manifest is not None else ():
            other = self._slots[need]
            await other.settled.wait()
            if not other.status.state.serves:
                raise ProviderFailedError(f"it needs {need}, which is {other.status.state.value}")

    async def _load(self, slot: _Slot) -> Parts:
        item = slot.item
        discovered, manifest = item.discovered, item.manifest
        if discovered is None or manifest is None:
            raise RuntimeError(f"{item.id} is to be started, but it is not installed")
        context = self._contexts.make(item, manifest, slot.wall)
        if not (manifest.modules or manifest.services or manifest.capabilities):
            # Commands, checks and declarations: nothing that the host would import it for.
            return Parts({}, [], [])
        plugin = await slot.wall.in_thread(
            "its import", lambda: import_plugin(discovered), seconds=self._deadlines.imports
        )
        return await slot.wall.in_thread(
            "its hooks", lambda: call_hooks(plugin, context, manifest, item.entry.mode), seconds=self._deadlines.hooks
        )

    async def _start_parts(self, slot: _Slot, parts: Parts) -> None:
        slot.modules = parts.modules
        for name, module in parts.modules.items():
            await self._open(slot, f"the module type {name}", module)
        for capability, info in parts.capabilities:
            await self._open(slot, f"the capability {info.id}", capability)
            self._registry.register(slot.item.id, capability, info=info)
            slot.registered.append(info.id)
        for service in parts.services:
            await self._open(slot, f"the service {class_name(service)}", service)

    async def _open(self, slot: _Slot, what: str, part: ModuleType | Capability | Service) -> None:
        # Also what fails to start is closed: it may have got half-way. Its methods are looked up inside the wall.
        slot.opened.append(_Open(what, lambda: part.close()))  # noqa: PLW0108 - see above
        await slot.wall.in_task(
            f"the start of {what}",
            lambda: part.start(),  # noqa: PLW0108 - see above
            seconds=self._deadlines.start,
        )

    async def _fail(self, slot: _Slot, error: InnkeeperError) -> None:
        reason = slot.wall.sentence(error)
        trace = f"\n{error.trace}" if isinstance(error, WalledError) and error.trace else ""
        self._logger.error("provider %s failed: %s%s", slot.item.id, reason, trace)
        await self._undo(slot)
        self._set(slot, ProviderState.FAILED, reason)

    async def _stop(self, slot: _Slot, dependents: Sequence[asyncio.Event]) -> None:
        try:
            for event in dependents:
                await event.wait()
            if slot.status.state.serves or slot.status.state is ProviderState.STARTING:
                self._set(slot, ProviderState.STOPPING, "")
                faults = await self._undo(slot)
                self._set(slot, ProviderState.STOPPED, "; ".join(faults))
            else:
                await self._undo(slot)
        finally:
            slot.closed.set()

    async def _undo(self, slot: _Slot) -> list[str]:
        """Take back everything that a provider was started with; return what went wrong."""
        faults = []
        while slot.registered:
            self._registry.unregister(slot.item.id, slot.registered.pop())
        while slot.opened:
            opened = slot.opened.pop()
            try:
                await slot.wall.in_task(f"the end of {opened.what}", opened.close, seconds=self._deadlines.close)
            except ProviderFailedError as error:
                faults.append(error.message)
                self._logger.warning("provider %s: %s", slot.item.id, error.message)
        slot.modules = {}
        if slot.item.starts:
            try:
                self._contexts.clear(slot.item)
            except ConfigError as error:
                faults.append(error.message)
                self._logger.warning("provider %s: %s", slot.item.id, error.message)
        return faults

    def _check_required(self) -> None:
        for id_, slot in self._slots.items():
            state = slot.status.state
            absent = state in (ProviderState.FAILED, ProviderState.UNSUPPORTED)
            if slot.item.entry.required and slot.item.entry.enabled and absent:
                raise ProviderFailedError(
                    f"the required provider {id_} is {state.value}: {slot.status.reason}",
                    provider=id_,
                    path=str(slot.item.entry.origin),
                    hint=f"mend it, or take `required: true` from its entry at {slot.item.entry.origin}",
                )

    def _set(self, slot: _Slot, state: ProviderState, reason: str) -> None:
        slot.status = ProviderStatus(state, reason, datetime.now(UTC))
        row = _row(slot)
        for callback in list(self._callbacks):
            callback(row)


def _row(slot: _Slot) -> ProviderStatusRow:
    item = slot.item
    return ProviderStatusRow(
        id=item.id,
        title=item.title,
        package=item.package,
        version=item.version,
        mode=item.mode,
        status=slot.status,
        required=item.entry.required,
        origin=str(item.entry.origin),
    )
