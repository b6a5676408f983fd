"""Lines of logs in the store."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest
from attrs import evolve
from sqlalchemy.engine import Connection

from innkeeper.store.executions import ExecutionRecord, ExecutionStatus
from innkeeper.store.logs import LogLine, add_lines
from innkeeper.store.stores import Stores

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORKFLOW, OTHER = "00" * 32, "00" * 31 + "01"


def line(number: int, *, workflow: str = WORKFLOW, execution: str = "") -> LogLine:
    return LogLine(workflow, execution, number, NOW, f"line {number}")


def _add(lines: list[LogLine], connection: Connection) -> None:
    add_lines(connection, lines)


@pytest.fixture
async def executions(stores: Stores) -> list[str]:
    found = []
    for number, workflow in enumerate((WORKFLOW, WORKFLOW, OTHER)):
        record = ExecutionRecord(f"{number:064x}", workflow, 0, str(number), ExecutionStatus.ACCEPTED, accepted_at=NOW)
        await stores.executions.accept(record, b"")
        found.append(record.execution_id)
        lines = [line(index, workflow=workflow, execution=record.execution_id) for index in range(3)]
        await stores.database.write(partial(_add, lines))
    return found


async def test_lines_are_read_in_their_order_by_workflow_and_execution(stores: Stores, executions: list[str]) -> None:
    assert len(await stores.logs.lines()) == 9
    assert {found.execution_id for found in await stores.logs.lines(workflow_id=WORKFLOW)} == set(executions[:2])
    found = await stores.logs.lines(execution_id=executions[1])
    assert [evolve(one, id=0) for one in found] == [line(index, execution=executions[1]) for index in range(3)]


async def test_the_newest_lines_still_come_oldest_first(stores: Stores, executions: list[str]) -> None:
    found = await stores.logs.lines(workflow_id=WORKFLOW, tail=2)
    assert [(one.execution_id, one.line) for one in found] == [(executions[1], 1), (executions[1], 2)]


async def test_lines_can_be_read_page_by_page(stores: Stores, executions: list[str]) -> None:
    pages, after = [], 0
    while page := await stores.logs.lines(after=after, limit=4):
        pages.append(len(page))
        after = page[-1].id
    assert pages == [4, 4, 1]


async def test_lines_of_subscribing_replace_those_of_the_one_before(stores: Stores, executions: list[str]) -> None:
    await stores.logs.replace_subscribing(WORKFLOW, [line(0), line(1)])
    await stores.logs.replace_subscribing(OTHER, [line(0, workflow=OTHER)])
    await stores.logs.replace_subscribing(WORKFLOW, [line(7)])
    subscribing = [found for found in await stores.logs.lines() if not found.execution_id]
    assert [(found.workflow_id, found.line) for found in subscribing] == [(OTHER, 0), (WORKFLOW, 7)]
    assert len(await stores.logs.lines()) == 11
