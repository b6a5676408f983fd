"""Landlock: take away files, TCP, abstract sockets and signals from a process that needs none of them.

The ruleset has no rules, so everything that the kernel's version can handle is denied for good. Descriptors that are
open already go on working.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from innkeeper_wasm.runtime.process import libc

__all__ = ["abi", "deny_all"]

# The same numbers on every architecture.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_CREATE_RULESET_VERSION = 1
_ABSENT = (errno.ENOSYS, errno.EOPNOTSUPP)

# linux/landlock.h: how many file system rights each version knows, and the versions that brought TCP and scopes.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FS_RIGHTS_LATEST = 16
_ABI_TCP = 4
_ABI_SCOPES = 6
_TCP_BIND_AND_CONNECT = 3
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 3


def abi() -> int:
    """Return the kernel's Landlock version, 0 if it has none."""
    version = int(libc.syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION))
    if version >= 0:
        return version
    number = ctypes.get_errno()
    if number in _ABSENT:
        return 0
    raise OSError(number, f"landlock: {os.strerror(number)}")


def deny_all() -> int:
    """Deny this process (``no_new_privs`` set) and what it forks all that Landlock can.

    Returns:
        The Landlock version that is in force, 0 if the kernel has none.

    Raises:
        OSError: If the kernel has Landlock and refuses.
    """
    version = abi()
    if version == 0:
        return 0
    attributes = struct.pack("<Q", (1 << _FS_RIGHTS.get(version, _FS_RIGHTS_LATEST)) - 1)
    if version >= _ABI_TCP:
        attributes += struct.pack("<Q", _TCP_BIND_AND_CONNECT)
    if version >= _ABI_SCOPES:
        attributes += struct.pack("<Q", _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock: no ruleset")
    try:
        if libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "landlock: not restricted")
    finally:
        os.close(ruleset)
    return version
