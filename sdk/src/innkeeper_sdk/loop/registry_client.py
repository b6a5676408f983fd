"""The host's registry, as a plugin sees it over the wire.

Rules of this module:

1. For each capability id the host is asked once for a connection, which is kept while it is connected. Many callers
   wait for one request, and no lock is held while it is under way.
2. A connection that is not connected any more is dropped, and asked for anew by the next call. The call that met the
   loss fails: it may have been delivered, so it is not repeated here.
3. What the host says of an id that it does not give is told as it is: to this plugin, unknown and not permitted are
   the same.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import grpc
import grpc.aio
from attrs import frozen
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
)
from innkeeper_sdk.errors import InnkeeperError, NotFoundError, ProviderError
from innkeeper_sdk.loop import convert
from innkeeper_sdk.loop.remote import RemoteCapability, fetch_info
from innkeeper_sdk.loop.texts import error_from_text
from innkeeper_sdk.loop.transport import transport_error
from innkeeper_sdk.proto.loop import capabilities_registry_pb2 as pb
from innkeeper_sdk.proto.loop.capabilities_registry_pb2_grpc import CapabilitiesRegistryStub

__all__ = ["Dialler", "RegistryClient"]

_ASK_SECONDS: Final = 10.0
# The host dials back and asks for Info within this call.
_ADD_SECONDS: Final = 30.0
# chainlink-common's generated servers give a Remove this long.
_REMOVE_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.0
_KEY_BYTES: Final = 32

_ON_THE_WAY: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
)


class Dialler(Protocol):
    """The part of the broker that is needed here."""

    async def dial(self, number: int) -> grpc.aio.Channel:
        """Connect to what the host serves under a number."""


@frozen(eq=False)
class _Remote:
    capability: RemoteCapability
    channel: grpc.aio.Channel

    @property
    def connected(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.READY


class RegistryClient:
    """Call, list and register capabilities through the host.

    Args:
        channel: To the host's registry; it stays its owner's.
        broker: Dials what the host serves.
    """

    def __init__(self, channel: grpc.aio.Channel, broker: Dialler) -> None:
        self._stub = CapabilitiesRegistryStub(channel)
        self._broker = broker
        self._remotes: dict[str, asyncio.Task[_Remote]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Call a capability that this plugin may call.

        Raises:
            NotFoundError: There is no such capability, or this plugin may not use it: the two look the same.
            CapabilityError: The call failed, or its deadline passed.
        """
        try:
            async with asyncio.timeout(convert.seconds_until(request.deadline)):
                remote = await self._connect(request.capability_id)
        except TimeoutError:
            raise CapabilityError(
                f"the registry did not give capability {request.capability_id} in time",
                error_code=ErrorCode.DeadlineExceeded,
            ) from None
        try:
            return await remote.capability.execute(request)
        finally:
            if not remote.connected:
                self._drop(request.capability_id, remote)

    async def list(self) -> list[CapabilityInfo]:
        """Return the capabilities that this plugin may see, sorted by id."""
        try:
            reply = await self._stub.List(Empty(), timeout=_ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _registry_error(error) from None
        infos = await asyncio.gather(*(self._ask(number) for number in reply.capabilityID))
        return sorted(infos, key=lambda info: info.id)

    async def host_public_key(self) -> bytes | None:
        """Return the host's Ed25519 public key, 32 bytes; None if the host has none.

        Raises:
            ProviderError: What it says is no such key.
        """
        try:
            node = await self._stub.LocalNode(Empty(), timeout=_ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _registry_error(error) from None
        if node.peerID and len(node.peerID) != _KEY_BYTES:
            raise ProviderError(
                "the host's key is not one", expected=f"{_KEY_BYTES} bytes", actual=f"{len(node.peerID)} bytes"
            )
        return node.peerID or None

    async def add(self, number: int, kind: CapabilityType) -> None:
        """Register what this side serves under a number.

        Raises:
            InnkeeperError: The host refuses it, with its text, or cannot be reached.
        """
        request = pb.AddRequest(capabilityID=number, type=convert.api_type(kind))
        try:
            await self._stub.Add(request, timeout=_ADD_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _registry_error(error) from None

    async def remove(self, capability_id: str) -> None:
        """Take a capability of this plugin out of the registry.

        Raises:
            InnkeeperError: The host refuses it, with its text, or cannot be reached.
        """
        try:
            await self._stub.Remove(pb.RemoveRequest(id=capability_id), timeout=_REMOVE_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _registry_error(error) from None

    async def close(self) -> None:
        """Close every connection; idempotent."""
        for task in list(self._remotes.values()):
            task.cancel()
            (remote,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(remote, _Remote):
                await remote.channel.close(None)
        self._remotes.clear()
        await asyncio.gather(*self._closing)

    async def _connect(self, capability_id: str) -> _Remote:
        kept = self._kept(capability_id)
        if kept is not None and not kept.connected:
            self._drop(capability_id, kept)
        task = self._remotes.get(capability_id)
        if task is None:
            task = self._remotes[capability_id] = asyncio.create_task(self._get(capability_id))
            task.add_done_callback(lambda done: self._forget_failed(capability_id, done))
        return await asyncio.shield(task)

    async def _get(self, capability_id: str) -> _Remote:
        try:
            reply = await self._stub.GetExecutable(pb.GetExecutableRequest(id=capability_id), timeout=_ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _registry_error(error) from None
        channel = await self._broker.dial(reply.capabilityID)
        try:
            return _Remote(RemoteCapability(channel, await fetch_info(channel)), channel)
        except BaseException:
            await channel.close(None)
            raise

    async def _ask(self, number: int) -> CapabilityInfo:
        channel = await self._broker.dial(number)
        try:
            return await fetch_info(channel)
        finally:
            await channel.close(None)

    def _kept(self, capability_id: str) -> _Remote | None:
        task = self._remotes.get(capability_id)
        return task.result() if task is not None and task.done() and not _failed(task) else None

    def _forget_failed(self, capability_id: str, task: asyncio.Task[_Remote]) -> None:
        # What failed is not kept: whoever waited has the error, and the next caller asks anew.
        if _failed(task) and self._remotes.get(capability_id) is task:
            del self._remotes[capability_id]

    def _drop(self, capability_id: str, remote: _Remote) -> None:
        if self._kept(capability_id) is remote:
            del self._remotes[capability_id]
            # Other calls on it fail by themselves; at once, gRPC would cancel them instead.
            closing = asyncio.create_task(remote.channel.close(_CLOSE_SECONDS))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _failed(task: asyncio.Task[_Remote]) -> bool:
    return task.cancelled() or task.exception() is not None


def _registry_error(error: grpc.aio.AioRpcError) -> InnkeeperError:
    if error.code() in _ON_THE_WAY:
        return transport_error(error, "the registry")
    text = error.details() or "the registry refused without saying why"
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(text)
    return error_from_text(text)
