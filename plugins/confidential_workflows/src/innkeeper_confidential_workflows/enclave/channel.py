"""One end of the stream of frames, on an event loop.

Rules of this module:

1. Frames are sent whole and in order, whoever sends; a sender waits while the other end does not read.
2. The end of the stream, an error of it, and a frame that is none all end the conversation; only the last says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Self

from innkeeper_confidential_workflows.enclave.frames import LENGTH, Frame, FrameError, decode, encode, payload_length

__all__ = ["FrameChannel"]

_READ_AHEAD_BYTES = 1 << 20


class FrameChannel:
    """Send and receive frames. Make it with :meth:`open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Self:
        """Return the channel over a stream socket, which it owns."""
        return cls(*await asyncio.open_connection(sock=sock, limit=_READ_AHEAD_BYTES))

    async def send(self, frame: Frame) -> None:
        """Send a frame.

        Raises:
            FrameError: It is too long; nothing of it is sent.
            ConnectionError: The other end is gone.
        """
        self._writer.write(encode(frame))
        await self._writer.drain()

    async def receive(self) -> Frame | None:
        """Return the next frame, or None at the end of the stream.

        Raises:
            FrameError: The other end says what it must not.
        """
        try:
            length = payload_length(await self._reader.readexactly(LENGTH.size))
            data = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return decode(data)

    async def close(self) -> None:
        """Close the stream; idempotent."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def unexpected(frame: Frame) -> FrameError:
    """Return the error for a frame that this end does not take."""
    return FrameError(f"a frame {frame.op} out of turn")
