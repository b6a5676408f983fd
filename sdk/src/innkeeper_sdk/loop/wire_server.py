"""The main connection of a plugin: go-plugin's own services.

Rules of this module:

1. They are served by threads of their own, so that a capability that blocks the loop is not taken for a dead process:
   the host is told that this one lives, and judges its work by other means.
2. There is one broker stream and one reader of output in the life of a connection. The end of the first is the end of
   the process.
3. Shutdown is answered before anything stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.errors import UnavailableError
from innkeeper_sdk.loop import health
from innkeeper_sdk.loop.broker import Broker
from innkeeper_sdk.loop.channels import SERVER_OPTIONS, unix_target
from innkeeper_sdk.loop.ending import Ending, Reason
from innkeeper_sdk.loop.session import Sessions
from innkeeper_sdk.loop.standard import add_standard_services
from innkeeper_sdk.proto.goplugin import broker_pb2_grpc, controller_pb2_grpc, stdio_pb2_grpc
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo
from innkeeper_sdk.proto.goplugin.controller_pb2 import Empty as PluginEmpty
from innkeeper_sdk.proto.goplugin.stdio_pb2 import StdioData

__all__ = ["WireServer"]

# Two are held by the host's streams, one by each call that waits for the loop.
_THREADS: Final = 16
# What the answer to Shutdown needs to leave.
_STOP_SECONDS: Final = 0.05

# The empty name stands for all of a server.
_HEALTH_NAMES: Final = ("", health.PLUGIN)


class WireServer:
    """Serve the main connection.

    Args:
        socket: Where; an absolute path in a private directory.
        loop: Where the broker and the capabilities live.
        broker: This side's.
        sessions: What Initialise makes.
        ending: Told when the host asks for the end, and when its stream ends.
    """

    def __init__(
        self, socket: Path, loop: asyncio.AbstractEventLoop, broker: Broker, sessions: Sessions, ending: Ending
    ) -> None:
        self._socket = socket
        self._server = grpc.server(ThreadPoolExecutor(_THREADS, thread_name_prefix="wire"), options=SERVER_OPTIONS)
        self._server.add_generic_rpc_handlers((_health(),))
        broker_pb2_grpc.add_GRPCBrokerServicer_to_server(_BrokerService(loop, broker, ending), self._server)
        stdio_pb2_grpc.add_GRPCStdioServicer_to_server(_Stdio(), self._server)
        controller_pb2_grpc.add_GRPCControllerServicer_to_server(_Controller(ending), self._server)
        add_standard_services(self._server, loop, sessions)

    def start(self) -> None:
        """Listen.

        Raises:
            UnavailableError: The socket cannot be made.
            ConfigError: Its path is too long.
        """
        target = unix_target(self._socket)
        try:
            self._server.add_insecure_port(target)
        except RuntimeError:
            raise UnavailableError("the plugin's socket cannot be made", path=str(self._socket)) from None
        self._server.start()

    async def stop(self) -> None:
        """End all calls, those under way after a moment, and stop; idempotent."""
        stopped = self._server.stop(_STOP_SECONDS)
        await asyncio.to_thread(stopped.wait)


def _health() -> grpc.GenericRpcHandler[health.Request, health.Reply]:
    check = grpc.unary_unary_rpc_method_handler(
        _check_health,
        request_deserializer=health.Request.FromString,
        response_serializer=health.Reply.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(health.SERVICE, {health.CHECK: check})


def _check_health(request: health.Request, context: grpc.ServicerContext) -> health.Reply:
    if request.value not in _HEALTH_NAMES:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return health.Reply(value=health.SERVING)


class _Controller(controller_pb2_grpc.GRPCControllerServicer):
    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def Shutdown(self, request: PluginEmpty, context: grpc.ServicerContext) -> PluginEmpty:
        self._ending.request(Reason.SHUTDOWN)
        return PluginEmpty()


class _Once:
    """Lets one call in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def enter(self, context: grpc.ServicerContext, what: str) -> None:
        if not self._lock.acquire(blocking=False):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{what} was opened already")


class _Stdio(stdio_pb2_grpc.GRPCStdioServicer):
    """What is printed goes to standard error, so nothing is sent here; but the host wants the stream to stay."""

    def __init__(self) -> None:
        self._once = _Once()

    def StreamStdio(self, request: Empty, context: grpc.ServicerContext) -> Iterator[StdioData]:
        self._once.enter(context, "the output's stream")
        over = threading.Event()
        if context.add_callback(over.set):
            over.wait()
        return iter(())


class _BrokerService(broker_pb2_grpc.GRPCBrokerServicer):
    def __init__(self, loop: asyncio.AbstractEventLoop, broker: Broker, ending: Ending) -> None:
        self._loop = loop
        self._broker = broker
        self._ending = ending
        self._once = _Once()

    def StartStream(self, request_iterator: Iterator[ConnInfo], context: grpc.ServicerContext) -> Iterator[ConnInfo]:
        self._once.enter(context, "the broker's stream")
        threading.Thread(target=self._receive, args=(request_iterator,), name="broker", daemon=True).start()
        return self._send()

    def _receive(self, messages: Iterator[ConnInfo]) -> None:
        # A stream that is cut ends with an error, and a loop that is closed has no broker any more.
        with contextlib.suppress(grpc.RpcError, RuntimeError):
            for info in messages:
                self._loop.call_soon_threadsafe(self._broker.receive, info)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._broker.lost)
        self._ending.request(Reason.STREAM_ENDED)

    def _send(self) -> Iterator[ConnInfo]:
        while (info := self._next()) is not None:
            yield info

    def _next(self) -> ConnInfo | None:
        return asyncio.run_coroutine_threadsafe(self._broker.outgoing(), self._loop).result()
