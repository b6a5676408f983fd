"""Simulated engines: triggers are registered for real, and only firing starts an execution."""

from __future__ import annotations

import asyncio

import pytest

from innkeeper.engine.engine import Engine
from innkeeper.engine.errors import EngineClosedError, EngineDrainingError, TriggerRegistrationError
from innkeeper.store.executions import ExecutionStatus
from innkeeper_sdk.capability import CapabilityError, Origin, TriggerEvent
from innkeeper_sdk.errors import ConflictError, NotFoundError, ProviderError, WorkflowError
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from tests.host.engine.engine_world import (
    WORKFLOW,
    ScriptedModule,
    World,
    answer,
    eventually,
    forever,
    subscription,
    text,
    untext,
)


async def echo(request: ExecuteRequest, run: Run) -> ExecutionResult:
    run.helper.emit_log("echo")
    return answer(f"{request.trigger.id}: {untext(request.trigger.payload)}")


async def simulated(world: World) -> tuple[Engine, ScriptedModule]:
    module = ScriptedModule(handler=echo, subscriptions=[subscription(), subscription()])
    engine = world.engine(module, simulate=True)
    await engine.start()
    return engine, module


async def test_firing_with_a_payload_runs_one_execution_and_returns_its_end(world: World) -> None:
    engine, module = await simulated(world)
    record = await engine.fire(1, text("payload"))
    assert record.status is ExecutionStatus.SUCCESS
    assert ExecutionResult.FromString(record.result) == answer("1: payload")
    assert await world.stores.executions.get(record.execution_id) == record
    assert [line.message for line in await world.stores.logs.lines(execution_id=record.execution_id)] == ["echo"]
    assert module.history == ["started", "executed"]


async def test_firing_without_a_payload_takes_what_the_trigger_would_deliver_next(world: World) -> None:
    engine, _ = await simulated(world)
    world.trigger.following = TriggerEvent(id="2026-01-01T00:05:00Z", payload=text("next"))
    record = await engine.fire(0)
    assert record.event_id == "2026-01-01T00:05:00Z"
    assert ExecutionResult.FromString(record.result) == answer("0: next")
    assert await engine.next_event(0) == world.trigger.following


async def test_firing_the_same_event_again_runs_it_again(world: World) -> None:
    engine, module = await simulated(world)
    world.trigger.following = TriggerEvent(id="same", payload=text("next"))
    first, second = await engine.fire(0), await engine.fire(0)
    assert first.execution_id != second.execution_id
    assert first.status is second.status is ExecutionStatus.SUCCESS
    assert module.history.count("executed") == 2


async def test_firing_a_trigger_that_cannot_tell_waits_for_its_next_event(world: World) -> None:
    engine, module = await simulated(world)
    assert await engine.next_event(0) is None
    first, second = (registration.trigger_id for registration in world.trigger.registrations)
    firing = asyncio.create_task(engine.fire(0))
    await asyncio.sleep(0)
    world.trigger.emit("of another", trigger_id=second)
    await eventually(lambda: 0 in engine._ticks)
    world.trigger.emit("tick", "payload", trigger_id=first)
    record = await asyncio.wait_for(firing, 5)
    assert (record.event_id, record.trigger_index) == ("tick", 0)
    assert module.history.count("executed") == 1


async def test_events_of_a_simulated_workflow_start_nothing_and_are_not_acknowledged(world: World) -> None:
    engine, module = await simulated(world)
    for registration in world.trigger.registrations:
        world.trigger.emit("tick", trigger_id=registration.trigger_id)
    await engine.fire(0, text("payload"))
    assert module.history.count("executed") == 1
    assert len(await world.stores.executions.newest()) == 1


async def test_faults_of_the_triggers_show_before_anything_is_fired(world: World) -> None:
    world.trigger.refuse[f"trigger_reg_{WORKFLOW}_1"] = CapabilityError("bad schedule", origin=Origin.USER)
    with pytest.raises(TriggerRegistrationError, match="bad schedule"):
        await simulated(world)


async def test_a_failing_run_is_an_end_like_others(world: World) -> None:
    async def trap(request: ExecuteRequest, run: Run) -> ExecutionResult:
        raise WorkflowError("trap")

    engine = world.engine(ScriptedModule(handler=trap), simulate=True)
    await engine.start()
    record = await engine.fire(0, text("payload"))
    assert (record.status, record.error) == (ExecutionStatus.FAILED, "trap")


async def test_a_trigger_that_is_not_there_cannot_be_fired(world: World) -> None:
    engine, _ = await simulated(world)
    for index in (-1, 2):
        with pytest.raises(NotFoundError, match=rf"no trigger {index} \(expected 0 to 1"):
            await engine.fire(index, text("payload"))


async def test_a_refused_next_event_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(registration: object) -> None:
        raise CapabilityError("bad schedule", origin=Origin.USER)

    engine, _ = await simulated(world)
    monkeypatch.setattr(world.trigger, "next_event", refuse)
    with pytest.raises(CapabilityError, match="bad schedule"):
        await engine.fire(0)


async def test_a_trigger_that_does_not_say_its_next_event_is_at_fault(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(registration: object) -> None:
        await forever()

    engine, _ = await simulated(world)
    monkeypatch.setattr("innkeeper.engine.engine._NEXT_EVENT", 0.05)
    monkeypatch.setattr(world.trigger, "next_event", hang)
    with pytest.raises(ProviderError, match="did not say its next event"):
        await engine.fire(0)


async def test_only_a_simulated_engine_can_be_fired(world: World) -> None:
    engine, _ = await world.started()
    with pytest.raises(ConflictError, match="only a simulated workflow"):
        await engine.fire(0, text("payload"))


async def test_an_engine_that_drains_or_has_stopped_cannot_be_fired(world: World) -> None:
    engine, _ = await simulated(world)
    engine.drain()
    with pytest.raises(EngineDrainingError):
        await engine.fire(0, text("payload"))
    await engine.close()
    with pytest.raises(EngineClosedError):
        await engine.fire(0, text("payload"))
    with pytest.raises(EngineClosedError):
        await world.engine(ScriptedModule(), simulate=True).fire(0, text("payload"))


async def test_closing_ends_whoever_waits_for_an_end_or_a_tick(world: World) -> None:
    entered = asyncio.Event()

    async def hang(request: ExecuteRequest, run: Run) -> ExecutionResult:
        entered.set()
        await forever()

    engine = world.engine(ScriptedModule(handler=hang, subscriptions=[subscription(), subscription()]), simulate=True)
    await engine.start()
    running = asyncio.create_task(engine.fire(0, text("payload")))
    waiting = asyncio.create_task(engine.fire(1))
    await asyncio.wait_for(entered.wait(), 5)
    await eventually(lambda: 1 in engine._ticks)
    await engine.close()
    for task in (running, waiting):
        with pytest.raises(EngineClosedError):
            await task


async def test_many_can_fire_at_once(world: World) -> None:
    engine, _ = await simulated(world)
    records = await asyncio.gather(*(engine.fire(0, text(str(number))) for number in range(16)))
    results = [ExecutionResult.FromString(record.result) for record in records]
    assert results == [answer(f"0: {number}") for number in range(16)]


async def test_whoever_stops_waiting_leaves_the_execution_to_itself(world: World) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(request: ExecuteRequest, run: Run) -> ExecutionResult:
        entered.set()
        await leave.wait()
        return answer()

    engine = world.engine(ScriptedModule(handler=hold), simulate=True)
    await engine.start()
    firing = asyncio.create_task(engine.fire(0, text("payload")))
    await asyncio.wait_for(entered.wait(), 5)
    firing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await firing
    leave.set()
    (record,) = await world.ended()
    assert record.status is ExecutionStatus.SUCCESS
