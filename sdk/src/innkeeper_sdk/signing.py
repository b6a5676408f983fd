"""What a host's key signs: never bare bytes, always a message under a prefix.

Rules of this module:

1. A key that also names a peer must never sign what could be taken for another protocol's message, so every message
   is wrapped in the payload of libocr's peer id helper; the prefix says what the message is.
2. Pure functions: the key itself stays with who holds it.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["peer_id_payload"]

# libocr, ragep2p/peeridhelper: 64 spaces, as in TLS 1.3, and a text with its terminator.
_SEPARATOR: Final = b" " * 64 + b"ragep2p arbitrary message signing" + b"\x00"
_INLINE: Final = 1024


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def peer_id_payload(prefix: str, message: bytes) -> bytes:
    """Return the bytes that are signed, with Ed25519, for a message under a prefix.

    Args:
        prefix: What the message is, such as ``cw-grant/1``; not empty.
        message: Any bytes. Up to 1024 stand in the payload as they are, more as their SHA-256.

    Returns:
        The separator, the prefix and the message, each so marked that no two pairs have the same payload.

    Raises:
        ValueError: The prefix is empty.
    """
    if not prefix:
        raise ValueError("a signature needs a prefix that says what is signed")
    inline = len(message) <= _INLINE
    body = b"\x00" + _sized(message) if inline else b"\x01" + hashlib.sha256(message).digest()
    return _SEPARATOR + _sized(prefix.encode("utf-8")) + body
