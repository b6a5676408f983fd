"""Ed25519 signatures of keys that also name a peer."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from innkeeper_sdk.signing import peer_id_payload

__all__ = ["PUBLIC_KEY_BYTES", "SIGNATURE_BYTES", "sign", "verify_signature"]

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


def sign(private_key: Ed25519PrivateKey, prefix: str, message: bytes) -> bytes:
    """Return the signature of a message under a prefix: 64 bytes."""
    return private_key.sign(peer_id_payload(prefix, message))


def verify_signature(public_key: bytes, prefix: str, message: bytes, signature: bytes) -> bool:
    """Return whether a signature is that of a message under a prefix.

    Args:
        public_key: 32 bytes; anything else has signed nothing.
        prefix: What the message is.
        message: As it was received.
        signature: Anything.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, peer_id_payload(prefix, message))
    except (InvalidSignature, ValueError):
        return False
    return True
