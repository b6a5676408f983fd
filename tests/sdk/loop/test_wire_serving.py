"""The services of one capability, asked with raw gRPC over a real socket."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    Origin,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.loop.channels import new_server, open_channel
from innkeeper_sdk.loop.serving import CapabilityServices
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.capabilities import capabilities_pb2_grpc as rpc

SECRET = "hunter2"  # noqa: S105 - it must not be seen
PRIVATE = "Private:System:Internal:the capability failed unexpectedly; the log of its process says where"
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Probe(Capability):
    """Does what the method says, and takes note of what happens to it."""

    def __init__(self, kind: CapabilityType = CapabilityType.COMBINED) -> None:
        self.kind = kind
        self.requests: list[CapabilityRequest] = []
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.unregistered: list[str] = []
        self.registered: list[str] = []
        self.acknowledged: list[tuple[str, str, str]] = []
        self.stands = asyncio.Event()
        self.stands.set()
        self.events: asyncio.Queue[Any] = asyncio.Queue()

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(id="probe@1.0.0", type=self.kind)

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.requests.append(request)
        match request.method:
            case "Echo":
                return CapabilityResponse(payload=request.payload)
            case "Refuse":
                raise CapabilityError("no", error_code=ErrorCode.PermissionDenied, origin=Origin.USER)
            case "Raise":
                raise ValueError(SECRET)
            case "None":
                return None  # type: ignore[return-value] # a fault
            case "Odd":
                return CapabilityResponse(payload=SECRET)  # type: ignore[arg-type] # a fault
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        if registration.method == "Refuse":
            raise CapabilityError("no", error_code=ErrorCode.InvalidArgument)
        if registration.method == "Raise":
            raise ValueError(SECRET)
        self.entered.set()
        await self.stands.wait()
        self.registered.append(registration.trigger_id)
        return self._events()

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        self.unregistered.append(registration.trigger_id)
        if registration.method == "Sticky":
            raise CapabilityError("it sticks")
        if registration.method == "Broken":
            raise ValueError(SECRET)

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        if method == "Raise":
            raise ValueError(SECRET)
        self.acknowledged.append((trigger_id, event_id, method))

    async def _events(self) -> AsyncIterator[TriggerEvent]:
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


class World:
    """A capability, its server and a channel to it."""

    def __init__(self, probe: Probe, services: CapabilityServices, server: grpc.aio.Server, channel: grpc.aio.Channel):
        self.probe, self.services, self.server, self.channel = probe, services, server, channel

    async def execute(self, method: str, **options: Any) -> list[pb.CapabilityResponse]:
        call = rpc.ExecutableStub(self.channel).Execute(request(method), **({"timeout": 10} | options))
        return [answer async for answer in call]

    def register(self, method: str = "Tick", trigger_id: str = "t") -> Any:
        return rpc.TriggerExecutableStub(self.channel).RegisterTrigger(registration(method, trigger_id), timeout=30)

    async def unregister(self, method: str = "Tick", trigger_id: str = "t") -> None:
        await rpc.TriggerExecutableStub(self.channel).UnregisterTrigger(registration(method, trigger_id), timeout=10)


def request(method: str) -> pb.CapabilityRequest:
    return pb.CapabilityRequest(
        metadata=pb.RequestMetadata(workflow_id="w"), payload=AnyMessage(value=b"p"), method=method
    )


def registration(method: str, trigger_id: str) -> pb.TriggerRegistrationRequest:
    return pb.TriggerRegistrationRequest(
        triggerId=trigger_id, metadata=pb.RequestMetadata(workflow_id="w"), payload=AnyMessage(), method=method
    )


def event(name: str) -> TriggerEvent:
    return TriggerEvent(id=name, payload=AnyMessage(value=name.encode()))


Build = Callable[..., Awaitable[World]]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    made: list[World] = []

    async def make(kind: CapabilityType = CapabilityType.COMBINED, as_kind: CapabilityType | None = None) -> World:
        probe, server = Probe(kind), new_server()
        services = CapabilityServices(probe, kind=as_kind)
        services.register(server)
        path = tmp_path / f"s{len(made)}"
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        made.append(World(probe, services, server, open_channel(path)))
        return made[-1]

    yield make
    for world in made:
        await world.channel.close()
        await world.server.stop(None)
        await world.services.close()


@pytest.fixture
async def world(build: Build) -> World:
    return await build()


# Which services.


@pytest.mark.parametrize(
    ("kind", "as_kind", "executable", "trigger"),
    [
        (CapabilityType.TRIGGER, None, False, True),
        (CapabilityType.ACTION, None, True, False),
        (CapabilityType.CONSENSUS, None, True, False),
        (CapabilityType.TARGET, None, True, False),
        (CapabilityType.COMBINED, None, True, True),
        (CapabilityType.COMBINED, CapabilityType.TRIGGER, False, True),
    ],
)
async def test_the_type_says_which_services_there_are(
    build: Build, kind: CapabilityType, as_kind: CapabilityType | None, executable: bool, trigger: bool
) -> None:
    world = await build(kind, as_kind)

    async def has(call: Any) -> bool:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.UNIMPLEMENTED
        return True

    info = await rpc.BaseCapabilityStub(world.channel).Info(Empty(), timeout=5)
    assert info.capability_type == list(CapabilityType).index(kind) + 1
    assert await has(world.execute("Echo")) is executable
    assert await has(rpc.TriggerExecutableStub(world.channel).AckEvent(pb.AckEventRequest(), timeout=5)) is trigger


# Execute.


async def test_a_call_has_exactly_one_answer(world: World) -> None:
    (answer,) = await world.execute("Echo")

    assert (answer.payload.value, answer.error) == (b"p", "")
    assert answer.HasField("value")
    assert answer.HasField("metadata")


async def test_a_capabilitys_error_is_a_message_in_four_parts(world: World) -> None:
    (answer,) = await world.execute("Refuse")

    assert answer.error == "Public:User:PermissionDenied:no"
    assert not answer.HasField("payload")


@pytest.mark.parametrize("method", ["Raise", "None", "Odd"])
async def test_any_other_fault_is_private_and_its_text_is_nowhere(
    world: World, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    (answer,) = await world.execute(method)

    assert answer.error == PRIVATE
    assert f"probe@1.0.0, method {method}" in caplog.text
    assert SECRET not in caplog.text


async def test_the_log_says_where_a_fault_was(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        await world.execute("Raise")

    assert "ValueError at test_wire_serving.py:" in caplog.text


async def test_a_call_without_metadata_is_refused_in_a_message(world: World) -> None:
    call = rpc.ExecutableStub(world.channel).Execute(pb.CapabilityRequest(payload=AnyMessage()), timeout=5)

    answer = await call.read()

    assert answer.error.startswith("Public:System:InvalidArgument:")
    assert world.probe.requests == []


async def test_deadline_and_idempotency_key_reach_the_capability(world: World) -> None:
    await world.execute("Echo", timeout=30, metadata=(("x-innkeeper-idempotency-key", "k"),))

    (got,) = world.probe.requests
    assert got.deadline is not None
    assert got.deadline - time.monotonic() == pytest.approx(30, abs=5)
    assert (got.idempotency_key, got.capability_id) == ("k", "probe@1.0.0")


async def test_without_a_deadline_the_capability_sees_none(world: World) -> None:
    await world.execute("Echo", timeout=None)

    assert world.probe.requests[0].deadline is None


@pytest.mark.parametrize("how", ["cancel", "deadline", "connection"])
async def test_a_caller_who_goes_is_noticed(world: World, how: str) -> None:
    call = rpc.ExecutableStub(world.channel).Execute(request("Wait"), timeout=0.3 if how == "deadline" else None)
    reading = asyncio.ensure_future(call.read())
    await asyncio.wait_for(world.probe.entered.wait(), 5)

    if how == "cancel":
        call.cancel()
    elif how == "connection":
        await world.channel.close()

    await asyncio.wait_for(world.probe.cancelled.wait(), 5)
    await asyncio.gather(reading, return_exceptions=True)


async def test_being_registered_to_a_workflow_is_taken_note_of(world: World) -> None:
    stub = rpc.ExecutableStub(world.channel)

    assert await stub.RegisterToWorkflow(pb.RegisterToWorkflowRequest(), timeout=5) == Empty()
    assert await stub.UnregisterFromWorkflow(pb.UnregisterFromWorkflowRequest(), timeout=5) == Empty()


# Triggers.


async def test_a_registration_is_acknowledged_once_it_stands(world: World) -> None:
    world.probe.stands.clear()
    call = world.register()
    first = asyncio.ensure_future(call.read())
    await asyncio.wait_for(world.probe.entered.wait(), 5)
    assert not first.done()

    world.probe.stands.set()

    assert (await first).WhichOneof("message") == "ack"
    world.probe.events.put_nowait(event("1"))
    second = await call.read()
    assert (second.response.event.id, second.response.event.triggerType) == ("1", "probe@1.0.0")
    call.cancel()


@pytest.mark.parametrize(("method", "text"), [("Refuse", "Public:System:InvalidArgument:no"), ("Raise", PRIVATE)])
async def test_a_registration_that_fails_is_an_error_in_the_first_message(world: World, method: str, text: str) -> None:
    messages = [message async for message in world.register(method)]

    assert [message.response.error for message in messages] == [text]


async def test_a_refused_registration_is_not_unregistered(world: World) -> None:
    async for _ in world.register("Refuse"):
        pass

    assert world.probe.unregistered == []


async def test_a_registration_without_metadata_is_refused_in_a_message(world: World) -> None:
    call = rpc.TriggerExecutableStub(world.channel).RegisterTrigger(pb.TriggerRegistrationRequest(), timeout=5)

    messages = [message async for message in call]

    assert len(messages) == 1
    assert messages[0].response.error.startswith("Public:System:InvalidArgument:")


@pytest.mark.parametrize("fault", [CapabilityError("over"), ValueError(SECRET), None])
async def test_the_end_of_the_events_is_the_end_of_the_stream_and_unregisters(
    world: World, fault: Exception | None, until: Until
) -> None:
    world.probe.events.put_nowait(event("1"))
    world.probe.events.put_nowait(fault)

    messages = [message async for message in world.register()]

    texts = {type(None): [], CapabilityError: ["Public:System:Unknown:over"], ValueError: [PRIVATE]}
    assert [message.response.error for message in messages[2:]] == texts[type(fault)]
    await until(lambda: world.probe.unregistered == ["t"])


async def test_an_event_that_is_none_is_a_fault(world: World) -> None:
    world.probe.events.put_nowait("no event")

    messages = [message async for message in world.register()]

    assert messages[-1].response.error == PRIVATE


@pytest.mark.parametrize("how", ["cancel", "connection", "server"])
async def test_a_stream_that_ends_unregisters_exactly_once(world: World, how: str, until: Until) -> None:
    call = world.register()
    await call.read()

    if how == "cancel":
        call.cancel()
    elif how == "connection":
        await world.channel.close()
    else:
        await world.server.stop(None)

    await until(lambda: bool(world.probe.unregistered))
    await world.services.close()
    assert world.probe.unregistered == ["t"]


async def test_unregistering_ends_the_stream_and_unregisters_exactly_once(world: World) -> None:
    call = world.register()
    await call.read()

    await world.unregister()

    assert await call.read() is grpc.aio.EOF
    await world.services.close()
    assert world.probe.unregistered == ["t"]


async def test_unregistering_what_is_unknown_asks_the_capability(world: World) -> None:
    await world.unregister(trigger_id="u")

    assert world.probe.unregistered == ["u"]


async def test_registering_anew_ends_the_earlier_registration_first(world: World) -> None:
    first = world.register()
    await first.read()

    second = world.register()

    assert (await second.read()).WhichOneof("message") == "ack"
    assert await first.read() is grpc.aio.EOF
    assert (world.probe.registered, world.probe.unregistered) == (["t", "t"], ["t"])
    second.cancel()


async def test_a_registration_that_is_ended_while_it_begins_is_unregistered_after_it_stands(
    world: World, until: Until
) -> None:
    world.probe.stands.clear()
    call = world.register()
    first = asyncio.ensure_future(call.read())
    await asyncio.wait_for(world.probe.entered.wait(), 5)
    ending = asyncio.ensure_future(world.unregister())
    await asyncio.wait([ending], timeout=0.1)
    assert world.probe.unregistered == []

    world.probe.stands.set()

    await asyncio.wait_for(ending, 5)
    assert (world.probe.registered, world.probe.unregistered) == (["t"], ["t"])
    await first
    assert await call.read() is grpc.aio.EOF


async def test_what_cannot_be_unregistered_is_told_to_who_asked_and_logged_otherwise(
    world: World, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    call = world.register("Sticky")
    await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await world.unregister("Sticky")
    assert (told.value.code(), told.value.details()) == (
        grpc.StatusCode.UNKNOWN,
        "Public:System:Unknown:it sticks",
    )

    broken = world.register("Broken", "u")
    await broken.read()
    broken.cancel()
    await until(lambda: "trigger probe@1.0.0 could not be unregistered" in caplog.text)
    assert SECRET not in caplog.text


async def test_acknowledgements_reach_the_capability_and_faults_stay_private(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    stub = rpc.TriggerExecutableStub(world.channel)
    await stub.AckEvent(pb.AckEventRequest(trigger_id="t", event_id="e", method="Tick"), timeout=5)
    assert world.probe.acknowledged == [("t", "e", "Tick")]

    with pytest.raises(grpc.aio.AioRpcError) as told:
        await stub.AckEvent(pb.AckEventRequest(method="Raise"), timeout=5)
    assert told.value.details() == PRIVATE
    assert SECRET not in caplog.text


async def test_a_hundred_registrations_at_once_on_one_server(world: World, until: Until) -> None:
    calls = [world.register(trigger_id=f"t{number}") for number in range(100)]
    firsts = await asyncio.gather(*(call.read() for call in calls))
    assert all(first.WhichOneof("message") == "ack" for first in firsts)

    for call in calls:
        call.cancel()

    await until(lambda: len(world.probe.unregistered) == 100)
    assert sorted(world.probe.unregistered) == sorted(f"t{number}" for number in range(100))
