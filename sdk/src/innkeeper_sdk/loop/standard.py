"""The services of a LOOP standard capability's life: StandardCapabilities and Service.

Rules of this module:

1. A call of a thread is done in the loop; when its caller goes, it is cancelled there.
2. A failure is told as Go peers expect it: of unknown code, with the text. Never as *unavailable*, which they take
   for the loss of the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.capability import CapabilityInfo
from innkeeper_sdk.errors import InnkeeperError
from innkeeper_sdk.loop import convert
from innkeeper_sdk.loop.faults import describe
from innkeeper_sdk.loop.session import Sessions
from innkeeper_sdk.loop.texts import status_text
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.capabilities import capabilities_pb2_grpc as rpc
from innkeeper_sdk.proto.loop import service_pb2 as service_pb
from innkeeper_sdk.proto.loop import service_pb2_grpc as service_rpc

__all__ = ["add_standard_services"]

_T = TypeVar("_T")

_NOT_READY: Final = "the plugin is not initialised"


def add_standard_services(server: grpc.Server, loop: asyncio.AbstractEventLoop, sessions: Sessions) -> None:
    """Add both services to a server that is not started yet.

    Args:
        server: One that serves with threads.
        loop: Where the capabilities live.
        sessions: What Initialise makes.
    """
    bridge = _Bridge(loop)
    rpc.add_StandardCapabilitiesServicer_to_server(_Standard(bridge, sessions), server)
    service_rpc.add_ServiceServicer_to_server(_Service(bridge, sessions), server)


class _Bridge:
    """From a thread into the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, _T], context: grpc.ServicerContext) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        if not context.add_callback(lambda: _cancel(future)):
            future.cancel()
        try:
            return future.result()
        except CancelledError:
            code, text = grpc.StatusCode.CANCELLED, "the call was cancelled"
        except InnkeeperError as error:
            code, text = grpc.StatusCode.UNKNOWN, str(error)
        except Exception as error:  # noqa: BLE001 - the host gets a clear text, whatever failed
            code, text = grpc.StatusCode.UNKNOWN, f"the plugin failed: {describe(error)}"
        return _abort(context, code, text)


class _Standard(rpc.StandardCapabilitiesServicer):
    def __init__(self, bridge: _Bridge, sessions: Sessions) -> None:
        self._bridge = bridge
        self._sessions = sessions

    def Initialise(self, request: pb.InitialiseRequest, context: grpc.ServicerContext) -> Empty:
        self._bridge.run(self._sessions.initialise(request), context)
        return Empty()

    def Infos(self, request: Empty, context: grpc.ServicerContext) -> pb.CapabilityInfosReply:
        infos = self._bridge.run(self._infos(), context)
        return pb.CapabilityInfosReply(infos=[convert.info_to_proto(info) for info in infos])

    async def _infos(self) -> list[CapabilityInfo]:
        return self._sessions.infos()


class _Service(service_rpc.ServiceServicer):
    def __init__(self, bridge: _Bridge, sessions: Sessions) -> None:
        self._bridge = bridge
        self._sessions = sessions

    def Name(self, request: Empty, context: grpc.ServicerContext) -> service_pb.NameReply:
        # As Go plugins do; hosts name a plugin themselves.
        _abort(context, grpc.StatusCode.UNIMPLEMENTED, "the plugin has the name that its host gives it")

    def Close(self, request: Empty, context: grpc.ServicerContext) -> Empty:
        self._bridge.run(self._sessions.close(), context)
        return Empty()

    def Ready(self, request: Empty, context: grpc.ServicerContext) -> Empty:
        if not self._sessions.ready:
            _abort(context, grpc.StatusCode.UNKNOWN, _NOT_READY)
        return Empty()

    def HealthReport(self, request: Empty, context: grpc.ServicerContext) -> service_pb.HealthReportReply:
        # An empty text is the healthy one.
        fault = "" if self._sessions.ready else _NOT_READY
        return service_pb.HealthReportReply(healthReport={self._sessions.name: fault})


def _cancel(future: Future[Any]) -> None:
    future.cancel()


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, status_text(text))
    raise AssertionError("abort raises")
