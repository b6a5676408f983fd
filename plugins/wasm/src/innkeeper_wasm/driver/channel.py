"""The driver's end of a control socket, on the event loop: nothing here blocks, and descriptors have one owner."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from innkeeper_wasm.runtime import control

__all__ = ["ControlChannel"]

_BURST = 32
"""Messages taken per wake-up, so that one busy channel does not keep the loop."""

OnMessage = Callable[[dict[str, Any], list[int]], None]


class ControlChannel:
    """Send and receive control messages.

    Args:
        sock: This end of the socketpair; the channel owns it.
        on_message: Gets each message with its descriptors, which it owns.
        on_closed: Called once, when the other end is closed or speaks nonsense; not after :meth:`close`.
    """

    def __init__(self, sock: socket.socket, on_message: OnMessage, on_closed: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[bytes, Sequence[int]]] = deque()
        self._closed = False
        self._loop.add_reader(sock, self._readable)

    def send(self, op: str, descriptors: Sequence[int] = (), **fields: Any) -> None:
        """Send a message; the channel owns ``descriptors`` from here on, and closes them once they are sent."""
        if self._closed:
            _close(descriptors)
            return
        self._pending.append((control.encode(op, **fields), descriptors))
        if len(self._pending) == 1:
            self._writable()

    def close(self) -> None:
        """Close the socket, and drop what is not sent."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        while self._pending:
            _close(self._pending.popleft()[1])

    def _writable(self) -> None:
        while self._pending:
            data, descriptors = self._pending[0]
            try:
                control.send(self._socket, data, tuple(descriptors))
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._writable)
                return
            except OSError:
                # The other end is gone: reading finds that out too, and says so. The rest cannot be sent.
                self._drop()
                break
            self._pending.popleft()
            _close(descriptors)
        self._loop.remove_writer(self._socket)

    def _drop(self) -> None:
        while self._pending:
            _close(self._pending.popleft()[1])

    def _readable(self) -> None:
        for _ in range(_BURST):
            if self._closed:
                return
            try:
                received = control.receive(self._socket)
            except BlockingIOError:
                return
            except (OSError, control.ControlError):
                received = None
            if received is None:
                self.close()
                self._on_closed()
                return
            self._on_message(*received)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
