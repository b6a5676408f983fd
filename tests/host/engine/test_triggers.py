"""Triggers that are lost after they were registered, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from innkeeper.engine.backoff import Backoff
from innkeeper.engine.engine import Engine
from innkeeper.engine.errors import TriggerRegistrationError
from innkeeper.engine.ports import ResolvedCapability
from innkeeper.engine.triggers import Trigger
from innkeeper_sdk.capability import CapabilityError, ErrorCode, TriggerEvent, TriggerRegistration
from tests.host.engine.engine_world import (
    ACTION,
    TRIGGER,
    ScriptedModule,
    ScriptedTrigger,
    World,
    eventually,
    forever,
    subscription,
    text,
)


async def healthy(engine: Engine) -> None:
    """Wait until no trigger is silent."""
    await eventually(lambda: not engine.faults)


@pytest.mark.parametrize("loss", [None, CapabilityError("the provider crashed", error_code=ErrorCode.Internal)])
async def test_a_lost_trigger_is_registered_again_and_its_events_come(world: World, loss: Exception | None) -> None:
    engine, _ = await world.started()
    world.trigger.put(loss)
    await world.trigger.until(lambda: len(world.trigger.registrations) == 2)
    await healthy(engine)
    world.trigger.emit("after")
    (record,) = await world.ended()
    assert record.event_id == "after"
    assert world.trigger.registrations[0] == world.trigger.registrations[1]


async def test_a_trigger_whose_provider_went_says_so_until_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    engine, _ = await world.started()
    world.registry.unregister("test", TRIGGER)
    with caplog.at_level(logging.WARNING):
        world.trigger.put(CapabilityError("connection lost"))
        await eventually(lambda: "not available" in " ".join(engine.faults))
    assert engine.faults == [f"trigger 0 ({TRIGGER}): [14]Unavailable: capability {TRIGGER} is not available"]
    assert "could not be registered again" in caplog.text

    replacement = ScriptedTrigger()
    world.registry.register("test", replacement)
    await replacement.until(lambda: len(replacement.registrations) == 1)
    await healthy(engine)
    replacement.emit("from the new one")
    (record,) = await world.ended()
    assert record.event_id == "from the new one"
    assert [event for _, event in replacement.acknowledged] == ["from the new one"]


@pytest.mark.parametrize("first", ["its events end", "it is unregistered"])
async def test_a_trigger_whose_process_died_is_registered_as_soon_as_the_next_one_is_there(
    world: World, first: str
) -> None:
    # With pauses this long, only the capability's return can be what wakes it.
    engine, _ = await world.started(backoff=Backoff(first=3600.0, most=3600.0))
    died = CapabilityError("connection lost", error_code=ErrorCode.Unavailable)
    for generation in range(2, 5):
        trigger_before = world.trigger
        if first == "its events end":
            trigger_before.put(died)
            await eventually(lambda: engine.faults)
            assert engine.faults == [f"trigger 0 ({TRIGGER}): [14]Unavailable: connection lost"]
            world.registry.unregister("test", TRIGGER)
        else:
            world.registry.unregister("test", TRIGGER)
            trigger_before.put(died)
            await eventually(lambda: engine.faults)
        # Something else that changes in the registry is no reason to try.
        world.registry.unregister("test", ACTION)
        world.registry.register("test", world.action)
        world.trigger = ScriptedTrigger()
        world.registry.register("test", world.trigger)
        await world.trigger.until(lambda: len(world.trigger.registrations) == 1)
        await healthy(engine)
        world.trigger.emit(f"of generation {generation}")
        records = await world.ended(generation - 1)
        assert records[-1].event_id == f"of generation {generation}"


async def test_a_trigger_that_fails_at_a_capability_that_stands_waits_its_pause(world: World) -> None:
    engine, _ = await world.started(backoff=Backoff(first=3600.0, most=3600.0))
    world.trigger.put(CapabilityError("broken"))
    await eventually(lambda: engine.faults)
    # What wakes it finds the same object under the id.
    world.registry.unregister("test", ACTION)
    world.registry.register("test", world.action)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(world.trigger.registrations) == 1
    async with asyncio.timeout(5):
        await engine.close()


async def test_one_lost_trigger_leaves_the_others_alone(world: World) -> None:
    module = ScriptedModule(subscriptions=[subscription(), subscription()])
    engine = world.engine(module)
    await engine.start()
    first, second = (registration.trigger_id for registration in world.trigger.registrations)
    world.registry.unregister("test", TRIGGER)
    world.trigger.put(None, trigger_id=first)
    world.trigger.emit("of the second", trigger_id=second)
    (record,) = await world.ended()
    assert (record.event_id, record.trigger_index) == ("of the second", 1)


async def test_a_trigger_that_refuses_to_let_go_keeps_nobody_from_closing(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(registration: object) -> None:
        raise CapabilityError("no")

    engine, module = await world.started()
    monkeypatch.setattr(world.trigger, "unregister_trigger", refuse)
    await engine.close()
    assert module.history == ["started", "closed"]
    assert "a trigger could not be unregistered" in caplog.text


async def test_a_trigger_that_hangs_when_it_lets_go_is_left(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(registration: object) -> None:
        await forever()

    monkeypatch.setattr("innkeeper.engine.triggers._COURTESY", 0.05)
    engine, module = await world.started()
    monkeypatch.setattr(world.trigger, "unregister_trigger", hang)
    async with asyncio.timeout(5):
        await engine.close()
    assert module.history == ["started", "closed"]
    assert "a trigger could not be unregistered" in caplog.text


async def test_closing_unregisters_each_trigger_once(world: World) -> None:
    module = ScriptedModule(subscriptions=[subscription(), subscription()])
    engine = world.engine(module)
    await engine.start()
    await engine.close()
    await engine.close()
    assert sorted(world.trigger.unregistered) == sorted(one.trigger_id for one in world.trigger.registrations)


class Odd(BaseException):
    """An exception that is no Exception."""


SECRET = "key=hunter2"  # noqa: S105 - what no log may keep


@pytest.mark.parametrize("error", [KeyboardInterrupt(SECRET), SystemExit(SECRET), Odd(SECRET), GeneratorExit(SECRET)])
async def test_what_is_no_exception_deafens_no_workflow(
    world: World, error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    register, registered = world.trigger.register_trigger, 0

    async def broken() -> AsyncIterator[TriggerEvent]:
        raise error
        yield TriggerEvent(id="unreachable", payload=text(""))

    async def first_broken(registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        nonlocal registered
        registered += 1
        return broken() if registered == 1 else await register(registration)

    monkeypatch.setattr(world.trigger, "register_trigger", first_broken)
    engine, _ = await world.started()
    await world.trigger.until(lambda: len(world.trigger.registrations) == 1)
    await healthy(engine)
    world.trigger.emit("after")
    (record,) = await world.ended()
    assert record.event_id == "after"
    assert SECRET not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("error", [ZeroDivisionError(SECRET), Odd(SECRET)])
async def test_a_fault_that_nobody_contained_is_logged_by_its_class_and_the_trigger_registered_again(
    world: World, error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    events, asked = Trigger.events, 0

    def broken(trigger: Trigger) -> AsyncIterator[TriggerEvent]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise error
        return events(trigger)

    resolve, resolved = Trigger.resolve, 0

    def resolve_broken(trigger: Trigger) -> ResolvedCapability:
        nonlocal resolved
        resolved += 1
        if resolved == 2:
            raise error
        return resolve(trigger)

    monkeypatch.setattr(Trigger, "events", broken)
    monkeypatch.setattr(Trigger, "resolve", resolve_broken)
    engine, _ = await world.started()
    await world.trigger.until(lambda: len(world.trigger.registrations) == 2)
    await healthy(engine)
    world.trigger.emit("after")
    (record,) = await world.ended()
    assert record.event_id == "after"
    reasons = [vars(record)["reason"] for record in caplog.records if "reason" in vars(record)]
    assert reasons == [type(error).__name__] * 2


async def test_a_refusal_in_foreign_words_is_told_by_its_class(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(trigger: Trigger) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(Trigger, "register", broken)
    with pytest.raises(TriggerRegistrationError, match=r"failed to register trigger 0 .*: ZeroDivisionError$"):
        await world.started()


async def test_a_trigger_that_fails_when_it_is_cancelled_keeps_nobody_from_closing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.Event()

    async def stubborn() -> AsyncIterator[TriggerEvent]:
        try:
            waiting.set()
            await forever()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        yield TriggerEvent(id="unreachable", payload=text(""))

    async def register(registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        return stubborn()

    monkeypatch.setattr(world.trigger, "register_trigger", register)
    engine, module = await world.started()
    await waiting.wait()
    async with asyncio.timeout(5):
        await engine.close()
    assert module.history == ["started", "closed"]
