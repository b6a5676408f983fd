"""The wall around a provider's capability."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.capabilities.containment import Contained
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
from innkeeper_sdk.errors import ConflictError, NotFoundError, UnavailableError

INFO = CapabilityInfo(id="x@1.0.0", type=CapabilityType.COMBINED)
METADATA = RequestMetadata(workflow_id="cd" * 32, workflow_owner="ab" * 20)
REQUEST = CapabilityRequest(metadata=METADATA, capability_id="x@1.0.0", method="Do", payload=AnyMessage())
REGISTRATION = TriggerRegistration(trigger_id="t", metadata=METADATA, method="Tick", payload=AnyMessage())
EVENT = TriggerEvent(id="e", payload=AnyMessage())
PRIVATE = "key=hunter2"


class Does(Capability):
    """A capability whose every method does what a test says."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.calls: list[str] = []

    @property
    def info(self) -> CapabilityInfo:
        raise AssertionError("the wall has the bound info")

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        return self._do("execute")  # type: ignore[return-value] # providers may return anything

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        return self._do("register_trigger")  # type: ignore[return-value] # providers may return anything

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        self._do("unregister_trigger")

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        self._do(f"ack_event {trigger_id} {event_id} {method}")

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        return self._do("next_event")  # type: ignore[return-value] # providers may return anything

    def _do(self, name: str) -> object:
        self.calls.append(name)
        return self.act()


class Odd(BaseException):
    """An exception that is no Exception."""


class Masked(Exception):
    """An exception that does not let itself be looked at."""

    @property  # type: ignore[misc] # providers may do anything
    def __class__(self) -> type:
        raise SystemExit(PRIVATE)

    def __getattribute__(self, name: str) -> object:
        raise KeyboardInterrupt(PRIVATE)

    def __str__(self) -> str:
        raise SystemExit(PRIVATE)

    __repr__ = __str__


def raises(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def contained(act: Callable[[], object], logger: logging.Logger | None = None) -> Contained:
    return Contained(Does(act), info=INFO, provider_id="p", logger=logger or logging.getLogger("test.containment"))


WORK: list[Callable[[Contained], Awaitable[object]]] = [
    lambda one: one.execute(REQUEST),
    lambda one: one.register_trigger(REGISTRATION),
    lambda one: one.next_event(REGISTRATION),
]
END: list[Callable[[Contained], Awaitable[object]]] = [
    lambda one: one.unregister_trigger(REGISTRATION),
    lambda one: one.ack_event("t", "e", "Tick"),
]


@pytest.mark.parametrize("call", WORK + END)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError(PRIVATE), ErrorCode.Internal),
        (ConflictError(PRIVATE), ErrorCode.Internal),
        (StopAsyncIteration(PRIVATE), ErrorCode.Internal),
        (RecursionError(PRIVATE), ErrorCode.Internal),
        (SystemExit(PRIVATE), ErrorCode.Internal),
        (KeyboardInterrupt(PRIVATE), ErrorCode.Internal),
        (GeneratorExit(PRIVATE), ErrorCode.Internal),
        (Odd(PRIVATE), ErrorCode.Internal),
        (asyncio.CancelledError(PRIVATE), ErrorCode.Internal),
        (TimeoutError(PRIVATE), ErrorCode.DeadlineExceeded),
        (NotFoundError(PRIVATE), ErrorCode.NotFound),
        (UnavailableError(PRIVATE), ErrorCode.Unavailable),
    ],
)
async def test_a_foreign_exception_is_a_private_system_error_without_its_text(
    call: Callable[[Contained], Awaitable[object]],
    error: BaseException,
    code: ErrorCode,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(CapabilityError) as caught:
        await call(contained(raises(error)))
    failure = caught.value
    assert (failure.error_code, failure.origin, failure.visibility) == (code, Origin.SYSTEM, ErrorVisibility.PRIVATE)
    assert failure.serialize().startswith(f"Private:System:{code.name}:capability x@1.0.0 failed: ")
    assert failure.__cause__ is None
    assert failure.__suppress_context__
    (record,) = caplog.records
    assert "provider p: capability x@1.0.0" in record.getMessage()
    assert type(error).__name__ in record.getMessage()
    assert "test_containment.py:" in record.getMessage()
    assert PRIVATE not in failure.serialize() + caplog.text + repr(failure)


@pytest.mark.parametrize("call", WORK + END)
async def test_a_capability_error_passes_as_it_is(call: Callable[[Contained], Awaitable[object]]) -> None:
    error = CapabilityError("said", error_code=ErrorCode.Aborted, origin=Origin.USER)
    with pytest.raises(CapabilityError) as caught:
        await call(contained(raises(error)))
    assert caught.value is error


@pytest.mark.parametrize("call", WORK)
@pytest.mark.parametrize("answer", [7, "text", b"", object()])
async def test_an_answer_of_a_wrong_type_is_the_providers_fault(
    call: Callable[[Contained], Awaitable[object]], answer: object
) -> None:
    with pytest.raises(CapabilityError, match="its provider is at fault"):
        await call(contained(lambda: answer))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), Odd()])
def test_a_provider_does_not_end_the_event_loop_from_within_a_task(error: BaseException) -> None:
    async def host() -> str:
        task = asyncio.create_task(contained(raises(error)).execute(REQUEST))
        await asyncio.wait({task})
        return type(task.exception()).__name__

    assert asyncio.run(host()) == "CapabilityError"


def test_a_call_that_is_thrown_away_closes_its_provider() -> None:
    ended: list[type[BaseException] | None] = []

    class Sleeps(Does):
        async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
            try:
                await asyncio.Event().wait()
            except BaseException as error:
                ended.append(type(error))
                raise
            raise AssertionError("unreachable")

    wall = Contained(Sleeps(lambda: None), info=INFO, provider_id="p", logger=logging.getLogger("test"))
    call = wall.execute(REQUEST)

    loop = asyncio.new_event_loop()
    task = loop.create_task(call)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.close()
    assert ended == []
    call.close()
    assert ended == [GeneratorExit]
    task._log_destroy_pending = False  # type: ignore[attr-defined] # that it never ended is the point


@pytest.mark.parametrize("call", WORK + END)
async def test_an_exception_that_does_not_let_itself_be_looked_at_is_contained(
    call: Callable[[Contained], Awaitable[object]], caplog: pytest.LogCaptureFixture
) -> None:
    def act() -> object:
        raise Masked  # made here: the test runner would look at a parameter

    with pytest.raises(CapabilityError, match="its provider is at fault"):
        await call(contained(act))
    assert ": Masked " in caplog.text


async def test_what_a_provider_does_when_its_method_is_looked_up_is_contained() -> None:
    class Looks(Does):
        @property
        def execute(self) -> object:  # type: ignore[override] # providers may do anything
            raise KeyboardInterrupt

    wall = Contained(Looks(lambda: None), info=INFO, provider_id="p", logger=logging.getLogger("test"))
    with pytest.raises(CapabilityError, match="its provider is at fault"):
        await wall.execute(REQUEST)


async def test_answers_pass() -> None:
    response = CapabilityResponse(payload=AnyMessage(value=b"x"))
    assert await contained(lambda: response).execute(REQUEST) is response
    assert await contained(lambda: EVENT).next_event(REGISTRATION) is EVENT
    assert await contained(lambda: None).next_event(REGISTRATION) is None
    assert contained(lambda: None).info is INFO


class NotAsync(Does):
    """A capability that overrides a coroutine by something else."""

    execute = None  # type: ignore[assignment] # providers may do anything

    def next_event(self, registration: TriggerRegistration) -> TriggerEvent:  # type: ignore[override] # as above
        return EVENT


async def test_a_method_that_is_no_coroutine_is_the_providers_fault() -> None:
    wall = Contained(NotAsync(lambda: None), info=INFO, provider_id="p", logger=logging.getLogger("test"))
    for call in (wall.execute(REQUEST), wall.next_event(REGISTRATION)):
        with pytest.raises(CapabilityError, match="its provider is at fault"):
            await call


async def test_the_callers_cancellation_passes() -> None:
    started = asyncio.Event()

    class Sleeps(Does):
        async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    wall = Contained(Sleeps(lambda: None), info=INFO, provider_id="p", logger=logging.getLogger("test"))
    task = asyncio.create_task(wall.execute(REQUEST))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Events.


async def events(*items: object) -> AsyncIterator[TriggerEvent]:
    for item in items:
        if isinstance(item, BaseException):
            raise item
        yield item  # type: ignore[misc] # providers may deliver anything


async def test_events_pass_and_end() -> None:
    stream = await contained(lambda: events(EVENT, EVENT)).register_trigger(REGISTRATION)
    assert [event async for event in stream] == [EVENT, EVENT]


@pytest.mark.parametrize(
    "item", [RuntimeError(PRIVATE), SystemExit(PRIVATE), KeyboardInterrupt(PRIVATE), Odd(PRIVATE), "no event", None]
)
async def test_what_a_stream_raises_or_delivers_wrongly_is_contained(item: object) -> None:
    stream = await contained(lambda: events(EVENT, item)).register_trigger(REGISTRATION)
    assert await anext(stream) is EVENT
    with pytest.raises(CapabilityError, match="its provider is at fault") as caught:
        await anext(stream)
    assert PRIVATE not in str(caught.value)


async def test_a_stream_can_be_closed_and_its_provider_notices() -> None:
    closed = asyncio.Event()

    async def ticks() -> AsyncIterator[TriggerEvent]:
        try:
            while True:
                yield EVENT
        finally:
            closed.set()

    stream = await contained(ticks).register_trigger(REGISTRATION)
    assert await anext(stream) is EVENT
    await stream.aclose()  # type: ignore[attr-defined] # streams of the wall have it
    assert closed.is_set()


async def test_a_stream_that_cannot_be_closed_is_left_alone() -> None:
    class Plain:
        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> TriggerEvent:
            return EVENT

    stream = await contained(Plain).register_trigger(REGISTRATION)
    assert aiter(stream) is stream
    await stream.aclose()  # type: ignore[attr-defined] # streams of the wall have it
    assert await anext(stream) is EVENT


# Revoked.


async def test_a_revoked_wall_lets_no_work_through_and_lets_what_stands_end() -> None:
    provider = Does(lambda: None)
    wall = Contained(provider, info=INFO, provider_id="p", logger=logging.getLogger("test"))
    wall.revoke()
    for call in WORK:
        with pytest.raises(CapabilityError) as caught:
            await call(wall)
        assert caught.value.error_code is ErrorCode.Unavailable
    assert provider.calls == []
    for call in END:
        await call(wall)
    assert provider.calls == ["unregister_trigger", "ack_event t e Tick"]
