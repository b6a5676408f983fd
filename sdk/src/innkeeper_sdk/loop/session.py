"""What one Initialise makes, and takes down again.

Rules of this module:

1. All or nothing: what was made before a failure is closed, in the reverse order of its making.
2. A later Initialise closes first what an earlier one made, so that there are never two of anything.
3. A capability is in the registry only while it can be called: it is added after its start, and removed before its
   close.
4. Closing is bounded, and goes on whatever fails.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol, TypeAlias

import attrs
import grpc.aio

from innkeeper_sdk.capability import Capability, CapabilityInfo
from innkeeper_sdk.errors import InnkeeperError, ProviderError, UnavailableError
from innkeeper_sdk.loop.context import PluginContext, Surroundings, parse_config
from innkeeper_sdk.loop.faults import describe
from innkeeper_sdk.loop.registry_client import RegistryClient
from innkeeper_sdk.loop.serving import CapabilityServices
from innkeeper_sdk.proto.capabilities.capabilities_pb2 import InitialiseRequest

__all__ = ["Connections", "Provide", "Sessions"]

Provide: TypeAlias = Callable[[PluginContext], Sequence[Capability] | Awaitable[Sequence[Capability]]]

# chainlink-common's standard_capabilities.go dials these in this order, whatever their numbers are.
_SERVICES: Final = (
    "telemetry",
    "keyValueStore",
    "keystore",
    "capRegistry",
    "error_log",
    "pipeline_runner",
    "relayer_set",
    "oracle_factory",
    "gateway_connector",
    "org_resolver",
)
# These only when they have a number.
_OPTIONAL: Final = ("cre_settings", "trigger_event_store")
_REGISTRY: Final = "capRegistry"

_CLOSE_SECONDS: Final = 5.0

_LOGGER: Final = logging.getLogger(__name__)


class _Closable(Protocol):
    async def close(self) -> None: ...


class Connections(Protocol):
    """The part of the broker that is needed here."""

    @property
    def is_lost(self) -> bool:
        """Whether the stream to the host has ended."""

    def next_id(self) -> int:
        """Return a number that was not used yet."""

    async def accept_and_serve(self, number: int, register: Callable[[grpc.aio.Server], None]) -> _Closable:
        """Serve under a number."""

    async def dial(self, number: int) -> grpc.aio.Channel:
        """Connect to what the host serves under a number."""


class Sessions:
    """Hold what the last Initialise made.

    Args:
        provide: The plugin's capabilities, made anew at each Initialise.
        surroundings: What the environment says.
        broker: The connections to the host.
    """

    def __init__(self, provide: Provide, surroundings: Surroundings, broker: Connections) -> None:
        self._provide = provide
        self._surroundings = surroundings
        self._broker = broker
        self._turn = asyncio.Lock()
        self._making: asyncio.Task[None] | None = None
        self._made = AsyncExitStack()
        self._capabilities: tuple[Capability, ...] | None = None

    @property
    def name(self) -> str:
        """The name of the process in reports of its health."""
        return self._surroundings.process or "plugin"

    @property
    def ready(self) -> bool:
        """Whether an Initialise stands."""
        return self._capabilities is not None

    def infos(self) -> list[CapabilityInfo]:
        """Return what the capabilities say of themselves.

        Raises:
            UnavailableError: No Initialise stands.
        """
        if self._capabilities is None:
            raise UnavailableError("the plugin is not initialised")
        return [capability.info for capability in self._capabilities]

    async def initialise(self, request: InitialiseRequest) -> None:
        """Make the capabilities and register them.

        Args:
            request: The configuration, and the numbers of the host's services.

        Raises:
            InnkeeperError: The configuration cannot be read, a service of the host does not answer, the plugin failed,
                or the registry refuses a capability. Nothing is left of it then.
        """
        async with self._turn:
            self._making = asyncio.current_task()
            try:
                await self._close()
                async with AsyncExitStack() as stack:
                    capabilities = await self._make(request, stack)
                    self._made = stack.pop_all()
                self._capabilities = capabilities
            finally:
                self._making = None

    async def close(self) -> None:
        """Cancel an Initialise that is under way, and close what was made; idempotent."""
        if self._making is not None:
            self._making.cancel()
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        self._capabilities = None
        made, self._made = self._made, AsyncExitStack()
        await made.aclose()

    async def _make(self, request: InitialiseRequest, stack: AsyncExitStack) -> tuple[Capability, ...]:
        config = parse_config(request.config)
        channels = {}
        for name in (*_SERVICES, *(name for name in _OPTIONAL if _number(request, name))):
            channels[name] = await self._dial(name, _number(request, name))
            stack.push_async_callback(channels[name].close, None)
        registry = RegistryClient(channels[_REGISTRY], self._broker)
        stack.push_async_callback(registry.close)
        context = PluginContext(
            **attrs.asdict(self._surroundings, recurse=False),
            config=config,
            logger=logging.getLogger(self._surroundings.provider or "plugin"),
            registry=registry,
            host_public_key=registry.host_public_key,
        )
        capabilities = await self._capabilities_of(context)
        for capability in capabilities:
            # Before its start: what fails to start is closed too.
            stack.push_async_callback(_bounded, capability.close, f"capability {capability.info.id} was not closed")
        for capability in capabilities:
            await _by_plugin(capability.start(), f"capability {capability.info.id} did not start")
        for capability in capabilities:
            await self._add(capability, registry, stack)
        return capabilities

    async def _dial(self, name: str, number: int) -> grpc.aio.Channel:
        try:
            return await self._broker.dial(number)
        except InnkeeperError as error:
            raise UnavailableError(f"the host's service {name} cannot be reached: {error}") from None

    async def _capabilities_of(self, context: PluginContext) -> tuple[Capability, ...]:
        async def provide() -> Sequence[Capability]:
            made = self._provide(context)
            return await made if inspect.isawaitable(made) else made

        made = await _by_plugin(provide(), "the plugin did not make its capabilities")
        capabilities = tuple(made) if isinstance(made, Sequence) else ()
        if not capabilities or not all(isinstance(capability, Capability) for capability in capabilities):
            raise ProviderError("the plugin made no capabilities", expected="a sequence of at least one Capability")
        ids = [capability.info.id for capability in capabilities]
        if len(set(ids)) != len(ids):
            raise ProviderError("the plugin made two capabilities with one id", actual=", ".join(sorted(ids)))
        return capabilities

    async def _add(self, capability: Capability, registry: RegistryClient, stack: AsyncExitStack) -> None:
        info = capability.info
        number = self._broker.next_id()
        services = CapabilityServices(capability)
        served = await self._broker.accept_and_serve(number, services.register)
        stack.push_async_callback(_bounded, services.close, f"the registrations of {info.id} were not ended")
        stack.push_async_callback(served.close)
        try:
            await registry.add(number, info.type)
        except InnkeeperError as error:
            raise ProviderError(f"the host does not register capability {info.id}: {error}") from None
        stack.push_async_callback(self._remove, info.id, registry)

    async def _remove(self, capability_id: str, registry: RegistryClient) -> None:
        # A host that is gone has no registry, and waiting for its answers would take the time of the closing.
        if not self._broker.is_lost:
            await _bounded(lambda: registry.remove(capability_id), f"capability {capability_id} was not removed")


def _number(request: InitialiseRequest, name: str) -> int:
    number: int = getattr(request, f"{name}_id")
    return number


async def _by_plugin(work: Coroutine[Any, Any, Any], what: str) -> Any:
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the host gets a clear text
        raise ProviderError(f"{what}: {describe(error)}") from None


async def _bounded(close: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await close()
    except Exception as error:  # noqa: BLE001 - the rest must be closed too
        _LOGGER.warning("%s: %s", what, describe(error))
