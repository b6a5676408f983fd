"""What WASI functions have in common: errnos, and how wasmtime reads pointers, flags and enums.

Where wasmtime ends the guest (a pointer outside the memory or not aligned, a flag or enum that does not exist), so
do these: :class:`GuestFault`.
"""

from __future__ import annotations

from innkeeper_wasm.runtime.guest import Guest, GuestFault

__all__ = [
    "BADF",
    "ILSEQ",
    "INVAL",
    "NOMEM",
    "NOTDIR",
    "NOTSOCK",
    "NOTSUP",
    "SPIPE",
    "SUCCESS",
    "WasiBase",
    "check_enum",
    "check_flags",
]

SUCCESS, BADF, ILSEQ, INVAL, NOMEM, NOTDIR, NOTSOCK, NOTSUP, SPIPE = 0, 8, 25, 28, 48, 54, 57, 58, 70


class WasiBase:
    """Access to the memory of one guest, on WASI's terms.

    Args:
        guest: Its state.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def _region(self, pointer: int, length: int, alignment: int) -> int:
        """Return the address that a pointer means, if a region of this length at it is in the memory and aligned."""
        start = pointer & 0xFFFFFFFF
        if start + length > self._guest.memory.size():
            raise GuestFault(f"Pointer out of bounds: Region {{ start: {start}, len: {length} }}")
        if start % alignment:
            raise GuestFault(f"Pointer not aligned to {alignment}: Region {{ start: {start}, len: {length} }}")
        return start

    def _write(self, pointer: int, data: bytes, alignment: int) -> None:
        self._guest.memory.store(self._region(pointer, len(data), alignment), data)


def check_enum(name: str, value: int, last: int) -> None:
    """End a guest that names a value which the enum does not have."""
    if not 0 <= value <= last:
        raise GuestFault(f"Invalid enum value {name}: {value}")


def check_flags(name: str, value: int, known: int) -> None:
    """End a guest that sets a bit which the flags do not have."""
    if value & ~known:
        raise GuestFault(f"Invalid flag value {name}: {value}")
