"""What can be wrong with the database itself.

Rules of this module:

1. No text holds the database's password: only :func:`innkeeper.store.urls.shown` writes a URL.
"""

from __future__ import annotations

from innkeeper_sdk.errors import ExitCode, HostError

__all__ = ["DatabaseError", "DatabaseVersionError", "StoreClosedError"]


class DatabaseError(HostError):
    """Raised when the database cannot be opened, read or brought up to date."""

    code = "database"
    exit_code = ExitCode.CONFIG


class DatabaseVersionError(DatabaseError):
    """Raised when the database was written by a newer host than this one."""

    code = "database-newer"


class StoreClosedError(HostError):
    """Raised when something is to be stored after the store was closed."""

    code = "store-closed"
