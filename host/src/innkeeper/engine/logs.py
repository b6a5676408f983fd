"""The log of one execution, on its way to the store.

Rules of this module:

1. A line that is too long is cut and says so; a line above the limit of lines is dropped and counted. Both limits are
   the workflow's.
2. Lines are stored many at a time: those of a short execution with its result, those of a long one every quarter of a
   second, so that somebody who follows them sees them come.
3. A line is told to watchers after it is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from innkeeper.engine.clock import Clock, at
from innkeeper.store.logs import LogLine
from innkeeper.store.types import storable_text

__all__ = ["LogBuffer"]

# How long a line of a running execution may wait.
_DELAY: Final = 0.25

# As the reference ends a line that it cut (chainlink, workflows/v2).
_TRUNCATED: Final = " ...(truncated)"


class LogBuffer:
    """Take lines, and hand them on in batches.

    Args:
        workflow_id: Whose they are.
        execution_id: The execution; empty while subscribing.
        line_bytes: The size of a line, in bytes of UTF-8.
        lines: How many lines are kept.
        clock: The time of each.
        write: Stores lines without waiting; None keeps them here until they are taken.
    """

    def __init__(
        self,
        *,
        workflow_id: str,
        execution_id: str,
        line_bytes: int,
        lines: int,
        clock: Clock,
        write: Callable[[Sequence[LogLine]], None] | None,
    ) -> None:
        self._workflow_id = workflow_id
        self._execution_id = execution_id
        self._line_bytes = line_bytes
        self._limit = lines
        self._clock = clock
        self._write = write
        self._waiting: list[LogLine] = []
        self._count = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def dropped(self) -> int:
        """Return how many lines were not kept."""
        return self._dropped

    def emit(self, message: str) -> None:
        """Take a line."""
        if self._count >= self._limit:
            self._dropped += 1
            return
        self._waiting.append(
            LogLine(
                workflow_id=self._workflow_id,
                execution_id=self._execution_id,
                line=self._count,
                time=at(self._clock),
                message=_cut(storable_text(message), self._line_bytes),
            )
        )
        self._count += 1
        if self._timer is None and self._write is not None:
            self._timer = asyncio.get_running_loop().call_later(_DELAY, self._flush)

    def lost(self, count: int) -> None:
        """Count lines that could not be stored."""
        self._dropped += count

    def take(self) -> list[LogLine]:
        """Return the lines that are not handed on yet, to be stored by the caller."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._waiting = self._waiting, []
        return lines

    def _flush(self) -> None:
        lines = self.take()
        if lines and self._write is not None:
            self._write(lines)


def _cut(message: str, limit: int) -> str:
    encoded = message.encode()
    if len(encoded) <= limit:
        return message
    return encoded[:limit].decode("utf-8", "ignore") + _TRUNCATED
