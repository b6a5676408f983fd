"""WASI's descriptors, paths and sockets, for a guest that has its three standard streams and nothing else.

Input is empty, output is discarded, no directory is open. Every function answers as wasmtime's own does for such a
guest.
"""

from __future__ import annotations

import struct
from enum import Enum

from innkeeper_wasm.runtime.guest import Guest
from innkeeper_wasm.runtime.wasi_base import (
    BADF,
    ILSEQ,
    INVAL,
    NOMEM,
    NOTDIR,
    NOTSOCK,
    SPIPE,
    SUCCESS,
    WasiBase,
    check_enum,
    check_flags,
)

__all__ = ["WasiDescriptors"]

_FDFLAGS, _FSTFLAGS, _LOOKUPFLAGS, _OFLAGS, _RIFLAGS, _SDFLAGS = 0b11111, 0b1111, 0b1, 0b1111, 0b11, 0b11
_SIFLAGS = 0xFFFF
_RIGHTS = (1 << 30) - 1
_LAST_ADVICE, _LAST_WHENCE = 5, 2
_BOTH_ACCESS_TIMES, _BOTH_CHANGE_TIMES = 0b0011, 0b1100
_MAX_VECTOR_BYTES = 1 << 27  # what one call may hand to wasmtime, its list of buffers included

_FDSTAT = struct.Struct("<BxH4xQQ")
_U32 = struct.Struct("<I")
_IOVEC = struct.Struct("<II")


class _Stream(Enum):
    """What a standard descriptor is; the value is its rights (FD_READ, FD_WRITE)."""

    INPUT = 1 << 1
    OUTPUT = 1 << 6


class WasiDescriptors(WasiBase):
    """The functions on descriptors, paths and sockets of one guest.

    Args:
        guest: Its state.
    """

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest)
        self._open = {0: _Stream.INPUT, 1: _Stream.OUTPUT, 2: _Stream.OUTPUT}

    def _no_file(self, *_: int) -> int:
        """Refuse: the descriptor is no file or directory, whichever it is."""
        return BADF

    fd_allocate = fd_datasync = fd_filestat_set_size = fd_prestat_get = fd_readdir = fd_sync = _no_file
    path_create_directory = path_readlink = path_remove_directory = path_rename = path_symlink = _no_file
    path_unlink_file = _no_file

    def fd_advise(self, fd: int, offset: int, length: int, advice: int) -> int:
        """Refuse: no descriptor is a file."""
        check_enum("Advice", advice, _LAST_ADVICE)
        return BADF

    def fd_close(self, fd: int) -> int:
        """Close a standard descriptor."""
        return BADF if self._open.pop(fd, None) is None else SUCCESS

    def fd_fdstat_get(self, fd: int, result: int) -> int:
        """Describe a standard descriptor."""
        stream = self._open.get(fd)
        if stream is None:
            return BADF
        start = self._region(result, _FDSTAT.size, 8)
        packed = _FDSTAT.pack(0, 0, stream.value, stream.value)
        # Padding is left as it is.
        self._guest.memory.store(start, packed[:1])
        self._guest.memory.store(start + 2, packed[2:4])
        self._guest.memory.store(start + 8, packed[8:])
        return SUCCESS

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> int:
        """Refuse: no descriptor is a file."""
        check_flags("Fdflags", flags, _FDFLAGS)
        return BADF

    def fd_fdstat_set_rights(self, fd: int, base: int, inheriting: int) -> int:
        """Refuse: rights are not changed."""
        check_flags("Rights", base, _RIGHTS)
        check_flags("Rights", inheriting, _RIGHTS)
        return BADF

    def fd_filestat_get(self, fd: int, result: int) -> int:
        """Describe a standard descriptor as a file of unknown type and no size."""
        if fd not in self._open:
            return BADF
        start = self._region(result, 64, 8)
        # Padding behind the type is left as it is.
        self._guest.memory.store(start, bytes(17))
        self._guest.memory.store(start + 24, bytes(40))
        return SUCCESS

    def fd_filestat_set_times(self, fd: int, access: int, change: int, flags: int) -> int:
        """Refuse: no descriptor is a file."""
        return _times(flags)

    def fd_pread(self, fd: int, vectors: int, count: int, *_: int) -> int:
        """Refuse: input cannot be read at an offset."""
        if self._first_vector(vectors, count) is None:
            return NOMEM
        return SPIPE if self._open.get(fd) is _Stream.INPUT else BADF

    def fd_prestat_dir_name(self, fd: int, path: int, length: int) -> int:
        """Say that no directory is open."""
        return NOTDIR if fd in self._open else BADF

    def fd_pwrite(self, fd: int, vectors: int, count: int, *_: int) -> int:
        """Refuse: output cannot be written at an offset."""
        if self._first_vector(vectors, count) is None:
            return NOMEM
        return SPIPE if self._open.get(fd) is _Stream.OUTPUT else BADF

    def fd_read(self, fd: int, vectors: int, count: int, result: int) -> int:
        """Say that the input has ended."""
        if self._first_vector(vectors, count) is None:
            return NOMEM
        if self._open.get(fd) is not _Stream.INPUT:
            return BADF
        self._write(result, bytes(4), 4)
        return SUCCESS

    def fd_renumber(self, source: int, target: int) -> int:
        """Move a standard descriptor to the number of another."""
        if source not in self._open or target not in self._open:
            return BADF
        self._open[target] = self._open.pop(source)
        return SUCCESS

    def fd_seek(self, fd: int, offset: int, whence: int, result: int) -> int:
        """Refuse: no descriptor has a position."""
        check_enum("Whence", whence, _LAST_WHENCE)
        return self.fd_tell(fd, result)

    def fd_tell(self, fd: int, result: int) -> int:
        """Refuse: no descriptor has a position."""
        return SPIPE if fd in self._open else BADF

    def fd_write(self, fd: int, vectors: int, count: int, result: int) -> int:
        """Discard output, one buffer at a time."""
        first = self._first_vector(vectors, count)
        if first is None:
            return NOMEM
        if self._open.get(fd) is not _Stream.OUTPUT:
            return BADF
        pointer, length = first
        if length:
            self._region(pointer, length, 1)
        self._write(result, _U32.pack(length), 4)
        return SUCCESS

    def path_filestat_get(self, fd: int, flags: int, *_: int) -> int:
        """Refuse: no directory is open."""
        check_flags("Lookupflags", flags, _LOOKUPFLAGS)
        return BADF

    def path_filestat_set_times(self, fd: int, lookup: int, *rest: int) -> int:
        """Refuse: no directory is open."""
        check_flags("Lookupflags", lookup, _LOOKUPFLAGS)
        return _times(rest[-1])

    def path_link(self, fd: int, flags: int, *_: int) -> int:
        """Refuse: no directory is open."""
        check_flags("Lookupflags", flags, _LOOKUPFLAGS)
        return BADF

    def path_open(self, *arguments: int) -> int:
        """Refuse: no directory is open; but first read all that the guest says."""
        _, lookup, path, length, open_flags, base, inheriting, fd_flags, _ = arguments
        check_flags("Lookupflags", lookup, _LOOKUPFLAGS)
        check_flags("Oflags", open_flags, _OFLAGS)
        check_flags("Rights", base, _RIGHTS)
        check_flags("Rights", inheriting, _RIGHTS)
        check_flags("Fdflags", fd_flags, _FDFLAGS)
        length &= 0xFFFFFFFF
        try:
            self._guest.memory.load(self._region(path, length, 1), length).decode()
        except UnicodeDecodeError:
            return ILSEQ
        return BADF

    def sock_accept(self, fd: int, flags: int, result: int) -> int:
        """Refuse: no descriptor is a socket."""
        check_flags("Fdflags", flags, _FDFLAGS)
        return self._no_socket(fd)

    def sock_recv(self, fd: int, vectors: int, count: int, flags: int, *_: int) -> int:
        """Refuse: no descriptor is a socket."""
        check_flags("Riflags", flags, _RIFLAGS)
        return self._no_socket(fd)

    def sock_send(self, fd: int, vectors: int, count: int, flags: int, *_: int) -> int:
        """Refuse: no descriptor is a socket."""
        check_flags("Siflags", flags, _SIFLAGS)
        return self._no_socket(fd)

    def sock_shutdown(self, fd: int, how: int) -> int:
        """Refuse: no descriptor is a socket."""
        check_flags("Sdflags", how, _SDFLAGS)
        return self._no_socket(fd)

    def _no_socket(self, fd: int) -> int:
        return NOTSOCK if fd in self._open else BADF

    def _first_vector(self, vectors: int, count: int) -> tuple[int, int] | None:
        """Return the first buffer that is not empty ((0, 0) if there is none), or None for too much.

        Only what precedes it is looked at, as wasmtime does: the rest may lie anywhere.
        """
        length = (count & 0xFFFFFFFF) * _IOVEC.size
        if length > _MAX_VECTOR_BYTES:
            return None
        if length == 0:
            return 0, 0
        start = self._region(vectors, 4, 4)
        inside = min(length, (self._guest.memory.size() - start) // _IOVEC.size * _IOVEC.size)
        for pointer, size in _IOVEC.iter_unpack(self._guest.memory.load(start, inside)):
            if size:
                return None if size > _MAX_VECTOR_BYTES - length else (pointer, size)
        if inside < length:
            self._region(start + inside, _IOVEC.size, 4)
        return 0, 0


def _times(flags: int) -> int:
    check_flags("Fstflags", flags, _FSTFLAGS)
    for both in (_BOTH_ACCESS_TIMES, _BOTH_CHANGE_TIMES):
        if flags & both == both:
            return INVAL
    return BADF
