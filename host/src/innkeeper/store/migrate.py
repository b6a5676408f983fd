"""Bring the tables to the newest revision.

Rules of this module:

1. An upgrade is one transaction on the connection that it is given: it happens whole or not at all.
2. Hosts that upgrade at the same time do so one after the other, on SQLite by the write lock that the transaction
   already holds, on PostgreSQL by an advisory lock; the second finds nothing left to do.
3. Revisions go forward only. A database at a revision that this host does not know is left alone.
4. Alembic is imported only when there is something to upgrade: it costs half a second.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from innkeeper.store.errors import DatabaseError, DatabaseVersionError

__all__ = ["MIGRATIONS", "current_revision", "head", "revisions", "upgrade"]

MIGRATIONS: Final = Path(str(files("innkeeper.store") / "migrations"))

# A revision's id is the moment at which it was written: two branches never take the same number.
_FILE: Final = re.compile(r"r(?P<revision>\d{8}_\d{6})_\w+\.py", re.ASCII)

# Any number that nothing else on the server uses; this one is "innk" in ASCII.
_ADVISORY_LOCK: Final = 0x696E6E6B


def revisions() -> list[str]:
    """Return the ids of all revisions that this host knows, oldest first."""
    found = (_FILE.fullmatch(path.name) for path in (MIGRATIONS / "versions").iterdir())
    return sorted(match["revision"] for match in found if match)


def head() -> str:
    """Return the newest revision."""
    return revisions()[-1]


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the tables are at, or None when there are none yet.

    Raises:
        DatabaseError: There is more than one, which no host leaves behind.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    rows = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if len(rows) > 1:
        raise DatabaseError("the database is at several revisions at once", expected="one", actual=", ".join(rows))
    return rows[0] if rows else None


def upgrade(connection: Connection, shown_url: str, *, target: str | None = None) -> None:
    """Bring the tables to a revision, in the transaction that the connection is in.

    Args:
        connection: In a transaction for writing, which its owner commits.
        shown_url: The database, for errors.
        target: The revision; None is the newest. Nothing is done if the tables are there or past it.

    Raises:
        DatabaseVersionError: A newer host wrote this database.
        DatabaseError: The tables are in a state that no revision describes.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    current = current_revision(connection)
    known = revisions()
    wanted = known[-1] if target is None else target
    if current is not None and current not in known:
        raise DatabaseVersionError(
            f"the database {shown_url} was written by a newer host",
            expected=f"revision {known[-1]} or older",
            actual=f"revision {current}",
            hint="install that version again, or restore the backup made before the upgrade",
        )
    if current is not None and current >= wanted:
        return
    tables = set(inspect(connection).get_table_names())
    if current is None and "workflow_specs_v2" in tables:
        raise DatabaseError(
            f"the database {shown_url} has tables but no revision, so they are not this host's",
            expected="an empty database",
            actual=", ".join(sorted(tables)),
            hint="give another database",
        )
    _run_alembic(connection, wanted)


def _run_alembic(connection: Connection, target: str) -> None:
    from alembic import command  # noqa: PLC0415 - costs half a second, and is rarely needed
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)
