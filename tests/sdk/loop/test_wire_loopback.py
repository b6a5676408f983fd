"""One capability, called here and through the wire: the two are alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

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
    ErrorVisibility,
    Origin,
    RequestMetadata,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.loop.channels import new_server, open_channel
from innkeeper_sdk.loop.remote import RemoteCapability, fetch_info
from innkeeper_sdk.loop.serving import CapabilityServices

METADATA = RequestMetadata(workflow_id="a" * 64, workflow_owner="b" * 40, workflow_execution_id="c" * 64)
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Ticker(Capability):
    """Ticks three times for each registration, and fails as it is told to."""

    def __init__(self) -> None:
        self.standing: set[str] = set()
        self.unregistered: list[str] = []

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(id="ticker@1.0.0", type=CapabilityType.COMBINED, description="ticks")

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        if request.method != "Echo":
            visibility, origin, code = request.method.split()
            raise CapabilityError(
                "a: b: c",
                error_code=ErrorCode[code],
                origin=Origin(origin),
                visibility=ErrorVisibility(visibility),
            )
        return CapabilityResponse(payload=request.payload)

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        self.standing.add(registration.trigger_id)
        return self._ticks(registration)

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        self.standing.discard(registration.trigger_id)
        self.unregistered.append(registration.trigger_id)

    async def _ticks(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        for number in range(3):
            yield TriggerEvent(id=f"{registration.trigger_id}-{number}", payload=registration.payload)
        await asyncio.Event().wait()


class World:
    def __init__(self, here: Ticker, there: RemoteCapability) -> None:
        self.here, self.there = here, there


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    ticker, server = Ticker(), new_server()
    services = CapabilityServices(ticker)
    services.register(server)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with open_channel(tmp_path / "s") as channel:
        remote = RemoteCapability(channel, await fetch_info(channel))
        yield World(ticker, remote)
        await remote.close()
    await server.stop(None)
    await services.close()


def request(method: str, payload: bytes = b"") -> CapabilityRequest:
    message = AnyMessage(type_url="t/x", value=payload)
    return CapabilityRequest(metadata=METADATA, capability_id="ticker@1.0.0", method=method, payload=message)


def registration(trigger_id: str) -> TriggerRegistration:
    return TriggerRegistration(
        trigger_id=trigger_id, metadata=METADATA, method="Tick", payload=AnyMessage(value=trigger_id.encode())
    )


async def test_they_say_the_same_of_themselves(world: World) -> None:
    assert world.there.info == world.here.info


@pytest.mark.parametrize("size", [0, 1024, 5_000_000])
async def test_they_answer_the_same(world: World, size: int) -> None:
    call = request("Echo", b"x" * size)

    assert await world.there.execute(call) == await world.here.execute(call)


@pytest.mark.parametrize("visibility", ErrorVisibility)
@pytest.mark.parametrize("origin", Origin)
async def test_they_fail_the_same(world: World, visibility: ErrorVisibility, origin: Origin) -> None:
    for code in ErrorCode:
        call = request(f"{visibility.value} {origin.value} {code.name}")
        with pytest.raises(CapabilityError) as here:
            await world.here.execute(call)
        with pytest.raises(CapabilityError) as there:
            await world.there.execute(call)
        assert there.value.serialize() == here.value.serialize()


async def test_a_hundred_registrations_get_their_own_events_and_end_once(world: World) -> None:
    names = [f"t{number}" for number in range(100)]

    async def drain(name: str) -> list[str]:
        events = await world.there.register_trigger(registration(name))
        ids = [(await anext(events)).id for _ in range(3)]
        await world.there.unregister_trigger(registration(name))
        return ids

    drained = await asyncio.gather(*map(drain, names))

    assert drained == [[f"{name}-{number}" for number in range(3)] for name in names]
    assert world.here.standing == set()
    assert sorted(world.here.unregistered) == sorted(names)


async def test_registering_anew_starts_anew_and_leaves_one_standing(world: World, until: Until) -> None:
    first = await world.there.register_trigger(registration("t"))
    await anext(first)

    again = await world.there.register_trigger(registration("t"))

    assert (await anext(again)).id == "t-0"
    await until(lambda: world.here.unregistered == ["t"])


async def test_a_side_that_closes_leaves_nothing_standing(world: World, until: Until) -> None:
    await world.there.register_trigger(registration("t"))

    await world.there.close()

    await until(lambda: world.here.standing == set())
