"""One execution, seen from the host: its stream, its questions, its deadline, and how it ended.

Rules of this module:

1. The deadline is kept by SIGKILL through a pidfd, whatever the guest is doing, and also while a callback works for it.
   A short while after it the execution is over, whatever became of its process.
2. One question at a time, and the next only when the last answer has been taken: a second one, more log lines or
   notices than the limits allow, or a frame that no execution sends, ends it.
3. It is over when it has said how it ended, or when its process has; what it said before the process ended counts.
4. When it is over, its process is killed if it is not gone yet, and what still works for it is cancelled and awaited.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable

from innkeeper_wasm.driver.children import Child, signal_name
from innkeeper_wasm.driver.questions import ACCEPTED, ask
from innkeeper_wasm.driver.records import Callbacks, CallRefused
from innkeeper_wasm.runtime.outcome import EXIT_TEXTS, Ending, EndingKind
from innkeeper_wasm.runtime.wire import (
    CALLS,
    MAX_NOTICES,
    OVERHEAD_BYTES,
    Frame,
    FrameReader,
    Kind,
    Request,
    WireError,
    encode,
)

__all__ = ["Execution"]

_RECEIVE_BYTES = 262_144
_NOTICE_BYTES = 4096
_FRAMES_AT_ONCE = 256
"""Most frames of one execution that are handled before other work of the event loop has its turn."""
_REAP_SECONDS = 2.0
"""How long a kill may take before the zygote, which has to report it, is killed too."""

_U32 = struct.Struct("<I")


class Execution:
    """One execution from its fork to its end.

    Args:
        request: What it is started with.
        callbacks: Who answers it.
        logger: Where its notices go.
        label: What its notices name it.
        fork: Forks it, given the child's end of the stream.
        give_up: Kills its zygote; called if it cannot be killed otherwise.
        silent: Whether its notices are dropped instead.

    Attributes:
        response: The last response that was accepted.
    """

    def __init__(
        self,
        request: Request,
        callbacks: Callbacks,
        *,
        logger: logging.Logger,
        label: str,
        fork: Callable[[int], Child],
        give_up: Callable[[], None],
        silent: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._callbacks = callbacks
        self._logger = logger
        self._label = label
        self._give_up = give_up
        self._silent = silent
        self._limits = request.limits
        self._reader = FrameReader(request.limits.message_bytes + OVERHEAD_BYTES)
        self._outbox: deque[memoryview] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over: asyncio.Future[Ending] = self._loop.create_future()
        self._expired = False
        self._heard = False
        self._log_lines = 0
        self._notices = 0
        self.response: bytes | None = None
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        self._child = fork(theirs.detach())
        self._child.exited.add_done_callback(self._exited)
        self._loop.add_reader(self._socket, self._receive)
        self._send(encode(Kind.REQUEST, request.pack()))

    async def run(self, deadline: float) -> Ending:
        """Wait for the end.

        Args:
            deadline: When it is killed, in the event loop's time.
        """
        self._timer = self._loop.call_at(deadline, self._expire)
        try:
            return await self._over
        finally:
            await self._close()

    @property
    def begun(self) -> bool:
        """Whether the guest may have run."""
        return self._child.pid is not None or self._heard

    def abort(self, reason: str) -> None:
        """End it from the host's side."""
        self._end(Ending(kind=EndingKind.LOST, text=f"the execution was lost: {reason}"))

    # The end

    def _expire(self) -> None:
        self._expired = True
        self._child.kill()
        self._timer = self._loop.call_later(_REAP_SECONDS, self._overdue)

    def _overdue(self) -> None:
        self._give_up()
        self._end(Ending(kind=EndingKind.DEADLINE))

    def _end(self, ending: Ending) -> None:
        if self._over.done():
            return
        if self._expired and not (ending.kind is EndingKind.EXIT and ending.code in (0, *EXIT_TEXTS)):
            ending = Ending(kind=EndingKind.DEADLINE)
        self._over.set_result(ending)

    def _panic(self, error: BaseException) -> None:
        if self._over.done():
            return
        self._logger.error("%s: panic during wasm execution", self._label, exc_info=error)
        self._end(Ending(kind=EndingKind.HOST_PANIC, text=str(error) or type(error).__name__))

    def _exited(self, exited: asyncio.Future[int | None]) -> None:
        # What it said last may still be in the socket.
        # Its process is gone, so that is no more than a socket holds.
        while not self._take_some() or (not self._over.done() and self._receive()):
            pass
        status = exited.result()
        if status is None:
            reason = self._child.problem or "its zygote has ended"
            self._end(Ending(kind=EndingKind.LOST, text=f"the execution was lost: {reason}"))
            return
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            text = f"the execution was killed by {signal_name(-code)}"
            self._end(Ending(kind=EndingKind.CRASHED, signal=-code, text=text))
        else:
            text = f"the execution ended with status {code} without an outcome"
            self._end(Ending(kind=EndingKind.CRASHED, text=text))

    async def _close(self) -> None:
        """Leave nothing behind: no process, no descriptor, no task, no timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._child.kill()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    # The stream

    def _send(self, data: bytes) -> None:
        self._outbox.append(memoryview(data))
        if len(self._outbox) == 1 and not self._flush():
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        if self._flush():
            self._loop.remove_writer(self._socket)

    def _flush(self) -> bool:
        """Send what fits; tell whether all is sent."""
        while self._outbox:
            try:
                sent = self._socket.send(self._outbox[0])
            except BlockingIOError:
                return False
            except OSError:
                self._outbox.clear()  # The process has ended; its status says how.
                return True
            if sent < len(self._outbox[0]):
                self._outbox[0] = self._outbox[0][sent:]
                return False
            self._outbox.popleft()
        return True

    def _receive(self) -> bool:
        """Take what is there; tell whether there may be more."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            # A process that closes its stream is ending. Its status says how; this only makes sure of it.
            self._loop.remove_reader(self._socket)
            self._child.kill()
            return False
        self._heard = True
        self._reader.feed(data)
        if not self._take_some():
            self._loop.remove_reader(self._socket)
            self._loop.call_soon(self._take_rest)
        return not self._over.done()

    def _take_some(self) -> bool:
        """Handle frames that have been received; tell whether that was all."""
        try:
            for _ in range(_FRAMES_AT_ONCE):
                if self._over.done() or (frame := self._reader.next()) is None:
                    return True
                self._take(frame)
        except WireError as error:
            self._end(Ending(kind=EndingKind.CRASHED, text=f"the execution was ended, because it sent {error}"))
            return True
        return False

    def _take_rest(self) -> None:
        """Handle what was too much for one turn, and only then read on."""
        if self._over.done():
            return
        if not self._take_some():
            self._loop.call_soon(self._take_rest)
        elif not self._over.done():
            self._loop.add_reader(self._socket, self._receive)

    def _take(self, frame: Frame) -> None:
        if self._task is not None:
            raise WireError(f"a frame of kind {frame.kind.name} before the last one was answered")
        if frame.kind in CALLS:
            if self._outbox:
                raise WireError(f"a frame of kind {frame.kind.name} before it had read the last answer")
            self._task = self._loop.create_task(self._answer(frame))
        elif frame.kind is Kind.LOG:
            self._log(frame.payload)
        elif frame.kind is Kind.NOTICE:
            self._notice(frame.payload)
        elif frame.kind is Kind.OUTCOME:
            try:
                self._end(Ending.unpack(frame.payload))
            except ValueError as error:
                raise WireError(f"an outcome that is none: {error}") from error
        else:
            raise WireError(f"a frame of kind {frame.kind.name}, which only a host sends")

    def _log(self, payload: bytes) -> None:
        limits = self._limits
        self._log_lines += 1
        if (
            not _U32.size <= len(payload) <= _U32.size + limits.log_line_bytes
            or self._log_lines > limits.log_events_don + limits.log_events_node
        ):
            raise WireError("a log line beyond its limits")
        try:
            self._callbacks.log(_U32.unpack_from(payload)[0], payload[_U32.size :])
        except Exception as error:  # noqa: BLE001 - whatever a callback does ends its execution alone
            self._panic(error)

    def _notice(self, payload: bytes) -> None:
        self._notices += 1
        if self._notices > MAX_NOTICES:
            raise WireError("more notices than an execution may")
        if not self._silent:
            self._logger.warning("%s: %s", self._label, payload[:_NOTICE_BYTES].decode("utf-8", "replace"))

    # Questions

    async def _answer(self, frame: Frame) -> None:
        try:
            content = await ask(self._callbacks, frame.kind, frame.payload)
            if frame.kind is Kind.SEND_RESPONSE and content == ACCEPTED:
                self.response = frame.payload
            answer = encode(Kind.OK, content)
        except CallRefused as refused:
            answer = encode(Kind.ERROR, refused.text.encode("utf-8", "replace"))
        except WireError as error:
            self._end(Ending(kind=EndingKind.CRASHED, text=f"the execution was ended, because it sent {error}"))
            return
        except asyncio.CancelledError as error:
            self._panic(error)  # Cancelled by itself; if by us, it is over already, and this says nothing.
            raise
        except Exception as error:  # noqa: BLE001 - whatever a callback does ends its execution alone
            self._panic(error)
            return
        self._task = None
        self._send(answer)
