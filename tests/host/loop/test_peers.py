"""A capability of the host's registry, as a plugin is served it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from innkeeper.loop.peers import Peer
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.errors import NotFoundError, UnavailableError
from tests.host.loop.loop_world import payload, request

REGISTRATION = TriggerRegistration("t", request("x").metadata, "Tick", payload("x"))


class Failing(Capability):
    """Raises one error, whatever it is asked."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo("x@1.0.0", CapabilityType.COMBINED)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        self._check()
        return CapabilityResponse(payload("done"))

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        self._check()

        async def none() -> AsyncIterator[TriggerEvent]:
            return
            yield

        return none()

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        self._check()

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        self._check()


CALLS: list[Callable[[Capability], Coroutine[Any, Any, Any]]] = [
    lambda capability: capability.execute(request("x")),
    lambda capability: capability.register_trigger(REGISTRATION),
    lambda capability: capability.unregister_trigger(REGISTRATION),
    lambda capability: capability.ack_event("t", "1", "Tick"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (NotFoundError("capability x@1.0.0 not found"), ErrorCode.NotFound, "capability x@1.0.0 not found"),
        (UnavailableError("not yet", hint="wait"), ErrorCode.Unavailable, "not yet"),
        (CapabilityError("its own", error_code=ErrorCode.Aborted), ErrorCode.Aborted, "its own"),
    ],
)
async def test_an_error_is_told_as_one_of_a_capability(
    call: Callable[[Capability], Coroutine[Any, Any, Any]], error: Exception, code: ErrorCode, text: str
) -> None:
    with pytest.raises(CapabilityError) as caught:
        await call(Peer(Failing(error), owner="toy"))
    assert (caught.value.error_code, caught.value.message) == (code, text)


@pytest.mark.parametrize("call", CALLS)
async def test_what_succeeds_passes(call: Callable[[Capability], Coroutine[Any, Any, Any]]) -> None:
    await call(Peer(Failing(None), owner="toy"))


async def test_the_registrations_of_a_plugin_stand_under_its_providers_name() -> None:
    told: list[str] = []

    class Trigger(Failing):
        async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
            told.append(registration.trigger_id)
            return await super().register_trigger(registration)

        async def unregister_trigger(self, registration: TriggerRegistration) -> None:
            told.append(registration.trigger_id)

        async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
            told.append(trigger_id)

    for call in CALLS[1:]:
        await call(Peer(Trigger(None), owner="toy"))
    assert told == ["toy/t"] * 3
