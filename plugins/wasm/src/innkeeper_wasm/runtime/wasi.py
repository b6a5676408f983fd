"""The ``wasi_snapshot_preview1`` imports of a guest that has arguments, clocks and randomness, and nothing else.

Rules of this module:

1. ``clock_time_get``, ``poll_oneoff`` and ``args_*`` follow the reference's replacements of them; every other function
   answers as wasmtime's own does for a command without files, environment and input.
2. ``random_get`` is real entropy: what must agree between nodes uses ``random_seed``. A negative length is an
   errno (28), as where the reference replaces the function.
"""

from __future__ import annotations

import os
import struct

from innkeeper_wasm.runtime.guest import Guest, GuestFault, ProcessExit, Refused
from innkeeper_wasm.runtime.memory import write
from innkeeper_wasm.runtime.polling import poll_oneoff
from innkeeper_wasm.runtime.wasi_base import BADF, INVAL, NOTSUP, SUCCESS, check_enum
from innkeeper_wasm.runtime.wasi_descriptors import WasiDescriptors
from innkeeper_wasm.runtime.wire import Kind

__all__ = ["Wasi"]

_MAX_EXIT_CODE = 125
_MAX_RANDOM_BYTES = 67_108_864
_RANDOM_CHUNK = 1 << 20
_LAST_CLOCK, _LAST_SIGNAL = 3, 30
_REALTIME, _MONOTONIC = 0, 1

_I64 = struct.Struct("<q")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Wasi(WasiDescriptors):
    """The WASI functions of one guest.

    Args:
        guest: Its state.
    """

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self._base: int | None = None

    def args_sizes_get(self, count: int, size: int) -> int:
        """Say how many arguments there are, and how long they are together with their ends."""
        arguments = self._guest.arguments
        self._write(size, _U32.pack(sum(len(argument) + 1 for argument in arguments)), 4)
        self._write(count, _U32.pack(len(arguments)), 4)
        return SUCCESS

    def args_get(self, pointers: int, buffer: int) -> int:
        """Write the arguments, each ended by a zero byte, and where each begins."""
        pointers &= 0xFFFFFFFF
        buffer &= 0xFFFFFFFF
        for argument in self._guest.arguments:
            self._write(pointers, _U32.pack(buffer & 0xFFFFFFFF), 4)
            self._write(buffer, argument + b"\0", 1)
            pointers += 4
            buffer += len(argument) + 1
        return SUCCESS

    def environ_sizes_get(self, count: int, size: int) -> int:
        """Say that the environment is empty."""
        self._write(size, bytes(4), 4)
        self._write(count, bytes(4), 4)
        return SUCCESS

    def environ_get(self, pointers: int, buffer: int) -> int:
        """Write nothing."""
        return SUCCESS

    def clock_res_get(self, clock: int, result: int) -> int:
        """Say that time has a resolution of one nanosecond."""
        check_enum("Clockid", clock, _LAST_CLOCK)
        if clock not in (_REALTIME, _MONOTONIC):
            return BADF
        self._write(result, _U64.pack(1), 8)
        return SUCCESS

    def clock_time_get(self, clock: int, precision: int, result: int) -> int:
        """Write node time; the monotonic clock counts from one nanosecond before the first reading."""
        if clock not in (_REALTIME, _MONOTONIC):
            return INVAL
        try:
            now = int(_I64.unpack(self._guest.host.ask(Kind.NODE_TIME, b""))[0])
        except Refused:
            return INVAL
        if self._base is None:
            self._base = now - 1
        value = now if clock == _REALTIME else now - self._base
        write(self._guest.memory, _U64.pack(value & 0xFFFF_FFFF_FFFF_FFFF), result, _U64.size)
        return SUCCESS

    def random_get(self, buffer: int, length: int) -> int:
        """Fill a buffer with entropy of the operating system."""
        if length < 0:
            return INVAL
        if length > _MAX_RANDOM_BYTES:
            raise GuestFault(f"requested len {length} exceeds limit {_MAX_RANDOM_BYTES}")
        if length == 0:
            return SUCCESS
        start = self._region(buffer, length, 1)
        for offset in range(0, length, _RANDOM_CHUNK):
            self._guest.memory.store(start + offset, os.urandom(min(_RANDOM_CHUNK, length - offset)))
        return SUCCESS

    def poll_oneoff(self, subscriptions: int, events: int, count: int, result: int) -> int:
        """Sleep; see :mod:`innkeeper_wasm.runtime.polling`."""
        guest = self._guest
        return poll_oneoff(guest.memory, subscriptions, events, count, result, limit=guest.limits.poll_subscriptions)

    def proc_exit(self, code: int) -> None:
        """End the guest."""
        if not 0 <= code <= _MAX_EXIT_CODE:
            raise GuestFault(f"exit with invalid exit status outside of [0..{_MAX_EXIT_CODE + 1})")
        raise ProcessExit(code)

    def proc_raise(self, signal: int) -> int:
        """Refuse."""
        check_enum("Signal", signal, _LAST_SIGNAL)
        return NOTSUP

    def sched_yield(self) -> int:
        """Do nothing."""
        return SUCCESS
