"""The control server: a private unix socket, and errors that keep their class.

Rules of this module:

1. Who may connect is decided by the file system: the socket is 0600, in a directory that only this user can write.
   gRPC for Python accepts connections itself and shows no peer credentials, so there is nothing to check in a call.
   Clients check the host's credentials (SO_PEERCRED) in their turn.
2. An :class:`~innkeeper_sdk.errors.InnkeeperError` reaches the client whole. Anything else is our own fault: it is
   logged here with its traceback, and the client is told no more than that.
3. A client that goes cancels its call here.
4. Calls that stream hold a place as long as their client likes, so they get some of the places and no more: an operator
   who asks or stops something is always served.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc

from innkeeper.loop.guard import Guard
from innkeeper_sdk.control_errors import ERROR_KEY, message_of_error, status_of_error
from innkeeper_sdk.control_socket import check_socket_path, grpc_target
from innkeeper_sdk.errors import HostError, InnkeeperError, LimitExceededError
from innkeeper_sdk.proto.innkeeper.control.v1.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server

__all__ = ["ControlServer"]

# Calls at once, and how many of them may stream: clients that never end must not take all memory.
_CALLS: Final = 512
_STREAMS: Final = 256

# The status line is metadata too, percent-encoded; the whole text is in the record.
_DETAILS_BYTES: Final = 256


class ControlServer:
    """Serve the control protocol on a socket.

    Args:
        servicer: Answers the calls.
        socket: Where; its directory is this user's alone, and locked by this host.
        max_request_bytes: The largest request that is read.
        guard: Removes the socket if the host cannot.
        logger: Where faults of our own are told.
        max_streams: How many calls may stream at once; below 512, which all calls share.
    """

    def __init__(
        self,
        servicer: ControlServicer,
        *,
        socket: Path,
        max_request_bytes: int,
        guard: Guard,
        logger: logging.Logger,
        max_streams: int = _STREAMS,
    ) -> None:
        self._socket = socket
        self._guard = guard
        self._server = grpc.aio.server(
            interceptors=[_Errors(logger, max_streams)],
            options=[
                ("grpc.max_receive_message_length", max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=_CALLS,
        )
        add_ControlServicer_to_server(servicer, self._server)

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: The socket's path is too long.
            HostError: It cannot be bound.
        """
        check_socket_path(self._socket)
        # What lies there is of a host that is gone: this one has the directory's lock.
        self._guard.add_path(self._socket)
        self._socket.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(grpc_target(self._socket))
        except RuntimeError as error:
            raise HostError(f"the control socket cannot be bound: {error}", path=str(self._socket)) from error
        self._socket.chmod(0o600)
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Take no more calls, cancel those that run after ``grace`` seconds, remove the socket; idempotent."""
        await self._server.stop(grace)
        self._socket.unlink(missing_ok=True)
        self._guard.drop_path(self._socket)


class _Errors(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs alone
    def __init__(self, logger: logging.Logger, max_streams: int) -> None:
        self._logger = logger
        self._max_streams = max_streams
        self._streams = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        # The handlers of a servicer written for asyncio are coroutines and asynchronous generators.
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method.rpartition("/")[2]
        if handler is None:
            return None  # gRPC answers itself: there is no such method
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, method), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(handler.unary_unary, method), handler.request_deserializer, handler.response_serializer
        )

    def _unary(self, behaviour: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                return await behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
                await self._abort(error, method, context)

        return answer

    def _stream(self, behaviour: Callable[..., AsyncIterator[Any]], method: str) -> Callable[..., AsyncIterator[Any]]:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            try:
                self._take_place(context)
                async for message in behaviour(request, context):
                    yield message
            except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
                await self._abort(error, method, context)

        return answer

    def _take_place(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self._streams >= self._max_streams:
            raise LimitExceededError(
                "too many clients follow this host",
                expected=f"at most {self._max_streams} calls that stream at once",
                hint="end some of those that follow logs or executions",
            )
        self._streams += 1
        # However the call ends; a generator that its client left is closed at some later time.
        context.add_done_callback(self._leave_place)  # type: ignore[arg-type] # a class in the stubs, any callable in fact

    def _leave_place(self, _: Any) -> None:
        self._streams -= 1

    async def _abort(self, error: Exception, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if not isinstance(error, InnkeeperError):
            # The request is not logged: it may hold secrets.
            self._logger.error("a control call failed", exc_info=error, extra={"method": method})
            error = HostError("the host failed at this request; its log says why")
        details = str(error).encode("utf-8", "backslashreplace")[:_DETAILS_BYTES].decode("utf-8", "ignore")
        metadata = ((ERROR_KEY, message_of_error(error).SerializeToString()),)
        await context.abort(status_of_error(error), details, metadata)
