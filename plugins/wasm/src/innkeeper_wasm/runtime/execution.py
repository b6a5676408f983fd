"""One execution, in its own process: the stream to the host, and the end of the process.

The process is forked inside the guest's first host call. Nothing unwinds: what ends the guest is reported from where it
happens, and the process exits there and then, so that no code of the guest or of the engine runs after it.
"""

from __future__ import annotations

import os
import resource
from typing import NoReturn

from innkeeper_wasm.runtime import seccomp
from innkeeper_wasm.runtime.guest import Guest, GuestFault, HostFactory, ProcessExit, Refused
from innkeeper_wasm.runtime.outcome import Ending, EndingKind
from innkeeper_wasm.runtime.process import limit_processor_time
from innkeeper_wasm.runtime.wire import HEADER, Kind, Request, WireError, encode, header

__all__ = ["Execution", "HostGone", "Stream"]

_SMALL_BYTES = 65_536
_RECEIVE_BYTES = 1 << 20
_OPEN_FILES = 8
_OK, _ERROR = int(Kind.OK), int(Kind.ERROR)
_EXIT_BROKEN = 3
"""Exit status of a process whose host has gone or speaks another language; it has nobody to tell."""


class HostGone(Exception):
    """Raised when the host closes the stream."""


class Stream:
    """The child's end of an execution's stream.

    It works on the bare descriptor: every Python object that an execution touches for the first time costs it a
    copy of a page, and a socket object is many.

    Args:
        descriptor: A blocking stream socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ask(self, kind: int, payload: bytes) -> bytes:
        """Return the host's answer to a question.

        Raises:
            Refused: If it is an error text.
            HostGone: If the stream is closed.
        """
        self.tell(kind, payload)
        kind, answer = self.receive()
        if kind == _ERROR:
            raise Refused(answer)
        if kind != _OK:
            raise WireError(f"a frame of kind {kind}, expected an answer")
        return answer

    def tell(self, kind: int, payload: bytes) -> None:
        """Send a frame."""
        if len(payload) <= _SMALL_BYTES:
            self._write(encode(kind, payload))
        else:
            self._write(header(kind, len(payload)))
            self._write(payload)

    def receive(self) -> tuple[int, bytes]:
        """Return kind and payload of the next frame."""
        length, kind = HEADER.unpack(self._read(HEADER.size))
        return kind, self._read(length - 1)

    def _write(self, data: bytes) -> None:
        try:
            sent = os.write(self._descriptor, data)
            while sent < len(data):
                sent += os.write(self._descriptor, memoryview(data)[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise HostGone from error

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                part = os.read(self._descriptor, min(length - len(data), _RECEIVE_BYTES))
            except ConnectionResetError as error:
                raise HostGone from error
            if not part:
                raise HostGone
            # The first part is nearly always all.
            data = part if not data else data + part
        return data


class Execution:
    """A guest that has begun, and its end.

    Args:
        descriptor: The stream to the host; the process has no other descriptor.
        guest: The state of its imports.
        filter_: The program of :data:`innkeeper_wasm.runtime.seccomp.EXECUTION`, None where filters are not to be had.
        wrap: What the guest's calls go through on their way to the stream, made here, in the confined process; None
            for nothing.
    """

    def __init__(self, descriptor: int, guest: Guest, filter_: bytes | None, wrap: HostFactory | None = None) -> None:
        self.stream = Stream(descriptor)
        try:
            request = self._request()
            self._confine(request.limits.cpu_seconds, filter_)
            guest.begin(self.stream if wrap is None else wrap(self.stream), request)
        except (HostGone, WireError):
            os._exit(_EXIT_BROKEN)
        except Exception as error:  # noqa: BLE001 - nothing may unwind into the guest
            self.end(Ending(kind=EndingKind.HOST_PANIC, text=f"start: {type(error).__name__}: {error}"))

    def _request(self) -> Request:
        kind, payload = self.stream.receive()
        if kind != Kind.REQUEST:
            raise WireError(f"a frame of kind {kind}, expected the request")
        return Request.unpack(payload)

    @staticmethod
    def _confine(cpu_seconds: int, filter_: bytes | None) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        if cpu_seconds:
            limit_processor_time(cpu_seconds)
        if filter_ is not None:
            seccomp.install(filter_)

    def failed(self, name: str, error: Exception) -> NoReturn:
        """End the process because a host call raised: that is how ``proc_exit`` and faults of the guest arrive too."""
        if isinstance(error, ProcessExit):
            self.end(Ending(kind=EndingKind.EXIT, code=error.code))
        if isinstance(error, GuestFault):
            self.end(Ending(kind=EndingKind.TRAP, text=str(error)))
        if isinstance(error, HostGone | WireError):
            os._exit(_EXIT_BROKEN)
        self.end(Ending(kind=EndingKind.HOST_PANIC, text=f"{name}: {type(error).__name__}: {error}"))

    def end(self, ending: Ending) -> NoReturn:
        """Report how the guest ended, and end the process."""
        try:
            self.stream.tell(Kind.OUTCOME, ending.pack())
        except HostGone:
            os._exit(_EXIT_BROKEN)
        os._exit(0)
