"""A running host: its parts, put together, started in order and stopped in reverse.

Rules of this module:

1. Nothing here decides anything about workflows, providers or capabilities: it makes the parts and gives each what it
   needs of the others.
2. The guard is started first and told goodbye last; whatever is closed in between, closing goes on when something
   fails or takes too long. Of processes that could not be ended it is told nothing: it ends them after the host.
3. The control socket opens before providers are started, so that a start that hangs can be looked at.
4. Ready: every enabled provider has started or failed, and workflows have been reconciled once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field

from innkeeper.capabilities.limit_settings import apply_settings
from innkeeper.capabilities.limits import LimitTable
from innkeeper.capabilities.registry import Registry
from innkeeper.closing import Closing
from innkeeper.config.plugins import PluginsConfig
from innkeeper.config.settings import Settings, prepare
from innkeeper.control.server import ControlServer
from innkeeper.control.service import ControlService
from innkeeper.control.status import MAX_CONFIG_BYTES, MAX_FILE_BYTES, HostStatus
from innkeeper.engine.concurrency import ExecutionSlots
from innkeeper.engine.environment import Environment
from innkeeper.engine.events import Broadcast
from innkeeper.engine.helper import pre_hook_helper
from innkeeper.keys import load_or_create
from innkeeper.locks import HostLock
from innkeeper.loop.guard import Guard
from innkeeper.modules.attributes import declare_attributes
from innkeeper.modules.kinds import declare_kinds
from innkeeper.modules.messages import Messages
from innkeeper.modules.selection import Modules, Surroundings
from innkeeper.providers.absence import pending, why_absent
from innkeeper.providers.catalog import Catalog, build_catalog
from innkeeper.providers.discovery import Discovery, discover
from innkeeper.providers.manager import Providers
from innkeeper.providers.supervising import Supervising
from innkeeper.providers.watchdog import Watchdog
from innkeeper.stopping import Stopping
from innkeeper.store.database import Database
from innkeeper.store.stores import Stores
from innkeeper.workflows.artifacts import ARTIFACTS, ArtifactReader, Binaries
from innkeeper.workflows.handler import Handler
from innkeeper_sdk.errors import ManifestError
from innkeeper_sdk.manifest import HOST_ID

__all__ = ["Host"]

# How long executions may go on after the host was asked to stop. What is cut off is tried again by the next host.
DRAIN_SECONDS: Final = 60.0

# What clients get to read the last of what they follow.
_GRACE_SECONDS: Final = 0.5

# What a request holds beside its two files: attributes, names and secrets.
_REQUEST_BYTES: Final = 4 << 20


@define(eq=False)
class _Parts:
    """The parts that stopping needs before they are closed."""

    handler: Handler
    providers: Providers


@define(eq=False)
class Host:
    """One host.

    Attributes:
        settings: Its settings.
        plugins: What it loads.
        on_ready: Called when it is ready.
        drain_seconds: How long executions may go on after the host was asked to stop.
        leftovers: What is removed if the host dies, beside its socket.
        logger: Where it is told.
    """

    settings: Settings
    plugins: PluginsConfig
    on_ready: Callable[[], None] = lambda: None
    drain_seconds: float = DRAIN_SECONDS
    leftovers: Sequence[Path] = ()
    logger: logging.Logger = field(factory=lambda: logging.getLogger("innkeeper.host"))
    _closing: Closing = field(init=False)
    _parts: _Parts | None = field(default=None, init=False)
    _status: HostStatus | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with nothing to close."""
        self._closing = Closing(self.logger)

    async def run(self, stopping: Stopping) -> None:
        """Run until the host is asked to stop, and stop.

        Args:
            stopping: What asks.

        Raises:
            InnkeeperError: It cannot be started; what was started has been stopped.
        """
        asked = asyncio.create_task(stopping.asked.wait())
        starting = asyncio.create_task(self._start())
        ran = False
        try:
            await asyncio.wait({asked, starting}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                ran = True
                self._ready()
                await asked
            ran = True
            self.logger.info("the host is stopping", extra={"now": stopping.now.is_set()})
        finally:
            asked.cancel()
            starting.cancel()
            await asyncio.wait({starting})
            if stopping.asked.is_set() and not starting.cancelled() and starting.exception() is not None:
                self.logger.error("the host was stopped while its start failed", exc_info=starting.exception())
            await self._drain(stopping)
            await self._closing.close(stopping.now)
            # What never ran, for there is another one or its start failed, has not stopped: its error says what it did.
            if ran:
                self.logger.info("the host has stopped")

    def abandoned(self) -> list[str]:
        """Return what of providers does not end: while there is something, the event loop cannot be closed."""
        return self._parts.providers.abandoned() if self._parts is not None else []

    async def _start(self) -> None:
        settings = self.settings
        discovery = discover()
        catalog = build_catalog(self.plugins, discovery)
        limits = apply_settings(
            catalog.limits,
            settings=settings.limits,
            origins=settings.origins,
            entries={item.id: item.entry.limits for item in catalog.entries if item.starts},
        )
        self._lock()
        guard = Guard(logging.getLogger("innkeeper.guard"))
        guard.start()
        for path in self.leftovers:
            guard.add_path(path)
        self._closing.add("the guard", lambda: self._dismiss(guard))
        database = Database(settings.database_url)
        await database.open()
        self._closing.add("the database", database.close)
        await self._assemble(catalog, discovery, limits, guard, Stores.of(database))

    async def _assemble(
        self, catalog: Catalog, discovery: Discovery, limits: LimitTable, guard: Guard, stores: Stores
    ) -> None:
        registry = Registry(logger=logging.getLogger("innkeeper.capabilities"))
        host_key = load_or_create(self.settings.data_dir)
        binaries = Binaries(stores.specs.binary)
        # Before any provider declares something: the host's own ids are nobody else's.
        registry.declare(HOST_ID, [ARTIFACTS])
        registry.register(HOST_ID, ArtifactReader(binaries))
        providers = Providers(
            catalog,
            settings=self.settings,
            registry=registry,
            limits=limits,
            host_key=host_key,
            supervise=Supervising(
                guard=guard, registry=registry, host_public_key=host_key.public_key, app_id=self.settings.name
            ),
            logger=logging.getLogger("innkeeper.providers"),
        )
        events = Broadcast()
        kinds = declare_kinds(
            item.manifest for item in catalog.entries if item.entry.enabled and item.manifest is not None
        )
        handler = Handler(
            Environment(
                registry=registry,
                stores=stores,
                limits=limits,
                slots=ExecutionSlots(int(limits.get("WorkflowExecutionConcurrencyLimit"))),
                events=events,
            ),
            Modules(
                Surroundings(
                    ready=providers.module_types,
                    registry=registry,
                    limits=limits,
                    pending=lambda: pending(catalog, providers.statuses()),
                    absent=lambda id_: why_absent(
                        id_, catalog, providers.statuses(), left_out=bool(self.plugins.faults)
                    ),
                    pre_hook_helper=pre_hook_helper,
                )
            ),
            attributes=declare_attributes(catalog.installed.values()).keys,
            kinds={declared.kind.name for declared in kinds},
            binaries=binaries,
        )
        self._parts = _Parts(handler, providers)
        status = self._status = HostStatus(self.settings)
        service = ControlService(
            status=status,
            providers=providers,
            registry=registry,
            handler=handler,
            stores=stores,
            events=events,
            messages=_messages(catalog, discovery, self.logger),
            kinds=kinds,
        )
        server = ControlServer(
            service,
            socket=self.settings.control_socket,
            max_request_bytes=MAX_FILE_BYTES + MAX_CONFIG_BYTES + _REQUEST_BYTES,
            guard=guard,
            logger=logging.getLogger("innkeeper.control"),
        )
        watchdog = Watchdog(providers.package_dirs, logger=logging.getLogger("innkeeper.watchdog"))
        # All of it before anything is started: whoever finds the socket open may use what is behind it.
        self._closing.add("the control socket", lambda: _stop(server, events))
        self._closing.add_plain("the watchdog", watchdog.close)
        self._closing.add("the providers", providers.close, seconds=providers.close_seconds)
        self._closing.add("the workflows", handler.close)
        await server.start()
        watchdog.start()
        await providers.start()
        providers.subscribe(lambda _: handler.providers_changed())
        await handler.start()
        await handler.reconcile()

    def _lock(self) -> None:
        prepare(self.settings)
        holder = {"name": self.settings.name}
        for directory in (self.settings.data_dir, self.settings.socket_dir):
            lock = HostLock(directory, holder)
            self._closing.add_plain("a lock", lock.release)

    async def _dismiss(self, guard: Guard) -> None:
        left = self._parts.providers.left() if self._parts is not None else []
        if not left:
            await guard.close()
            return
        # Without a goodbye it ends what is left, as soon as this process has ended.
        self.logger.warning("processes of providers are left; the guard ends them", extra={"processes": left})

    def _ready(self) -> None:
        if self._status is not None:
            self._status.ready = True
        self.logger.info(
            "the host is ready",
            extra={
                "host": self.settings.name,
                "environment": self.settings.environment,
                "socket": str(self.settings.control_socket),
            },
        )
        self.on_ready()

    async def _drain(self, stopping: Stopping) -> None:
        if self._parts is None or self._status is None:
            return
        self._status.draining = True
        if stopping.now.is_set():
            return
        draining = asyncio.create_task(self._parts.handler.drain(self.drain_seconds))
        now = asyncio.create_task(stopping.now.wait())
        try:
            await asyncio.wait({draining, now}, return_when=asyncio.FIRST_COMPLETED)
            if draining.done() and draining.exception() is not None:
                self.logger.error("the workflows could not be drained", exc_info=draining.exception())
            elif not draining.done() or not draining.result():
                self.logger.warning("executions still run; the next host tries them again")
        finally:
            draining.cancel()
            now.cancel()


async def _stop(server: ControlServer, events: Broadcast) -> None:
    # Whoever follows something gets the end of it, and then the server waits for no one.
    events.close()
    await server.stop(_GRACE_SECONDS)


def _messages(catalog: Catalog, discovery: Discovery, logger: logging.Logger) -> Messages:
    messages = Messages()
    for provider_id, manifest in catalog.installed.items():
        found = discovery.by_id(provider_id)
        if manifest.messages is None or found is None or found.package_dir is None:
            continue
        path = found.package_dir / manifest.messages
        try:
            messages.add(provider_id, path.read_bytes(), path=str(path))
        except (ManifestError, OSError) as error:
            # They only show and read payloads: the provider works without.
            logger.warning(
                "a provider's messages cannot be shown", extra={"provider": provider_id, "reason": str(error)}
            )
    return messages
