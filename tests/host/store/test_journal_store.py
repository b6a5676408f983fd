"""Journals in the store."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from innkeeper.store.errors import DatabaseError
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus
from innkeeper.store.journal import EntryKind, JournalEntry, add_entries
from innkeeper.store.stores import Stores

ID = "ab" * 32


async def test_entries_are_read_back_in_their_order(stores: Stores) -> None:
    await stores.executions.accept(
        ExecutionRecord(ID, "00" * 32, 0, "e", ExecutionStatus.ACCEPTED, datetime(2026, 1, 1, tzinfo=UTC)), b""
    )
    entries = [
        JournalEntry(0, EntryKind.DON_TIME, value=b"\x00\xff"),
        JournalEntry(1, EntryKind.STARTED, -3, b"digest", idempotent=True),
        JournalEntry(2, EntryKind.ANSWERED, -3, b"digest", value=b""),
        JournalEntry(3, EntryKind.SECRETS, 2**31 - 1, b"digest"),
    ]
    await stores.database.write(lambda connection: add_entries(connection, ID, entries[2:]))
    await stores.database.write(lambda connection: add_entries(connection, ID, entries[:2]))
    await stores.database.write(lambda connection: add_entries(connection, ID, []))
    assert await stores.journal.load(ID) == entries
    assert await stores.journal.load("00" * 32) == []


async def test_a_position_is_taken_once(stores: Stores) -> None:
    await stores.executions.accept(
        ExecutionRecord(ID, "00" * 32, 0, "e", ExecutionStatus.ACCEPTED, datetime(2026, 1, 1, tzinfo=UTC)), b""
    )
    entry = JournalEntry(0, EntryKind.STARTED, 1, b"digest")
    await stores.database.write(lambda connection: add_entries(connection, ID, [entry]))
    with pytest.raises(DatabaseError, match=r"(?i)unique"):
        await stores.database.write(lambda connection: add_entries(connection, ID, [entry]))


def test_an_answer_is_in_no_repr() -> None:
    assert "sensitive" not in repr(JournalEntry(0, EntryKind.ANSWERED, 1, b"d", value=b"sensitive"))
