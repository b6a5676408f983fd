"""The launcher's loop: boots the enclave once, answers its NSM requests, and notices whose end ends it.

Rules of this module:

1. It never waits for the enclave or the parent alone: who does not read what it has asked for is ended.
2. The parent may ask once. What it says beyond that ends everything.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable
from enum import Enum

from innkeeper_confidential_workflows.attestation.errors import AttestationError
from innkeeper_confidential_workflows.enclave.frames import Boot, encode
from innkeeper_confidential_workflows.launcher.enclave import Enclave
from innkeeper_confidential_workflows.launcher.messages import MAX_PACKET_BYTES, BootRequest, send_started
from innkeeper_confidential_workflows.nsm.messages import MAX_REQUEST
from innkeeper_confidential_workflows.nsm.simulated import SimulatedNsm
from innkeeper_confidential_workflows.protocol.configuration import EnclaveConfig

__all__ = ["Ending", "serve"]

_END_SECONDS = 5.0
"""How long an enclave that ends by itself may take to say why."""

_log = logging.getLogger("innkeeper.launcher")


class Ending(Enum):
    """Why the launcher ends."""

    PARENT_GONE = "the parent has closed its end"
    PARENT_FAULT = "the parent has asked for what it must not"
    ENCLAVE_GONE = "the enclave has ended"
    ENCLAVE_FAULT = "the enclave does not take the answers that it has asked for"


class _Loop:
    def __init__(self, parent: socket.socket, enclave: Enclave, nsm: SimulatedNsm, module_id: str) -> None:
        self._parent = parent
        self._enclave = enclave
        self._nsm = nsm
        self._module_id = module_id
        self._booted = False
        self._poll = select.poll()
        self._over_by: float | None = None

    def run(self) -> Ending:
        handlers: dict[int, Callable[[], Ending | None]] = {
            self._parent.fileno(): self._on_parent,
            self._enclave.nsm.fileno(): self._on_nsm,
            self._enclave.pidfd: lambda: Ending.ENCLAVE_GONE,
        }
        for descriptor in handlers:
            self._poll.register(descriptor, select.POLLIN)
        while True:
            events = self._poll.poll(self._rest())
            if not events:
                return Ending.ENCLAVE_GONE
            for descriptor, _ in events:
                ending = handlers[descriptor]()
                if ending is not None:
                    return ending

    def _rest(self) -> float | None:
        """Return how long to wait, in milliseconds: for ever, unless the enclave is ending by itself."""
        return None if self._over_by is None else max(0.0, self._over_by - time.monotonic()) * 1000

    def _on_parent(self) -> Ending | None:
        try:
            packet = self._parent.recv(MAX_PACKET_BYTES)
        except ConnectionError:
            packet = b""
        if not packet:
            return Ending.PARENT_GONE
        if self._booted:
            return Ending.PARENT_FAULT
        try:
            request = BootRequest.decode(packet)
            EnclaveConfig.decode(request.config)
        except AttestationError as error:
            _log.error("the enclave is not started with this configuration: %s", error)
            return Ending.PARENT_FAULT
        try:
            # Far less than a socket holds, and the first that is in it.
            self._enclave.stream.sendall(encode(Boot(config=request.config, nonce=request.nonce)))
        except ConnectionError:
            return Ending.ENCLAVE_GONE
        try:
            send_started(self._parent, self._module_id, self._enclave.stream)
        except ConnectionError:
            return Ending.PARENT_GONE
        self._enclave.stream.close()
        self._booted = True
        return None

    def _on_nsm(self) -> Ending | None:
        try:
            # One byte more than is allowed, so that a longer packet is seen to be one.
            request = self._enclave.nsm.recv(MAX_REQUEST + 1)
            if request:
                self._enclave.nsm.send(self._nsm.handle(request))
                return None
        except BlockingIOError:
            return Ending.ENCLAVE_FAULT
        except ConnectionError:
            pass
        # It has closed its end, and is saying why, or has just done so.
        self._poll.unregister(self._enclave.nsm)
        self._over_by = time.monotonic() + _END_SECONDS
        return None


def serve(parent: socket.socket, enclave: Enclave, nsm: SimulatedNsm, module_id: str) -> Ending:
    """Serve until somebody's end.

    Args:
        parent: The socket to the LOOP process.
        enclave: The enclave, which has been started.
        nsm: Its NSM.
        module_id: Its id.

    Returns:
        Whose end it was; the enclave may still run.
    """
    return _Loop(parent, enclave, nsm, module_id).run()
