"""Messages between a driver and the processes that fork for it: one JSON object and a few descriptors per packet.

They travel over ``SOCK_SEQPACKET`` socketpairs, so a message is never cut. The hot path carries one small message each
way per execution; what guests exchange with the host goes over each execution's own stream instead.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

__all__ = ["MAX_DESCRIPTORS", "MAX_MESSAGE_BYTES", "ControlError", "decode", "encode", "receive", "send"]

MAX_MESSAGE_BYTES = 65_536
MAX_DESCRIPTORS = 4


class ControlError(Exception):
    """Raised when a message is not an object with a text ``op``, or is too long."""


def encode(op: str, **fields: Any) -> bytes:
    """Return the message ``op`` with its fields as bytes.

    Raises:
        ControlError: If it is longer than :data:`MAX_MESSAGE_BYTES`.
    """
    data = json.dumps({"op": op, **fields}, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ControlError(f"message {op} has {len(data)} bytes, at most {MAX_MESSAGE_BYTES} fit a packet")
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Return the message in ``data``.

    Raises:
        ControlError: If it is not an object with a text ``op``.
    """
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"a message that is not JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ControlError("a message that is not an object with a text op")
    return message


def send(channel: socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send one encoded message with copies of ``descriptors``."""
    socket.send_fds(channel, [data], descriptors, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next message and the descriptors that came with it, or None at the end of the channel.

    Raises:
        ControlError: If the message is not one; its descriptors are closed.
        BlockingIOError: If the channel does not block and nothing is there.
    """
    try:
        data, descriptors, flags, _ = socket.recv_fds(
            channel, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:  # Closed, with messages that the other end has not read.
        return None
    if not data and not descriptors:
        return None
    try:
        return _checked(data, flags), descriptors
    except ControlError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _checked(data: bytes, flags: int) -> dict[str, Any]:
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise ControlError("a message with more bytes or descriptors than a packet may have")
    return decode(data)
