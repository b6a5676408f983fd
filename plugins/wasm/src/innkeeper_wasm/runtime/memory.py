"""Reading and writing a guest's memory: the only functions here that touch an address a guest has given.

Addresses and lengths are signed 32-bit numbers, as wasm hands them to a host: one from the upper half of the address
space is negative and refused. ``wasmtime`` is never trusted with a range: its ``Memory.read`` clamps silently and its
``Memory.write`` takes negative positions from the end.

The return protocol of the functions that report an error text is the reference's: ``-n`` says that the first ``n``
bytes of the buffer are the text. So a text written into a buffer of length 0 returns ``-0``, which a guest reads
as success; every released SDK passes buffers that are not empty, and the number is kept because guests are built
against it.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wasmtime import Caller, Memory

__all__ = ["AccessError", "GuestMemory", "LinearMemory", "fits", "read", "write", "write_error"]

MAX_INT32 = (1 << 31) - 1


class AccessError(Exception):
    """Raised when a range that a guest names is not in its memory; the text is the reference's."""


class LinearMemory(Protocol):
    """A guest's memory, as far as this module needs it. ``load`` and ``store`` get ranges that are inside."""

    def size(self) -> int:
        """Return the present size in bytes; it grows while the guest runs."""

    def load(self, start: int, length: int) -> bytes:
        """Return a copy of ``length`` bytes from ``start``."""

    def store(self, start: int, data: bytes) -> None:
        """Write ``data`` at ``start``."""


def read(memory: LinearMemory, pointer: int, size: int) -> bytes:
    """Return a copy of a range of guest memory.

    Args:
        memory: The guest's memory.
        pointer: Its first byte, signed.
        size: Its length in bytes, signed.

    Raises:
        AccessError: If either number is negative, or the range ends outside the memory.
    """
    if pointer < 0 or size < 0:
        raise AccessError(f"invalid memory access: ptr: {pointer}, size: {size}")
    end = pointer + size
    if end > MAX_INT32 or end > memory.size():
        raise AccessError("out of bounds memory access")
    return memory.load(pointer, size)


def fits(memory: LinearMemory, pointer: int, limit: int) -> bool:
    """Tell whether the whole buffer of ``limit`` bytes at ``pointer`` is inside the memory."""
    return pointer >= 0 and limit >= 0 and pointer + limit <= min(memory.size(), MAX_INT32)


def write(memory: LinearMemory, data: bytes, pointer: int, limit: int) -> int:
    """Write ``data`` into a guest's buffer.

    Args:
        memory: The guest's memory.
        data: What to write.
        pointer: First byte of the buffer, signed.
        limit: Length of the buffer, signed; all of it must be inside the memory, not only what is written.

    Returns:
        ``len(data)``, or -1 (nothing written) if the buffer is not inside the memory or too short.
    """
    if len(data) > limit or not fits(memory, pointer, limit):
        return -1
    if data:
        memory.store(pointer, data)
    return len(data)


def write_error(memory: LinearMemory, text: bytes, pointer: int, size: int) -> int:
    """Write an error text into a guest's buffer, cut (bytewise) to what the buffer and the memory hold.

    Returns:
        Minus the number of bytes written; -1 (nothing written) if the buffer begins outside the memory or has a
        negative length.
    """
    total = memory.size()
    if pointer < 0 or size < 0 or pointer > total:
        return -1
    text = text[: min(size, total - pointer)]
    if text:
        memory.store(pointer, text)
    return -len(text)


class GuestMemory:
    """The exported memory of the instance that is calling the host.

    :meth:`attach` is called at the start of each host call; the size is asked anew at each access, for the guest
    grows its memory between two calls. The address is not: the engine is configured so that memories do not move.
    """

    def __init__(self) -> None:
        self._caller: Caller | None = None
        self._memory: Memory | None = None
        self._bytes = memoryview(b"")

    def attach(self, caller: Caller) -> None:
        """Take the context of the host call that begins."""
        self._caller = caller
        if self._memory is None:
            memory = caller["memory"]
            # Admission has checked that this export exists and is a memory.
            self._memory = memory  # type: ignore[assignment]  # the export map is typed as any extern
            address = ctypes.addressof(self._memory.data_ptr(caller).contents)  # type: ignore[union-attr]  # as above
            # All that the guest may ever address: what is not its memory (yet) is kept out by size().
            self._bytes = memoryview((ctypes.c_ubyte * MAX_INT32).from_address(address)).cast("B")

    def size(self) -> int:
        """Return the present size in bytes."""
        return self._memory.data_len(self._caller)  # type: ignore[union-attr, arg-type]  # attach comes first

    def load(self, start: int, length: int) -> bytes:
        """Return a copy of ``length`` bytes from ``start``; the caller has checked the range."""
        return bytes(self._bytes[start : start + length])

    def store(self, start: int, data: bytes) -> None:
        """Write ``data`` at ``start``; the caller has checked the range."""
        self._bytes[start : start + len(data)] = data
