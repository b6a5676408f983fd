"""The control socket of a host: where it may lie, and who listens on it.

Rules of this module:

1. Nothing heavy is imported: a command finds out here that there is no host, before it pays for gRPC.
2. A client speaks only to a host of its own user: whoever else listens at that place may be after its secrets. Only
   root, who could take anything anyway, may speak to everybody's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from attrs import frozen

from innkeeper_sdk.errors import ConfigError, HostUnreachableError, VerificationError

__all__ = ["SOCKET_NAME", "SOCKET_PATH_LIMIT", "Peer", "check_socket_path", "grpc_target", "probe"]

SOCKET_NAME: Final = "control.sock"

# unix(7): sun_path has 108 bytes, of which the last is NUL.
SOCKET_PATH_LIMIT: Final = 107

# A host that is stopped or wedged still has its connections accepted by the kernel until its backlog is full.
_PROBE_SECONDS: Final = 2.0


@frozen
class Peer:
    """The process that listens on a socket."""

    pid: int
    uid: int


def check_socket_path(path: Path) -> None:
    """Refuse a path that the kernel cannot bind.

    Args:
        path: Absolute.

    Raises:
        ConfigError: It is longer than 107 bytes.
    """
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_LIMIT:
        raise ConfigError(
            "the path of the control socket is too long",
            path=str(path),
            expected=f"at most {SOCKET_PATH_LIMIT} bytes",
            actual=str(length),
            hint="choose a shorter --runtime-dir or --host-name",
        )


def grpc_target(path: Path) -> str:
    """Return the gRPC name of a socket; gRPC reads it as a URI, so unusual characters are escaped."""
    return "unix:" + quote(os.fsencode(path))


def probe(path: Path) -> Peer:
    """Return who listens on a control socket.

    Args:
        path: The socket.

    Returns:
        The process that listens.

    Raises:
        ConfigError: The path is too long for a socket.
        HostUnreachableError: Nobody listens, or this user may not connect.
        VerificationError: The host belongs to another user.
    """
    check_socket_path(path)
    try:
        # Most commands find out here that there is no host, and need no sockets.
        os.stat(path)
        peer = _connect(path)
    except FileNotFoundError:
        raise _unreachable(path, "no host is running", "start one with `innkeeper run`") from None
    except ConnectionRefusedError:
        raise _unreachable(path, "the host is gone, its socket was left", "start it with `innkeeper run`") from None
    except PermissionError:
        raise _unreachable(path, "the host's socket may not be used by this user", "ask as its user") from None
    except (BlockingIOError, TimeoutError):
        raise _unreachable(path, "the host does not accept connections", "look at its log") from None
    except OSError as error:
        raise _unreachable(path, f"the host cannot be reached ({error.strerror})", None) from error
    user = os.geteuid()
    if user not in (peer.uid, 0):
        raise VerificationError(
            "the host on this socket belongs to another user",
            path=str(path),
            expected=f"user {user}",
            actual=f"user {peer.uid}",
            hint="choose another --runtime-dir",
        )
    return peer


def _connect(path: Path) -> Peer:
    import socket  # noqa: PLC0415 - see its caller
    import struct  # noqa: PLC0415 - as above

    ucred = struct.Struct("iII")  # pid, uid, gid, as in unix(7)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PROBE_SECONDS)
        sock.connect(os.fspath(path))
        pid, uid, _ = ucred.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size))
    return Peer(pid=pid, uid=uid)


def _unreachable(path: Path, message: str, hint: str | None) -> HostUnreachableError:
    return HostUnreachableError(message, path=str(path), hint=hint)
