"""Triggers that are lost after they were registered, and how they end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from innkeeper.engine.engine import Engine
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from tests.host.engine.engine_world import (
    TRIGGER,
    ScriptedModule,
    ScriptedTrigger,
    World,
    eventually,
    forever,
    subscription,
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
