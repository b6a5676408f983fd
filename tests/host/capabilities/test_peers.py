"""The registry as a provider's process has it: the same rights, asked anew at every call."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from attrs import evolve
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.capabilities.peers import ProviderPeers
from innkeeper.capabilities.registry import Registry
from innkeeper.loop.peers import Peers
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
    Visibility,
)
from innkeeper_sdk.errors import NotFoundError
from innkeeper_sdk.manifest import CapabilityDeclaration, Method

HIDDEN, OPEN, TRIGGER = "hidden@1.0.0", "open@1.0.0", "ticks@1.0.0"


class Echo(Capability):
    """A capability that remembers what it was asked."""

    def __init__(self, id_: str, type_: CapabilityType = CapabilityType.ACTION) -> None:
        self._info = CapabilityInfo(id=id_, type=type_)
        self.asked: list[str] = []

    @property
    def info(self) -> CapabilityInfo:
        return self._info

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self.asked.append(request.capability_id)
        return CapabilityResponse(payload=AnyMessage(type_url=self._info.id))

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        self.asked.append("register")

        async def events() -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent("one", AnyMessage())

        return events()

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        self.asked.append("unregister")

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        self.asked.append(f"ack {event_id}")

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        return TriggerEvent("next", AnyMessage())


def declaration(id_: str, type_: CapabilityType, visibility: Visibility = Visibility.INTERNAL) -> CapabilityDeclaration:
    return CapabilityDeclaration(id=id_, type=type_, visibility=visibility, methods={"Do": Method()})


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.declare(
        "owner",
        [
            declaration(HIDDEN, CapabilityType.ACTION),
            declaration(OPEN, CapabilityType.ACTION, Visibility.PUBLIC),
            declaration(TRIGGER, CapabilityType.TRIGGER),
        ],
    )
    registry.register("owner", Echo(HIDDEN))
    registry.register("owner", Echo(OPEN))
    registry.register("owner", Echo(TRIGGER, CapabilityType.TRIGGER))
    registry.grant("friend", [HIDDEN, TRIGGER])
    return registry


def request(capability_id: str = HIDDEN) -> CapabilityRequest:
    return CapabilityRequest(
        metadata=RequestMetadata("", ""), capability_id=capability_id, method="Do", payload=AnyMessage()
    )


REGISTRATION = TriggerRegistration("t", RequestMetadata("", ""), "Do", AnyMessage())


def test_a_process_sees_what_its_provider_may_use_and_nothing_else(registry: Registry) -> None:
    friend: Peers = ProviderPeers(registry, "friend")
    assert [info.id for info in friend.list()] == [HIDDEN, OPEN, TRIGGER]
    assert [info.id for info in ProviderPeers(registry, "stranger").list()] == [OPEN]
    assert friend.get("hidden@1.0.0").info.methods["Do"].name == "Do"


@pytest.mark.parametrize("asked", [HIDDEN, TRIGGER, "nothing@1.0.0", "hidden", "", "hidden@1.0.0-0", "Hidden@1.0.0"])
def test_what_a_provider_may_not_use_is_not_there_for_its_process(registry: Registry, asked: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        ProviderPeers(registry, "stranger").get(asked)
    assert str(caught.value) == str(registry.not_found(asked))


async def test_a_right_that_was_taken_away_is_gone_from_what_was_handed_out(registry: Registry) -> None:
    hidden = ProviderPeers(registry, "friend").get(HIDDEN)
    trigger = ProviderPeers(registry, "friend").get(TRIGGER)
    assert (await hidden.execute(request())).payload.type_url == HIDDEN
    registry.grant("friend", [])
    for attempt in (
        hidden.execute(request()),
        trigger.register_trigger(REGISTRATION),
        trigger.unregister_trigger(REGISTRATION),
        trigger.ack_event("t", "e", "Do"),
        trigger.next_event(REGISTRATION),
    ):
        with pytest.raises(NotFoundError, match="not found"):
            await attempt


async def test_what_was_handed_out_is_called_and_not_what_the_request_names(registry: Registry) -> None:
    hidden = Echo(HIDDEN)
    registry.unregister("owner", HIDDEN)
    registry.register("owner", hidden)
    handed = ProviderPeers(registry, "friend").get(HIDDEN)
    for named in (OPEN, "nothing@1.0.0", ""):
        assert (await handed.execute(request(named))).payload.type_url == HIDDEN
    assert hidden.asked == [HIDDEN] * 3


async def test_what_is_not_ready_is_handed_out_and_unavailable_until_it_is_there(registry: Registry) -> None:
    registry.unregister("owner", HIDDEN)
    handed = ProviderPeers(registry, "friend").get(HIDDEN)
    with pytest.raises(CapabilityError) as caught:
        await handed.execute(request())
    assert caught.value.error_code is ErrorCode.Unavailable
    registry.register("owner", Echo(HIDDEN))
    assert (await handed.execute(evolve(request(), method="Other"))).payload.type_url == HIDDEN


async def test_a_trigger_is_registered_acknowledged_and_unregistered_through_it(registry: Registry) -> None:
    trigger = Echo(TRIGGER, CapabilityType.TRIGGER)
    registry.unregister("owner", TRIGGER)
    registry.register("owner", trigger)
    handed = ProviderPeers(registry, "friend").get(TRIGGER)
    assert [event.id async for event in await handed.register_trigger(REGISTRATION)] == ["one"]
    await handed.ack_event("t", "one", "Do")
    await handed.unregister_trigger(REGISTRATION)
    assert trigger.asked == ["register", "ack one", "unregister"]
    following = await handed.next_event(REGISTRATION)
    assert following is not None
    assert following.id == "next"
