"""What of the host a generation of a process needs: the same for all of them.

Rules of this module:

1. It is a record of what others own; nothing is started, closed or changed here.
2. Whatever in it gives rights, the registrar and the peers, is bound to the process's provider already.
"""

from __future__ import annotations

import logging

from attrs import frozen

from innkeeper.loop.guard import Guard
from innkeeper.loop.peers import Peers, Registrar

__all__ = ["Surroundings"]


@frozen
class Surroundings:
    """What of the host a generation needs.

    Attributes:
        guard: Knows of everything that is started.
        registrar: Where its capabilities go.
        peers: What its provider may use.
        host_public_key: 32 bytes.
        app_id: What a plugin knows this host by.
        logger: Where it is told.
    """

    guard: Guard
    registrar: Registrar
    peers: Peers
    host_public_key: bytes
    app_id: str
    logger: logging.Logger
