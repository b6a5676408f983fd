"""Database URLs: which are taken, and how they are shown.

Rules of this module:

1. Two databases: SQLite in a file, and PostgreSQL. A SQLite database in memory would be lost with its connection, so
   it is refused.
2. A URL is shown without its password.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from innkeeper.store.errors import DatabaseError

__all__ = ["parse_url", "shown", "sqlite_file"]

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def parse_url(text: str) -> URL:
    """Return the URL with the driver that this host uses.

    Args:
        text: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``.

    Returns:
        The URL.

    Raises:
        DatabaseError: It is not a URL, or names another database.
    """
    try:
        url = make_url(text)
    except ArgumentError as error:
        # The text is not repeated: a malformed URL may hold a password anywhere.
        raise DatabaseError(
            "the database URL cannot be read", expected="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise DatabaseError(
            "the database URL names a database that this host does not know",
            expected="sqlite or postgresql",
            actual=url.drivername,
        )
    url = url.set(drivername=driver)
    if driver.startswith("sqlite") and (not url.database or ":memory:" in url.database or "mode" in url.query):
        raise DatabaseError(
            "a SQLite database must be a file", expected="sqlite:///FILE", actual=url.render_as_string()
        )
    return url


def shown(url: URL) -> str:
    """Return the URL as it may be printed: without its password."""
    return url.render_as_string(hide_password=True)


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite database, or None for another database."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
