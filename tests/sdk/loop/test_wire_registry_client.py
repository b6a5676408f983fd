"""The registry as a plugin sees it, against a raw registry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    RequestMetadata,
)
from innkeeper_sdk.errors import NotFoundError, ProviderError, UnavailableError
from innkeeper_sdk.loop.channels import new_server, open_channel
from innkeeper_sdk.loop.registry_client import RegistryClient
from innkeeper_sdk.loop.serving import CapabilityServices
from innkeeper_sdk.proto.loop.capabilities_registry_pb2_grpc import add_CapabilitiesRegistryServicer_to_server

Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Echo(Capability):
    """Answers with its payload; waits for a go-ahead if it is told to."""

    def __init__(self, capability_id: str) -> None:
        self.id = capability_id
        self.calls = 0
        self.entered = asyncio.Event()

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(id=self.id, type=CapabilityType.ACTION)

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.calls += 1
        self.entered.set()
        if request.method == "Wait":
            await asyncio.Event().wait()
        return CapabilityResponse(payload=request.payload)


class Node:
    """Serves by number, and dials what it serves."""

    def __init__(self, directory: Path, registry_class: Any) -> None:
        self.directory = directory
        self.servers: dict[int, grpc.aio.Server] = {}
        self.dialled: list[int] = []
        self.refuse = False
        self.registry = registry_class(self)
        self.client: RegistryClient
        self.channel: grpc.aio.Channel

    async def serve(self, register: Callable[[grpc.aio.Server], None]) -> int:
        number = len(self.servers) + 1
        self.servers[number] = server = new_server()
        register(server)
        server.add_insecure_port(f"unix:{self.directory}/n{number}")
        await server.start()
        return number

    async def dial(self, number: int) -> grpc.aio.Channel:
        if self.refuse:
            raise UnavailableError("no connection")
        self.dialled.append(number)
        channel = open_channel(self.directory / f"n{number}")
        await channel.channel_ready()
        return channel

    def offer(self, echo: Echo) -> None:
        self.registry.offered[echo.id] = CapabilityServices(echo).register

    def asked(self, capability_id: str) -> int:
        count: int = self.registry.calls.count(("GetExecutable", capability_id))
        return count


@pytest.fixture
async def node(tmp_path: Path, raw_registry: Any) -> AsyncIterator[Node]:
    made = Node(tmp_path, raw_registry)
    number = await made.serve(lambda server: add_CapabilitiesRegistryServicer_to_server(made.registry, server))
    made.channel = open_channel(tmp_path / f"n{number}")
    made.client = RegistryClient(made.channel, made)
    yield made
    await made.client.close()
    await made.channel.close()
    for server in made.servers.values():
        await server.stop(None)


def request(
    capability_id: str = "echo@1.0.0", method: str = "Echo", deadline: float | None = None
) -> CapabilityRequest:
    return CapabilityRequest(
        metadata=RequestMetadata(workflow_id="w", workflow_owner="o"),
        capability_id=capability_id,
        method=method,
        payload=AnyMessage(value=b"p"),
        deadline=deadline,
    )


async def test_many_calls_ask_for_one_connection(node: Node) -> None:
    echo = Echo("echo@1.0.0")
    node.offer(echo)

    answers = await asyncio.gather(*(node.client.execute(request()) for _ in range(20)))
    await node.client.execute(request())

    assert [answer.payload.value for answer in answers] == [b"p"] * 20
    assert echo.calls == 21
    assert node.asked("echo@1.0.0") == 1


async def test_an_unknown_id_is_told_as_the_host_tells_it_and_asked_for_again(node: Node) -> None:
    for _ in range(2):
        with pytest.raises(NotFoundError, match=r"no capability echo@1.0.0 in sight"):
            await node.client.execute(request())
    node.offer(Echo("echo@1.0.0"))

    assert (await node.client.execute(request())).payload.value == b"p"
    assert node.asked("echo@1.0.0") == 3


async def test_everybody_who_waits_for_a_connection_that_fails_is_told(node: Node) -> None:
    node.offer(Echo("echo@1.0.0"))
    node.refuse = True

    failures = await asyncio.gather(*(node.client.execute(request()) for _ in range(3)), return_exceptions=True)

    assert [type(failure) for failure in failures] == [UnavailableError] * 3
    assert node.asked("echo@1.0.0") == 1
    node.refuse = False
    await node.client.execute(request())


async def test_a_call_that_meets_the_loss_fails_and_the_next_asks_anew(node: Node) -> None:
    echo = Echo("echo@1.0.0")
    node.offer(echo)
    waiting = asyncio.ensure_future(node.client.execute(request(method="Wait")))
    await asyncio.wait_for(echo.entered.wait(), 5)

    await node.servers[node.dialled[-1]].stop(None)

    with pytest.raises(CapabilityError) as failed:
        await asyncio.wait_for(waiting, 5)
    assert failed.value.error_code is ErrorCode.Unavailable
    assert echo.calls == 1
    await node.client.execute(request())
    assert node.asked("echo@1.0.0") == 2


async def test_every_call_under_way_fails_when_the_connection_is_lost_and_none_is_cancelled(node: Node) -> None:
    echo = Echo("echo@1.0.0")
    node.offer(echo)
    waiting = [asyncio.ensure_future(node.client.execute(request(method="Wait"))) for _ in range(5)]
    while echo.calls < 5:
        await asyncio.wait_for(echo.entered.wait(), 5)
        echo.entered.clear()

    await node.servers[node.dialled[-1]].stop(None)

    failures = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [type(failure) for failure in failures] == [CapabilityError] * 5


async def test_a_connection_that_was_lost_in_between_is_replaced_without_a_failure(node: Node, until: Until) -> None:
    node.offer(Echo("echo@1.0.0"))
    await node.client.execute(request())
    await node.servers[node.dialled[-1]].stop(None)
    (task,) = node.client._remotes.values()
    await until(lambda: not task.result().connected)

    assert (await node.client.execute(request())).payload.value == b"p"


async def test_a_caller_who_gives_up_does_not_take_the_connection_from_others(node: Node) -> None:
    node.offer(Echo("echo@1.0.0"))
    gives_up = asyncio.ensure_future(node.client.execute(request()))
    stays = asyncio.ensure_future(node.client.execute(request()))
    await asyncio.sleep(0)

    gives_up.cancel()

    assert (await stays).payload.value == b"p"
    assert node.asked("echo@1.0.0") == 1


async def test_a_deadline_counts_while_the_connection_is_made(node: Node) -> None:
    node.offer(Echo("echo@1.0.0"))

    with pytest.raises(CapabilityError) as failed:
        await node.client.execute(request(deadline=time.monotonic() - 1))

    assert failed.value.error_code is ErrorCode.DeadlineExceeded


async def test_the_list_is_sorted_and_keeps_no_connection(node: Node) -> None:
    for capability_id in ("c@1.0.0", "a@1.0.0", "b@1.0.0"):
        node.offer(Echo(capability_id))

    infos = await node.client.list()

    assert [info.id for info in infos] == ["a@1.0.0", "b@1.0.0", "c@1.0.0"]
    assert await node.client.list() == infos


async def test_a_list_that_cannot_be_had_is_an_error(node: Node) -> None:
    node.offer(Echo("a@1.0.0"))
    node.refuse = True

    with pytest.raises(UnavailableError):
        await node.client.list()


@pytest.mark.parametrize(("peer_id", "key"), [(b"", None), (b"k" * 32, b"k" * 32)])
async def test_the_hosts_key_is_that_of_its_node(node: Node, peer_id: bytes, key: bytes | None) -> None:
    node.registry.peer_id = peer_id

    assert await node.client.host_public_key() == key


@pytest.mark.parametrize("size", [1, 31, 33])
async def test_a_key_of_another_length_is_refused(node: Node, size: int) -> None:
    node.registry.peer_id = b"k" * size

    with pytest.raises(ProviderError, match=f"expected 32 bytes, found {size} bytes"):
        await node.client.host_public_key()


async def test_a_capability_is_added_with_its_kind_and_removed(node: Node) -> None:
    number = await node.serve(CapabilityServices(Echo("own@1.0.0")).register)

    await node.client.add(number, CapabilityType.ACTION)
    assert node.registry.kinds == {"own@1.0.0": 2}
    await node.client.remove("own@1.0.0")
    assert node.registry.added == {}


async def test_what_the_host_refuses_is_told_in_its_words(node: Node) -> None:
    node.registry.refusal = "Public:User:PermissionDenied:not yours"
    number = await node.serve(CapabilityServices(Echo("own@1.0.0")).register)

    with pytest.raises(CapabilityError, match="not yours") as refused:
        await node.client.add(number, CapabilityType.ACTION)

    assert refused.value.error_code is ErrorCode.PermissionDenied


async def test_a_registry_that_is_gone_is_unavailable_and_named_without_its_address(node: Node) -> None:
    await node.servers[1].stop(None)

    calls = (
        node.client.execute(request()),
        node.client.list(),
        node.client.host_public_key(),
        node.client.add(9, CapabilityType.ACTION),
        node.client.remove("a@1.0.0"),
    )
    for call in calls:
        with pytest.raises(CapabilityError, match="the registry is not available") as failed:
            await call
        assert failed.value.error_code is ErrorCode.Unavailable
        assert str(node.directory) not in str(failed.value)


async def test_closing_ends_what_is_under_way_and_can_be_repeated(node: Node) -> None:
    echo = Echo("echo@1.0.0")
    node.offer(echo)
    waiting = asyncio.ensure_future(node.client.execute(request(method="Wait")))
    await asyncio.wait_for(echo.entered.wait(), 5)

    await node.client.close()
    await node.client.close()

    with pytest.raises(CapabilityError):
        await asyncio.wait_for(waiting, 5)
