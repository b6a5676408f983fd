"""The registry that a plugin is given, asked over the wire as a plugin asks."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from attrs import define
from google.protobuf.empty_pb2 import Empty

from innkeeper.loop.registry_service import RegistryService
from innkeeper.loop.services import serve_host
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.errors import NotFoundError
from innkeeper_sdk.loop.broker import Broker
from innkeeper_sdk.loop.remote import RemoteCapability, fetch_info
from innkeeper_sdk.loop.serving import CapabilityServices
from innkeeper_sdk.proto.capabilities.capabilities_pb2 import InitialiseRequest
from innkeeper_sdk.proto.loop import capabilities_registry_pb2 as pb
from innkeeper_sdk.proto.loop.capabilities_registry_pb2_grpc import CapabilitiesRegistryStub
from innkeeper_sdk.proto.loop.error_log_pb2 import SaveErrorRequest
from innkeeper_sdk.proto.loop.error_log_pb2_grpc import ErrorLogStub
from innkeeper_sdk.proto.loop.keystore_pb2 import SignRequest
from innkeeper_sdk.proto.loop.keystore_pb2_grpc import KeystoreStub
from tests.host.loop.loop_world import DEADLINE, ECHO, KEY, Book, Upper, payload, request, text_of


@define(eq=False)
class Peers:
    """The two ends of the wire without a process between them."""

    host: Broker
    plugin: Broker
    service: RegistryService
    book: Book
    request: InitialiseRequest
    removed: list[str]
    registry: Any  # the generated stub; its types are those of a blocking channel

    async def dial(self, number: int) -> grpc.aio.Channel:
        return await self.plugin.dial(number)

    async def add(self, capability: Upper, kind: pb.ExecuteAPIType.ValueType) -> CapabilityServices:
        services = CapabilityServices(capability)
        number = self.plugin.next_id()
        await self.plugin.accept_and_serve(number, services.register)
        await self.registry.Add(pb.AddRequest(capabilityID=number, type=kind), timeout=DEADLINE)
        return services


async def carry(source: Broker, target: Broker) -> None:
    while (info := await source.outgoing()) is not None:
        target.receive(info)


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    book = Book(peers={"upper@1.0.0": Upper("upper@1.0.0"), "tick@1.0.0": Upper("tick@1.0.0", CapabilityType.TRIGGER)})
    with tempfile.TemporaryDirectory(prefix="ik-", dir="/tmp") as directory:
        host, plugin = Broker(Path(directory), expiry=2), Broker(Path(directory), expiry=2)
        carrying = [asyncio.create_task(carry(host, plugin)), asyncio.create_task(carry(plugin, host))]
        logger = logging.getLogger("innkeeper.test.loop")
        removed: list[str] = []
        service = RegistryService(
            host,
            provider="toy",
            allowed=(ECHO,),
            peers=book,
            registrar=book,
            host_public_key=KEY,
            logger=logger,
            removed=removed.append,
        )
        served = await serve_host(host, service, config="{}", logger=logger)
        channel = await plugin.dial(served.capRegistry_id)
        yield Peers(host, plugin, service, book, served, removed, CapabilitiesRegistryStub(channel))
        await service.close()
        await service.close()
        await channel.close(None)
        await host.close()
        await plugin.close()
        await asyncio.gather(*carrying)


async def test_every_service_that_a_plugin_dials_has_a_listener_of_its_own_number(peers: Peers) -> None:
    numbers = [
        getattr(peers.request, f"{name}_id")
        for name in (
            *("telemetry", "keyValueStore", "keystore", "error_log", "pipeline_runner"),
            *("relayer_set", "oracle_factory", "gateway_connector", "org_resolver"),
        )
    ]
    assert len({*numbers, peers.request.capRegistry_id, 0}) == 11
    assert (peers.request.cre_settings_id, peers.request.trigger_event_store_id) == (0, 0)
    for number in numbers:
        await (await peers.dial(number)).close(None)


async def test_what_is_not_there_answers_unimplemented(peers: Peers) -> None:
    channel = await peers.dial(peers.request.keystore_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await KeystoreStub(channel).Sign(SignRequest(account="P2P_SIGNER", data=b"x"), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await channel.close(None)


async def test_what_a_plugin_reports_is_logged(peers: Peers, caplog: pytest.LogCaptureFixture) -> None:
    channel = await peers.dial(peers.request.error_log_id)
    await ErrorLogStub(channel).SaveError(SaveErrorRequest(message="alas\n\x1b[2J"), timeout=DEADLINE)
    assert r"a plugin reports: alas\n\x1b[2J" in caplog.text
    await channel.close(None)


async def test_the_node_is_this_host_alone(peers: Peers) -> None:
    assert (await peers.registry.LocalNode(Empty())).peerID == KEY
    assert (await peers.registry.NodeByPeerID(pb.NodeRequest(peerID=KEY))).peerID == KEY
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peers.registry.NodeByPeerID(pb.NodeRequest(peerID=bytes(32)))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    # Their absence would end a Go peer.
    reply = await peers.registry.ConfigForCapability(pb.ConfigForCapabilityRequest(capabilityID="x", donID=1))
    assert reply.HasField("capability_config")
    assert not (await peers.registry.DONsForCapability(pb.DONForCapabilityRequest(capabilityID="x"))).dons
    assert (await peers.registry.DONByID(pb.DONByIDRequest(donID=3))).HasField("don")


async def test_who_asks_again_gets_another_number_of_one_server(peers: Peers) -> None:
    numbers = [
        (await peers.registry.GetExecutable(pb.GetExecutableRequest(id="upper@1.0.0"))).capabilityID for _ in "abc"
    ]
    assert len(set(numbers)) == 3
    for number in numbers:
        channel = await peers.dial(number)
        remote = RemoteCapability(channel, await fetch_info(channel))
        assert text_of(await remote.execute(request("echo", "hello"))) == "HELLO"
        await channel.close(None)
    assert len(peers.service._served) == 1


async def test_what_is_asked_for_is_served_as_it_was_asked_for(peers: Peers) -> None:
    got = await peers.registry.Get(pb.GetRequest(id="tick@1.0.0"))
    assert got.type == pb.EXECUTE_API_TYPE_TRIGGER
    assert (await peers.registry.Get(pb.GetRequest(id="upper@1.0.0"))).type == pb.EXECUTE_API_TYPE_EXECUTE
    await peers.registry.GetTrigger(pb.GetTriggerRequest(id="tick@1.0.0"))
    with pytest.raises(grpc.aio.AioRpcError, match="is no trigger"):
        await peers.registry.GetTrigger(pb.GetTriggerRequest(id="upper@1.0.0"))
    with pytest.raises(grpc.aio.AioRpcError, match="is a trigger and cannot be executed"):
        await peers.registry.GetExecutable(pb.GetExecutableRequest(id="tick@1.0.0"))
    assert len((await peers.registry.List(Empty())).capabilityID) == 2


async def test_what_is_not_there_is_said_in_the_registrys_words(peers: Peers) -> None:
    for call in (
        peers.registry.Get(pb.GetRequest(id="none@1.0.0")),
        peers.registry.GetTrigger(pb.GetTriggerRequest(id="none@1.0.0")),
        peers.registry.GetExecutable(pb.GetExecutableRequest(id="none@1.0.0")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "capability none@1.0.0 not found"


async def test_a_right_that_was_taken_away_is_missed_at_the_next_call(peers: Peers) -> None:
    number = (await peers.registry.GetExecutable(pb.GetExecutableRequest(id="upper@1.0.0"))).capabilityID
    channel = await peers.dial(number)
    remote = RemoteCapability(channel, await fetch_info(channel))
    upper = peers.book.peers["upper@1.0.0"]

    async def gone(_: object) -> object:
        raise NotFoundError("capability upper@1.0.0 not found")

    upper.execute = gone  # type: ignore[method-assign, assignment]  # as the registry's own would at its next call
    with pytest.raises(CapabilityError, match=r"capability upper@1\.0\.0 not found") as caught:
        await remote.execute(request("echo", "x"))
    assert caught.value.error_code is ErrorCode.NotFound
    await channel.close(None)


async def test_what_is_added_is_registered_and_called_over_its_own_connection(peers: Peers) -> None:
    services = await peers.add(Upper(ECHO), pb.EXECUTE_API_TYPE_EXECUTE)
    assert peers.service.added == (ECHO,)
    assert text_of(await peers.book.capabilities[ECHO].execute(request("echo", "hello"))) == "HELLO"
    await peers.registry.Remove(pb.RemoveRequest(id=ECHO))
    await peers.registry.Remove(pb.RemoveRequest(id=ECHO))
    assert ECHO not in peers.service.added
    assert peers.book.history == [f"+{ECHO}", f"-{ECHO}"]
    assert peers.removed == [ECHO]
    await peers.add(Upper(ECHO), pb.EXECUTE_API_TYPE_EXECUTE)
    peers.service.abandon()
    peers.service.abandon()
    assert ECHO not in peers.book.capabilities
    await services.close()


@pytest.mark.parametrize(
    ("capability_id", "said", "words"),
    [
        ("other@1.0.0", pb.EXECUTE_API_TYPE_EXECUTE, "not one of its capabilities"),
        (ECHO, pb.EXECUTE_API_TYPE_TRIGGER, "not what its type"),
        (ECHO, pb.EXECUTE_API_TYPE_UNKNOWN, "not what its type"),
    ],
)
async def test_what_may_not_be_added_is_refused_with_words(
    peers: Peers, capability_id: str, said: pb.ExecuteAPIType.ValueType, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await peers.add(Upper(capability_id), said)
    assert peers.book.history == []


async def test_nothing_is_added_twice_or_when_it_is_over(peers: Peers) -> None:
    await peers.add(Upper(ECHO), pb.EXECUTE_API_TYPE_EXECUTE)
    with pytest.raises(grpc.aio.AioRpcError, match="twice"):
        await peers.add(Upper(ECHO), pb.EXECUTE_API_TYPE_EXECUTE)
    peers.service.abandon()
    with pytest.raises(grpc.aio.AioRpcError, match="is to end"):
        await peers.add(Upper(ECHO), pb.EXECUTE_API_TYPE_EXECUTE)
    with pytest.raises(grpc.aio.AioRpcError, match="not added by this process"):
        await peers.registry.Remove(pb.RemoveRequest(id="other@1.0.0"))


async def test_a_number_that_nobody_serves_is_no_capability(peers: Peers) -> None:
    for number in (0, 77):
        with pytest.raises(grpc.aio.AioRpcError, match=f"broker id {number}"):
            await peers.registry.Add(pb.AddRequest(capabilityID=number, type=pb.EXECUTE_API_TYPE_EXECUTE))


async def test_what_was_asked_for_by_a_range_is_not_handed_out_to_who_asks_by_its_id(peers: Peers) -> None:
    old, new = Upper("upper@1.0.0"), Upper("upper@1.1.0")
    peers.book.peers["upper@1"] = Ranging(peers.book, "upper@1.0.0")
    first = (await peers.registry.GetExecutable(pb.GetExecutableRequest(id="upper@1"))).capabilityID
    # What the range stands for changes; what the id stands for does not.
    peers.book.peers |= {"upper@1": Ranging(peers.book, "upper@1.1.0"), "upper@1.0.0": old, "upper@1.1.0": new}
    second = (await peers.registry.GetExecutable(pb.GetExecutableRequest(id="upper@1.0.0"))).capabilityID
    for number in (first, second):
        channel = await peers.dial(number)
        await RemoteCapability(channel, await fetch_info(channel)).execute(request("echo", "x"))
        await channel.close(None)
    assert new.calls == 0


class Ranging(Upper):
    """Stands for another capability, whichever that is when it is called."""

    def __init__(self, book: Book, found: str) -> None:
        super().__init__(found)
        self._book = book

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        return await self._book.peers[self._book.peers["upper@1"].info.id].execute(request)


async def test_a_list_leaves_out_what_is_gone_since_it_was_made(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = peers.book.list()
    del peers.book.peers["tick@1.0.0"]
    monkeypatch.setattr(Book, "list", lambda _: listed)
    assert len((await peers.registry.List(Empty())).capabilityID) == 1


async def test_a_fault_of_the_host_is_told_without_its_text(
    peers: Peers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Book, "get", broken)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await peers.registry.Get(pb.GetRequest(id="upper@1.0.0"))
    assert caught.value.details() == "the host could not answer: RuntimeError"
    assert "a question of a plugin could not be answered" in caplog.text


async def test_a_trigger_that_does_not_let_go_holds_up_the_end_no_longer_than_it_may(
    peers: Peers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("innkeeper.loop.registry_service._CLOSE_SECONDS", 0.2)
    peers.book.peers["tick@1.0.0"] = Clinging("tick@1.0.0", CapabilityType.TRIGGER)
    number = (await peers.registry.GetTrigger(pb.GetTriggerRequest(id="tick@1.0.0"))).capabilityID
    channel = await peers.dial(number)
    remote = RemoteCapability(channel, await fetch_info(channel))
    await remote.register_trigger(TriggerRegistration("t", request("x").metadata, "Tick", payload("x")))
    async with asyncio.timeout(DEADLINE / 2):
        await peers.service.close()
    assert "does not let go of a plugin's registrations" in caplog.text
    await remote.close()
    await channel.close(None)


class Clinging(Upper):
    """A trigger whose registrations never end."""

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        async def none() -> AsyncIterator[TriggerEvent]:
            await asyncio.Event().wait()
            yield TriggerEvent("1", payload("x"))

        return none()

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        await asyncio.Event().wait()
