"""What is hashed, and under which tag.

Rules of this module:

1. Nothing is hashed without a tag that says what it is, and no part without its length: two meanings have two hashes.
2. What is hashed is what was sent, byte for byte; nothing is encoded anew for it.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = [
    "METHOD_CAPABILITY",
    "METHOD_RESULT",
    "METHOD_SECRETS",
    "domain_hash",
    "length_prefixed",
    "request_digest",
    "user_data_of",
]

# The names of the reference's relay; the third is ours, since its enclave returns results unattested to the relay.
METHOD_SECRETS: Final = "confidential.secrets.get"
METHOD_CAPABILITY: Final = "confidential.capability.execute"
METHOD_RESULT: Final = "confidential.result"

# chainlink-common, pkg/teeattestation/hash.go.
_SEPARATOR: Final = b"CONFIDENTIAL_COMPUTE_PAYLOAD"
_USER_DATA_TAG: Final = "cw-attest/1/"


def length_prefixed(*parts: bytes) -> bytes:
    """Return the parts, each behind its length in eight bytes, big-endian."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def domain_hash(tag: str, data: bytes) -> bytes:
    """Return the reference's hash of data under a tag.

    Args:
        tag: What the data is.
        data: Any bytes.

    Returns:
        SHA-256, 32 bytes.
    """
    return hashlib.sha256(_SEPARATOR + length_prefixed(tag.encode("utf-8"), data)).digest()


def user_data_of(method: str, body: bytes) -> bytes:
    """Return the user data of the document that is sent with a body.

    Args:
        method: The body's method.
        body: The body as it is sent.

    Returns:
        32 bytes.
    """
    return domain_hash(_USER_DATA_TAG + method, body)


def request_digest(body: bytes) -> bytes:
    """Return what a reply says which request it answers: SHA-256 of the request's body as it was sent."""
    return hashlib.sha256(body).digest()
