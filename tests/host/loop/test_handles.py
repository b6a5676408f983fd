"""A capability until its generation is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from innkeeper.loop.handles import Handle
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    RequestMetadata,
    TriggerEvent,
    TriggerRegistration,
)
from tests.host.loop.loop_world import payload, request

REGISTRATION = TriggerRegistration("t", RequestMetadata("w" * 64, "o" * 40), "Tick", payload("x"))


class Slow(Capability):
    """Waits until it is let go, and counts."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0
        self.cancelled = 0
        self.unregistered = 0

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo("slow@1.0.0", CapabilityType.COMBINED)

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if request.method == "time":
            raise TimeoutError("its own")
        return CapabilityResponse(payload("done"))

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        async def events() -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent("1", payload("x"))
            await asyncio.Event().wait()

        return events()

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        self.unregistered += 1


async def test_what_waits_ends_with_the_generation_and_nothing_new_begins() -> None:
    slow = Slow()
    handle = Handle(slow)
    calls = [asyncio.create_task(handle.execute(request("x"))) for _ in range(3)]
    await asyncio.sleep(0)
    handle.end()
    handle.end()
    for call in calls:
        with pytest.raises(CapabilityError, match=r"the process of capability slow@1\.0\.0 has ended") as caught:
            await call
        assert caught.value.error_code is ErrorCode.Unavailable
    with pytest.raises(CapabilityError):
        await handle.execute(request("x"))
    assert (slow.begun, slow.cancelled) == (3, 3)
    await handle.unregister_trigger(REGISTRATION)
    assert slow.unregistered == 0


async def test_an_answer_passes_and_so_does_the_cancellation_of_the_caller() -> None:
    slow = Slow()
    handle = Handle(slow)
    call = asyncio.create_task(handle.execute(request("x")))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    slow.go.set()
    assert (await handle.execute(request("x"))).payload == payload("done")
    handle.end()


async def test_a_timeout_of_the_capability_is_its_own() -> None:
    slow = Slow()
    slow.go.set()
    with pytest.raises(TimeoutError, match="its own"):
        await Handle(slow).execute(request("time"))


async def test_whatever_else_is_asked_passes_until_the_end() -> None:
    slow = Slow()
    handle = Handle(slow)
    assert handle.info == slow.info
    await handle.ack_event("t", "1", "Tick")
    assert await handle.next_event(REGISTRATION) is None
    events = await handle.register_trigger(REGISTRATION)
    close = getattr(events, "aclose")  # noqa: B009 - not of every iterator
    await close()
    await handle.unregister_trigger(REGISTRATION)
    assert slow.unregistered == 1
    handle.end()
    for call in (handle.ack_event("t", "1", "Tick"), handle.next_event(REGISTRATION)):
        with pytest.raises(CapabilityError):
            await call


async def test_events_end_with_the_generation() -> None:
    slow = Slow()
    handle = Handle(slow)
    events = await handle.register_trigger(REGISTRATION)
    assert (await anext(events)).id == "1"
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    handle.end()
    with pytest.raises(CapabilityError) as caught:
        await waiting
    assert caught.value.error_code is ErrorCode.Unavailable
    with pytest.raises(CapabilityError):
        await handle.register_trigger(REGISTRATION)


async def test_the_end_in_the_moment_of_the_answer_harms_nobody() -> None:
    slow = Slow()
    handle = Handle(slow)
    call = asyncio.create_task(handle.execute(request("x")))
    await asyncio.sleep(0)
    slow.go.set()
    handle.end()
    try:
        await call
    except CapabilityError as error:
        assert error.error_code is ErrorCode.Unavailable  # noqa: PT017 - either outcome is right
    assert not handle._waiting
