"""The providers of a running host: started so that a bad one harms nobody, and stopped in the end.

Rules of this module:

1. A failure becomes the provider's state, with its reason, and undoes what the provider had registered (``starting``).
2. Providers start at the same time, each after those that it needs. Ids are declared before any of their code runs, in
   the order of plugins.yaml, so that who may register what does not depend on who is faster.
3. Only ``required: true`` stops the host, and the error names the provider and says why.
4. A provider of which a part cannot be started is undone. One whose process falls later keeps its host part, and is as
   well as its worst part; every change is told.

For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from innkeeper.capabilities.faults import class_name, location
from innkeeper.config.settings import Settings
from innkeeper.providers.catalog import Catalog, CatalogEntry
from innkeeper.providers.containment import Wall, WalledError
from innkeeper.providers.contexts import Contexts
from innkeeper.providers.parts import HOST_PART
from innkeeper.providers.ports import Deadlines, ProviderRegistry
from innkeeper.providers.processes import Gate, Processes, Supervise, folded
from innkeeper.providers.slots import Slot
from innkeeper.providers.starting import Starter
from innkeeper.providers.states import ProviderState, ProviderStatus, ProviderStatusRow
from innkeeper_sdk.errors import InnkeeperError, ProviderFailedError
from innkeeper_sdk.hooks import HostKey, Limits
from innkeeper_sdk.manifest import Manifest
from innkeeper_sdk.module import ModuleType

__all__ = ["LoadedModuleType", "Providers"]

# For what closing does beside closing parts: directories are removed, and what fails is told.
_MARGIN_SECONDS: Final = 30.0


@frozen
class LoadedModuleType:
    """A module type that is ready."""

    provider_id: str
    module_type: ModuleType
    manifest: Manifest


class Providers:
    """The providers of a host.

    Args:
        catalog: What may be loaded, from a scan.
        settings: The host's settings; its directories exist.
        registry: The registry.
        limits: The limits in force.
        host_key: The host's key.
        supervise: Makes what keeps a process, given its provider.
        logger: Where failures go; each provider gets a child of it.
        deadlines: How long steps may take.
        environ: What ``$env`` refers to.
        commands: Where the commands that processes are started with are; beside the interpreter by default.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        settings: Settings,
        registry: ProviderRegistry,
        limits: Limits,
        host_key: HostKey,
        supervise: Supervise,
        logger: logging.Logger,
        deadlines: Deadlines | None = None,
        environ: Mapping[str, str] | None = None,
        commands: Path | None = None,
    ) -> None:
        self._registry = registry
        self._logger = logger
        self._contexts = Contexts(
            settings=settings,
            registry=registry,
            limits=limits,
            host_key=host_key,
            logger=logger,
            environ=os.environ if environ is None else environ,
            commands=Path(sys.executable).parent if commands is None else commands,
        )
        self._starter = Starter(self._contexts, registry, deadlines=deadlines or Deadlines(), logger=logger)
        self._callbacks: list[Callable[[ProviderStatusRow], None]] = []
        self._slots: Final = {item.id: self._slot(item, supervise) for item in catalog.entries}

    async def start(self) -> None:
        """Start every provider that is to be started; return when each is ready or has failed.

        Raises:
            ProviderFailedError: A required one failed. What was started stays so until ``close``.
        """
        self._contexts.sweep()
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

    def close_seconds(self) -> float:
        """Return how long ``close`` may take, given what has been opened: each step keeps its own deadline."""
        # Providers that need each other are closed one after the other.
        return _MARGIN_SECONDS + sum(opened.seconds for slot in self._slots.values() for opened in slot.opened)

    def statuses(self) -> list[ProviderStatusRow]:
        """Return every entry of plugins.yaml with how it is, in their order."""
        return [slot.row() for slot in self._slots.values()]

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

    def left(self) -> list[int]:
        """Return the processes that run; after ``close``, those that could not be ended."""
        parts = [part for slot in self._slots.values() for part in slot.parts() if part.mode != HOST_PART]
        return [part.pid for part in parts if part.pid is not None]

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

    def _slot(self, item: CatalogEntry, supervise: Supervise) -> Slot:
        status = ProviderStatus(item.state, "" if item.starts else item.reason, datetime.now(UTC))
        return Slot(
            item=item,
            wall=Wall(item.id, None if item.discovered is None else item.discovered.package_dir),
            status=status,
            host=evolve(status, reason=""),
            processes=Processes(
                item.parts,
                gate=Gate(self._registry, item.id),
                supervise=supervise,
                changed=partial(self._process_changed, item.id),
            ),
        )

    def _declare(self, slot: Slot) -> None:
        item, manifest = slot.item, slot.item.manifest
        if manifest is None:
            raise RuntimeError(f"{item.id} is to be started, but its manifest was not read")
        try:
            self._registry.declare(item.id, manifest.capabilities, visibility=item.entry.visibility)
            self._registry.grant(item.id, item.entry.grants)
        except InnkeeperError as error:
            self._set(slot, ProviderState.FAILED, str(error))

    async def _start(self, slot: Slot) -> None:
        try:
            await self._wait_for_needs(slot)
            await self._starter.start(slot)
        except InnkeeperError as error:
            await self._fail(slot, error)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever got through the wall is this provider's failure
            where = f"{class_name(error)} {location(error)}"
            await self._fail(slot, ProviderFailedError(f"it cannot be started: {where}", provider=slot.item.id))
        else:
            slot.started = True
            self._set(slot, *folded(slot.parts(), slot.item.reason))
        finally:
            slot.settled.set()

    async def _wait_for_needs(self, slot: Slot) -> None:
        for need in slot.item.manifest.needs if slot.item.manifest is not None else ():
            other = self._slots[need]
            await other.settled.wait()
            if not other.status.state.serves:
                raise ProviderFailedError(f"it needs {need}, which is {other.status.state.value}")

    async def _fail(self, slot: Slot, error: InnkeeperError) -> None:
        reason = slot.wall.sentence(error)
        trace = f"\n{error.trace}" if isinstance(error, WalledError) and error.trace else ""
        self._logger.error("provider %s failed: %s%s", slot.item.id, reason, trace)
        unsupported = any(part.state is ProviderState.UNSUPPORTED for part in slot.parts())
        if slot.host.state is ProviderState.STARTING:
            slot.set_host(ProviderState.FAILED, reason)
        await self._starter.undo(slot)
        self._set(slot, ProviderState.UNSUPPORTED if unsupported else ProviderState.FAILED, reason)

    async def _stop(self, slot: Slot, dependents: Sequence[asyncio.Event]) -> None:
        try:
            for event in dependents:
                await event.wait()
            if slot.started or slot.status.state is ProviderState.STARTING:
                slot.started = False
                self._set(slot, ProviderState.STOPPING, "")
                faults = await self._starter.undo(slot)
                self._set(slot, ProviderState.STOPPED, "; ".join(faults))
            else:
                await self._starter.undo(slot)
        finally:
            slot.closed.set()

    def _check_required(self) -> None:
        for id_, slot in self._slots.items():
            state = slot.status.state
            absent = state in (ProviderState.FAILED, ProviderState.UNSUPPORTED, ProviderState.QUARANTINED)
            if slot.item.entry.required and slot.item.entry.enabled and absent:
                raise ProviderFailedError(
                    f"the required provider {id_} is {state.value}: {slot.status.reason}",
                    provider=id_,
                    path=str(slot.item.entry.origin),
                    hint=f"mend it, or take `required: true` from its entry at {slot.item.entry.origin}",
                )

    def _process_changed(self, id_: str) -> None:
        slot = self._slots[id_]
        state, reason = folded(slot.parts(), slot.item.reason) if slot.started else (slot.status.state, None)
        if reason is None or (state, reason) == (slot.status.state, slot.status.reason):
            self._tell(slot)
        else:
            self._set(slot, state, reason)

    def _set(self, slot: Slot, state: ProviderState, reason: str) -> None:
        since = slot.status.since if state is slot.status.state else datetime.now(UTC)
        slot.status = ProviderStatus(state, reason, since)
        self._tell(slot)

    def _tell(self, slot: Slot) -> None:
        row = slot.row()
        for callback in list(self._callbacks):
            callback(row)
