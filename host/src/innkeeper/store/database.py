"""The database: opened, brought up to date, read and written.

Rules of this module:

1. ``open`` leaves the newest revision or raises; a database that a newer host wrote is refused, never touched.
2. SQLite: a write-ahead log, so that readers never wait for the writer; foreign keys enforced; every commit reaches
   the disk (``synchronous=FULL``), because an acknowledged event must survive a power cut; the file is the owner's
   alone (0600).
3. Transactions are begun by us, not by the driver: it would begin them late and change tables outside of them. One
   that writes takes the lock when it begins, so that it cannot fail half-way for want of it.
4. Reads are asynchronous, on connections of their own; writes go through the one writer.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from innkeeper.store.errors import DatabaseError, StoreClosedError
from innkeeper.store.migrate import current_revision, upgrade
from innkeeper.store.urls import parse_url, shown, sqlite_file
from innkeeper.store.writer import Operation, Writer

__all__ = ["Database"]

T = TypeVar("T")

# How long a connection waits for another process that holds SQLite's write lock: an upgrade, or a backup.
BUSY_TIMEOUT: Final = 10.0


class Database:
    """A database of this host.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://…``.
        busy_timeout: How long to wait for another process's lock on a SQLite file, in seconds.

    Raises:
        DatabaseError: The URL is not one of a database that this host knows.
    """

    def __init__(self, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._url = parse_url(url)
        self._busy_timeout = busy_timeout
        self._reading: AsyncEngine | None = None
        self._writing: Engine | None = None
        self._writer: Writer | None = None

    def __repr__(self) -> str:
        """Return the database's URL without its password."""
        return f"Database({shown(self._url)!r})"

    @property
    def url(self) -> URL:
        """Return the URL, with the driver."""
        return self._url

    async def open(self) -> None:
        """Connect, and bring the tables up to date.

        Several hosts may do so at once: one upgrades, the others wait.

        Raises:
            DatabaseError: It cannot be opened or upgraded.
            DatabaseVersionError: A newer host wrote it.
        """
        if self._writer is not None:
            return
        self._writing = await asyncio.to_thread(self._prepare)
        self._reading = self._reader()
        self._writer = Writer(self._writing, translate=self._unusable)

    async def revision(self) -> str | None:
        """Return the revision of the tables without changing anything; None when there are none.

        Raises:
            DatabaseError: The database cannot be read.
        """
        file = sqlite_file(self._url)
        if file is not None and not await asyncio.to_thread(file.exists):
            return None
        engine = self._reader()
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(current_revision)
        except (DBAPIError, OSError) as error:
            raise self._unusable(error) from error
        finally:
            await engine.dispose()

    async def close(self) -> None:
        """Write what is waiting and disconnect; idempotent."""
        writer, reading, writing = self._writer, self._reading, self._writing
        self._writer = self._reading = self._writing = None
        if writer is not None:
            await writer.close()
        if writing is not None:
            await asyncio.to_thread(writing.dispose)
        if reading is not None:
            await reading.dispose()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query on a snapshot of its own.

        Args:
            query: What to read, synchronously; nothing that it writes is kept.

        Returns:
            What it returns.

        Raises:
            StoreClosedError: The database is not open.
            DatabaseError: It cannot be read.
        """
        if self._reading is None:
            raise StoreClosedError("the database is not open")
        try:
            async with self._reading.connect() as connection:
                return await connection.run_sync(query)
        except DBAPIError as error:
            raise self._unusable(error) from error

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queue a write; see :meth:`innkeeper.store.writer.Writer.submit`.

        Raises:
            StoreClosedError: The database is not open.
        """
        if self._writer is None:
            raise StoreClosedError("the database is not open")
        return self._writer.submit(operation)

    async def write(self, operation: Operation[T]) -> T:
        """Write, and return when it is durable; a cancelled wait does not undo it.

        Raises:
            StoreClosedError: The database is not open.
            DatabaseError: It could not be written.
        """
        return await asyncio.shield(self.submit(operation))

    def _prepare(self) -> Engine:
        engine: Engine | None = None
        try:
            engine = self._write_engine()
            with engine.begin() as connection:
                upgrade(connection, shown(self._url))
        except (DBAPIError, sqlite3.Error, OSError) as error:
            if engine is not None:
                engine.dispose()
            raise self._unusable(error) from error
        except BaseException:
            if engine is not None:
                engine.dispose()
            raise
        return engine

    def _write_engine(self) -> Engine:
        file = sqlite_file(self._url)
        if file is None:
            return create_engine(self._url, pool_size=1, max_overflow=0)
        _prepare_file(file, self._busy_timeout)
        engine = create_engine(self._url.set(drivername="sqlite"), connect_args={"timeout": self._busy_timeout})
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine

    def _reader(self) -> AsyncEngine:
        if sqlite_file(self._url) is None:
            return create_async_engine(self._url)
        engine = create_async_engine(self._url, connect_args={"timeout": self._busy_timeout})
        event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine

    def _unusable(self, error: Exception) -> DatabaseError:
        reason = error.orig if isinstance(error, DBAPIError) else error
        return DatabaseError(f"the database {shown(self._url)} cannot be used: {str(reason).strip()}")


def _prepare_file(file: Path, busy_timeout: float) -> None:
    # Opened by us first: SQLite would create it readable for everybody.
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(file, timeout=busy_timeout, isolation_level=None)) as connection:
        # The mode stays with the file. Changing it needs the whole file for a moment, so only whoever finds it
        # otherwise does.
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = wal").fetchone()


def _on_sqlite_connect(connection: Any, record: object) -> None:
    del record
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()
