"""The registry that a plugin is given: ``loop.CapabilitiesRegistry``, bound to its provider.

Rules of this module:

1. A capability is served once for each way it can be asked for; who asks again gets another number of the same server.
2. A plugin may add what its plan says, once, and nothing else; what it says of itself is asked over the connection
   that it will be called on.
3. Nothing is held while a plugin is dialled or asked.
4. What a plugin is told of a failure is the host's sentence, never the text of a foreign exception.
5. This host is alone: it knows its own node and no others, and no configuration but the plugin's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar

import grpc
import grpc.aio
from attrs import define
from google.protobuf.empty_pb2 import Empty

from innkeeper.loop.handles import Handle
from innkeeper.loop.handshake import quoted
from innkeeper.loop.peers import Peer, Peers, Registrar
from innkeeper_sdk.capability import CapabilityInfo, CapabilityType
from innkeeper_sdk.errors import InnkeeperError, NotFoundError, ProviderFailedError
from innkeeper_sdk.loop.broker import Broker, Served
from innkeeper_sdk.loop.convert import api_type
from innkeeper_sdk.loop.remote import RemoteCapability, fetch_info
from innkeeper_sdk.loop.serving import CapabilityServices
from innkeeper_sdk.loop.texts import status_text
from innkeeper_sdk.proto.loop import capabilities_registry_pb2 as pb
from innkeeper_sdk.proto.loop.capabilities_registry_pb2_grpc import CapabilitiesRegistryServicer
from innkeeper_sdk.proto.loop.capability_config_pb2 import CapabilityConfig

__all__ = ["RegistryService"]

_Context = grpc.aio.ServicerContext[Any, Any]
_T = TypeVar("_T")

# What a capability may take to let go of a plugin's registrations; it is somebody else's, and may hang.
_CLOSE_SECONDS: Final = 5.0


@define(eq=False)
class _Added:
    handle: Handle
    remote: RemoteCapability
    channel: grpc.aio.Channel

    async def close(self) -> None:
        self.handle.end()
        await self.remote.close()
        await self.channel.close(None)


class RegistryService(CapabilitiesRegistryServicer):
    """Serve the registry to one generation of one process.

    Args:
        broker: Its broker.
        provider: Its provider's id, for errors.
        allowed: The ids that it may add.
        peers: What its provider may use.
        registrar: Where its capabilities go.
        host_public_key: 32 bytes: what this node is known by.
        logger: Where troubles go.
        removed: Called with each id that the plugin has taken away.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        provider: str,
        allowed: tuple[str, ...],
        peers: Peers,
        registrar: Registrar,
        host_public_key: bytes,
        logger: logging.Logger,
        removed: Callable[[str], None],
    ) -> None:
        self._broker = broker
        self._provider = provider
        self._allowed = allowed
        self._peers = peers
        self._registrar = registrar
        self._key = host_public_key
        self._logger = logger
        self._removed = removed
        self._served: dict[tuple[str, CapabilityType], asyncio.Task[tuple[Served, CapabilityServices]]] = {}
        self._added: dict[str, _Added] = {}
        self._over = False

    @property
    def added(self) -> tuple[str, ...]:
        """Return the ids that are registered."""
        return tuple(self._added)

    def abandon(self) -> None:
        """Take its capabilities out of the registry, and end what waits for them; idempotent."""
        self._over = True
        for capability_id, added in self._added.items():
            self._unregister(capability_id)
            added.handle.end()

    async def close(self) -> None:
        """Let go of everything; idempotent."""
        self.abandon()
        while self._added:
            _, added = self._added.popitem()
            await added.close()
        while self._served:
            _, task = self._served.popitem()
            task.cancel()
            (served,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(served, tuple):
                await self._stop(*served)

    async def LocalNode(self, request: Empty, context: _Context) -> pb.NodeReply:
        return pb.NodeReply(peerID=self._key)

    async def NodeByPeerID(self, request: pb.NodeRequest, context: _Context) -> pb.NodeReply:
        if request.peerID != self._key:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this host knows no other node than itself")
        return pb.NodeReply(peerID=self._key)

    async def ConfigForCapability(
        self, request: pb.ConfigForCapabilityRequest, context: _Context
    ) -> pb.ConfigForCapabilityReply:
        return pb.ConfigForCapabilityReply(capability_config=CapabilityConfig())

    async def DONsForCapability(
        self, request: pb.DONForCapabilityRequest, context: _Context
    ) -> pb.DONForCapabilityReply:
        return pb.DONForCapabilityReply()

    async def DONByID(self, request: pb.DONByIDRequest, context: _Context) -> pb.DONByIDReply:
        return pb.DONByIDReply(don=pb.DON(id=request.donID))

    async def Get(self, request: pb.GetRequest, context: _Context) -> pb.GetReply:
        number, kind = await self._told(self._hand_out(request.id, None), context)
        return pb.GetReply(capabilityID=number, type=api_type(kind))

    async def GetTrigger(self, request: pb.GetTriggerRequest, context: _Context) -> pb.GetTriggerReply:
        number, _ = await self._told(self._hand_out(request.id, CapabilityType.TRIGGER), context)
        return pb.GetTriggerReply(capabilityID=number)

    async def GetExecutable(self, request: pb.GetExecutableRequest, context: _Context) -> pb.GetExecutableReply:
        number, _ = await self._told(self._hand_out(request.id, CapabilityType.ACTION), context)
        return pb.GetExecutableReply(capabilityID=number)

    async def List(self, request: Empty, context: _Context) -> pb.ListReply:
        return pb.ListReply(capabilityID=await self._told(self._hand_out_all(), context))

    async def Add(self, request: pb.AddRequest, context: _Context) -> Empty:
        await self._told(self._add(request.capabilityID, request.type), context)
        return Empty()

    async def Remove(self, request: pb.RemoveRequest, context: _Context) -> Empty:
        await self._told(self._remove(request.id), context)
        return Empty()

    async def _hand_out_all(self) -> list[int]:
        numbers = []
        for info in self._peers.list():
            # What is gone since it was listed is not there.
            with suppress(NotFoundError):
                number, _ = await self._hand_out(info.id, None)
                numbers.append(number)
        return numbers

    async def _hand_out(self, asked: str, wanted: CapabilityType | None) -> tuple[int, CapabilityType]:
        # By the id that was found: its server is kept, and another plugin's question may mean another version later.
        found = self._peers.get(asked).info.id
        peer = Peer(self._peers.get(found), owner=self._provider)
        kind = peer.info.type
        if wanted is CapabilityType.TRIGGER and kind not in (CapabilityType.TRIGGER, CapabilityType.COMBINED):
            raise ProviderFailedError(f"capability {peer.info.id} is no trigger")
        if wanted is CapabilityType.ACTION and kind is CapabilityType.TRIGGER:
            raise ProviderFailedError(f"capability {peer.info.id} is a trigger and cannot be executed")
        served_as = CapabilityType.TRIGGER if wanted is CapabilityType.TRIGGER else kind
        key = (peer.info.id, served_as)
        task = self._served.get(key)
        if task is None:
            task = self._served[key] = asyncio.create_task(self._serve(peer, served_as))
        try:
            served, _ = await asyncio.shield(task)
        except BaseException:
            if task.done():
                self._served.pop(key, None)
            raise
        return self._broker.announce(served), kind

    async def _serve(self, peer: Peer, kind: CapabilityType) -> tuple[Served, CapabilityServices]:
        services = CapabilityServices(peer, kind=kind)
        return await self._broker.accept_and_serve(self._broker.next_id(), services.register), services

    async def _stop(self, served: Served, services: CapabilityServices) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await served.close()
                await services.close()
        except TimeoutError:
            self._logger.warning(
                "a capability does not let go of a plugin's registrations", extra={"broker": served.id}
            )

    async def _add(self, number: int, said: pb.ExecuteAPIType.ValueType) -> None:
        channel = await self._broker.dial(number)
        try:
            info = await fetch_info(channel)
            self._check(info, said)
            remote = RemoteCapability(channel, info)
            handle = Handle(remote)
            self._registrar.register(handle, info)
        except BaseException:
            await channel.close(None)
            raise
        self._added[info.id] = _Added(handle, remote, channel)
        self._logger.info("a capability was added", extra={"capability": info.id})

    def _check(self, info: CapabilityInfo, said: pb.ExecuteAPIType.ValueType) -> None:
        if self._over:
            raise self._refused("the process is to end")
        if info.id not in self._allowed:
            raise self._refused(
                f"it added {quoted(info.id.encode())!r}, which is not one of its capabilities",
                expected=", ".join(self._allowed),
            )
        if info.id in self._added:
            raise self._refused(f"it added {info.id} twice")
        if said != api_type(info.type):
            raise self._refused(f"it added {info.id} as {said}, which is not what its type, {info.type.value}, is")

    async def _remove(self, capability_id: str) -> None:
        if capability_id not in self._allowed:
            raise NotFoundError(f"capability {quoted(capability_id.encode())} was not added by this process")
        added = self._added.pop(capability_id, None)
        if added is not None:
            self._unregister(capability_id)
            self._removed(capability_id)
            await added.close()

    def _unregister(self, capability_id: str) -> None:
        try:
            self._registrar.unregister(capability_id)
        except InnkeeperError:
            # It was registered, so this is a fault of the host; the process is ended all the same.
            self._logger.exception("the capability %s cannot be taken away", capability_id)

    def _refused(self, text: str, expected: str | None = None) -> ProviderFailedError:
        return ProviderFailedError(text, provider=self._provider, expected=expected, hint="look at its manifest")

    async def _told(self, call: Awaitable[_T], context: _Context) -> _T:
        try:
            return await call
        except NotFoundError as error:
            await _abort(context, grpc.StatusCode.NOT_FOUND, error.message)
        except InnkeeperError as error:
            self._logger.warning("the registry refused a plugin: %s", error)
            await _abort(context, grpc.StatusCode.UNKNOWN, str(error))
        except Exception as error:
            self._logger.exception("a question of a plugin could not be answered")
            await _abort(context, grpc.StatusCode.UNKNOWN, f"the host could not answer: {type(error).__name__}")


async def _abort(context: _Context, code: grpc.StatusCode, text: str) -> NoReturn:
    await context.abort(code, status_text(text))
