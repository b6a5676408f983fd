"""What the LOOP process and the launcher say to each other, over the socket that they share as process and helper.

Rules of this module:

1. One packet is one message, a deterministic CBOR map. The process asks once, the launcher answers once.
2. With the answer comes one descriptor: the process's end of the stream to the enclave, in which the boot is under way.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from attrs import field, frozen

from innkeeper_confidential_workflows.attestation.errors import AttestationError
from innkeeper_confidential_workflows.launcher.errors import LaunchError
from innkeeper_confidential_workflows.protocol import cbor
from innkeeper_confidential_workflows.protocol.fields import mapping_of, sized, take

__all__ = ["MAX_PACKET_BYTES", "NONCE_BYTES", "BootRequest", "receive_started", "send_started"]

MAX_PACKET_BYTES: Final = 8192
NONCE_BYTES: Final = 32

_BOOT: Final = frozenset({"config", "nonce"})
_STARTED: Final = frozenset({"module_id"})


@frozen(kw_only=True)
class BootRequest:
    """Start the enclave.

    Attributes:
        config: The enclave's configuration, as it is measured.
        nonce: What the boot document answers: 32 bytes.
    """

    config: bytes
    nonce: bytes = field(validator=sized(NONCE_BYTES))

    def encode(self) -> bytes:
        """Return the packet."""
        return cbor.encode({"v": 1, "config": self.config, "nonce": self.nonce})

    @classmethod
    def decode(cls, data: bytes) -> BootRequest:
        """Return the request of a packet.

        Raises:
            AttestationError: It is none.
        """
        content = mapping_of(data, _BOOT, limit=MAX_PACKET_BYTES, what="the boot request")
        return cls(config=take(content["config"], bytes, "config"), nonce=content["nonce"])


def send_started(connection: socket.socket, module_id: str, stream: socket.socket) -> None:
    """Answer a boot request.

    Args:
        connection: The socket to the process.
        module_id: The enclave's id.
        stream: The process's end of the stream to the enclave.
    """
    packet = cbor.encode({"v": 1, "module_id": module_id})
    socket.send_fds(connection, [packet], [stream.fileno()], socket.MSG_NOSIGNAL)


def receive_started(connection: socket.socket) -> tuple[str, socket.socket]:
    """Return the answer to a boot request: the enclave's id, and the stream to it.

    Raises:
        LaunchError: The launcher is gone, or has answered something else.
        BlockingIOError: Nothing is there yet.
    """
    packet, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    if not packet:
        raise LaunchError("the launcher has ended", hint="its log says why")
    try:
        content = mapping_of(packet, _STARTED, limit=MAX_PACKET_BYTES, what="the launcher's answer")
        module_id = take(content["module_id"], str, "module_id")
        (descriptor,) = descriptors
    except (AttestationError, ValueError) as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise LaunchError("the launcher has answered with what is no stream to an enclave") from error
    return module_id, socket.socket(fileno=descriptor)
