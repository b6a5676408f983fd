"""The broker's stream from the opening side, against a raw server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from innkeeper_sdk.errors import UnavailableError
from innkeeper_sdk.loop.broker import Broker
from innkeeper_sdk.loop.broker_streams import run_client_stream
from innkeeper_sdk.loop.channels import open_channel
from innkeeper_sdk.proto.goplugin import broker_pb2_grpc
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo


class Peer(broker_pb2_grpc.GRPCBrokerServicer):
    """Sends what it is told to, and keeps what it gets."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.got: asyncio.Queue[ConnInfo | None] = asyncio.Queue()
        self.to_send: asyncio.Queue[ConnInfo | None] = asyncio.Queue()

    async def StartStream(self, request_iterator: Any, context: Any) -> AsyncIterator[ConnInfo]:  # type: ignore[override] # grpc.aio takes it
        self.opened.set()
        reading = asyncio.create_task(self._read(request_iterator))
        while (info := await self.to_send.get()) is not None:
            yield info
        reading.cancel()

    async def _read(self, messages: AsyncIterator[ConnInfo]) -> None:
        async for info in messages:
            self.got.put_nowait(info)
        self.got.put_nowait(None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "s"
    path.mkdir(mode=0o700)
    return path


class World:
    def __init__(self, peer: Peer, server: grpc.aio.Server, broker: Broker, running: asyncio.Task[None]) -> None:
        self.peer, self.server, self.broker, self.running = peer, server, broker, running


@pytest.fixture
async def world(directory: Path) -> AsyncIterator[World]:
    peer, server = Peer(), grpc.aio.server()
    broker_pb2_grpc.add_GRPCBrokerServicer_to_server(peer, server)
    server.add_insecure_port(f"unix:{directory}/main")
    await server.start()
    channel, broker = open_channel(directory / "main"), Broker(directory)
    running = asyncio.create_task(run_client_stream(channel, broker))
    await asyncio.wait_for(peer.opened.wait(), 5)
    yield World(peer, server, broker, running)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.close()
    await channel.close()
    await server.stop(None)


async def test_messages_are_carried_both_ways(world: World) -> None:
    served = await world.broker.accept_and_serve(1, lambda server: None)
    sent = await asyncio.wait_for(world.peer.got.get(), 5)
    assert sent == ConnInfo(service_id=1, network="unix", address=str(served.path))

    world.peer.to_send.put_nowait(ConnInfo(service_id=8, network="unix", address=str(served.path)))
    channel = await world.broker.dial(8)
    await channel.close()


async def test_the_peers_end_is_the_brokers_loss(world: World) -> None:
    dialling = asyncio.create_task(world.broker.dial(1))
    await asyncio.sleep(0)

    world.peer.to_send.put_nowait(None)

    await asyncio.wait_for(world.running, 5)
    with pytest.raises(UnavailableError, match="has ended"):
        await dialling


async def test_a_peer_that_dies_is_the_brokers_loss(world: World) -> None:
    await world.server.stop(None)

    await asyncio.wait_for(world.running, 5)
    assert world.broker.is_lost


async def test_closing_the_broker_tells_the_peer(world: World) -> None:
    await world.broker.close()

    assert await asyncio.wait_for(world.peer.got.get(), 5) is None


async def test_cancelling_the_stream_is_the_brokers_loss(world: World) -> None:
    world.running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await world.running
    assert world.broker.is_lost


async def test_nobody_at_the_other_end_is_the_brokers_loss(directory: Path) -> None:
    channel, broker = open_channel(directory / "nobody"), Broker(directory)

    await asyncio.wait_for(run_client_stream(channel, broker), 5)

    assert broker.is_lost
    await channel.close()
