"""Everything that is stored, by what it is about."""

from __future__ import annotations

from attrs import frozen

from innkeeper.store.audit import AuditStore
from innkeeper.store.database import Database
from innkeeper.store.executions import ExecutionStore
from innkeeper.store.journal import JournalStore
from innkeeper.store.logs import LogStore
from innkeeper.store.specs import SpecStore

__all__ = ["Stores"]


@frozen
class Stores:
    """The stores of one database.

    Attributes:
        database: Where they are.
        specs: Deployed workflows.
        executions: Executions.
        journal: What unfinished executions have asked and been answered.
        logs: Lines of workflow logs.
        audit: Acts of an operator.
    """

    database: Database
    specs: SpecStore
    executions: ExecutionStore
    journal: JournalStore
    logs: LogStore
    audit: AuditStore

    @classmethod
    def of(cls, database: Database) -> Stores:
        """Return the stores of a database."""
        return cls(
            database=database,
            specs=SpecStore(database),
            executions=ExecutionStore(database),
            journal=JournalStore(database),
            logs=LogStore(database),
            audit=AuditStore(database),
        )
