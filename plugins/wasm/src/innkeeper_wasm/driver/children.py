"""Children of a fork server, as the driver knows them: to be killed by pidfd, and to be waited for.

A server says which process it has forked, but a zygote holds a guest, and a guest may have broken out of its engine. So
the driver opens the pidfd itself, and only if that process is the server's child: it never kills what a guest names.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from innkeeper_wasm.driver.channel import ControlChannel

__all__ = ["Child", "Children", "is_end", "open_child", "signal_name"]

_MAX_STATUS = 0xFFFF


class Child:
    """One process that a fork server was asked for.

    Attributes:
        pid: Its process id, once it is there.
        born: Done when it is there, or never will be.
        exited: Its wait status, once it has ended; None if it died with its server, or was never forked.
        problem: Why it was never forked, if so.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.born: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.problem: str | None = None
        self._pidfd: int | None = None
        self._killed = False

    def kill(self) -> None:
        """Kill it, now or as soon as it is there. Killing one that has ended does nothing."""
        self._killed = True
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def started(self, pid: int, server: int | None) -> None:
        """Take its identity, as its server tells it."""
        if self.pid is not None:
            raise ValueError(f"a child was started as {self.pid} and again as {pid}")
        self.pid = pid
        self._pidfd = open_child(pid, server)
        if not self.born.done():
            self.born.set_result(None)
        if self._killed:
            self.kill()

    def ended(self, status: int | None, problem: str | None = None) -> None:
        """Take its end, and see to it: a zygote that has been taken over may say so of a process that runs on."""
        self.kill()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if not self.born.done():
            self.born.set_result(None)
        if not self.exited.done():
            self.problem = problem
            self.exited.set_result(status)


class Children:
    """The children of one fork server.

    Args:
        channel: The server's control channel; its ``started``, ``exited`` and ``failed`` messages are to be handed to
            :meth:`handle`.
        server: Returns the server's process id, or None while it is not known.
    """

    def __init__(self, channel: ControlChannel, server: Callable[[], int | None]) -> None:
        self._channel = channel
        self._server = server
        self._numbers = itertools.count(1)
        self._children: dict[int, Child] = {}

    def __len__(self) -> int:
        """Return how many have not ended."""
        return len(self._children)

    @property
    def pids(self) -> list[int]:
        """The process ids of those that have started and not ended."""
        return [child.pid for child in self._children.values() if child.pid is not None]

    def fork(self, op: str, descriptors: Sequence[int], **fields: Any) -> Child:
        """Ask for a child; ``descriptors`` are its own from here on."""
        number = next(self._numbers)
        child = self._children[number] = Child()
        self._channel.send(op, descriptors, id=number, **fields)
        return child

    def handle(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Take a message about a child.

        Raises:
            ValueError: If it is none that a server sends; its descriptors are closed.
        """
        match message, descriptors:
            case {"op": "started", "id": int(number), "pid": int(pid)}, [] if number in self._children:
                self._children[number].started(pid, self._server())
            case {"op": "exited", "id": int(number), "status": int(status)}, [] if self._ends(number, status):
                self._children.pop(number).ended(status)
            case {"op": "failed", "id": int(number), "text": str(text)}, [] if number in self._children:
                self._children.pop(number).ended(None, text)
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)
                raise ValueError(f"unexpected message {message['op']!r} about a child")

    def _ends(self, number: int, status: int) -> bool:
        return number in self._children and is_end(status)

    def kill(self) -> None:
        """Kill all."""
        for child in list(self._children.values()):
            child.kill()

    def lost(self) -> None:
        """Say that the server is gone, and so all of them."""
        children, self._children = self._children, {}
        for child in children.values():
            child.kill()
            child.ended(None)


def is_end(status: int) -> bool:
    """Tell whether a number is the wait status of a process that has ended."""
    return 0 <= status <= _MAX_STATUS and (os.WIFEXITED(status) or os.WIFSIGNALED(status))


def open_child(pid: int, parent: int | None) -> int | None:
    """Return a pidfd of a process, if it is a child of ``parent``; None if it is not, or is gone already."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError, ValueError):
        return None
    try:
        # Should the number be another process's by now, the pidfd still names the first, and killing that does nothing.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            status = file.read(1024)
    except OSError:
        os.close(pidfd)
        return None
    # The name in brackets may contain anything, brackets too.
    found = int(status[status.rindex(b")") + 1 :].split()[1])
    if found != parent:
        os.close(pidfd)
        return None
    return pidfd


def signal_name(number: int) -> str:
    """Return the name of a signal; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
