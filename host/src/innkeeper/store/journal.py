"""The journal: what an execution has asked and been answered.

Rules of this module:

1. Entries of an execution have positions from 0 without gaps, in the order in which things happened.
2. Entries are only added; they go with their execution, or when it has ended with a known outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from attrs import field, frozen
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from innkeeper.store.database import Database
from innkeeper.store.models import journal as table

__all__ = ["EntryKind", "JournalEntry", "JournalStore", "Phase", "add_entries"]


class EntryKind(Enum):
    """What an entry says."""

    # The DON's time, and this node's, as nanoseconds since the epoch.
    DON_TIME = "don_time"
    NODE_TIME = "node_time"
    # The seed of the guest's random numbers that are this node's alone.
    NODE_SEED = "node_seed"
    # A capability call was about to leave the host.
    STARTED = "started"
    # What a capability call was answered, also when it was refused before it left.
    ANSWERED = "answered"
    # Secrets were asked for; their values are never kept.
    SECRETS = "secrets"


class Phase(Enum):
    """Which of an execution's runs of its guest asked: each numbers its calls anew."""

    HANDLER = 0
    PRE_HOOK = 1


@frozen
class JournalEntry:
    """One thing that happened.

    Attributes:
        position: Its place, from 0.
        kind: What it says.
        callback_id: The guest's id of the call.
        digest: SHA-256 of what was asked.
        idempotent: Whether the call may be repeated when its answer was lost.
        value: The time or the answer, serialized.
        phase: Which run of the guest asked.
    """

    position: int
    kind: EntryKind
    callback_id: int | None = None
    digest: bytes | None = None
    idempotent: bool = False
    value: bytes | None = field(default=None, repr=False)
    phase: Phase = Phase.HANDLER


_ADD: Final = insert(table)


def add_entries(connection: Connection, execution_id: str, entries: Sequence[JournalEntry]) -> None:
    """Write entries in a transaction that is under way."""
    if entries:
        connection.execute(
            _ADD,
            [
                {
                    "execution_id": execution_id,
                    "position": entry.position,
                    "phase": entry.phase.value,
                    "kind": entry.kind.value,
                    "callback_id": entry.callback_id,
                    "digest": entry.digest,
                    "idempotent": entry.idempotent,
                    "value": entry.value,
                }
                for entry in entries
            ],
        )


class JournalStore:
    """Read journals.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, execution_id: str) -> list[JournalEntry]:
        """Return an execution's journal, in order."""
        query = select(table).where(table.c.execution_id == execution_id).order_by(table.c.position)

        def run(connection: Connection) -> list[JournalEntry]:
            return [
                JournalEntry(
                    position=row.position,
                    kind=EntryKind(row.kind),
                    callback_id=row.callback_id,
                    digest=row.digest,
                    idempotent=row.idempotent,
                    value=row.value,
                    phase=Phase(row.phase),
                )
                for row in connection.execute(query).all()
            ]

        return await self._database.read(run)
