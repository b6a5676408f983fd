"""The one writer: order, shared transactions, and faults that hurt nobody else."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from innkeeper.store.errors import StoreClosedError
from innkeeper.store.writer import Operation, Writer


class TranslatedError(Exception):
    """What the writer's owner makes of an error of the driver."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/writer.db")
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE items (value TEXT UNIQUE)"))
    yield engine
    engine.dispose()


@pytest.fixture
async def writer(engine: Engine) -> AsyncIterator[Writer]:
    def translate(error: DBAPIError) -> Exception:
        return TranslatedError(str(error.orig))

    writer = Writer(engine, translate=translate)
    yield writer
    await writer.close()


class Gate:
    """An operation that holds the writer until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.entered.set()
        assert self.opened.wait(10)


def put(value: str) -> Operation[str]:
    def operation(connection: Connection) -> str:
        connection.execute(text("INSERT INTO items VALUES (:value)"), {"value": value})
        return value

    return operation


def items(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT value FROM items ORDER BY rowid")).scalars())


async def hold(writer: Writer) -> Gate:
    gate = Gate()
    writer.submit(gate)
    await asyncio.to_thread(gate.entered.wait, 10)
    return gate


async def test_operations_are_applied_in_their_order(writer: Writer, engine: Engine) -> None:
    values = [str(number) for number in range(1000)]
    assert await asyncio.gather(*(writer.submit(put(value)) for value in values)) == values
    assert items(engine) == values


async def test_operations_that_wait_together_share_a_transaction(writer: Writer, engine: Engine) -> None:
    commits: list[int] = []
    event.listen(engine, "commit", lambda connection: commits.append(1))
    gate = await hold(writer)
    futures = [writer.submit(put(str(number))) for number in range(100)]
    gate.opened.set()
    await asyncio.gather(*futures)
    assert len(commits) == 2


async def test_a_failing_operation_hurts_no_other_of_its_transaction(writer: Writer, engine: Engine) -> None:
    gate = await hold(writer)
    futures = [writer.submit(put(value)) for value in ("a", "b", "a", "c")]
    gate.opened.set()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [results[0], results[1], results[3]] == ["a", "b", "c"]
    assert isinstance(results[2], TranslatedError)
    assert items(engine) == ["a", "b", "c"]


async def test_an_error_that_is_not_the_drivers_comes_as_it_is(writer: Writer) -> None:
    def refuse(connection: Connection) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await writer.submit(refuse)
    assert await writer.submit(put("after")) == "after"


async def test_what_may_have_been_committed_is_not_tried_again(writer: Writer, engine: Engine) -> None:
    calls: list[str] = []

    def counted(value: str) -> Operation[None]:
        return lambda connection: calls.append(value)

    gate = await hold(writer)
    futures = [writer.submit(counted("a")), writer.submit(counted("b"))]
    commits = iter((None, OperationalError("COMMIT", {}, Exception("connection lost"))))

    def commit(connection: Connection) -> None:
        error = next(commits, None)
        if error is not None:
            raise error

    event.listen(engine, "commit", commit)
    gate.opened.set()
    results = await asyncio.gather(*futures, return_exceptions=True)

    assert [type(result) for result in results] == [TranslatedError, TranslatedError]
    assert calls == ["a", "b"]
    assert await writer.submit(put("after")) == "after"


async def test_nothing_is_taken_after_the_end_and_all_is_written_before_it(writer: Writer, engine: Engine) -> None:
    gate = await hold(writer)
    futures = [writer.submit(put(str(number))) for number in range(10)]
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreClosedError):
        writer.submit(put("late"))
    gate.opened.set()
    await closing
    await writer.close()
    assert [future.result() for future in futures] == items(engine)


async def test_a_cancelled_future_is_left_alone(writer: Writer, engine: Engine) -> None:
    gate = await hold(writer)
    cancelled, failing = writer.submit(put("a")), writer.submit(put("a"))
    cancelled.cancel()
    failing.cancel()
    gate.opened.set()
    assert await writer.submit(put("b")) == "b"
    assert items(engine) == ["a", "b"]


def test_a_writer_that_outlives_its_event_loop_ends_quietly(engine: Engine) -> None:
    gate = Gate()

    async def leave() -> threading.Thread:
        writer = Writer(engine, translate=lambda error: error)
        writer.submit(gate)
        return next(thread for thread in threading.enumerate() if thread.name == "innkeeper-store-writer")

    thread = asyncio.run(leave())
    gate.opened.set()
    thread.join(10)
    assert not thread.is_alive()
    gc.collect()
