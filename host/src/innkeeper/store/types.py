"""Column types that mean the same on SQLite and on PostgreSQL.

Rules of this module:

1. Times are aware and UTC in Python, whatever the database gives back.
2. Empty bytes are bytes: SQLite would otherwise keep the text ``''`` and give back a string.
3. Text that is kept is valid text: PostgreSQL takes no NUL, and neither takes half a surrogate pair.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import BigInteger, DateTime, Integer, LargeBinary
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

__all__ = ["BigSerial", "EmptyBytes", "UtcDateTime", "storable_text"]

# SQLite counts a row by itself only for a column of type INTEGER.
BigSerial: Final = BigInteger().with_variant(Integer(), "sqlite")

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, kept in UTC with microseconds."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC.

        Raises:
            ValueError: It has no zone, so that it does not say which moment it is.
        """
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a stored time needs a zone, found {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment with its zone, which SQLite does not keep."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class EmptyBytes(FunctionElement[bytes]):
    """The default of a column of bytes: none of them."""

    inherit_cache = True
    type = LargeBinary()


@compiles(EmptyBytes, "sqlite")
def _empty_on_sqlite(element: EmptyBytes, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    return "x''"


@compiles(EmptyBytes, "postgresql")
def _empty_on_postgresql(element: EmptyBytes, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    return "'\\x'::bytea"


def storable_text(text: str) -> str:
    """Return a text that both databases keep as it is.

    Args:
        text: Any string, also one decoded with ``surrogateescape``.

    Returns:
        The text, with U+FFFD for each NUL and each surrogate.
    """
    return _UNSTORABLE.sub("\ufffd", text)
