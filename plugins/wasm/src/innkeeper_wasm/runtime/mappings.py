"""Giving back pages of a mapped file that were needed once.

Loading a compiled module reads tables of it that a run needs only if it traps. They stay mapped, and so count for the
process, until they are dropped; touching them again reads them from the page cache.
"""

from __future__ import annotations

import ctypes
import os

from innkeeper_wasm.runtime.process import libc

__all__ = ["Range", "drop", "read_only_ranges"]

Range = tuple[int, int]
"""Address and length of a mapping."""

_DONTNEED = 4

libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def read_only_ranges(descriptor: int) -> list[Range]:
    """Return where this process has mapped the file of a descriptor for reading alone."""
    inode = str(os.fstat(descriptor).st_ino)
    ranges = []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            addresses, permissions, _, _, number, *_ = line.split()
            if number == inode and permissions == "r--p":
                start, end = (int(address, 16) for address in addresses.split("-"))
                ranges.append((start, end - start))
    return ranges


def drop(ranges: list[Range]) -> None:
    """Give back the pages of read-only private mappings of a file; they are read again when they are touched."""
    for start, length in ranges:
        if libc.madvise(start, length, _DONTNEED) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"madvise: {os.strerror(number)}")
