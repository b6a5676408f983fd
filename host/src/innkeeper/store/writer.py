"""One writer: everything that is stored goes through one queue, many operations in one transaction.

Rules of this module:

1. Operations are applied in the order in which they were submitted, and each is applied whole or not at all.
2. A future is done only after its transaction was committed: what it says is durable.
3. Operations that are waiting together share one transaction, because the cost of a commit is the disk's and not the
   row's. If one of them fails, all are rolled back and each is tried alone, so that one fault hurts no other.
4. An operation that may have been committed is never tried again: after a failed commit, whoever submitted it decides.
5. A transaction runs in a thread of its own, from its begin to its commit: one hop between threads for each, where a
   driver made for asyncio needs three for each statement. Measured on SQLite, that is a half to a third of the time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from attrs import frozen
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from innkeeper.store.errors import StoreClosedError

__all__ = ["Operation", "Writer"]

T = TypeVar("T")
Operation = Callable[[Connection], T]

# A transaction holds the write lock of SQLite, for which a backup or an upgrade may be waiting.
_BATCH: Final = 256


@frozen
class _Pending:
    operation: Operation[Any]
    done: asyncio.Future[Any]


@frozen
class _Done:
    pending: _Pending
    result: Any = None
    error: Exception | None = None

    def deliver(self) -> None:
        if self.pending.done.done():
            return
        if self.error is not None:
            self.pending.done.set_exception(self.error)
        else:
            self.pending.done.set_result(self.result)


class _CommitError(Exception):
    """The commit itself failed: nobody knows what was stored.

    Args:
        reason: What the database said.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Writer:
    """Apply operations in order, in as few transactions as there are moments of waiting.

    Args:
        engine: The database, synchronous; its transactions take the lock for writing when they begin.
        translate: Turns an error of the database's driver into one of ours.
    """

    def __init__(self, engine: Engine, *, translate: Callable[[DBAPIError], Exception]) -> None:
        self._engine = engine
        self._translate = translate
        self._loop = asyncio.get_running_loop()
        self._pending: deque[_Pending] = deque()
        self._condition = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="innkeeper-store-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queue an operation.

        Args:
            operation: What to do on a connection, in the writer's thread. It may be run twice if the first time
                failed before its commit, so it has no effect but on the database.

        Returns:
            A future of its result, done once that is durable. Cancelling the future does not cancel the operation.

        Raises:
            StoreClosedError: The store is closed.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        with self._condition:
            if self._closing:
                raise StoreClosedError("the store is closed; nothing can be written any more")
            self._pending.append(_Pending(operation, done))
            self._condition.notify()
        return done

    async def close(self) -> None:
        """Write what is waiting, then stop; idempotent."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while batch := self._take():
            done = self._write(batch)
            try:
                self._loop.call_soon_threadsafe(_deliver, done)
            except RuntimeError:
                # The event loop was closed before the store: nobody is left who could be told.
                return

    def _take(self) -> list[_Pending]:
        with self._condition:
            while not self._pending and not self._closing:
                self._condition.wait()
            return [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]

    def _write(self, batch: list[_Pending]) -> list[_Done]:
        try:
            results = self._transaction(batch)
        except _CommitError as error:
            return [_Done(pending, error=self._translated(error.reason)) for pending in batch]
        except Exception as error:  # noqa: BLE001 - handed to whoever submitted the operation
            if len(batch) == 1:
                return [_Done(batch[0], error=self._translated(error))]
            return [done for pending in batch for done in self._write([pending])]
        return [_Done(pending, result) for pending, result in zip(batch, results, strict=True)]

    def _translated(self, error: Exception) -> Exception:
        return self._translate(error) if isinstance(error, DBAPIError) else error

    def _transaction(self, batch: list[_Pending]) -> list[Any]:
        with self._engine.connect() as connection:
            transaction = connection.begin()
            results = [pending.operation(connection) for pending in batch]
            try:
                transaction.commit()
            except Exception as error:
                # Its transaction may still be open, which would fail every one after it.
                connection.invalidate()
                raise _CommitError(error) from error
        return results


def _deliver(batch: list[_Done]) -> None:
    for done in batch:
        done.deliver()
