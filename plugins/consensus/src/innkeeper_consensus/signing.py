"""How reports are signed, by encoder.

Rules of this module:

1. The encoder alone chooses: key type, what is hashed, and the form of the signature. The two algorithms that a request
   names are checked and then ignored, as in the reference.
2. Secp256k1 signatures are 65 bytes, r, s and v in {0, 1}; Ed25519 signatures have the public key (32 bytes) in front.
3. A secret is in no text: not in a repr, not in an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from attrs import field, frozen
from coincurve import PrivateKey
from Crypto.Hash import keccak
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

__all__ = ["SECRET_LENGTH", "SIGNERS", "Signer", "keccak256"]

SECRET_LENGTH: Final = 32


class Signer(Protocol):
    """A key that signs reports."""

    @property
    def public(self) -> bytes:
        """Return what a verifier knows it by: an address of 20 bytes, or an Ed25519 public key of 32."""

    def sign(self, raw_report: bytes, context: bytes) -> bytes:
        """Return the signature over a report and its context of 96 bytes."""


def keccak256(data: bytes) -> bytes:
    """Return the Keccak-256 digest: that of Ethereum, not SHA3-256."""
    return keccak.new(data=data, digest_bits=256).digest()


def _evm_digest(raw_report: bytes, context: bytes) -> bytes:
    return keccak256(keccak256(raw_report) + context)


def _solana_digest(raw_report: bytes, context: bytes) -> bytes:
    return hashlib.sha256(bytes([len(raw_report) % 256]) + raw_report + context).digest()


def _aptos_digest(raw_report: bytes, context: bytes) -> bytes:
    return hashlib.blake2b(context + raw_report, digest_size=32).digest()


@frozen
class _Secp256k1:
    digest: Callable[[bytes, bytes], bytes]
    key: PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        return keccak256(self.key.public_key.format(compressed=False)[1:])[12:]

    def sign(self, raw_report: bytes, context: bytes) -> bytes:
        return self.key.sign_recoverable(self.digest(raw_report, context), hasher=None)


@frozen
class _Ed25519:
    digest: Callable[[bytes, bytes], bytes]
    key: ECC.EccKey = field(repr=False)

    @property
    def public(self) -> bytes:
        return self.key.public_key().export_key(format="raw")

    def sign(self, raw_report: bytes, context: bytes) -> bytes:
        return self.public + eddsa.new(self.key, "rfc8032").sign(self.digest(raw_report, context))


def _secp256k1(digest: Callable[[bytes, bytes], bytes]) -> Callable[[bytes], Signer]:
    return lambda secret: _Secp256k1(digest, PrivateKey(secret))


def _ed25519(digest: Callable[[bytes, bytes], bytes]) -> Callable[[bytes], Signer]:
    return lambda secret: _Ed25519(digest, ECC.construct(curve="Ed25519", seed=secret))


# Makers of signers from secrets of 32 bytes, by encoder, in the reference's order.
SIGNERS: Final[Mapping[str, Callable[[bytes], Signer]]] = MappingProxyType(
    {
        "evm": _secp256k1(_evm_digest),
        "aptos": _ed25519(_aptos_digest),
        "solana": _secp256k1(_solana_digest),
        "stellar": _ed25519(_evm_digest),
    }
)
