"""Where workflows are listed.

Rules of this module:

1. A source says what is asked for; what is done about it is the handler's. A source that cannot be read says nothing:
   nothing is stopped or deleted for it.
2. The host's own table is a source like others; what is deployed on this host is listed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from innkeeper.store.specs import SpecHeader, SpecStore
from innkeeper.workflows.deployment import LOCAL

__all__ = ["Source", "TableSource"]


class Source(Protocol):
    """A place where workflows are listed."""

    @property
    def id(self) -> str:
        """Return its id, ``kind:name:version``."""

    async def list(self) -> Sequence[SpecHeader]:
        """Return the workflows that it lists now.

        Raises:
            InnkeeperError: It cannot be read now.
        """


class TableSource:
    """The workflows that were deployed on this host.

    Args:
        specs: The host's own table.
    """

    def __init__(self, specs: SpecStore) -> None:
        self._specs = specs

    @property
    def id(self) -> str:
        """Return its id."""
        return LOCAL

    async def list(self) -> Sequence[SpecHeader]:
        """Return the workflows of the table that belong to this source.

        Raises:
            DatabaseError: The table cannot be read.
        """
        return [header for header in await self._specs.headers() if header.source == LOCAL]
