"""The table of live executions."""

from __future__ import annotations

import asyncio
import time

import pytest

from innkeeper_confidential_workflows.relay.executions import LiveExecution, LiveExecutions
from innkeeper_sdk.errors import ConflictError, NotFoundError
from tests.plugins.confidential_workflows.relay.relay_world import (
    BINARY,
    EXECUTION,
    OTHER,
    OWNER,
    REQUEST,
    RESULT,
    WORKFLOW,
    FakeHelper,
)


def execution(execution_id: str = EXECUTION, *, workflow_id: str = WORKFLOW, attempt: int = 1) -> LiveExecution:
    return LiveExecution(
        workflow_id=workflow_id,
        owner=OWNER,
        execution_id=execution_id,
        attempt=attempt,
        binary_sha256=BINARY,
        request_sha256=REQUEST,
        deadline=time.monotonic() + 60,
        helper=FakeHelper(),
    )


async def test_an_execution_is_live_while_it_is_registered_and_no_longer() -> None:
    live, one = LiveExecutions(), execution()
    with pytest.raises(NotFoundError):
        live.get(WORKFLOW, EXECUTION)
    async with live.registered(one):
        assert live.get(WORKFLOW, EXECUTION) is one
    with pytest.raises(NotFoundError):
        live.get(WORKFLOW, EXECUTION)
    assert len(live) == 0


async def test_an_execution_that_fails_is_removed_too() -> None:
    live = LiveExecutions()
    with pytest.raises(RuntimeError, match="boom"):
        async with live.registered(execution()):
            raise RuntimeError("boom")
    assert len(live) == 0


async def test_an_execution_is_live_once_at_a_time() -> None:
    live, first = LiveExecutions(), execution()
    async with live.registered(first):
        with pytest.raises(ConflictError, match=r"runs already.*attempt 2 beside attempt 1"):
            async with live.registered(execution(attempt=2)):
                pass
        assert live.get(WORKFLOW, EXECUTION) is first, "the first one stays"
        async with live.registered(execution(OTHER)), live.registered(execution(workflow_id=OTHER)):
            assert len(live) == 3
    async with live.registered(execution(attempt=2)):
        assert live.get(WORKFLOW, EXECUTION).attempt == 2


async def test_while_subscribing_a_workflow_has_one_execution_without_an_id() -> None:
    live = LiveExecutions()
    async with live.registered(execution("")):
        with pytest.raises(ConflictError, match="the subscribing of workflow"):
            async with live.registered(execution("")):
                pass


async def test_ids_are_never_joined() -> None:
    live = LiveExecutions()
    async with live.registered(execution("b", workflow_id="a/")):
        with pytest.raises(NotFoundError):
            live.get("a", "/b")


async def test_what_runs_for_an_execution_ends_with_it() -> None:
    live, one, started, cancelled = LiveExecutions(), execution(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with live.registered(one):
        running = asyncio.create_task(one.run(work()))
        await started.wait()
    assert cancelled.is_set(), "before the end returns"
    with pytest.raises(NotFoundError, match="is over"):
        await running


async def test_what_comes_after_the_end_does_not_begin() -> None:
    live, one, ran = LiveExecutions(), execution(), []

    async def work() -> None:
        ran.append(1)

    async with live.registered(one):
        pass
    with pytest.raises(NotFoundError, match="is over"):
        await one.run(work())
    assert not ran


async def test_a_callers_end_is_the_works_end() -> None:
    one, started, cancelled = execution(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    running = asyncio.create_task(one.run(work()))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_work_that_its_helper_has_cancelled_is_over_and_no_cancellation_of_the_caller() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(NotFoundError, match="is over"):
        await execution().run(work())


async def test_an_execution_is_touched_by_the_first_thing_that_is_asked_for_it() -> None:
    async def work() -> int:
        return 3

    one = execution()
    assert not one.touched
    assert await one.run(work()) == 3
    assert one.touched


def test_without_a_submitted_result_nothing_is_attested() -> None:
    one = execution()
    assert not one.attested(RESULT)
    assert not one.attested(b"")


def test_a_result_is_submitted_once_and_nothing_comes_after_it() -> None:
    one = execution()
    one.check_unfinished()
    one.submit(RESULT)
    with pytest.raises(ConflictError, match="has a result already"):
        one.submit(RESULT)
    with pytest.raises(ConflictError, match="after its result"):
        one.check_unfinished()
    assert one.attested(RESULT)
    assert not one.attested(REQUEST)


def test_the_helper_is_in_no_repr() -> None:
    assert "FakeHelper" not in repr(execution())
