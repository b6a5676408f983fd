"""Draining, closing and recovering: nothing is begun that cannot be ended, and nothing accepted is forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from innkeeper.engine.engine import Engine, EngineState
from innkeeper.store.executions import ExecutionStatus
from innkeeper.store.journal import EntryKind
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from tests.host.engine.engine_world import (
    ScriptedModule,
    World,
    answer,
    ask,
    eventually,
    forever,
    open_world,
    text,
    untext,
)


class Gate:
    """A handler that holds each execution until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.leave = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        self.entered.release()
        try:
            await self.leave.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return answer()

    async def running(self) -> None:
        """Wait until another execution runs."""
        async with asyncio.timeout(5):
            await self.entered.acquire()


async def test_closing_an_idle_engine_ends_registrations_then_the_module(world: World) -> None:
    engine, module = await world.started()
    await engine.close()
    assert engine.state is EngineState.CLOSED
    assert world.trigger.registered == {}
    assert module.history == ["started", "closed"]


async def test_closing_an_engine_that_never_started_closes_its_module(world: World) -> None:
    module = ScriptedModule()
    await world.engine(module).close()
    assert module.history == ["closed"]


async def test_closing_ends_what_runs_before_it_closes_the_module_and_returns_last(world: World) -> None:
    gate = Gate()
    engine, module = await world.started(gate)
    world.trigger.emit("event")
    await gate.running()
    await engine.close()
    assert module.history == ["started", "executed", "closed"]
    assert gate.cancelled == 1
    assert engine.active == 0


async def test_everybody_who_closes_waits_for_the_one_end(world: World) -> None:
    engine, module = await world.started()
    await asyncio.gather(*(engine.close() for _ in range(16)))
    assert module.history == ["started", "closed"]


async def test_a_closing_that_is_given_up_goes_on(world: World) -> None:
    engine, module = await world.started()
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await engine.close()
    assert module.history == ["started", "closed"]


async def test_a_module_that_cannot_be_closed_keeps_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ScriptedModule):
        async def close(self) -> None:
            raise ValueError("no")

    engine = world.engine(Broken())
    await engine.start()
    await engine.close()
    assert "a module could not be closed" in caplog.text


async def test_a_module_that_hangs_when_it_is_closed_keeps_nobody(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(ScriptedModule):
        async def close(self) -> None:
            await forever()

    monkeypatch.setattr("innkeeper.engine.engine._CLOSE", 0.05)
    engine = world.engine(Hanging())
    await engine.start()
    async with asyncio.timeout(5):
        await engine.close()
    assert "a module could not be closed" in caplog.text


async def test_draining_lets_what_runs_end_and_begins_nothing(world: World) -> None:
    gate = Gate()
    engine, module = await world.started(gate)
    world.trigger.emit("runs")
    await gate.running()
    engine.drain()
    engine.drain()
    assert engine.state is EngineState.DRAINING
    world.trigger.emit("comes too late")
    assert not await engine.wait_idle(0.01)
    gate.leave.set()
    assert await engine.wait_idle(5)
    (record,) = await world.ended()
    assert record.status is ExecutionStatus.SUCCESS
    assert [event for _, event in world.trigger.acknowledged] == ["runs"]
    assert gate.cancelled == 0
    await engine.close()
    assert module.history == ["started", "executed", "closed"]


async def test_what_waits_when_an_engine_drains_stays_for_the_next_one(tmp_path: Path) -> None:
    gate = Gate()
    async with open_world(tmp_path, limits={"PerWorkflow.ExecutionConcurrencyLimit": 1}) as world:
        engine, _ = await world.started(gate)
        world.trigger.emit("runs")
        await gate.running()
        world.trigger.emit("waits")
        await world.trigger.until(lambda: len(world.trigger.acknowledged) == 2)
        engine.drain()
        gate.leave.set()
        assert await engine.wait_idle(5)
        assert engine.queued == 1
        await engine.close()
        assert len(await world.ended(1)) == 1

        _, module = await world.started()
        records = await world.ended(2)
        assert [(record.event_id, record.attempt) for record in records] == [("runs", 1), ("waits", 1)]
        assert module.history.count("executed") == 1


async def test_what_is_cut_off_is_tried_again_by_the_next_engine_under_the_same_id(world: World) -> None:
    gate = Gate()
    engine, _ = await world.started(gate)
    world.trigger.emit("event", "payload")
    await gate.running()
    running = await world.status(ExecutionStatus.RUNNING)
    await engine.close()
    stored = await world.stores.executions.get(running.execution_id)
    assert stored is not None
    assert stored.status is ExecutionStatus.RUNNING

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        return answer(f"{untext(request.trigger.payload)} in attempt {run.attempt}")

    await world.started(handler)
    (record,) = await world.ended()
    assert (record.execution_id, record.attempt) == (running.execution_id, 2)
    assert ExecutionResult.FromString(record.result) == answer("payload in attempt 2")


async def test_a_cut_off_call_that_may_not_be_repeated_ends_in_doubt_and_the_guest_is_not_told(world: World) -> None:
    calling = asyncio.Event()

    async def never(request: object) -> None:
        calling.set()
        await forever()

    told: list[object] = []

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        try:
            told.append(await run.helper.call_capability(ask(1)))
        except Exception as error:
            told.append(error)
            raise
        return answer()

    world.action.on_call = never  # type: ignore[assignment] # it never answers
    engine, _ = await world.started(handler)
    world.trigger.emit("event")
    await asyncio.wait_for(calling.wait(), 5)
    await engine.close()

    await world.started(handler)
    (record,) = await world.ended()
    assert (record.status, record.attempt) == (ExecutionStatus.IN_DOUBT, 2)
    assert "call 1 was made, its answer was lost" in record.error
    assert len(world.action.calls) == 1
    assert told == []
    kept = [(entry.kind, entry.callback_id) for entry in await world.stores.journal.load(record.execution_id)]
    assert kept == [(EntryKind.NODE_SEED, None), (EntryKind.STARTED, 1)]


async def test_a_cut_off_call_that_is_idempotent_is_repeated_with_the_same_key(world: World) -> None:
    calling = asyncio.Event()

    async def never(request: object) -> None:
        calling.set()
        await forever()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        response = await run.helper.call_capability(ask(1, method="Read"))
        return answer(untext(response.payload))

    world.action.on_call = never  # type: ignore[assignment] # it never answers
    engine, _ = await world.started(handler)
    world.trigger.emit("event")
    await asyncio.wait_for(calling.wait(), 5)
    await engine.close()
    world.action.on_call = None

    await world.started(handler)
    (record,) = await world.ended()
    assert record.status is ExecutionStatus.SUCCESS
    first, second = world.action.calls
    assert first.idempotency_key == second.idempotency_key != ""


async def test_an_answered_call_is_not_made_again_and_a_divergence_fails(world: World) -> None:
    gate = Gate()

    def guest(question: str) -> object:
        async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
            response = await run.helper.call_capability(ask(1, question))
            await gate(request, run)
            return answer(untext(response.payload))

        return handler

    async def cut_off() -> None:
        engine, _ = await world.started(guest("question"))  # type: ignore[arg-type] # a handler
        world.trigger.emit(f"event {len(world.engines)}")
        await gate.running()
        await eventually_stored(world)
        await engine.close()

    await cut_off()
    gate.leave.set()
    engine, _ = await world.started(guest("question"))  # type: ignore[arg-type] # as above
    (record,) = await world.ended()
    assert (record.status, record.attempt) == (ExecutionStatus.SUCCESS, 2)
    assert len(world.action.calls) == 1
    await engine.close()

    gate.leave.clear()
    gate.entered = asyncio.Semaphore(0)
    await cut_off()
    gate.leave.set()
    await world.started(guest("another question"))  # type: ignore[arg-type] # as above
    _, record = await world.ended(2)
    assert record.status is ExecutionStatus.FAILED
    assert "call 1 asks for something else" in record.error
    assert len(world.action.calls) == 2


async def test_an_attempt_that_does_not_make_a_call_of_the_one_before_fails(world: World) -> None:
    gate = Gate()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        await run.helper.call_capability(ask(1))
        return await gate(request, run)

    engine, _ = await world.started(handler)
    world.trigger.emit("event")
    await gate.running()
    await eventually_stored(world)
    await engine.close()

    await world.started()
    (record,) = await world.ended()
    assert record.status is ExecutionStatus.FAILED
    assert "call 1 is not made any more" in record.error


async def test_an_attempt_that_does_not_make_an_unanswered_call_again_is_in_doubt(world: World) -> None:
    calling = asyncio.Event()

    async def never(request: object) -> None:
        calling.set()
        await forever()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        await run.helper.call_capability(ask(1))
        raise AssertionError

    world.action.on_call = never  # type: ignore[assignment] # it never answers
    engine, _ = await world.started(handler)
    world.trigger.emit("event")
    await asyncio.wait_for(calling.wait(), 5)
    await engine.close()

    await world.started()
    (record,) = await world.ended()
    assert record.status is ExecutionStatus.IN_DOUBT


async def eventually_stored(world: World) -> None:
    """Wait until the writer has nothing to do."""
    await world.stores.database.write(lambda connection: None)


async def test_an_execution_that_never_ended_a_hundred_times_is_given_up(world: World) -> None:
    gate = Gate()
    engine, _ = await world.started(gate)
    world.trigger.emit("event")
    await gate.running()
    running = await world.status(ExecutionStatus.RUNNING)
    await engine.close()
    await world.stores.database.write(
        world.stores.executions.begin(running.execution_id, attempt=100, at=running.accepted_at)
    )
    _, module = await world.started()
    (record,) = await world.ended()
    assert (record.status, record.error) == (ExecutionStatus.FAILED, "given up after 100 attempts that never ended")
    assert "executed" not in module.history


async def test_what_an_earlier_host_accepted_comes_in_whatever_the_limit(tmp_path: Path) -> None:
    gate = Gate()
    limits = {"PerWorkflow.ExecutionConcurrencyLimit": 1, "PerWorkflow.TriggerEventQueueLimit": 5}
    async with open_world(tmp_path, limits=limits) as world:
        engine, _ = await world.started(gate)
        for number in range(6):
            world.trigger.emit(str(number))
            if not number:
                await gate.running()
        await world.trigger.until(lambda: len(world.trigger.acknowledged) == 6)
        await engine.close()
        await world.started()
        records = await world.ended(6)
        assert {record.status for record in records} == {ExecutionStatus.SUCCESS}


async def test_a_simulated_engine_leaves_what_others_left(world: World) -> None:
    gate = Gate()
    engine, _ = await world.started(gate)
    world.trigger.emit("event")
    await gate.running()
    await engine.close()
    module = ScriptedModule()
    await world.engine(module, simulate=True).start()
    await eventually_stored(world)
    assert "executed" not in module.history


async def test_an_event_whose_row_this_engine_does_not_know_is_executed(world: World) -> None:
    """The commit of its row was answered by a lost connection, and the trigger delivers it again."""
    engine, module = await world.started()
    world.trigger.emit("first")
    (first,) = await world.ended()
    orphan = await world.stores.executions.accept(
        type(first)(
            execution_id="ab" * 32,
            workflow_id=first.workflow_id,
            trigger_index=0,
            event_id="orphan",
            status=ExecutionStatus.ACCEPTED,
            accepted_at=first.accepted_at,
        ),
        text("payload").SerializeToString(),
    )
    assert orphan.created
    world.trigger.emit("orphan", "payload")
    await eventually(lambda: module.history.count("executed") == 2)
    assert {record.event_id for record in await world.ended(2)} == {"first", "orphan"}
    assert engine.dropped_events == 0


async def test_many_engines_come_and_go_without_leaving_a_task(world: World) -> None:
    before = asyncio.all_tasks()
    engines: list[Engine] = []
    for _ in range(5):
        engine, _ = await world.started()
        world.trigger.emit(f"event {len(engines)}")
        engines.append(engine)
        await world.ended(len(engines))
        await engine.close()
    await eventually(lambda: asyncio.all_tasks() == before)
