"""Executions in the store: accepted once, stepped through their statuses, settled and pruned."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innkeeper.store.database import Database
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus, Outcome
from innkeeper.store.journal import EntryKind, JournalEntry, add_entries
from innkeeper.store.logs import LogLine, add_lines
from innkeeper.store.stores import Stores
from innkeeper_sdk.errors import ConflictError

NOW = datetime(2026, 1, 1, 0, 5, 0, 123456, UTC)
WORKFLOW = "00" + "11" * 31


def execution(number: int, *, workflow_id: str = WORKFLOW, **fields: Any) -> ExecutionRecord:
    record = ExecutionRecord(
        execution_id=f"{number:064x}",
        workflow_id=workflow_id,
        trigger_index=0,
        event_id=f"event {number}",
        status=ExecutionStatus.ACCEPTED,
        accepted_at=NOW + timedelta(seconds=number),
    )
    return evolve(record, **fields)


def line(record: ExecutionRecord, number: int, message: str = "line") -> LogLine:
    return LogLine(record.workflow_id, record.execution_id, number, NOW, message)


async def accept(stores: Stores, record: ExecutionRecord, payload: bytes = b"event") -> ExecutionRecord:
    accepted = await stores.executions.accept(record, payload)
    assert accepted.created
    return accepted.record


async def begin(stores: Stores, record: ExecutionRecord, attempt: int = 1) -> None:
    await stores.database.write(stores.executions.begin(record.execution_id, attempt=attempt, at=NOW))


async def finish(
    stores: Stores, record: ExecutionRecord, status: ExecutionStatus = ExecutionStatus.SUCCESS, *lines: LogLine
) -> None:
    outcome = Outcome(status, NOW, result=b"result", error="why", seconds=1.5, dropped_logs=3)
    await stores.database.write(stores.executions.finish(record.execution_id, outcome, lines))


async def test_an_event_is_accepted_once(stores: Stores) -> None:
    record = await accept(stores, execution(1))
    again = await stores.executions.accept(execution(1, accepted_at=NOW + timedelta(days=1)), b"other")
    assert (again.created, again.record) == (False, record)
    assert [left.payload for left in await stores.executions.unfinished(WORKFLOW)] == [b"event"]


async def test_a_duplicate_tells_how_far_its_execution_is(stores: Stores) -> None:
    record = await accept(stores, execution(1))
    await begin(stores, record)
    await finish(stores, record)
    again = await stores.executions.accept(execution(1), b"event")
    assert (again.created, again.record.status) == (False, ExecutionStatus.SUCCESS)


async def test_the_same_event_of_another_trigger_is_another_execution(stores: Stores) -> None:
    await accept(stores, execution(1))
    await accept(stores, execution(2, event_id="event 1", trigger_index=1))
    assert len(await stores.executions.newest()) == 2


async def test_two_events_with_one_execution_id_are_an_error_not_a_duplicate(stores: Stores) -> None:
    await accept(stores, execution(1, event_id="1", trigger_index=11))
    with pytest.raises(ConflictError, match="another event's execution id"):
        await stores.executions.accept(execution(1, event_id="11", trigger_index=1), b"")


async def test_an_execution_goes_from_accepted_over_running_to_its_end(stores: Stores) -> None:
    record = await accept(stores, execution(1))
    assert await stores.executions.get(record.execution_id) == record
    await begin(stores, record)
    running = await stores.executions.get(record.execution_id)
    assert running == evolve(record, status=ExecutionStatus.RUNNING, attempt=1, started_at=NOW)
    await finish(stores, record, ExecutionStatus.SUCCESS, line(record, 0))
    assert await stores.executions.get(record.execution_id) == evolve(
        running,
        status=ExecutionStatus.SUCCESS,
        result=b"result",
        error="why",
        finished_at=NOW,
        seconds=1.5,
        dropped_logs=3,
    )
    assert [found.message for found in await stores.logs.lines(execution_id=record.execution_id)] == ["line"]


@pytest.mark.parametrize("end", [status for status in ExecutionStatus if status.is_end])
async def test_an_end_is_never_left(stores: Stores, end: ExecutionStatus) -> None:
    record = await accept(stores, execution(1))
    await finish(stores, record, end)
    with pytest.raises(ConflictError, match="has ended"):
        await begin(stores, record)
    with pytest.raises(ConflictError, match="has ended"):
        await finish(stores, record, ExecutionStatus.FAILED, line(record, 0))
    found = await stores.executions.get(record.execution_id)
    assert found is not None
    assert found.status is end
    assert await stores.logs.lines() == []


async def test_an_execution_that_was_never_accepted_cannot_begin(stores: Stores) -> None:
    with pytest.raises(ConflictError, match="no such execution"):
        await begin(stores, execution(1))


async def test_a_new_attempt_drops_the_lines_of_the_one_before(stores: Stores) -> None:
    record, other = await accept(stores, execution(1)), await accept(stores, execution(2))
    await begin(stores, record)
    await stores.database.write(lambda connection: None)
    for one in (record, other):
        await stores.database.write(stores.executions.begin(one.execution_id, attempt=1, at=NOW))
        await _write_lines(stores, [line(one, 0)])
    await begin(stores, record, attempt=2)
    assert [found.execution_id for found in await stores.logs.lines()] == [other.execution_id]


async def test_the_journal_goes_with_a_known_end_and_stays_with_a_doubt(stores: Stores) -> None:
    for number, end in ((1, ExecutionStatus.SUCCESS), (2, ExecutionStatus.IN_DOUBT)):
        record = await accept(stores, execution(number))
        await _journal(stores, record, JournalEntry(0, EntryKind.STARTED, 7, b"digest"))
        await finish(stores, record, end)
        left = await stores.journal.load(record.execution_id)
        assert bool(left) == (end is ExecutionStatus.IN_DOUBT)


async def test_executions_are_listed_newest_first_by_workflow_and_status(stores: Stores) -> None:
    other = "00" + "33" * 31
    for number, workflow_id in ((1, WORKFLOW), (2, other), (3, WORKFLOW)):
        await accept(stores, execution(number, workflow_id=workflow_id))
    await begin(stores, execution(3))

    async def numbers(**query: Any) -> list[int]:
        found = await stores.executions.newest(**query)
        return [int(record.execution_id, 16) for record in found]

    assert await numbers() == [3, 2, 1]
    assert await numbers(limit=2) == [3, 2]
    assert await numbers(workflow_id=WORKFLOW) == [3, 1]
    assert await numbers(status=ExecutionStatus.ACCEPTED) == [2, 1]
    assert await numbers(workflow_id=WORKFLOW, status=ExecutionStatus.RUNNING) == [3]
    assert await stores.executions.get("ff" * 32) is None


async def test_what_is_unfinished_comes_oldest_first_with_its_event(stores: Stores) -> None:
    for number in (2, 1, 3):
        await accept(stores, execution(number), b"%d" % number)
    await begin(stores, execution(2))
    await finish(stores, execution(3))
    left = await stores.executions.unfinished(WORKFLOW)
    assert [(one.payload, one.record.attempt) for one in left] == [(b"1", 0), (b"2", 1)]
    assert await stores.executions.unfinished("00" * 32) == []


async def test_settling_ends_what_is_unfinished_and_tells_what_is_in_doubt(stores: Stores) -> None:
    accepted, answered, repeatable, lost, foreign = [
        await accept(stores, execution(number, workflow_id=WORKFLOW if number < 5 else "00" * 32))
        for number in range(1, 6)
    ]
    for record in (answered, repeatable, lost):
        await begin(stores, record)
    started = JournalEntry(0, EntryKind.STARTED, 7, b"digest")
    await _journal(stores, answered, started, JournalEntry(1, EntryKind.ANSWERED, 7, b"digest", value=b"\0"))
    await _journal(stores, repeatable, evolve(started, idempotent=True))
    await _journal(stores, lost, started, JournalEntry(1, EntryKind.ANSWERED, 8, b"digest", value=b"\0"))

    ended = await stores.executions.settle(WORKFLOW, reason="it was paused", at=NOW)

    by_id = {record.execution_id: record for record in ended}
    assert by_id.keys() == {record.execution_id for record in (accepted, answered, repeatable, lost)}
    assert {by_id[one.execution_id].status for one in (accepted, answered, repeatable)} == {ExecutionStatus.FAILED}
    assert by_id[accepted.execution_id].error == "it was paused"
    assert by_id[lost.execution_id].status is ExecutionStatus.IN_DOUBT
    assert "effect of an unanswered call is unknown" in by_id[lost.execution_id].error
    assert await stores.executions.get(foreign.execution_id) == foreign
    assert await stores.executions.settle(WORKFLOW, reason="again", at=NOW) == []


async def test_pruning_deletes_old_ends_with_everything_of_theirs(stores: Stores) -> None:
    old, young, unfinished = [await accept(stores, execution(number)) for number in (1, 2, 3)]
    for record, age in ((old, 10), (young, 1)):
        outcome = Outcome(ExecutionStatus.IN_DOUBT, NOW - timedelta(days=age))
        await _journal(stores, record, JournalEntry(0, EntryKind.STARTED, 7, b"digest"))
        await stores.database.write(stores.executions.finish(record.execution_id, outcome, [line(record, 0)]))

    assert await stores.executions.prune(before=NOW - timedelta(days=5)) == 1

    assert {record.execution_id for record in await stores.executions.newest()} == {
        young.execution_id,
        unfinished.execution_id,
    }
    assert [found.execution_id for found in await stores.logs.lines()] == [young.execution_id]
    assert await stores.journal.load(old.execution_id) == []
    assert await stores.executions.prune(before=NOW - timedelta(days=5)) == 0


async def test_pruning_takes_no_more_than_its_limit(stores: Stores) -> None:
    for number in range(5):
        await accept(stores, execution(number))
        await finish(stores, execution(number))
    later = NOW + timedelta(days=1)
    assert [await stores.executions.prune(before=later, limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_an_error_with_characters_that_no_database_takes_is_kept_without_them(stores: Stores) -> None:
    record = await accept(stores, execution(1))
    outcome = Outcome(ExecutionStatus.FAILED, NOW, error="a\x00b\udcffc")
    await stores.database.write(stores.executions.finish(record.execution_id, outcome, []))
    found = await stores.executions.get(record.execution_id)
    assert found is not None
    assert found.error == "a\ufffdb\ufffdc"


@given(steps=st.lists(st.sampled_from(["begin", "finish", "accept"]), max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_an_execution_only_moves_forward(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        database = Database(f"sqlite:///{tmp_path_factory.mktemp('steps')}/host.db")
        await database.open()
        stores = Stores.of(database)
        record = execution(1)
        expected: ExecutionStatus | None = None
        try:
            for number, step in enumerate(steps, start=1):
                if step == "accept":
                    accepted = await stores.executions.accept(record, b"")
                    assert accepted.created == (expected is None)
                    expected = expected or ExecutionStatus.ACCEPTED
                    assert accepted.record.status is expected
                    continue
                allowed = expected is not None and not expected.is_end
                try:
                    await (begin(stores, record, number) if step == "begin" else finish(stores, record))
                except ConflictError:
                    assert not allowed
                else:
                    assert allowed
                    expected = ExecutionStatus.RUNNING if step == "begin" else ExecutionStatus.SUCCESS
            found = await stores.executions.get(record.execution_id)
            assert (None if found is None else found.status) is expected
        finally:
            await database.close()

    asyncio.run(run())


async def _write_lines(stores: Stores, lines: list[LogLine]) -> None:
    await stores.database.write(lambda connection: add_lines(connection, lines))


async def _journal(stores: Stores, record: ExecutionRecord, *entries: JournalEntry) -> None:
    await stores.database.write(lambda connection: add_entries(connection, record.execution_id, entries))
