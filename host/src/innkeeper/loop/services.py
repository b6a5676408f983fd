"""What the host serves to a standard capability: the numbers that ``Initialise`` is given.

Rules of this module:

1. A Go plugin dials ten numbers, in one order, and fails at the first that does not answer: all ten have a listener.
   What this host has no implementation of answers ``UNIMPLEMENTED``.
2. The two that are optional are 0, which stands for nothing.
3. Everything belongs to one generation and ends with it.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from innkeeper.loop.handshake import quoted
from innkeeper.loop.registry_service import RegistryService
from innkeeper_sdk.loop.broker import Broker
from innkeeper_sdk.proto.capabilities.capabilities_pb2 import InitialiseRequest
from innkeeper_sdk.proto.loop.capabilities_registry_pb2_grpc import add_CapabilitiesRegistryServicer_to_server
from innkeeper_sdk.proto.loop.error_log_pb2 import SaveErrorRequest
from innkeeper_sdk.proto.loop.error_log_pb2_grpc import ErrorLogServicer, add_ErrorLogServicer_to_server

__all__ = ["serve_host"]

# The DON that calls carry in their metadata; this host is the only node of it.
_DON_ID: Final = 1


class _ErrorLog(ErrorLogServicer):
    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    async def SaveError(self, request: SaveErrorRequest, context: grpc.aio.ServicerContext[Any, Any]) -> Empty:
        self._logger.error("a plugin reports: %s", quoted(request.message.encode()))
        return Empty()


async def serve_host(
    broker: Broker, registry: RegistryService, *, config: str, logger: logging.Logger
) -> InitialiseRequest:
    """Serve everything that a standard capability dials.

    Args:
        broker: Of the generation's connection; it ends what is served.
        registry: The registry, bound to the plugin's provider.
        config: What the plugin is configured with, JSON text.
        logger: Where what plugins report goes.

    Returns:
        The request that names it all.
    """

    def nothing(server: grpc.aio.Server) -> None:
        del server  # a server without services answers UNIMPLEMENTED

    def errors(server: grpc.aio.Server) -> None:
        add_ErrorLogServicer_to_server(_ErrorLog(logger), server)

    def capabilities(server: grpc.aio.Server) -> None:
        add_CapabilitiesRegistryServicer_to_server(registry, server)

    # In the order in which they are dialled.
    unserved = await broker.accept_and_serve(broker.next_id(), nothing)
    registry_served = await broker.accept_and_serve(broker.next_id(), capabilities)
    error_log = await broker.accept_and_serve(broker.next_id(), errors)
    return InitialiseRequest(
        config=config,
        telemetry_id=unserved.id,
        keyValueStore_id=broker.announce(unserved),
        keystore_id=broker.announce(unserved),
        capRegistry_id=registry_served.id,
        error_log_id=error_log.id,
        pipeline_runner_id=broker.announce(unserved),
        relayer_set_id=broker.announce(unserved),
        oracle_factory_id=broker.announce(unserved),
        gateway_connector_id=broker.announce(unserved),
        org_resolver_id=broker.announce(unserved),
        capability_don_id=_DON_ID,
    )
