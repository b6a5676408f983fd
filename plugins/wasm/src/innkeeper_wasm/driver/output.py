"""What the processes of guests say on their standard error: logged by line, and no faster than somebody reads.

Rules of this module:

1. A line has a bounded length; what is longer is cut.
2. Lines are logged from a token bucket. What comes faster is dropped and counted, and the count is logged.
3. While the bucket is empty the pipe is read only now and then: whoever floods it waits, and not the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os

__all__ = ["ProcessOutput"]

_LINE_BYTES = 4096
_READ_BYTES = 65_536
_BURST_LINES = 200
"""A traceback of Python and what goes before it fit several times."""
_LINES_PER_SECOND = 10.0
_PAUSE_SECONDS = 0.25


class ProcessOutput:
    """Log the lines of a pipe until :meth:`close`.

    Args:
        descriptor: The reading end, not blocking; owned from here on.
        logger: Where lines go, as warnings.
    """

    def __init__(self, descriptor: int, logger: logging.Logger) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._logger = logger
        self._line = b""
        self._tokens = float(_BURST_LINES)
        self._filled = self._loop.time()
        self._dropped = 0
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(descriptor, self._readable)

    def close(self) -> None:
        """Log what is there still, and close the pipe."""
        if self._pause is not None:
            self._pause.cancel()
        self._read()
        if self._line:
            self._take(self._line)
        self._tell_dropped()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _readable(self) -> None:
        if not self._read():
            self._loop.remove_reader(self._descriptor)
        elif self._dropped:
            self._loop.remove_reader(self._descriptor)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._fill()
        if self._tokens >= 1:
            self._tell_dropped()
        self._loop.add_reader(self._descriptor, self._readable)

    def _read(self) -> bool:
        """Take what is there; tell whether there may be more."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return True
        *lines, rest = (self._line + data).split(b"\n")
        self._fill()
        for line in lines:
            self._take(line)
        if len(rest) > _LINE_BYTES:
            self._take(rest)
            rest = b""
        self._line = rest
        return bool(data)

    def _fill(self) -> None:
        now = self._loop.time()
        self._tokens = min(_BURST_LINES, self._tokens + (now - self._filled) * _LINES_PER_SECOND)
        self._filled = now

    def _take(self, line: bytes) -> None:
        if self._tokens < 1:
            self._dropped += 1
        elif text := line[:_LINE_BYTES].decode("utf-8", "replace").rstrip():
            self._tokens -= 1
            self._logger.warning("guest process: %s", text)

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._logger.warning("guest process: %d more lines were dropped", self._dropped)
            self._dropped = 0
