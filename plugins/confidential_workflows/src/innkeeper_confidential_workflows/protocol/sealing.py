"""Sealing a secret to the key of one execution.

Rules of this module:

1. HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: one suite, never negotiated.
2. The whole context is in HPKE's ``info``: what was sealed for one execution, secret and challenge opens for no other.
3. No error, repr or log holds a byte of what is sealed or of a key.
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from innkeeper_confidential_workflows.attestation.errors import Code
from innkeeper_confidential_workflows.protocol.errors import malformed, refusal
from innkeeper_confidential_workflows.protocol.fields import (
    BINARY_SHA256_BYTES,
    NONCE_BYTES,
    check_name,
    lower_hex,
    natural,
    sized,
)
from innkeeper_confidential_workflows.protocol.hashing import length_prefixed

__all__ = ["PUBLIC_KEY_BYTES", "SEAL_OVERHEAD", "SealInfo", "new_private_key", "open_sealed", "public_key_of", "seal"]

# SubjectPublicKeyInfo of an X25519 key (RFC 8410): 12 bytes that are always the same, and the key.
PUBLIC_KEY_BYTES: Final = 44
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b656e032100")
# An encapsulated key of 32 bytes and a tag of 16.
SEAL_OVERHEAD: Final = 48

_LABEL: Final = b"cw-seal/1"
_STEP: Final = "seal"


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@frozen(kw_only=True)
class SealInfo:
    """What a secret is sealed for.

    Attributes:
        workflow_id: 64 hexadecimal digits.
        owner: 40 hexadecimal digits.
        execution_id: 64 hexadecimal digits.
        binary_sha256: 32 bytes.
        namespace: The secret's, normalised.
        key: The secret's.
        version: The secret's, from 1.
        nonce: The challenge's, 32 bytes.
    """

    workflow_id: str = field(validator=lower_hex(64))
    owner: str = field(validator=lower_hex(40))
    execution_id: str = field(validator=lower_hex(64))
    binary_sha256: bytes = field(validator=sized(BINARY_SHA256_BYTES))
    namespace: str = field(validator=check_name)
    key: str = field(validator=check_name)
    version: int = field(validator=natural(1))
    nonce: bytes = field(validator=sized(NONCE_BYTES), repr=False)

    def encode(self) -> bytes:
        """Return HPKE's ``info``."""
        return _LABEL + length_prefixed(
            self.workflow_id.encode(),
            self.owner.encode(),
            self.execution_id.encode(),
            self.binary_sha256,
            self.namespace.encode(),
            self.key.encode(),
            self.version.to_bytes(8, "big"),
            self.nonce,
        )


def new_private_key() -> X25519PrivateKey:
    """Return a new key; an execution makes its own after it was forked."""
    return X25519PrivateKey.generate()


def public_key_of(private_key: X25519PrivateKey) -> bytes:
    """Return the public key as a document carries it: SubjectPublicKeyInfo in DER, 44 bytes."""
    return private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_public_key(public_key: bytes) -> X25519PublicKey:
    """Return the key of a document.

    Args:
        public_key: As the document carries it.

    Raises:
        AttestationError: ``malformed``: it is no X25519 key in its one encoding.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or not public_key.startswith(_SPKI_PREFIX):
        raise malformed("the document's public key is no X25519 key")
    try:
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise malformed("the document's public key is no X25519 key") from None
    if not isinstance(key, X25519PublicKey):
        raise malformed("the document's public key is no X25519 key")
    return key


def seal(public_key: bytes, info: SealInfo, plaintext: bytes) -> bytes:
    """Seal a secret.

    Args:
        public_key: The execution's key, as its document carries it: 44 bytes.
        info: What for.
        plaintext: The secret.

    Returns:
        48 bytes more than the secret.

    Raises:
        AttestationError: ``malformed``: the key is none that can be sealed to.
    """
    key = check_public_key(public_key)
    try:
        return _suite().encrypt(plaintext, key, info.encode())
    except ValueError:
        # A point of low order: with it, everybody could open what is sealed.
        raise malformed("the document's public key cannot be sealed to") from None


def open_sealed(private_key: X25519PrivateKey, info: SealInfo, sealed: bytes) -> bytes:
    """Open a sealed secret.

    Args:
        private_key: The execution's.
        info: What it must have been sealed for.
        sealed: What :func:`seal` returned.

    Raises:
        AttestationError: ``bad_signature``: it was sealed to another key, for something else, or was changed.
    """
    try:
        return _suite().decrypt(sealed, private_key, info.encode())
    except (InvalidTag, ValueError):
        raise refusal(Code.BAD_SIGNATURE, "the sealed secret does not open", step=_STEP) from None
