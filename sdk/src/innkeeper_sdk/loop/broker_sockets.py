"""The unix sockets of numbered connections: which may be made, and which may be dialled.

Rules of this module:

1. A socket is made only where nobody but this user may enter.
2. What a peer says of its socket is checked before it is dialled: a unix socket, and in the directory that the peer was
   given, if it was given one. A side that starts its peer connects to no other socket because the peer says so.
3. No error names a path that a peer chose: it goes to that peer's callers. gRPC's own texts name paths; the log has
   them.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import grpc.aio

from innkeeper_sdk.errors import ConfigError, UnavailableError
from innkeeper_sdk.loop.channels import open_channel
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo

__all__ = ["check_private", "connect", "is_inside", "listen"]


def check_private(directory: Path) -> None:
    """Refuse a directory that others may enter.

    Args:
        directory: For sockets.

    Raises:
        ConfigError: It is missing, no directory, another user's, or open to others.
    """
    try:
        status = directory.lstat()
    except OSError as error:
        raise ConfigError(
            "the directory of a plugin's sockets is not there", path=str(directory), actual=error.strerror
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ConfigError(
            "the directory of a plugin's sockets is not private",
            path=str(directory),
            expected=f"a directory of user {os.geteuid()} with mode 0700",
            actual=f"user {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}",
        )


def is_inside(path: Path, directory: Path) -> bool:
    """Return whether a path, as it is written, is of something in a directory or deeper."""
    return path.is_relative_to(directory) and path != directory and ".." not in path.parts


def listen(server: grpc.aio.Server, target: str, number: int) -> None:
    """Have a server listen.

    Args:
        server: It is not started yet.
        target: gRPC's name of the socket.
        number: What is served there, for errors.

    Raises:
        UnavailableError: The socket cannot be made.
    """
    try:
        server.add_insecure_port(target)
    except RuntimeError:
        raise UnavailableError(f"the socket of broker id {number} cannot be made") from None


async def connect(info: ConnInfo, within: Path | None, seconds: float) -> grpc.aio.Channel:
    """Connect to where a peer serves.

    Args:
        info: What the peer says.
        within: Where its sockets must be; None if they may be anywhere.
        seconds: How long it may take.

    Returns:
        A connected channel.

    Raises:
        UnavailableError: It may not be dialled, or nobody answers there.
        ConfigError: The path is too long.
    """
    number = info.service_id
    if info.network != "unix" or not info.address.startswith("/"):
        raise UnavailableError(
            f"broker id {number} is not served on a unix socket",
            expected="network unix, an absolute path",
            actual=f"network {info.network[:20]!r}",
        )
    if within is not None and not is_inside(Path(info.address), within):
        raise UnavailableError(f"broker id {number} is not served in the directory of PLUGIN_UNIX_SOCKET_DIR")
    channel = open_channel(Path(info.address))
    try:
        async with asyncio.timeout(seconds):
            await channel.channel_ready()
    except TimeoutError:
        await channel.close(None)
        raise UnavailableError(f"nobody answers where broker id {number} is said to be served") from None
    except BaseException:
        await channel.close(None)
        raise
    return channel
