"""One zygote process, as the driver knows it: what it says, and how it ends.

A zygote holds a guest. What it says is taken as from somebody who may have broken out of the engine: anything but the
few messages that a zygote sends ends it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from attrs import frozen

from innkeeper_wasm.driver.channel import ControlChannel
from innkeeper_wasm.driver.children import Child, Children
from innkeeper_wasm.driver.errors import RuntimeLostError
from innkeeper_wasm.driver.root import RootProcess
from innkeeper_wasm.runtime.facts import BinaryFacts
from innkeeper_wasm.runtime.limits import HOST_SIDE_BYTES
from innkeeper_wasm.runtime.outcome import REPORTABLE, Ending, EndingKind
from innkeeper_wasm.runtime.process import private_dirty_bytes

__all__ = ["Zygote", "ZygoteKey"]

_ROLLUP_BYTES = 4096
_MAX_LAYERS = 16
_MAX_LAYER_CHARACTERS = 64


@frozen
class ZygoteKey:
    """What a zygote is made for.

    Args:
        module: Key of the compiled module.
        memory_bytes: Most memory of its guest.
    """

    module: str
    memory_bytes: int


class Zygote:
    """One zygote process.

    Args:
        root: The process that forks it.
        key: What it is for.
        descriptor: The compiled module; it stays the caller's.
        facts: What the compile child has reported of it.

    Attributes:
        module: Key of its compiled module.
        children: Its executions.
        private_bytes: What it has dirtied for itself, once it is warm.
        layers: Which layers of confinement it says are engaged.
        warm: Done when it can fork, or with the ending of its guest.
    """

    def __init__(self, root: RootProcess, key: ZygoteKey, descriptor: int, facts: BinaryFacts) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ControlChannel(ours, self._message, self._channel_closed)
        self.children = Children(self._channel, lambda: self.pid)
        self.warm: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
        self.module = key.module
        self.private_bytes = 0
        self._most_bytes = key.memory_bytes + HOST_SIDE_BYTES
        self.layers: tuple[str, ...] = ()
        self._gone = False
        self._refused: str | None = None
        self._process = root.children.fork(
            "zygote",
            (os.dup(descriptor), theirs.detach()),
            memory_bytes=key.memory_bytes,
            version_import=facts.version_import,
            call_capability_parameters=facts.call_capability_parameters,
            compiled_sha256=facts.compiled_sha256,
        )
        self._process.exited.add_done_callback(lambda _: self._lost())

    @property
    def pid(self) -> int | None:
        """Its process id, once it is there."""
        return self._process.pid

    @property
    def ending(self) -> Ending | None:
        """How its guest ended before its first host call, if it did."""
        warm = self.warm
        return warm.result() if warm.done() and warm.exception() is None else None

    @property
    def gone(self) -> bool:
        """Whether it can fork no more."""
        return self._gone

    @property
    def problem(self) -> str:
        """Why it is gone, as far as is known."""
        if self._refused is not None:
            return self._refused
        process = self._process
        if process.problem is not None:
            return process.problem
        if process.exited.done() and (status := process.exited.result()) is not None:
            return f"its zygote ended with status {os.waitstatus_to_exitcode(status)}"
        return "the process that runs guests has ended"

    @property
    def born(self) -> asyncio.Future[None]:
        """Done when its process id is known."""
        return self._process.born

    @property
    def exited(self) -> asyncio.Future[int | None]:
        """Done when the process has ended."""
        return self._process.exited

    def execute(self, stream: int) -> Child:
        """Fork an execution; ``stream`` is its own from here on."""
        return self.children.fork("execute", (stream,))

    def drain(self) -> None:
        """Have it end when its executions have."""
        self._gone = True
        self._channel.send("drain")

    def kill(self) -> None:
        """Kill it, and its executions."""
        self._gone = True
        self._process.kill()

    def _message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            match message, descriptors:
                case {"op": "warm", "private_bytes": int(used), "layers": [*layers]}, [] if (
                    0 <= used <= self._most_bytes and len(layers) <= _MAX_LAYERS
                ):
                    self.private_bytes = used
                    self.layers = tuple(str(layer)[:_MAX_LAYER_CHARACTERS] for layer in layers)
                    self._set_warm(None)
                case {"op": "ended", "kind": str(kind), "text": str(text)}, [] if kind in REPORTABLE:
                    self._set_warm(Ending(kind=EndingKind(kind), text=text))
                case {"op": "refused", "text": str(text)}, []:
                    self._refused = text
                case _:
                    self.children.handle(message, descriptors)
        except ValueError:
            # Only a guest that has broken out of its engine makes a zygote say anything else.
            self.kill()

    def measure(self) -> None:
        """Replace what it says of its size by what the kernel says, where this process may ask.

        A guest that has broken out would otherwise evict the others with a large number, or stay with a small one.
        """
        try:
            with open(f"/proc/{self.pid}/smaps_rollup", "rb", buffering=0) as file:
                self.private_bytes = private_dirty_bytes(file.read(_ROLLUP_BYTES))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return  # Gone, or not to be asked: what it said is within its bounds.

    def _set_warm(self, ending: Ending | None) -> None:
        if not self.warm.done():
            self.warm.set_result(ending)

    def _channel_closed(self) -> None:
        # It ends, or has taken leave of its senses; its end is reported by the root process.
        self._gone = True
        self._process.kill()

    def _lost(self) -> None:
        self._gone = True
        self._channel.close()
        self.children.lost()
        if not self.warm.done():
            self.warm.set_exception(RuntimeLostError(f"a zygote could not be made: {self.problem}"))
            self.warm.exception()  # Looked at: nobody may be waiting.
