"""Closing what was opened, in reverse, whatever happens to one of them.

Rules of this module:

1. Each part has its own deadline; one that fails or is too slow is told to the log, and the next one is closed.
2. When the host is to stop now, also what is being closed gets only a moment more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

__all__ = ["Closing"]

_SECONDS: Final = 30.0
_HURRY_SECONDS: Final = 1.0


class Closing:
    """What is to be closed.

    Args:
        logger: Where troubles go.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._opened: list[tuple[str, Callable[[], Awaitable[None]], Callable[[], float]]] = []

    def add(
        self,
        what: str,
        close: Callable[[], Awaitable[None]],
        *,
        seconds: Callable[[], float] = lambda: _SECONDS,
    ) -> None:
        """Have something closed before everything that was added earlier.

        Args:
            what: What it is, for the log.
            close: Closes it; may be called though its opening failed half-way.
            seconds: Returns how long that may take; asked when it is closed.
        """
        self._opened.append((what, close, seconds))

    def add_plain(self, what: str, close: Callable[[], None]) -> None:
        """Have something closed that closes at once."""

        async def later() -> None:
            close()

        self.add(what, later)

    async def close(self, now: asyncio.Event) -> None:
        """Close everything; idempotent.

        Args:
            now: Set when it is to be quick.
        """
        hurry = asyncio.create_task(now.wait())
        try:
            while self._opened:
                what, close, seconds = self._opened.pop()
                await self._close(what, asyncio.ensure_future(close()), seconds(), hurry)
        finally:
            hurry.cancel()

    async def _close(self, what: str, closing: asyncio.Future[Any], seconds: float, hurry: asyncio.Future[Any]) -> None:
        if not hurry.done():
            await asyncio.wait({closing, hurry}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not closing.done() and hurry.done():
            await asyncio.wait({closing}, timeout=_HURRY_SECONDS)
        if not closing.done():
            closing.cancel()
            self._logger.error("%s did not close in time", what)
        elif closing.cancelled() or closing.exception() is not None:
            error = None if closing.cancelled() else closing.exception()
            self._logger.error("%s could not be closed", what, exc_info=error)
