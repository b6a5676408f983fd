"""Channels and servers on private unix sockets, with the options that both sides of the wire use.

Rules of this module:

1. Sizes of messages are not limited here: a Go peer does not limit them either, and who sends is a peer on a private
   socket.
2. Nothing is retried: a retry that gRPC makes by itself hides a dead process, and repeats what must not be repeated.
3. No keepalive: Go servers answer pings that come more often than every five minutes by ending the connection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from innkeeper_sdk.control_socket import SOCKET_PATH_LIMIT, grpc_target
from innkeeper_sdk.errors import ConfigError

__all__ = ["CHANNEL_OPTIONS", "SERVER_OPTIONS", "new_server", "open_channel", "unix_target"]

# gRPC's own limit of 8 KiB would lose what a peer says of its failure, which stands in a header.
_HEADER_BYTES: Final = 256 << 10

_SIZES: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", _HEADER_BYTES),
    ("grpc.absolute_max_metadata_size", _HEADER_BYTES),
)

CHANNEL_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    *_SIZES,
    # Else the escaped path of the socket is sent as the authority, which some servers refuse.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_retries", 0),
    # A path that is used again by another process must not meet the connection of the first.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

SERVER_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    *_SIZES,
    # Two servers on one path are a mistake that must show.
    ("grpc.so_reuseport", 0),
)


def unix_target(path: Path) -> str:
    """Return the gRPC name of a unix socket.

    Args:
        path: Absolute, at most 107 bytes (unix(7)).

    Raises:
        ConfigError: It is relative or too long.
    """
    if not path.is_absolute():
        raise ConfigError("the path of a socket is not absolute", path=str(path))
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_LIMIT:
        raise ConfigError(
            "the path of a plugin's socket is too long",
            path=str(path),
            expected=f"at most {SOCKET_PATH_LIMIT} bytes",
            actual=str(length),
            hint="choose a shorter runtime directory",
        )
    return grpc_target(path)


def open_channel(path: Path) -> grpc.aio.Channel:
    """Return a channel to a unix socket; it connects when it is first used.

    Raises:
        ConfigError: The path is relative or too long.
    """
    return grpc.aio.insecure_channel(unix_target(path), options=CHANNEL_OPTIONS)


def new_server() -> grpc.aio.Server:
    """Return a server with the options of the wire, and nothing registered."""
    return grpc.aio.server(options=SERVER_OPTIONS)
