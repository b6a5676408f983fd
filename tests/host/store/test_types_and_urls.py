"""Column types, and database URLs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from innkeeper.store.errors import DatabaseError
from innkeeper.store.types import UtcDateTime, storable_text
from innkeeper.store.urls import parse_url, shown, sqlite_file


def test_a_time_is_stored_in_utc_and_read_back_with_its_zone() -> None:
    column, dialect = UtcDateTime(), sqlite.dialect()
    given_time = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert column.process_bind_param(given_time, dialect) == datetime(2026, 1, 1, tzinfo=UTC)
    assert column.process_result_value(datetime(2026, 1, 1), dialect) == datetime(2026, 1, 1, tzinfo=UTC)
    assert column.process_result_value(given_time, dialect) == datetime(2026, 1, 1, tzinfo=UTC)
    assert column.process_bind_param(None, dialect) is None
    assert column.process_result_value(None, dialect) is None


@given(st.text(alphabet=st.characters(codec=None, categories=None)))
def test_storable_text_is_utf8_without_nul_and_as_long(text: str) -> None:
    stored = storable_text(text)
    assert "\x00" not in stored
    stored.encode("utf-8")
    assert len(stored) == len(text)
    assert storable_text(stored) == stored


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("sqlite:///a.db", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:////a.db", "sqlite+aiosqlite"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql://u:p@h/d", "postgresql+psycopg"),
    ],
)
def test_urls_of_known_databases_get_their_driver(text: str, driver: str) -> None:
    assert parse_url(text).drivername == driver


@pytest.mark.parametrize("text", ["mysql://u:geheim@h/d", "no url at all: geheim", "sqlite://", "sqlite:///:memory:"])
def test_other_urls_are_refused_without_repeating_a_password(text: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        parse_url(text)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("text", ["sqlite:///file:x?mode=memory&uri=true", "sqlite:///x.db?mode=memory"])
def test_a_database_in_memory_is_refused_however_it_is_written(text: str) -> None:
    with pytest.raises(DatabaseError, match="must be a file"):
        parse_url(text)


def test_a_url_is_shown_without_its_password() -> None:
    url = parse_url("postgresql://user:geheim@host/name")
    assert "geheim" not in shown(url)
    assert "user" in shown(url)


def test_only_sqlite_has_a_file() -> None:
    assert sqlite_file(parse_url("sqlite:////data/host.db")) == Path("/data/host.db")
    assert sqlite_file(parse_url("postgresql://u@h/d")) is None
