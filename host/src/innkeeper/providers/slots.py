"""One provider while the host runs: what was opened of it, and how it is.

Rules of this module:

1. The parts tell how each of them is; the provider's own status is as good as its worst part, once it has been started.
2. What was never started has the state of its provider, but for one that failed or was stopped: then it is stopped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from attrs import define, field, frozen

from innkeeper.providers.catalog import CatalogEntry
from innkeeper.providers.containment import Wall
from innkeeper.providers.parts import HOST_PART, PartRow
from innkeeper.providers.processes import Processes
from innkeeper.providers.states import ProviderState, ProviderStatus, ProviderStatusRow
from innkeeper_sdk.module import ModuleType

__all__ = ["Open", "Slot"]

# With these a provider has not got as far as to start its processes, or has ended them.
_OVER: Final = (ProviderState.FAILED, ProviderState.UNSUPPORTED, ProviderState.STOPPING, ProviderState.STOPPED)


@frozen
class Open:
    """Something that was started, or nearly, and is to be closed.

    Attributes:
        what: What it is, for the log.
        close: Closes it.
        seconds: How long that may take.
    """

    what: str
    close: Callable[[], Awaitable[None]]
    seconds: float


@define(eq=False)
class Slot:
    """A provider while the host runs.

    Attributes:
        item: Its entry.
        wall: The wall around its code.
        status: How it is.
        host: How its host part is, if it has one.
        processes: Its process parts.
        started: Whether it has been started, all of it, and not yet been stopped.
        settled: Set when it is ready or has failed.
        closed: Set when it is closed.
        opened: What was started of it, in order.
        registered: The ids that its host part has registered.
        modules: Its module types, by name.
    """

    item: CatalogEntry
    wall: Wall
    status: ProviderStatus
    host: ProviderStatus
    processes: Processes
    started: bool = False
    settled: asyncio.Event = field(factory=asyncio.Event)
    closed: asyncio.Event = field(factory=asyncio.Event)
    opened: list[Open] = field(factory=list)
    registered: list[str] = field(factory=list)
    modules: dict[str, ModuleType] = field(factory=dict)

    def set_host(self, state: ProviderState, reason: str = "") -> None:
        """Take note of how the host part is now."""
        self.host = ProviderStatus(state, reason, datetime.now(UTC))

    def parts(self) -> list[PartRow]:
        """Return how its parts are."""
        rows = []
        if any(part.mode == HOST_PART for part in self.item.parts):
            pid = os.getpid() if self.host.state is ProviderState.READY else None
            rows.append(PartRow(HOST_PART, HOST_PART, self.host.state, self.host.reason, self.host.since, pid))
        state = self.status.state
        unstarted = ProviderState.STOPPED if self.item.starts and state in _OVER else state
        return rows + self.processes.rows(unstarted, self.status.since)

    def row(self) -> ProviderStatusRow:
        """Return it as it is listed."""
        item = self.item
        return ProviderStatusRow(
            id=item.id,
            title=item.title,
            package=item.package,
            version=item.version,
            mode=item.mode,
            status=self.status,
            required=item.entry.required,
            origin=str(item.entry.origin),
            parts=tuple(self.parts()),
        )
