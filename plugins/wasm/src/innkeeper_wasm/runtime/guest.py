"""What the imports of one guest share: its memory, its host, and what its execution was started with."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Protocol

from innkeeper_wasm.runtime.limits import GuestLimits
from innkeeper_wasm.runtime.memory import LinearMemory
from innkeeper_wasm.runtime.wire import MAX_NOTICES, Kind, Request

__all__ = ["DON", "NODE", "Guest", "GuestFault", "Host", "HostFactory", "ProcessExit", "Refused"]

DON = 1
NODE = 2
"""The modes; a guest starts in mode 0, which is neither, and the host enforces nothing about them."""


class Refused(Exception):
    """Raised when the host answers a question with an error.

    Args:
        text: The text for the guest, UTF-8.
    """

    def __init__(self, text: bytes) -> None:
        super().__init__(text.decode("utf-8", "replace"))
        self.text = text


class GuestFault(Exception):
    """Raised by an import that the guest has called in a way that ends it, as a trap does."""


class ProcessExit(Exception):
    """Raised by ``proc_exit``.

    Args:
        code: The guest's exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"exit status {code}")
        self.code = code


class Host(Protocol):
    """The host's end, as the imports see it."""

    def ask(self, kind: int, payload: bytes) -> bytes:
        """Return the answer to a question.

        Raises:
            Refused: If the answer is an error text.
        """

    def tell(self, kind: int, payload: bytes) -> None:
        """Say something that is not answered."""


HostFactory = Callable[[Host], Host]
"""Returns the host's end that an execution's imports get, given the one that leads to the driver."""


class Guest:
    """The state of one execution that its imports work on.

    It is made in the zygote, and begun in each execution: what is made before a fork costs an execution nothing.

    Args:
        memory: The guest's memory.
    """

    def __init__(self, memory: LinearMemory) -> None:
        self.memory = memory
        self.host: Host = _NO_HOST
        self.limits = GuestLimits()
        self._notices = 0
        self.don_seed = 0
        self.node_seed = 0
        self.arguments: tuple[bytes, ...] = ()
        self.mode = 0

    def begin(self, host: Host, request: Request) -> None:
        """Take the host's end, and what the execution was started with."""
        self.host = host
        self.limits = request.limits
        self.don_seed = request.don_seed
        self.node_seed = request.node_seed
        self.arguments = (b"wasi", base64.standard_b64encode(request.request))

    def notice(self, text: str) -> None:
        """Say something in the host's own log, or drop it if too much has been said."""
        self._notices += 1
        if self._notices < MAX_NOTICES:
            self.host.tell(Kind.NOTICE, text.encode())
        elif self._notices == MAX_NOTICES:
            self.host.tell(Kind.NOTICE, b"further notices of this execution are dropped")


class _NoHost:
    """The host of a guest that has not begun."""

    def ask(self, kind: int, payload: bytes) -> bytes:
        raise RuntimeError("the guest has not begun")

    def tell(self, kind: int, payload: bytes) -> None:
        raise RuntimeError("the guest has not begun")


_NO_HOST = _NoHost()
