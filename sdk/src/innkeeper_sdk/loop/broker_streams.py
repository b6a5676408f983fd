"""The broker's stream, as the side sees it that opens it.

Rules of this module:

1. The side that starts the process opens the stream at once, and keeps it for the whole life of the connection.
2. The broker learns of the stream's end, however it ends.

The plugin's side of the stream is in ``innkeeper_sdk.loop.wire_server``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio

from innkeeper_sdk.loop.broker import Broker
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo
from innkeeper_sdk.proto.goplugin.broker_pb2_grpc import GRPCBrokerStub

__all__ = ["run_client_stream"]


async def run_client_stream(channel: grpc.aio.Channel, broker: Broker) -> None:
    """Open the broker's stream and carry its messages until it ends; cancelling this ends it.

    Args:
        channel: The main connection to the plugin.
        broker: This side's; it is told of the end.
    """
    call = GRPCBrokerStub(channel).StartStream(_outgoing(broker))
    try:
        async for info in call:
            broker.receive(info)
    except grpc.aio.AioRpcError:
        # However a process ends, its streams end with an error: the end is the news, and it is told below.
        pass
    finally:
        broker.lost()
        call.cancel()


async def _outgoing(broker: Broker) -> AsyncIterator[ConnInfo]:
    while (info := await broker.outgoing()) is not None:
        yield info
