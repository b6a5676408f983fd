"""Opening, reading and writing a database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from innkeeper.store.database import Database
from innkeeper.store.errors import DatabaseError, DatabaseVersionError, StoreClosedError
from innkeeper.store.migrate import head
from innkeeper_sdk.errors import ExitCode

OPEN = """
import asyncio, sys
from innkeeper.store.database import Database

async def main():
    database = Database(sys.argv[1])
    sys.stdin.readline()
    await database.open()
    print(await database.revision())
    await database.close()

asyncio.run(main())
"""


def count(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM audit_log")).scalar_one())


def add(connection: Connection) -> None:
    connection.execute(
        text(
            "INSERT INTO audit_log (time, action, workflow_id, workflow_owner, workflow_name, detail)"
            " VALUES (CURRENT_TIMESTAMP, 'a', 'w', 'o', 'n', '{}')"
        )
    )


async def test_a_new_database_is_at_the_newest_revision(database: Database) -> None:
    assert await database.revision() == head()


async def test_opening_twice_changes_nothing(database: Database, url: str) -> None:
    await database.write(add)
    await database.open()
    again = Database(url)
    await again.open()
    assert await again.read(count) == 1
    await again.close()


async def test_the_revision_of_a_database_that_is_not_there_is_none_and_makes_none(tmp_path: Path) -> None:
    assert await Database(f"sqlite:///{tmp_path}/none.db").revision() is None
    assert not (tmp_path / "none.db").exists()


async def test_a_write_is_visible_to_readers_once_it_returned(database: Database) -> None:
    await database.write(add)
    assert await database.read(count) == 1


async def test_what_a_read_writes_is_not_kept(database: Database) -> None:
    await database.read(add)
    assert await database.read(count) == 0


async def test_closing_writes_what_waits(url: str) -> None:
    database = Database(url)
    await database.open()
    waiting = [database.submit(add) for _ in range(50)]
    await database.close()
    assert all(future.done() for future in waiting)
    await database.open()
    assert await database.read(count) == 50
    await database.close()
    await database.close()


async def test_a_closed_database_says_so(url: str) -> None:
    database = Database(url)
    with pytest.raises(StoreClosedError, match="not open"):
        await database.read(count)
    with pytest.raises(StoreClosedError, match="not open"):
        database.submit(add)


async def test_a_failed_write_and_a_failed_read_name_the_database_and_the_reason(database: Database) -> None:
    def broken(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM nothing_like_this"))

    with pytest.raises(DatabaseError, match=r"host\.db|innkeeper_test.*nothing_like_this"):
        await database.write(broken)
    with pytest.raises(DatabaseError, match="nothing_like_this"):
        await database.read(broken)


async def test_a_cancelled_wait_does_not_undo_the_write(database: Database) -> None:
    waiting = asyncio.create_task(database.write(add))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await database.write(lambda connection: None)
    assert await database.read(count) == 1


async def test_a_database_of_a_newer_host_is_refused_and_left_alone(url: str) -> None:
    database = Database(url)
    await database.open()
    await database.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '29990101_000000'"))
    )
    await database.close()

    with pytest.raises(DatabaseVersionError, match=r"29990101_000000.*restore the backup") as caught:
        await Database(url).open()

    assert caught.value.exit_code is ExitCode.CONFIG
    assert caught.value.code == "database-newer"
    assert await Database(url).revision() == "29990101_000000"


async def test_tables_that_are_not_this_hosts_are_refused(sqlite_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "host.db")) as connection:
        connection.execute("CREATE TABLE workflow_specs_v2 (id INTEGER)")
    with pytest.raises(DatabaseError, match="not this host's"):
        await Database(sqlite_url).open()


async def test_two_revisions_at_once_are_an_error(sqlite_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('a'), ('b')")
    with pytest.raises(DatabaseError, match="several revisions"):
        await Database(sqlite_url).open()


async def test_a_file_that_is_no_database_is_an_error(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "host.db").write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseError, match="not a database"):
        await Database(sqlite_url).open()


async def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/missing/host.db")
    with pytest.raises(DatabaseError, match="No such file"):
        await database.open()
    assert await database.revision() is None


async def test_a_server_that_is_not_there_is_an_error_without_the_password(tmp_path: Path) -> None:
    database = Database(f"postgresql://user:geheim@/name?host={tmp_path}")
    assert "geheim" not in repr(database)
    for act in (database.open, database.revision):
        with pytest.raises(DatabaseError) as caught:
            await act()
        assert "geheim" not in str(caught.value)


async def test_the_sqlite_file_is_the_owners_alone(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    await database.open()
    await database.write(add)
    modes = {name: stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)}
    assert modes == {"host.db": 0o600, "host.db-wal": 0o600, "host.db-shm": 0o600}
    await database.close()


async def test_sqlite_is_durable_checks_references_and_never_blocks_readers(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.open()

    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.read(pragmas) == ["wal", 2, 1]
    assert await database.write(pragmas) == ["wal", 2, 1]
    with pytest.raises(DatabaseError, match="FOREIGN KEY"):
        await database.write(
            lambda connection: connection.execute(
                text("INSERT INTO journal (execution_id, position, kind) VALUES ('none', 0, 'started')")
            )
        )
    await database.close()


async def test_a_lock_that_is_held_too_long_is_an_error(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url, busy_timeout=0.05)
    await database.open()
    with closing(sqlite3.connect(tmp_path / "host.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match="locked"):
            await database.write(add)
        assert await database.read(count) == 0
    await database.write(add)
    await database.close()


def test_hosts_that_upgrade_at_the_same_time_both_succeed(url: str) -> None:
    hosts = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for host in hosts:
        assert host.stdin is not None
        host.stdin.write("\n")
        host.stdin.flush()
    outputs = [host.communicate(timeout=60)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0]
    assert outputs == [f"{head()}\n"] * 2
