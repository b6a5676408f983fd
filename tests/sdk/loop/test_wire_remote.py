"""A capability of another process, against a raw server that does what a peer may do."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityType,
    ErrorCode,
    ErrorVisibility,
    Origin,
    RequestMetadata,
    TriggerRegistration,
)
from innkeeper_sdk.loop.channels import new_server, open_channel
from innkeeper_sdk.loop.remote import RemoteCapability, fetch_info
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.capabilities import capabilities_pb2_grpc as rpc

INFO = CapabilityInfo(id="probe@1.0.0", type=CapabilityType.COMBINED)
METADATA = RequestMetadata(workflow_id="0xAA", workflow_owner="BB")
ACK = pb.TriggerResponseMessage(ack=Empty())
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def answer(text: str) -> pb.CapabilityResponse:
    return pb.CapabilityResponse(payload=AnyMessage(value=text.encode()))


def event(name: str) -> pb.TriggerResponseMessage:
    message = pb.TriggerResponseMessage()
    message.response.event.id = name
    message.response.event.payload.value = name.encode()
    return message


def failure(text: str) -> pb.TriggerResponseMessage:
    return pb.TriggerResponseMessage(response=pb.TriggerResponse(error=text))


class Peer(rpc.BaseCapabilityServicer, rpc.ExecutableServicer, rpc.TriggerExecutableServicer):
    """Sends what it was told to, and takes note of what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        # What each stream sends, by the order in which they were opened.
        self.messages: defaultdict[int, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.streams = 0
        self.info = pb.CapabilityInfoReply(id="probe@1.0.0", capability_type=pb.CAPABILITY_TYPE_ACTION)
        self.asked: list[Any] = []
        self.metadata: dict[str, str] = {}
        self.remaining: float | None = None
        self.open_streams = 0
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.fault: tuple[grpc.StatusCode, str] | None = None

    async def Info(self, request: Empty, context: Any) -> pb.CapabilityInfoReply:
        self.remaining = context.time_remaining()
        await self._maybe_fail(context)
        return self.info

    async def Execute(self, request: pb.CapabilityRequest, context: Any) -> None:  # type: ignore[override] # a coroutine that writes
        self.asked.append(request)
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        self.entered.set()
        for message in self.answers:
            if message is None:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled.set()
            await context.write(message)
        await self._maybe_fail(context)

    async def RegisterTrigger(self, request: pb.TriggerRegistrationRequest, context: Any) -> None:  # type: ignore[override] # likewise
        self.asked.append(request)
        messages = self.messages[self.streams]
        self.streams += 1
        self.open_streams += 1
        try:
            while (message := await messages.get()) is not None:
                if isinstance(message, tuple):
                    await context.abort(*message)
                await context.write(message)
        finally:
            self.open_streams -= 1

    async def UnregisterTrigger(self, request: pb.TriggerRegistrationRequest, context: Any) -> Empty:
        self.asked.append(request)
        await self._maybe_fail(context)
        return Empty()

    async def AckEvent(self, request: pb.AckEventRequest, context: Any) -> Empty:
        self.asked.append(request)
        await self._maybe_fail(context)
        return Empty()

    async def RegisterToWorkflow(self, request: Any, context: Any) -> Empty:
        raise AssertionError("is not asked")

    async def UnregisterFromWorkflow(self, request: Any, context: Any) -> Empty:
        raise AssertionError("is not asked")

    async def _maybe_fail(self, context: Any) -> None:
        if self.fault is not None:
            await context.abort(*self.fault)


class World:
    """A peer, its server, and what is tested."""

    def __init__(self, peer: Peer, server: grpc.aio.Server, channel: grpc.aio.Channel) -> None:
        self.peer, self.server, self.channel = peer, server, channel
        self.remote = RemoteCapability(channel, INFO)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    peer, server = Peer(), new_server()
    rpc.add_BaseCapabilityServicer_to_server(peer, server)
    rpc.add_ExecutableServicer_to_server(peer, server)
    rpc.add_TriggerExecutableServicer_to_server(peer, server)
    server.add_insecure_port(f"unix:{tmp_path}/socket-of-the-peer")
    await server.start()
    made = World(peer, server, open_channel(tmp_path / "socket-of-the-peer"))
    yield made
    await made.remote.close()
    await made.channel.close()
    await server.stop(None)


def request(deadline: float | None = None, key: str = "") -> CapabilityRequest:
    return CapabilityRequest(
        metadata=METADATA,
        capability_id="probe@1.0.0",
        method="M",
        payload=AnyMessage(value=b"p"),
        deadline=deadline,
        idempotency_key=key,
    )


def registration(trigger_id: str = "t") -> TriggerRegistration:
    return TriggerRegistration(trigger_id=trigger_id, metadata=METADATA, method="Tick", payload=AnyMessage())


def parts(error: CapabilityError) -> tuple[ErrorCode, Origin, ErrorVisibility]:
    return error.error_code, error.origin, error.visibility


LOST = (ErrorCode.Unavailable, Origin.SYSTEM, ErrorVisibility.PUBLIC)


# Info.


async def test_info_is_what_the_peer_says(world: World) -> None:
    assert await fetch_info(world.channel) == CapabilityInfo(id="probe@1.0.0", type=CapabilityType.ACTION)


async def test_info_may_take_longer_than_a_busy_machine_needs_and_not_for_ever(world: World) -> None:
    await fetch_info(world.channel)

    assert world.peer.remaining is not None
    assert 5 < world.peer.remaining <= 10.1


async def test_an_info_of_unknown_type_is_an_error(world: World) -> None:
    world.peer.info.capability_type = pb.CAPABILITY_TYPE_UNKNOWN

    with pytest.raises(CapabilityError, match="no known type"):
        await fetch_info(world.channel)


async def test_info_from_nobody_is_unavailable(tmp_path: Path) -> None:
    async with open_channel(tmp_path / "nobody") as channel:
        with pytest.raises(CapabilityError) as failed:
            await fetch_info(channel)

    assert parts(failed.value) == LOST


# Execute.


async def test_a_call_carries_who_when_and_under_which_key(world: World) -> None:
    world.peer.answers = [answer("a")]

    got = await world.remote.execute(request(time.monotonic() + 30, "key"))

    assert got.payload.value == b"a"
    (asked,) = world.peer.asked
    assert (asked.method, asked.capabilityId, asked.payload.value) == ("M", "probe@1.0.0", b"p")
    assert asked.HasField("config")
    assert asked.HasField("inputs")
    assert world.peer.remaining == pytest.approx(30, abs=5)
    said = {key: value for key, value in world.peer.metadata.items() if key.startswith("x-")}
    assert said == {
        "x-chainlink-owner": "bb",
        "x-chainlink-workflow": "aa",
        "x-innkeeper-idempotency-key": "key",
    }


async def test_without_a_deadline_there_is_none_on_the_wire(world: World) -> None:
    world.peer.answers = [answer("a")]

    await world.remote.execute(request())

    assert world.peer.remaining is None


@pytest.mark.parametrize(("answers", "said"), [([], "no answer"), ([answer("a"), answer("b")], "more than one answer")])
async def test_anything_but_exactly_one_answer_is_an_error(world: World, answers: list[Any], said: str) -> None:
    world.peer.answers = answers

    with pytest.raises(CapabilityError, match=said) as failed:
        await world.remote.execute(request())

    assert failed.value.error_code is ErrorCode.Internal


async def test_an_error_in_the_answer_is_raised_as_it_is(world: World) -> None:
    world.peer.answers = [pb.CapabilityResponse(error="Private:User:LimitExceeded:too much: more")]

    with pytest.raises(CapabilityError) as failed:
        await world.remote.execute(request())

    assert failed.value.message == "too much: more"
    assert parts(failed.value) == (ErrorCode.LimitExceeded, Origin.USER, ErrorVisibility.PRIVATE)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (grpc.StatusCode.UNAVAILABLE, ErrorCode.Unavailable),
        (grpc.StatusCode.UNKNOWN, ErrorCode.Unavailable),
        (grpc.StatusCode.INTERNAL, ErrorCode.Unavailable),
        (grpc.StatusCode.CANCELLED, ErrorCode.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ErrorCode.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ErrorCode.ResourceExhausted),
        (grpc.StatusCode.UNIMPLEMENTED, ErrorCode.Unimplemented),
    ],
)
async def test_a_failure_on_the_way_is_public_and_names_no_address(
    world: World, code: grpc.StatusCode, told: ErrorCode
) -> None:
    world.peer.fault = (code, "dial unix:/secret/place: hunter2")

    with pytest.raises(CapabilityError) as failed:
        await world.remote.execute(request())

    assert parts(failed.value) == (told, Origin.SYSTEM, ErrorVisibility.PUBLIC)
    assert failed.value.message.startswith("capability probe@1.0.0 ")
    assert not any(word in failed.value.message for word in ("/", "unix", "hunter2"))


@pytest.mark.parametrize("how", ["server", "channel"])
async def test_the_loss_of_the_connection_under_a_call_is_unavailable(world: World, how: str) -> None:
    world.peer.answers = [None]
    calling = asyncio.ensure_future(world.remote.execute(request()))
    await asyncio.wait_for(world.peer.entered.wait(), 5)

    await (world.server.stop(None) if how == "server" else world.channel.close())

    with pytest.raises(CapabilityError) as failed:
        await asyncio.wait_for(calling, 5)
    assert parts(failed.value) == LOST
    assert "socket-of-the-peer" not in str(failed.value)


async def test_nobody_at_the_other_end_is_unavailable(tmp_path: Path) -> None:
    async with open_channel(tmp_path / "nobody-is-here") as channel:
        with pytest.raises(CapabilityError) as failed:
            await RemoteCapability(channel, INFO).execute(request())

    assert parts(failed.value) == LOST
    assert "nobody-is-here" not in str(failed.value)


async def test_a_call_ends_at_its_deadline(world: World) -> None:
    world.peer.answers = [None]

    with pytest.raises(CapabilityError) as failed:
        await world.remote.execute(request(time.monotonic() + 0.2))

    assert failed.value.error_code is ErrorCode.DeadlineExceeded
    await asyncio.wait_for(world.peer.cancelled.wait(), 5)


async def test_cancelling_a_call_cancels_it_in_the_other_process(world: World) -> None:
    world.peer.answers = [None]
    calling = asyncio.ensure_future(world.remote.execute(request()))
    await asyncio.wait_for(world.peer.entered.wait(), 5)

    calling.cancel()

    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.wait_for(world.peer.cancelled.wait(), 5)


async def test_a_call_is_sent_once_whatever_happens(world: World) -> None:
    world.peer.fault = (grpc.StatusCode.UNAVAILABLE, "")

    with pytest.raises(CapabilityError):
        await world.remote.execute(request())

    assert len(world.peer.asked) == 1


# Triggers.


def send(world: World, *messages: Any, stream: int = 0) -> None:
    for message in messages:
        world.peer.messages[stream].put_nowait(message)


async def test_events_come_in_order_until_the_stream_ends(world: World) -> None:
    send(world, ACK, event("1"), event("2"), None)

    events = await world.remote.register_trigger(registration())

    assert [(got.id, got.payload.value) async for got in events] == [("1", b"1"), ("2", b"2")]
    (asked,) = world.peer.asked
    assert (asked.triggerId, asked.method, asked.metadata.workflow_owner) == ("t", "Tick", "BB")


async def test_a_registration_returns_once_it_is_acknowledged(world: World, until: Until) -> None:
    registering = asyncio.ensure_future(world.remote.register_trigger(registration()))
    await until(lambda: world.peer.open_streams == 1)
    assert not registering.done()

    send(world, ACK)

    await asyncio.wait_for(registering, 5)


@pytest.mark.parametrize(
    ("first", "said", "code"),
    [
        (failure("Public:User:InvalidArgument:bad"), "bad", ErrorCode.InvalidArgument),
        (failure("bare"), "bare", ErrorCode.Unknown),
        (event("1"), "sent an event before", ErrorCode.Internal),
        (pb.TriggerResponseMessage(), "sent an empty message", ErrorCode.Internal),
        (None, "ended without saying", ErrorCode.Internal),
        ((grpc.StatusCode.UNAVAILABLE, "unix:/x"), "did not answer", ErrorCode.Unavailable),
    ],
)
async def test_a_first_message_that_is_no_acknowledgement_refuses(
    world: World, first: Any, said: str, code: ErrorCode, until: Until
) -> None:
    send(world, first)

    with pytest.raises(CapabilityError, match=said) as failed:
        await world.remote.register_trigger(registration())

    assert failed.value.error_code is code
    await until(lambda: world.peer.open_streams == 0)


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (ACK, "acknowledged twice"),
        (pb.TriggerResponseMessage(), "empty message"),
        (failure("Public:System:Aborted:over"), "over"),
        (pb.TriggerResponseMessage(response=pb.TriggerResponse()), "without an id"),
        ((grpc.StatusCode.UNAVAILABLE, "unix:/x"), "did not answer"),
    ],
)
async def test_what_is_out_of_order_later_is_an_error_and_the_end(
    world: World, later: Any, said: str, until: Until
) -> None:
    send(world, ACK, event("1"), later)
    events = await world.remote.register_trigger(registration())
    assert (await anext(events)).id == "1"

    with pytest.raises(CapabilityError, match=said):
        await anext(events)

    with pytest.raises(StopAsyncIteration):
        await anext(events)
    await until(lambda: world.peer.open_streams == 0)


@pytest.mark.parametrize("how", ["server", "channel"])
async def test_the_loss_of_the_connection_is_an_error_and_the_end(world: World, how: str) -> None:
    send(world, ACK)
    events = await world.remote.register_trigger(registration())
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)

    await (world.server.stop(None) if how == "server" else world.channel.close())

    with pytest.raises(CapabilityError) as failed:
        await asyncio.wait_for(waiting, 5)
    assert parts(failed.value) == LOST
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_the_stream_outlives_who_asked_for_it_and_who_reads_it(world: World) -> None:
    send(world, ACK)
    events = await asyncio.create_task(world.remote.register_trigger(registration()))
    reading = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    send(world, event("1"))

    assert (await asyncio.wait_for(anext(events), 5)).id == "1"
    assert world.peer.open_streams == 1


async def test_a_registration_that_nobody_waits_for_any_more_is_ended(world: World, until: Until) -> None:
    registering = asyncio.ensure_future(world.remote.register_trigger(registration()))
    await until(lambda: world.peer.open_streams == 1)

    registering.cancel()

    await until(lambda: world.peer.open_streams == 0)
    await asyncio.gather(registering, return_exceptions=True)


async def test_a_registration_that_is_given_up_at_once_leaves_no_stream(world: World, until: Until) -> None:
    for _ in range(5):
        registering = asyncio.ensure_future(world.remote.register_trigger(registration()))
        await asyncio.sleep(0)
        registering.cancel()
        await asyncio.gather(registering, return_exceptions=True)

    await world.remote.unregister_trigger(registration())
    await until(lambda: world.peer.open_streams == 0)


async def test_unregistering_tells_the_peer_and_ends_the_stream(world: World, until: Until) -> None:
    send(world, ACK)
    events = await world.remote.register_trigger(registration())

    await world.remote.unregister_trigger(registration())

    assert isinstance(world.peer.asked[-1], pb.TriggerRegistrationRequest)
    await until(lambda: world.peer.open_streams == 0)
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_unregistering_fails_as_the_peer_says_and_ends_the_stream_all_the_same(
    world: World, until: Until
) -> None:
    send(world, ACK)
    await world.remote.register_trigger(registration())
    world.peer.fault = (grpc.StatusCode.UNKNOWN, "Public:System:Aborted:not now")

    with pytest.raises(CapabilityError) as failed:
        await world.remote.unregister_trigger(registration())

    assert (failed.value.error_code, failed.value.message) == (ErrorCode.Aborted, "not now")
    await until(lambda: world.peer.open_streams == 0)


async def test_what_is_unknown_can_be_unregistered(world: World) -> None:
    await world.remote.unregister_trigger(registration("unknown"))

    assert world.peer.asked[-1].triggerId == "unknown"


async def test_registering_the_same_id_anew_ends_the_earlier_stream(world: World, until: Until) -> None:
    send(world, ACK)
    earlier = await world.remote.register_trigger(registration())
    again = asyncio.ensure_future(world.remote.register_trigger(registration()))
    with pytest.raises(StopAsyncIteration):
        await anext(earlier)
    send(world, ACK, event("new"), stream=1)

    assert (await anext(await again)).id == "new"


async def test_closing_ends_every_stream(world: World, until: Until) -> None:
    send(world, ACK)
    send(world, ACK, stream=1)
    await world.remote.register_trigger(registration("a"))
    await world.remote.register_trigger(registration("b"))

    await world.remote.close()
    await world.remote.close()

    await until(lambda: world.peer.open_streams == 0)


async def test_events_that_nobody_takes_stay_with_the_peer(world: World, until: Until) -> None:
    big = event("big")
    big.response.event.payload.value = b"x" * 100_000
    send(world, ACK, *[big] * 200)

    events = await world.remote.register_trigger(registration())

    await until(lambda: world.peer.messages[0].qsize() < 200)
    await asyncio.sleep(0.2)
    assert world.peer.messages[0].qsize() > 100
    assert (await anext(events)).id == "big"


async def test_acknowledgements_are_passed_on(world: World) -> None:
    await world.remote.ack_event("t", "e", "Tick")

    assert world.peer.asked == [pb.AckEventRequest(trigger_id="t", event_id="e", method="Tick")]
    world.peer.fault = (grpc.StatusCode.UNAVAILABLE, "unix:/x")
    with pytest.raises(CapabilityError) as failed:
        await world.remote.ack_event("t", "e", "Tick")
    assert parts(failed.value) == LOST
