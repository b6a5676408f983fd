"""The connection to a plugin: what is open for its whole life, what is asked of it, and how it is asked to end.

Rules of this module:

1. The broker's stream and the plugin's output are opened at once and kept: a plugin whose output nobody takes blocks.
2. Every call has a deadline.
3. A plugin that ends while it answers ``Shutdown`` has done what it was asked: Go plugins do.
4. Nothing is dialled again: a connection that is lost is the end of its generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty as GoogleEmpty

from innkeeper.loop.output import Lines, PluginLog
from innkeeper_sdk.loop import health
from innkeeper_sdk.loop.broker import Broker
from innkeeper_sdk.loop.broker_streams import run_client_stream
from innkeeper_sdk.loop.channels import open_channel
from innkeeper_sdk.proto.capabilities.capabilities_pb2 import InitialiseRequest
from innkeeper_sdk.proto.capabilities.capabilities_pb2_grpc import StandardCapabilitiesStub
from innkeeper_sdk.proto.goplugin.controller_pb2 import Empty
from innkeeper_sdk.proto.goplugin.controller_pb2_grpc import GRPCControllerStub
from innkeeper_sdk.proto.goplugin.stdio_pb2 import StdioData
from innkeeper_sdk.proto.goplugin.stdio_pb2_grpc import GRPCStdioStub
from innkeeper_sdk.proto.loop.service_pb2_grpc import ServiceStub

__all__ = ["Connection"]

_HEALTH_METHOD: Final = f"/{health.SERVICE}/{health.CHECK}"
_HEALTH_REQUEST: Final = health.Request(value=health.PLUGIN)
_HEALTH_SERVING: Final = health.Reply(value=health.SERVING)

# How a plugin that obeys looks to who asked it to end.
_ENDED: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

# The reference waits so long for a plugin that was asked to end.
_EXIT_SECONDS: Final = 2.0

# Also when there is no time left, what is asked gets the time to arrive.
_LEAST_SECONDS: Final = 0.1


class Connection:
    """A connection to a plugin, open.

    Args:
        path: The socket that it serves on.
        directory: The private directory that it was given: sockets of this side are made there, and its own must be
            there too.
        log: Where what it prints goes.
        lost: Called when the broker's stream has ended: the plugin is gone, or wants no more.

    Attributes:
        broker: The broker of this side.
        opened: Whether it has been connected.
    """

    def __init__(self, path: Path, *, directory: Path, log: PluginLog, lost: Callable[[], None]) -> None:
        self._channel = open_channel(path)
        self.broker = Broker(directory, within=directory)
        self._lost = lost
        self._log = log
        self._tasks = [asyncio.create_task(self._keep_broker()), asyncio.create_task(self._drain_stdio())]
        self._check = self._channel.unary_unary(
            _HEALTH_METHOD, health.Request.SerializeToString, health.Reply.FromString
        )
        self._closed = False
        self.opened = False

    async def ready(self) -> None:
        """Return when it is connected; the caller bounds it with a timeout."""
        await self._channel.channel_ready()
        self.opened = True

    async def ping(self, seconds: float) -> str:
        """Ask whether it is well.

        Args:
            seconds: How long to wait.

        Returns:
            What is wrong; empty if it is well.
        """
        try:
            reply = await self._check(_HEALTH_REQUEST, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"it did not answer a health check within {seconds:g} s"
            return f"its health check failed: {error.code().name}"
        return "" if reply == _HEALTH_SERVING else "it says that it does not serve"

    async def initialise(self, request: InitialiseRequest, seconds: float) -> None:
        """Have it make its capabilities and add them.

        Raises:
            grpc.aio.AioRpcError: It could not, or did not in time.
        """
        await StandardCapabilitiesStub(self._channel).Initialise(request, timeout=seconds)

    async def end(self, exited: asyncio.Future[int], seconds: float) -> list[str]:
        """Ask it to close its capabilities and to end, and wait until it has.

        Args:
            exited: Done when its process has ended.
            seconds: How long all of it may take.

        Returns:
            What went wrong. Whether it has ended is what ``exited`` says.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # What is asked first must leave time for what is asked last.
        faults = [await self._close_service(max(seconds - _EXIT_SECONDS, _LEAST_SECONDS))]
        faults.append(await self._shutdown(max(deadline - loop.time(), _LEAST_SECONDS)))
        await asyncio.wait({exited}, timeout=min(_EXIT_SECONDS, max(deadline - loop.time(), _LEAST_SECONDS)))
        if not exited.done():
            faults.append("it did not end when it was asked to; it is killed")
        return [fault for fault in faults if fault]

    async def close(self) -> None:
        """Close the connection and everything that this side serves over it; idempotent."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.broker.close()
        await self._channel.close(None)

    async def _close_service(self, seconds: float) -> str:
        try:
            await ServiceStub(self._channel).Close(GoogleEmpty(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return f"its capabilities did not close: {error.code().name}"
        return ""

    async def _shutdown(self, seconds: float) -> str:
        try:
            await GRPCControllerStub(self._channel).Shutdown(Empty(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return "" if error.code() in _ENDED else f"it did not take the request to end: {error.code().name}"
        return ""

    async def _keep_broker(self) -> None:
        try:
            await run_client_stream(self._channel, self.broker)
        finally:
            self._lost()

    async def _drain_stdio(self) -> None:
        lines = {StdioData.STDOUT: Lines(self._log.take), StdioData.STDERR: Lines(self._log.take)}
        call = GRPCStdioStub(self._channel).StreamStdio(GoogleEmpty())
        try:
            async for data in call:
                if data.channel in lines:
                    lines[data.channel].feed(data.data)
        except grpc.aio.AioRpcError:
            pass  # it has ended, or has no such service, which is allowed
        finally:
            call.cancel()
            for each in lines.values():
                each.end()
