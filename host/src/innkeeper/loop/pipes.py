"""What a process prints, read to its end.

Rules of this module:

1. A pipe that nobody reads blocks who writes: it is read for ever, whatever becomes of what was read.
2. Reading never waits, and one pipe takes one turn of the loop at a time: a process that floods its output is slow
   itself, not the host.
3. Of stdout the first line is the handshake; the rest is thrown away, as the reference does.

For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from innkeeper.loop.handshake import LINE_BYTES

__all__ = ["Drain", "FirstLine"]

# A quarter of what a pipe of Linux holds: so many lines are told in a few milliseconds.
_CHUNK: Final = 16 << 10


class Drain:
    """Read a pipe to its end.

    Args:
        file: The reading end; it is closed here.
        take: Called with what was read.
        ended: Called once, when no more will come.

    Attributes:
        done: Set at the end.
    """

    def __init__(self, file: int, take: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._file = file
        self._take = take
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        os.set_blocking(file, False)
        self._loop.add_reader(file, self._read)

    def close(self) -> None:
        """Read no more; idempotent."""
        if not self.done.is_set():
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self.done.set()
            self._ended()

    def _read(self) -> None:
        try:
            data = os.read(self._file, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._take(data)
        else:
            self.close()


class FirstLine:
    """The first line of what a process prints.

    Attributes:
        line: The line with its end, as soon as it is there: without one if the output ends before, and cut if it is
            longer than a handshake can be. Empty if nothing was printed.
    """

    def __init__(self) -> None:
        self.line: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._head = bytearray()

    @property
    def printed(self) -> bytes:
        """Return what has been printed so far, up to the first line's end."""
        return bytes(self._head)

    def take(self, data: bytes) -> None:
        """Take what was read."""
        if self.line.done():
            return
        self._head += data
        end = self._head.find(b"\n")
        if end >= 0:
            del self._head[end + 1 :]
        if end >= 0 or len(self._head) > LINE_BYTES:
            self.end()

    def end(self) -> None:
        """Take note that no more will come."""
        if not self.line.done():
            self.line.set_result(bytes(self._head))
