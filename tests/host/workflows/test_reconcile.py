"""Keeping workflows as they were asked for: across restarts, while providers come and go, and after failures."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from innkeeper.store.executions import ExecutionRecord, ExecutionStatus, Outcome
from innkeeper.store.specs import SpecStatus
from innkeeper.workflows.handler import Handler
from innkeeper.workflows.views import WorkflowState
from innkeeper_sdk.capability import CapabilityError, TriggerRegistration
from innkeeper_sdk.errors import ConflictError, ProviderError, UnavailableError, WorkflowError
from innkeeper_sdk.module import Run
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult
from tests.host.engine.engine_world import TRIGGER, ScriptedClock, ScriptedModule, answer, eventually, forever
from tests.host.workflows.handler_world import ATTRIBUTES, Hosted, ScriptedModules, deployment, open_handler


async def state(handler: Handler, name: str = "my-workflow") -> WorkflowState:
    return (await handler.find(name)).state


def clock_of(hosted: Hosted) -> ScriptedClock:
    """Give the host a clock that the test can move, and return it."""
    clock = ScriptedClock()
    hosted.world.environment = evolve(hosted.world.environment, clock=clock)
    hosted.handler = hosted.again()
    return clock


async def test_the_next_host_starts_what_is_active_and_leaves_what_is_paused(hosted: Hosted) -> None:
    await hosted.handler.deploy(deployment("active"))
    await hosted.handler.deploy(deployment("paused"), paused=True)
    await hosted.handler.close()
    assert hosted.modules.open == []

    following = hosted.again()
    assert await state(following, "active") is WorkflowState.STARTING
    await following.reconcile()
    assert await state(following, "active") is WorkflowState.RUNNING
    assert await state(following, "paused") is WorkflowState.PAUSED
    await following.close()


async def test_a_second_pass_changes_nothing(hosted: Hosted) -> None:
    await hosted.handler.deploy(deployment("a"))
    await hosted.handler.deploy(deployment("b"), paused=True)
    await hosted.handler.reconcile()
    made, writes = len(hosted.modules.made), 0
    submit = hosted.world.stores.database.submit

    def counting(operation: object) -> object:
        nonlocal writes
        writes += 1
        return submit(operation)  # type: ignore[arg-type] # passed on as it is

    hosted.world.stores.database.submit = counting  # type: ignore[assignment, method-assign] # counts
    for _ in range(3):
        await hosted.handler.reconcile()
    assert (len(hosted.modules.made), writes) == (made, 0)


async def test_a_host_in_the_background_starts_what_is_active(hosted: Hosted) -> None:
    await hosted.handler.deploy(deployment())
    await hosted.handler.close()
    following = hosted.again()
    await following.start()
    await following.start()
    await eventually(lambda: hosted.modules.open)
    await following.close()
    await following.close()
    assert hosted.modules.open == []


async def test_events_go_on_being_executed_across_a_restart(hosted: Hosted) -> None:
    await hosted.handler.deploy(deployment())
    hosted.world.trigger.emit("before")
    await hosted.world.ended(1)
    await hosted.handler.close()
    following = hosted.again()
    await following.reconcile()
    hosted.world.trigger.emit("before")
    hosted.world.trigger.emit("after")
    records = await hosted.world.ended(2)
    assert [record.event_id for record in records] == ["before", "after"]
    await following.close()


async def test_content_that_is_not_what_was_deployed_does_not_run(hosted: Hosted, tmp_path: Path) -> None:
    view = await hosted.handler.deploy(deployment())
    await hosted.handler.close()
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as connection:
        connection.execute("UPDATE workflow_specs_v2 SET config = x'00'")
    following = hosted.again()
    await following.reconcile()
    seen = await following.view(view.workflow_id)
    assert seen.state is WorkflowState.FAILED
    assert seen.reason.startswith("workflowID mismatch: ")
    assert len(hosted.modules.made) == 1
    following.providers_changed()
    await following.reconcile()
    assert len(hosted.modules.made) == 1


async def test_what_needs_a_provider_is_deferred_and_starts_when_it_is_there(hosted: Hosted) -> None:
    hosted.modules.refuse[b"binary"] = UnavailableError("the module type scripted is not ready")
    view = await hosted.handler.deploy(deployment())
    assert (view.state, view.reason) == (WorkflowState.DEFERRED, "the module type scripted is not ready")
    await hosted.handler.reconcile()
    assert len(hosted.modules.made) == 1

    hosted.modules.refuse.clear()
    hosted.handler.providers_changed()
    await hosted.handler.reconcile()
    assert await state(hosted.handler) is WorkflowState.RUNNING


async def test_a_change_of_providers_wakes_the_background(hosted: Hosted) -> None:
    hosted.modules.refuse[b"binary"] = UnavailableError("not ready")
    await hosted.handler.deploy(deployment())
    await hosted.handler.start()
    hosted.modules.refuse.clear()
    hosted.handler.providers_changed()
    await eventually(lambda: hosted.modules.open)


async def test_a_change_of_providers_that_comes_while_a_workflow_starts_is_not_missed(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, made = ScriptedModules.create, 0

    async def not_yet(self: ScriptedModules, *args: Any) -> ScriptedModule:
        nonlocal made
        made += 1
        if made == 1:
            # The provider was not ready when it was asked, and is before that has been told.
            hosted.handler.providers_changed()
            raise UnavailableError("not ready")
        return await create(self, *args)

    monkeypatch.setattr(ScriptedModules, "create", not_yet)
    await hosted.handler.start()
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.DEFERRED
    # Of itself it would be tried again after twelve seconds.
    await eventually(lambda: hosted.modules.open)
    assert made == 2


async def test_a_trigger_whose_provider_is_not_ready_defers_the_workflow(hosted: Hosted) -> None:
    hosted.world.registry.unregister("test", TRIGGER)
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.DEFERRED
    assert f"capability {TRIGGER} is not available" in view.reason
    assert hosted.modules.open == []
    hosted.world.registry.register("test", hosted.world.trigger)
    hosted.handler.providers_changed()
    await hosted.handler.reconcile()
    assert await state(hosted.handler) is WorkflowState.RUNNING


async def test_a_trigger_that_nobody_declares_fails_the_workflow_until_somebody_does(hosted: Hosted) -> None:
    hosted.modules.triggers[b"binary"] = ["unknown@1.0.0"]
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.FAILED
    hosted.modules.triggers.clear()
    hosted.handler.providers_changed()
    await hosted.handler.reconcile()
    assert await state(hosted.handler) is WorkflowState.RUNNING


async def test_a_stored_attribute_whose_provider_is_gone_defers_the_workflow_and_never_runs_it_plain(
    hosted: Hosted,
) -> None:
    await hosted.handler.deploy(deployment(attributes=b'{"bound": true}'))
    await hosted.handler.close()
    without = hosted.again(attributes={"note": ATTRIBUTES["note"]})
    await without.reconcile()
    view = await without.find("my-workflow")
    assert view.state is WorkflowState.DEFERRED
    assert "declares the attribute 'bound'" in view.reason
    assert len(hosted.modules.made) == 1
    await without.close()


async def test_a_stored_attribute_that_is_damaged_fails_the_workflow(hosted: Hosted, tmp_path: Path) -> None:
    await hosted.handler.deploy(deployment(attributes=b'{"bound": true}'))
    await hosted.handler.close()
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as connection:
        connection.execute("UPDATE workflow_specs_v2 SET attributes = CAST('{' AS BLOB)")
    following = hosted.again()
    await following.reconcile()
    assert await state(following) is WorkflowState.FAILED
    assert len(hosted.modules.made) == 1
    await following.close()


async def test_failures_are_tried_again_with_pauses_that_double_up_to_five_minutes(hosted: Hosted) -> None:
    clock = clock_of(hosted)
    hosted.modules.refuse[b"binary"] = ProviderError("crashed")
    await hosted.handler.deploy(deployment())
    pauses = []
    for _ in range(7):
        tries, waited = len(hosted.modules.made), 0
        while len(hosted.modules.made) == tries:
            clock.ahead += 3
            waited += 3
            await hosted.handler.reconcile()
        pauses.append(waited)
    assert pauses == [12, 24, 48, 96, 192, 300, 300]
    hosted.modules.refuse.clear()
    clock.ahead += 300
    await hosted.handler.reconcile()
    assert await state(hosted.handler) is WorkflowState.RUNNING
    await hosted.handler.close()


async def test_a_failure_is_given_up_after_a_hundred_tries_until_somebody_asks_again(hosted: Hosted) -> None:
    clock = clock_of(hosted)
    hosted.modules.refuse[b"binary"] = ProviderError("crashed")
    view = await hosted.handler.deploy(deployment())
    for _ in range(110):
        clock.ahead += 300
        await hosted.handler.reconcile()
    assert len(hosted.modules.made) == 101
    seen = await hosted.handler.view(view.workflow_id)
    assert (seen.state, seen.reason) == (WorkflowState.FAILED, "given up after 101 tries: crashed")
    hosted.modules.refuse.clear()
    assert (await hosted.handler.activate(view.workflow_id)).state is WorkflowState.RUNNING
    await hosted.handler.close()


async def test_what_is_deferred_is_tried_for_as_long_as_it_takes(hosted: Hosted) -> None:
    clock = clock_of(hosted)
    hosted.modules.refuse[b"binary"] = UnavailableError("not ready")
    await hosted.handler.deploy(deployment())
    for _ in range(110):
        clock.ahead += 300
        await hosted.handler.reconcile()
    assert len(hosted.modules.made) == 111
    assert await state(hosted.handler) is WorkflowState.DEFERRED
    await hosted.handler.close()


async def test_what_is_wrong_with_the_workflow_is_not_tried_again(hosted: Hosted) -> None:
    clock = clock_of(hosted)
    hosted.modules.refuse[b"binary"] = WorkflowError("broken")
    await hosted.handler.deploy(deployment())
    clock.ahead += 1000
    hosted.handler.providers_changed()
    await hosted.handler.reconcile()
    assert len(hosted.modules.made) == 1
    await hosted.handler.close()


async def test_what_found_no_place_starts_when_another_stops(tmp_path: Path) -> None:
    async with open_handler(tmp_path) as hosted:
        for name in ("a", "b"):
            await hosted.handler.deploy(deployment(name))
    async with open_handler(tmp_path, limits={"WorkflowLimit": 1}) as hosted:
        await hosted.handler.reconcile()
        states = {view.name: view.state for view in await hosted.handler.views()}
        assert sorted(states.values(), key=lambda found: found.value) == [WorkflowState.FAILED, WorkflowState.RUNNING]
        (running,) = [name for name, found in states.items() if found is WorkflowState.RUNNING]
        (failed,) = states.keys() - {running}
        view = await hosted.handler.find(failed)
        assert "WorkflowLimit limited: cannot use 2, limit is 1" in view.reason
        await hosted.handler.delete((await hosted.handler.find(running)).workflow_id)
        await hosted.handler.reconcile()
        assert await state(hosted.handler, failed) is WorkflowState.RUNNING


async def test_one_workflow_that_cannot_start_keeps_no_other(hosted: Hosted) -> None:
    for name in ("a", "b", "c"):
        await hosted.handler.deploy(deployment(name, binary=name.encode()))
    await hosted.handler.close()
    hosted.modules.refuse[b"a"] = ValueError("a fault of the host's own: geheim")
    following = hosted.again()
    await following.reconcile()
    states = {view.name: (view.state, view.reason) for view in await following.views()}
    assert states == {
        "a": (WorkflowState.FAILED, "the host is at fault: ValueError"),
        "b": (WorkflowState.RUNNING, ""),
        "c": (WorkflowState.RUNNING, ""),
    }
    await following.close()


async def test_a_row_that_vanished_stops_its_engine(hosted: Hosted, tmp_path: Path) -> None:
    await hosted.handler.deploy(deployment())
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM workflow_specs_v2")
    await hosted.handler.reconcile()
    assert hosted.modules.open == []
    assert len(hosted.handler._engines) == 0
    assert await hosted.handler.views() == []


async def test_a_row_that_vanished_lets_what_runs_end(hosted: Hosted, tmp_path: Path) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(request: ExecuteRequest, run: Run) -> ExecutionResult:
        entered.set()
        await leave.wait()
        return answer()

    hosted.modules.guests[b"binary"] = hold
    await hosted.handler.deploy(deployment())
    hosted.world.trigger.emit("event")
    await asyncio.wait_for(entered.wait(), 5)
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM workflow_specs_v2")
    await hosted.handler.reconcile()
    assert len(hosted.modules.open) == 1
    leave.set()
    (record,) = await hosted.world.ended()
    assert record.status is ExecutionStatus.SUCCESS
    await hosted.handler.reconcile()
    assert hosted.modules.open == []


async def test_a_workflow_whose_stop_fails_is_told_and_keeps_no_other(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = await hosted.handler.deploy(deployment("a"))
    await hosted.handler.deploy(deployment("b"))
    settle = hosted.world.stores.executions.settle

    async def broken(workflow_id: str, **options: Any) -> object:
        if workflow_id == first.workflow_id:
            raise ZeroDivisionError
        return await settle(workflow_id, **options)

    monkeypatch.setattr(hosted.world.stores.executions, "settle", broken)
    specs = hosted.world.stores.specs
    for view in await hosted.handler.views():
        await specs.set_status(view.workflow_id, SpecStatus.DELETED, at=view.updated_at)
    await hosted.handler.reconcile()
    assert "a workflow could not be reconciled" in caplog.text
    assert [view.name for view in await hosted.handler.views()] == ["a"]


async def test_a_row_whose_status_is_unknown_does_not_run(hosted: Hosted, tmp_path: Path) -> None:
    view = await hosted.handler.deploy(deployment())
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as connection:
        connection.execute("UPDATE workflow_specs_v2 SET status = 'whatever'")
    await hosted.handler.reconcile()
    seen = await hosted.handler.view(view.workflow_id)
    assert (seen.status, seen.state) == (SpecStatus.PAUSED, WorkflowState.PAUSED)
    assert hosted.modules.open == []


async def test_a_deletion_that_a_crash_interrupted_is_completed_by_the_next_host(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment())
    await hosted.handler.close()
    specs = hosted.world.stores.specs
    await specs.set_status(view.workflow_id, SpecStatus.DELETED, at=view.updated_at)
    following = hosted.again()
    await following.reconcile()
    assert await following.views() == []
    await following.close()


async def test_what_a_paused_workflow_left_unfinished_is_ended_by_the_next_host(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment(), paused=True)
    record = ExecutionRecord("ab" * 32, view.workflow_id, 0, "e", ExecutionStatus.ACCEPTED, view.created_at)
    await hosted.world.stores.executions.accept(record, b"")
    following = hosted.again()
    await following.reconcile()
    (ended,) = await hosted.world.ended()
    assert (ended.status, ended.error) == (ExecutionStatus.FAILED, "the workflow was paused")
    await following.close()


async def test_a_host_that_stops_while_a_workflow_starts_leaves_nothing(hosted: Hosted) -> None:
    entered = asyncio.Event()

    async def hang(registration: TriggerRegistration) -> None:
        entered.set()
        await forever()

    await hosted.handler.deploy(deployment())
    await hosted.handler.close()
    hosted.world.trigger.on_register = hang
    following = hosted.again()
    await following.start()
    await asyncio.wait_for(entered.wait(), 5)
    await following.close()
    assert hosted.modules.open == []
    assert hosted.world.trigger.registered == {}


async def test_a_host_that_stops_while_somebody_deploys_keeps_no_engine(hosted: Hosted) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(registration: TriggerRegistration) -> None:
        entered.set()
        await leave.wait()

    hosted.world.trigger.on_register = slow
    deploying = asyncio.create_task(hosted.handler.deploy(deployment()))
    await asyncio.wait_for(entered.wait(), 5)
    closing_ = asyncio.create_task(hosted.handler.close())
    await asyncio.sleep(0)
    leave.set()
    view = await deploying
    await closing_
    assert view.state is WorkflowState.FAILED
    assert "the host is stopping" in view.reason
    assert hosted.modules.open == []


async def test_a_draining_host_lets_what_runs_end_and_takes_nothing_new(hosted: Hosted) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold(request: ExecuteRequest, run: Run) -> ExecutionResult:
        entered.set()
        await leave.wait()
        return answer()

    hosted.modules.guests[b"binary"] = hold
    view = await hosted.handler.deploy(deployment())
    hosted.world.trigger.emit("event")
    await asyncio.wait_for(entered.wait(), 5)
    assert not hosted.handler.draining
    assert await hosted.handler.drain(0.01) is False
    assert hosted.handler.draining
    for act in (hosted.handler.deploy(deployment("other")), hosted.handler.activate(view.workflow_id)):
        with pytest.raises(ConflictError, match="the host is stopping"):
            await act
    leave.set()
    assert await hosted.handler.drain(5) is True
    (record,) = await hosted.world.ended()
    assert record.status is ExecutionStatus.SUCCESS
    await hosted.handler.close()
    assert hosted.modules.open == []


async def test_old_executions_are_deleted_in_the_background(hosted: Hosted) -> None:
    executions, now = hosted.world.stores.executions, hosted.world.environment.clock
    view = await hosted.handler.deploy(deployment(), paused=True)
    for number, age in enumerate((0, 31)):
        record = ExecutionRecord(
            f"{number:064x}", view.workflow_id, 0, str(number), ExecutionStatus.ACCEPTED, view.created_at
        )
        await executions.accept(record, b"")
        outcome = Outcome(ExecutionStatus.SUCCESS, view.created_at - timedelta(days=age))
        await hosted.world.stores.database.write(executions.finish(record.execution_id, outcome, []))
    assert now.monotonic() > 0
    await hosted.handler.start()
    async with asyncio.timeout(5):
        while len(await executions.newest()) > 1:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.001)


async def test_a_pass_that_fails_is_told_and_the_next_one_is_made(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    specs = hosted.world.stores.specs
    headers = specs.headers
    tries = 0

    async def broken() -> object:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise CapabilityError("no database")
        return await headers()

    await hosted.handler.deploy(deployment())
    monkeypatch.setattr(specs, "headers", broken)
    await hosted.handler.start()
    await eventually(lambda: tries == 1)
    hosted.handler.providers_changed()
    await eventually(lambda: tries == 2)
    assert "workflows could not be reconciled" in caplog.text
    assert len(hosted.modules.open) == 1
