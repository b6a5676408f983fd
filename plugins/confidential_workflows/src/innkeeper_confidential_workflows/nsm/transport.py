"""How the enclave reaches its simulated NSM: packets over a socket, in the place of an ioctl on ``/dev/nsm``.

Rules of this module:

1. One packet is one request or one answer (``SOCK_SEQPACKET``): nothing is framed, and nothing can be cut in two.
2. One thing is asked at a time, and each is answered. After an answer that did not come, nothing more is asked.
3. An empty packet cannot be told from the end of the connection, and is taken for it.
"""

from __future__ import annotations

import socket
from threading import Lock
from typing import Protocol

from innkeeper_confidential_workflows.nsm.messages import MAX_ANSWER, ErrorCode, NsmError

__all__ = ["NsmTransport", "SeqpacketTransport"]


class NsmTransport(Protocol):
    """A way to an NSM."""

    def exchange(self, request: bytes) -> bytes:
        """Return the answer to a request.

        Raises:
            NsmError: The NSM cannot be reached.
        """


class SeqpacketTransport:
    """The enclave's end of a ``SOCK_SEQPACKET`` socket; it may be used by several threads.

    Args:
        connection: A connected socket; its time-out, if it has one, bounds each exchange. It is not closed here.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = Lock()
        self._broken = False

    def exchange(self, request: bytes) -> bytes:
        """Return the answer to a request.

        Raises:
            NsmError: ``InternalError``: the other side is gone or does not answer in time; after that, it is not asked
                again, for its next answer might be that of an earlier request.
        """
        with self._lock:
            if self._broken:
                raise NsmError(ErrorCode.INTERNAL_ERROR, "the NSM was lost")
            try:
                self._connection.send(request)
                answer = self._connection.recv(MAX_ANSWER + 1)
            except OSError as error:
                self._broken = True
                raise NsmError(ErrorCode.INTERNAL_ERROR, f"the NSM does not answer: {error}") from error
            if not answer:
                self._broken = True
                raise NsmError(ErrorCode.INTERNAL_ERROR, "the NSM has closed its end")
            return answer
