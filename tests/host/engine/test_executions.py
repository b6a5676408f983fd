"""Executions: an event is stored, acknowledged, tried, and ended with everything that belongs to it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from sqlalchemy import text as sql

from innkeeper.engine.events import ExecutionChanged, LineWritten
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus
from innkeeper.workflows.identity import execution_id
from innkeeper_sdk.capability import CapabilityError, CapabilityRequest
from innkeeper_sdk.errors import DeadlineExceededError, InnkeeperError, UnavailableError, WorkflowError
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from tests.host.engine.engine_world import (
    WORKFLOW,
    Handler,
    ScriptedModule,
    World,
    answer,
    ask,
    eventually,
    forever,
    limit_table,
    open_world,
    subscription,
    text,
    untext,
)


async def run_one(world: World, handler: Handler, *, event: str = "event") -> ExecutionRecord:
    await world.started(handler)
    world.trigger.emit(event)
    (record,) = await world.ended()
    return record


async def hang(request: ExecuteRequest, run: Run) -> ExecutionResult:
    await forever()


async def test_an_event_becomes_a_result(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        return answer(untext(request.trigger.payload))

    await world.started(handler)
    world.trigger.emit("2026-01-01T00:05:00Z", "tick")
    (record,) = await world.ended()
    assert record.execution_id == execution_id(WORKFLOW, "2026-01-01T00:05:00Z", 0)
    assert (record.status, record.attempt, record.error) == (ExecutionStatus.SUCCESS, 1, "")
    assert ExecutionResult.FromString(record.result) == answer("tick")
    assert record.started_at is not None
    assert record.finished_at is not None
    assert record.accepted_at <= record.started_at <= record.finished_at
    assert record.seconds is not None
    assert 0 <= record.seconds < 5


async def test_a_module_is_told_what_the_execution_is(tmp_path: Path) -> None:
    seen: list[tuple[ExecuteRequest, Run]] = []

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        seen.append((request, run))
        return answer()

    async with open_world(tmp_path, limits={"PerWorkflow.ExecutionTimeout": 100.0}) as world:
        module = ScriptedModule(handler=handler, subscriptions=[subscription(), subscription()])
        await world.engine(module, config=b"config").start()
        world.trigger.emit("e", "payload", trigger_id=world.trigger.registrations[1].trigger_id)
        (record,) = await world.ended()
        now = world.environment.clock.monotonic()
    ((request, run),) = seen
    assert (request.config, request.max_response_size) == (b"config", 100_000)
    assert (request.trigger.id, request.trigger.payload) == (1, text("payload"))
    assert (run.execution_id, run.attempt) == (record.execution_id, 1)
    assert run.helper.execution_id == record.execution_id
    assert now < run.deadline <= now + 100


async def test_an_event_is_durable_before_it_is_acknowledged_and_acknowledged_before_it_is_tried(world: World) -> None:
    order: list[str] = []

    async def acknowledged(event_id: str) -> None:
        (record,) = await world.stores.executions.newest()
        order.append(f"acknowledged while {record.status.value}")

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        order.append("tried")
        return answer()

    world.trigger.on_ack = acknowledged
    await run_one(world, handler)
    assert order == ["acknowledged while accepted", "tried"]


async def test_an_event_that_comes_again_is_acknowledged_again_and_not_tried_again(world: World) -> None:
    _, module = await world.started()
    for event in ("same", "same", "other"):
        world.trigger.emit(event)
    records = await world.ended(2)
    await world.trigger.until(lambda: len(world.trigger.acknowledged) == 3)
    assert [record.event_id for record in records] == ["same", "other"]
    assert [event for _, event in world.trigger.acknowledged] == ["same", "same", "other"]
    assert module.history.count("executed") == 2


async def test_the_same_event_id_of_two_triggers_is_two_executions(world: World) -> None:
    module = ScriptedModule(subscriptions=[subscription(), subscription()])
    await world.engine(module).start()
    for registration in world.trigger.registrations:
        world.trigger.emit("same", trigger_id=registration.trigger_id)
    records = await world.ended(2)
    assert {record.trigger_index for record in records} == {0, 1}
    assert len({record.execution_id for record in records}) == 2


async def test_a_workflows_own_error_is_an_error_with_its_result(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        return ExecutionResult(error="no price today")

    record = await run_one(world, handler)
    assert (record.status, record.error) == (ExecutionStatus.ERROR, "no price today")
    assert ExecutionResult.FromString(record.result).error == "no price today"


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (WorkflowError("exit status 2"), "exit status 2"),
        (ValueError("geheim"), "the module is at fault: ValueError"),
    ],
)
async def test_a_failing_module_fails_the_execution_and_nothing_else(
    world: World, raised: Exception, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        if untext(request.trigger.payload) == "bad":
            raise raised
        return answer()

    await world.started(handler)
    world.trigger.emit("first", "bad")
    world.trigger.emit("second", "good")
    first, second = await world.ended(2)
    assert (first.status, first.error, first.result) == (ExecutionStatus.FAILED, error, b"")
    assert second.status is ExecutionStatus.SUCCESS
    assert "geheim" not in caplog.text


async def test_a_module_that_cancels_itself_fails_the_execution(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        raise asyncio.CancelledError

    record = await run_one(world, handler)
    assert (record.status, record.error) == (
        ExecutionStatus.FAILED,
        "the module ended the execution without a result",
    )


async def test_an_answer_that_is_no_result_of_a_handler_is_a_failure(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        result = ExecutionResult()
        result.trigger_subscriptions.SetInParent()
        return result

    record = await run_one(world, handler)
    assert (record.status, record.error) == (
        ExecutionStatus.FAILED,
        "the workflow answered a trigger with trigger_subscriptions",
    )


async def test_a_handler_that_answers_nothing_has_succeeded(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        return ExecutionResult()

    record = await run_one(world, handler)
    assert (record.status, record.result) == (ExecutionStatus.SUCCESS, b"")


@pytest.mark.parametrize(("extra", "status"), [(0, ExecutionStatus.SUCCESS), (1, ExecutionStatus.FAILED)])
async def test_a_result_may_be_as_large_as_the_limit_and_not_larger(
    tmp_path: Path, extra: int, status: ExecutionStatus
) -> None:
    result = answer("x" * 100)

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        return result

    limit = result.ByteSize() - extra
    async with open_world(tmp_path, limits={"PerWorkflow.ExecutionResponseLimit": limit}) as world:
        record = await run_one(world, handler)
    assert record.status is status
    if extra:
        assert record.result == b""
        assert record.error == (
            f"PerWorkflow.ExecutionResponseLimit limited for workflow[{WORKFLOW}]: "
            f"cannot use {result.ByteSize()}b, limit is {limit}b"
        )


async def test_a_module_that_is_not_over_at_its_deadline_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper.engine.executions._GRACE", 0.05)
    async with open_world(tmp_path, limits={"PerWorkflow.ExecutionTimeout": 0.05}) as world:
        record = await run_one(world, hang)
    assert (record.status, record.error) == (ExecutionStatus.TIMEOUT, "the execution was not over after 0.05 s")


async def test_a_module_that_keeps_its_deadline_itself_has_timed_out_too(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        raise DeadlineExceededError("killed at its deadline")

    record = await run_one(world, handler)
    assert (record.status, record.error) == (ExecutionStatus.TIMEOUT, "the execution was not over after 300 s")


async def test_any_failure_at_the_deadline_is_a_timeout(tmp_path: Path) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(run.deadline - loop.time() + 0.01)
        raise WorkflowError("exit status 2")

    async with open_world(tmp_path, limits={"PerWorkflow.ExecutionTimeout": 0.05}) as world:
        record = await run_one(world, handler)
    assert record.status is ExecutionStatus.TIMEOUT


async def test_a_module_that_ignores_its_end_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("innkeeper.engine.executions._GRACE", 0.05)
    stop = asyncio.Event()

    async def stubborn(request: ExecuteRequest, run: Run) -> ExecutionResult:
        while not stop.is_set():
            try:
                await stop.wait()
            except asyncio.CancelledError:
                continue
        return answer()

    async with open_world(tmp_path, limits={"PerWorkflow.ExecutionTimeout": 0.05}) as world:
        record = await run_one(world, stubborn)
        assert record.status is ExecutionStatus.TIMEOUT
        assert "does not end an execution that was cancelled" in caplog.text
        stop.set()


async def test_an_execution_that_fails_with_an_unanswered_call_says_so(world: World) -> None:
    calling = asyncio.Event()
    calls: list[asyncio.Task[Any]] = []

    async def never(request: CapabilityRequest) -> AnyMessage:
        calling.set()
        await forever()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        calls.append(asyncio.create_task(run.helper.call_capability(ask(7))))
        await calling.wait()
        raise WorkflowError("the guest trapped")

    world.action.on_call = never
    record = await run_one(world, handler)
    assert record.status is ExecutionStatus.FAILED
    assert record.error == "the guest trapped; call 7 was not answered, so its effect is unknown"
    await asyncio.wait(calls)


async def test_calls_that_a_guest_does_not_wait_for_end_with_it(world: World) -> None:
    cancelled = asyncio.Event()
    calling = asyncio.Event()
    calls: list[asyncio.Task[Any]] = []

    async def never(request: CapabilityRequest) -> AnyMessage:
        calling.set()
        try:
            await forever()
        finally:
            cancelled.set()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        calls.append(asyncio.create_task(run.helper.call_capability(ask(1))))
        await calling.wait()
        return answer()

    world.action.on_call = never
    record = await run_one(world, handler)
    assert record.status is ExecutionStatus.SUCCESS
    assert cancelled.is_set()
    await asyncio.wait(calls)


async def test_lines_are_stored_with_the_end_and_told_with_it(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        run.helper.emit_log("a")
        run.helper.emit_log("b\x00\udcff")
        return answer()

    with world.environment.events.subscribe() as events:
        record = await run_one(world, handler)
        told: list[object] = []
        while True:
            event = await asyncio.wait_for(anext(events), 5)
            told.append(event.line.message if isinstance(event, LineWritten) else event.record.status)  # type: ignore[union-attr] # nothing is missed here
            if isinstance(event, ExecutionChanged) and event.record.status.is_end:
                break
    assert told == [
        ExecutionStatus.ACCEPTED,
        ExecutionStatus.RUNNING,
        "a",
        "b\ufffd\ufffd",
        ExecutionStatus.SUCCESS,
    ]
    assert [line.message for line in await world.stores.logs.lines(execution_id=record.execution_id)] == [
        "a",
        "b\ufffd\ufffd",
    ]


async def test_what_is_told_is_stored(world: World) -> None:
    await world.started()
    with world.environment.events.subscribe() as events:
        world.trigger.emit("e")
        for _ in range(3):
            event = await asyncio.wait_for(anext(events), 5)
            assert isinstance(event, ExecutionChanged)
            stored = await world.stores.executions.get(event.record.execution_id)
            assert stored is not None
            order = [ExecutionStatus.ACCEPTED, ExecutionStatus.RUNNING, ExecutionStatus.SUCCESS]
            assert order.index(stored.status) >= order.index(event.record.status)


async def test_lines_of_a_running_execution_can_be_followed(world: World) -> None:
    leave = asyncio.Event()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        run.helper.emit_log("begun")
        await leave.wait()
        run.helper.emit_log("done")
        return answer()

    await world.started(handler)
    with world.environment.events.subscribe() as events:
        world.trigger.emit("e")
        async with asyncio.timeout(5):
            async for event in events:
                if isinstance(event, LineWritten):
                    break
    assert [line.message for line in await world.stores.logs.lines()] == ["begun"]
    leave.set()
    await world.ended()
    assert [(line.line, line.message) for line in await world.stores.logs.lines()] == [(0, "begun"), (1, "done")]


async def test_dropped_lines_are_counted_where_the_operator_sees_it(tmp_path: Path) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        for number in range(5):
            run.helper.emit_log(f"line {number}")
        return answer()

    async with open_world(tmp_path, limits={"PerWorkflow.LogEventLimit": 2}) as world:
        record = await run_one(world, handler)
        lines = await world.stores.logs.lines(execution_id=record.execution_id)
    assert record.dropped_logs == 3
    assert [line.message for line in lines] == ["line 0", "line 1"]


async def test_a_short_execution_costs_three_transactions(world: World) -> None:
    commits = 0
    submit = world.stores.database.submit

    def counting(operation: Any) -> Any:
        nonlocal commits
        commits += 1
        return submit(operation)

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        run.helper.emit_log("a")
        await run.helper.don_time()
        return answer()

    await world.started(handler)
    world.stores.database.submit = counting  # type: ignore[method-assign] # counts what the engine asks for
    world.trigger.emit("e")
    await world.ended()
    assert commits == 3


async def test_executions_of_a_workflow_run_at_once_up_to_the_limit(tmp_path: Path) -> None:
    entered, leave = asyncio.Semaphore(0), asyncio.Event()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        entered.release()
        await leave.wait()
        return answer()

    async with open_world(tmp_path, limits={"PerWorkflow.ExecutionConcurrencyLimit": 2}) as world:
        engine, _ = await world.started(handler)
        for number in range(4):
            world.trigger.emit(str(number))
        for _ in range(2):
            await asyncio.wait_for(entered.acquire(), 5)
        await world.trigger.until(lambda: len(world.trigger.acknowledged) == 4)
        assert (engine.active, engine.queued) == (2, 2)
        leave.set()
        assert len(await world.ended(4)) == 4
        assert (engine.active, engine.queued) == (0, 0)


async def test_an_event_for_which_there_is_no_place_is_not_acknowledged_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave = asyncio.Event()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        await leave.wait()
        return answer()

    limits = {"PerWorkflow.ExecutionConcurrencyLimit": 1, "PerWorkflow.TriggerEventQueueLimit": 1}
    async with open_world(tmp_path, limits=limits) as world:
        engine, _ = await world.started(handler)
        world.trigger.emit("runs")
        await world.status(ExecutionStatus.RUNNING)
        with caplog.at_level(logging.WARNING):
            for event in ("waits", "is dropped", "is dropped too"):
                world.trigger.emit(event)
            await eventually(lambda: engine.dropped_events == 2)
        assert [event for _, event in world.trigger.acknowledged] == ["runs", "waits"]
        assert "an event was dropped" in caplog.text
        leave.set()
        records = await world.ended(2)
        assert [record.event_id for record in records] == ["runs", "waits"]
        world.trigger.emit("is dropped")
        assert len(await world.ended(3)) == 3


@pytest.mark.parametrize("event_id", ["", "x" * 1025, "é" * 513, "nul\x00", "half \udc80"])
async def test_an_event_whose_id_is_none_is_dropped_and_the_next_is_not(world: World, event_id: str) -> None:
    engine, _ = await world.started()
    world.trigger.emit(event_id)
    world.trigger.emit("x" * 1024)
    (record,) = await world.ended()
    assert record.event_id == "x" * 1024
    assert engine.dropped_events == 1


async def test_an_event_that_waited_too_long_ends_visibly_without_being_tried(tmp_path: Path) -> None:
    leave = asyncio.Event()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        await leave.wait()
        return answer()

    limits = {"PerWorkflow.ExecutionConcurrencyLimit": 1, "PerWorkflow.TriggerEventQueueTimeout": 0.05}
    async with open_world(tmp_path, limits=limits) as world:
        _, module = await world.started(handler)
        world.trigger.emit("runs")
        await world.status(ExecutionStatus.RUNNING)
        world.trigger.emit("waits")
        await world.trigger.until(lambda: len(world.trigger.acknowledged) == 2)
        await asyncio.sleep(0.06)  # longer than an event may wait
        leave.set()
        first, second = await world.ended(2)
        assert first.status is ExecutionStatus.SUCCESS
        assert (second.status, second.attempt, second.error) == (
            ExecutionStatus.FAILED,
            0,
            "the event waited longer than 0.05 s to be executed",
        )
        assert module.history.count("executed") == 1


async def test_a_trigger_that_takes_no_acknowledgement_loses_no_event(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(event_id: str) -> None:
        raise CapabilityError("no")

    world.trigger.on_ack = refuse
    record = await run_one(world, lambda request, run: answered())
    assert record.status is ExecutionStatus.SUCCESS
    assert "did not take an acknowledgement" in caplog.text


async def answered() -> ExecutionResult:
    return answer()


async def test_an_event_that_cannot_be_stored_is_not_acknowledged(world: World) -> None:
    engine, module = await world.started()
    await world.stores.database.write(
        lambda connection: connection.execute(
            sql("CREATE TRIGGER full BEFORE INSERT ON executions BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        )
    )
    world.trigger.emit("lost")
    await eventually(lambda: engine.dropped_events)
    await world.stores.database.write(lambda connection: connection.execute(sql("DROP TRIGGER full")))
    world.trigger.emit("kept")
    (record,) = await world.ended()
    assert record.event_id == "kept"
    assert [event for _, event in world.trigger.acknowledged] == ["kept"]
    assert module.history.count("executed") == 1


async def test_a_fault_of_the_host_with_one_event_does_not_end_its_trigger(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(record: object, payload: object) -> None:
        raise ZeroDivisionError

    engine, _ = await world.started()
    with monkeypatch.context() as patch:
        patch.setattr(world.stores.executions, "accept", broken)
        world.trigger.emit("dropped")
        await eventually(lambda: engine.dropped_events)
    assert "the host is at fault: ZeroDivisionError" in str([vars(record) for record in caplog.records])
    world.trigger.emit("kept")
    (record,) = await world.ended()
    assert record.event_id == "kept"


async def test_lines_that_cannot_be_stored_are_counted_and_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    leave = asyncio.Event()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        run.helper.emit_log("lost")
        run.helper.emit_log("lost too")
        await leave.wait()
        return answer()

    await world.started(handler)
    await world.stores.database.write(
        lambda connection: connection.execute(
            sql("CREATE TRIGGER full BEFORE INSERT ON execution_logs BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        )
    )
    world.trigger.emit("event")
    await eventually(lambda: "lines of a workflow's log could not be stored" in caplog.text)
    leave.set()
    (record,) = await world.ended()
    assert (record.status, record.dropped_logs) == (ExecutionStatus.SUCCESS, 2)


async def test_an_end_that_cannot_be_stored_is_told_and_tried_again_by_the_next_engine(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    engine, _ = await world.started()
    await world.stores.database.write(
        lambda connection: connection.execute(
            sql(
                "CREATE TRIGGER full BEFORE UPDATE ON executions WHEN NEW.status = 'success'"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        )
    )
    world.trigger.emit("event")
    await eventually(lambda: "could not be recorded" in caplog.text)
    await engine.close()
    await world.stores.database.write(lambda connection: connection.execute(sql("DROP TRIGGER full")))
    await world.started()
    (record,) = await world.ended()
    assert (record.status, record.attempt) == (ExecutionStatus.SUCCESS, 2)


async def test_an_attempt_that_cannot_be_recorded_is_ended(world: World) -> None:
    await world.started(hang)
    await world.stores.database.write(
        lambda connection: connection.execute(
            sql(
                "CREATE TRIGGER full BEFORE UPDATE ON executions WHEN NEW.status = 'running'"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        )
    )
    world.trigger.emit("event")
    (record,) = await world.ended()
    assert record.status is ExecutionStatus.FAILED
    assert "disk full" in record.error


async def test_an_execution_waits_for_a_module_that_is_not_available_and_keeps_what_it_knows(world: World) -> None:
    attempts: list[int] = []

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        attempts.append(run.attempt)
        run.helper.emit_log(f"attempt {run.attempt}")
        response = await run.helper.call_capability(ask(1))
        if run.attempt < 3:
            raise UnavailableError("the provider restarts")
        return answer(untext(response.payload))

    record = await run_one(world, handler)
    assert attempts == [1, 2, 3]
    assert (record.status, record.attempt) == (ExecutionStatus.SUCCESS, 3)
    assert len(world.action.calls) == 1
    assert [line.message for line in await world.stores.logs.lines()] == ["attempt 3"]


async def test_an_execution_whose_module_stays_away_fails_with_the_reason(tmp_path: Path) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        raise UnavailableError("the provider is gone")

    async with open_world(tmp_path, limits={"PerWorkflow.TriggerEventQueueTimeout": 0.1}) as world:
        record = await run_one(world, handler)
    assert (record.status, record.error) == (ExecutionStatus.FAILED, "the provider is gone")
    assert record.attempt > 1


async def test_one_owners_executions_share_its_places(tmp_path: Path) -> None:
    entered, leave = asyncio.Semaphore(0), asyncio.Event()

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        entered.release()
        await leave.wait()
        return answer()

    limits = {"PerOwner.WorkflowExecutionConcurrencyLimit": 1}
    async with open_world(tmp_path, limits=limits) as world:
        engine, _ = await world.started(handler)
        world.trigger.emit("1")
        world.trigger.emit("2")
        await asyncio.wait_for(entered.acquire(), 5)
        await world.trigger.until(lambda: len(world.trigger.acknowledged) == 2)
        assert (engine.active, engine.queued) == (1, 1)
        leave.set()
        await world.ended(2)


async def test_errors_of_the_module_carry_their_fields(world: World) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        raise InnkeeperError("the guest trapped", expected="an answer", actual="unreachable")

    record = await run_one(world, handler)
    assert record.error == "the guest trapped (expected an answer, found unreachable)"


def test_every_limit_of_the_engine_is_declared() -> None:
    from innkeeper.engine.limits import EngineLimits

    own = EngineLimits.of(limit_table(), owner="", workflow_id="")
    assert (own.executions, own.execution_seconds, own.response_bytes, own.user_metrics) == (5, 300.0, 100_000, False)


@pytest.mark.parametrize("error", [KeyboardInterrupt("hunter2"), SystemExit("hunter2"), GeneratorExit("hunter2")])
async def test_a_module_that_would_end_the_host_fails_its_execution_alone(
    world: World, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[BaseException] = [error]

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        if faults:
            raise faults.pop()
        return answer()

    await world.started(handler)
    world.trigger.emit("bad")
    (record,) = await world.ended()
    assert (record.status, record.error) == (ExecutionStatus.FAILED, f"the module is at fault: {type(error).__name__}")
    assert "hunter2" not in str([vars(one) for one in caplog.records])
    world.trigger.emit("good")
    assert [one.status for one in await world.ended(2)] == [ExecutionStatus.FAILED, ExecutionStatus.SUCCESS]


async def test_a_guest_that_reads_the_clock_in_a_loop_fails_and_cannot_go_on(tmp_path: Path) -> None:
    told = 0

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        nonlocal told
        while True:
            try:
                await run.helper.don_time()
            except InnkeeperError:  # a guest that goes on after every error
                continue
            told += 1

    async with open_world(tmp_path, limits={"PerWorkflow.JournalEntryLimit": 700}) as world:
        record = await run_one(world, handler)
    assert record.status is ExecutionStatus.FAILED
    assert "at most 700 entries (PerWorkflow.JournalEntryLimit)" in record.error
    assert told == 699  # and the seed


async def test_a_guest_that_is_ended_with_a_call_under_way_leaves_its_effect_unknown(tmp_path: Path) -> None:
    calling = asyncio.Event()

    async def never(request: CapabilityRequest) -> AnyMessage:
        calling.set()
        await asyncio.Event().wait()
        raise AssertionError("it never answers")

    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        call = asyncio.create_task(run.helper.call_capability(ask(1)))
        await calling.wait()
        try:
            while True:
                await run.helper.don_time()
        finally:
            call.cancel()

    async with open_world(tmp_path, limits={"PerWorkflow.JournalEntryLimit": 10}) as world:
        world.action.on_call = never
        record = await run_one(world, handler)
    assert record.status is ExecutionStatus.FAILED
    assert "at most 10 entries" in record.error
    assert "call 1 was not answered, so its effect is unknown" in record.error
