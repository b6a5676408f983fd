"""The ``env`` imports: what CRE guests call, with the reference's return values, error texts and order of checks.

Functions that report an error text return minus its length; the text lies in the buffer that the function names. A text
that the host's end answers with is complete: what it begins with (``error calling proto unmarshal:``, …) is decided
where the message is understood.
"""

from __future__ import annotations

import struct

from innkeeper_wasm.runtime.guest import DON, NODE, Guest, Refused
from innkeeper_wasm.runtime.limits import GuestLimits
from innkeeper_wasm.runtime.memory import AccessError, fits, read, write, write_error
from innkeeper_wasm.runtime.wire import BUFFER_TOO_SMALL, Kind

__all__ = ["Env", "LogMeter"]

FAULT = 21
INVAL = 28

_I64 = struct.Struct("<q")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")


class LogMeter:
    """Count the user log lines of each mode; lines outside DON and NODE mode are not delivered at all."""

    def __init__(self) -> None:
        self._counts = {DON: 0, NODE: 0}

    def count(self, mode: int, limits: GuestLimits) -> tuple[bool, bool]:
        """Count one line.

        Returns:
            Whether it may be delivered, and whether it is the one that reaches the limit.
        """
        if mode not in self._counts:
            return False, False
        limit = limits.log_events_don if mode == DON else limits.log_events_node
        self._counts[mode] += 1
        return self._counts[mode] <= limit, self._counts[mode] == limit


class Env:
    """The ``env`` functions of one guest.

    Args:
        guest: Its state.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._logs = LogMeter()

    def version(self) -> None:
        """Do nothing: importing it is what says that a binary is a V2 one."""

    def send_response(self, pointer: int, length: int) -> int:
        """Store the result of the execution; the last one that the host accepts counts. The guest goes on."""
        guest = self._guest
        try:
            data = read(guest.memory, pointer, length)
        except AccessError as error:
            guest.notice(f"send_response: {error}")
            return FAULT
        if len(data) > guest.limits.message_bytes:
            guest.notice(f"send_response: {self._too_long(data)}")
            return FAULT
        return self._status(Kind.SEND_RESPONSE, data, FAULT)

    def call_capability_v1(self, pointer: int, length: int) -> int:
        """Start a capability call; an error text overwrites the request."""
        return self._start(Kind.CALL_CAPABILITY, pointer, length, pointer, length)

    def call_capability_v2(self, pointer: int, length: int, response: int, limit: int) -> int:
        """Start a capability call; an error text goes to the response buffer."""
        return self._start(Kind.CALL_CAPABILITY, pointer, length, response, limit)

    def await_capabilities(self, pointer: int, length: int, response: int, limit: int) -> int:
        """Wait for capability calls and write their answers."""
        return self._await(Kind.AWAIT_CAPABILITIES, pointer, length, response, limit)

    def get_secrets(self, pointer: int, length: int, response: int, limit: int) -> int:
        """Start fetching secrets."""
        return self._start(Kind.GET_SECRETS, pointer, length, response, limit)

    def await_secrets(self, pointer: int, length: int, response: int, limit: int) -> int:
        """Wait for secrets and write them."""
        return self._await(Kind.AWAIT_SECRETS, pointer, length, response, limit)

    def log(self, pointer: int, length: int) -> None:
        """Deliver a user log line, unless it is one too many or too long. The guest never learns which."""
        guest = self._guest
        limits = guest.limits
        deliver, last = self._logs.count(guest.mode, limits)
        if last:
            guest.notice(f"user log limit reached in mode {guest.mode}; further lines are dropped")
        if not deliver:
            return
        if length > limits.log_line_bytes:
            guest.notice(f"user log line dropped: {length} bytes, at most {limits.log_line_bytes} are allowed")
            return
        try:
            line = read(guest.memory, pointer, length)
        except AccessError as error:
            guest.notice(f"user log line dropped: {error}")
            return
        guest.host.tell(Kind.LOG, _U32.pack(guest.mode) + line)

    def emit_metric(self, pointer: int, length: int) -> int:
        """Hand over a user metric; -1 says that it was not taken, whatever the reason."""
        guest = self._guest
        if not guest.limits.metrics or not 0 < length <= guest.limits.metric_bytes:
            return -1
        try:
            data = read(guest.memory, pointer, length)
        except AccessError:
            return -1
        return self._status(Kind.EMIT_METRIC, data, -1)

    def switch_modes(self, mode: int) -> None:
        """Set the mode. Any number is taken; what a mode forbids is checked by the SDK in the guest."""
        self._guest.mode = mode

    def random_seed(self, mode: int) -> int:
        """Return the seed of a mode."""
        return {DON: self._guest.don_seed, NODE: self._guest.node_seed}.get(mode, -1)

    def now(self, pointer: int) -> int:
        """Write the time of the current mode, in nanoseconds; that the buffer is unusable is not reported."""
        guest = self._guest
        try:
            answer = guest.host.ask(Kind.NOW, _U32.pack(guest.mode & 0xFFFFFFFF))
        except Refused:
            return INVAL
        write(guest.memory, answer, pointer, _I64.size)
        return 0

    def _start(self, kind: Kind, pointer: int, length: int, response: int, limit: int) -> int:
        memory = self._guest.memory
        try:
            data = read(memory, pointer, length)
        except AccessError as error:
            return write_error(memory, f"error calling wasmRead: {error}".encode(), response, limit)
        if len(data) > self._guest.limits.message_bytes:
            text = f"error calling wasmRead: {self._too_long(data)}".encode()
            return write_error(memory, text, response, limit)
        try:
            self._guest.host.ask(kind, data)
        except Refused as refused:
            return write_error(memory, refused.text, response, limit)
        return 0

    def _await(self, kind: Kind, pointer: int, length: int, response: int, limit: int) -> int:
        memory = self._guest.memory
        try:
            data = read(memory, pointer, length)
        except AccessError as error:
            return write_error(memory, f"error reading from wasm {error}".encode(), response, limit)
        if len(data) > self._guest.limits.message_bytes:
            return write_error(memory, f"error reading from wasm {self._too_long(data)}".encode(), response, limit)
        # The answer is not sent at all if it does not fit; the calls are consumed nevertheless, as in the reference.
        capacity = limit if fits(memory, response, limit) else -1
        try:
            answer = self._guest.host.ask(kind, _I64.pack(capacity) + data)
        except Refused as refused:
            return write_error(memory, refused.text, response, limit)
        written = write(memory, answer, response, limit)
        return written if written >= 0 else write_error(memory, BUFFER_TOO_SMALL, response, limit)

    def _status(self, kind: Kind, data: bytes, refused: int) -> int:
        try:
            return int(_I32.unpack(self._guest.host.ask(kind, data))[0])
        except Refused:
            return refused

    def _too_long(self, data: bytes) -> str:
        return f"message of {len(data)} bytes, at most {self._guest.limits.message_bytes} are allowed"
