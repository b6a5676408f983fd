"""A signer of attestation documents, right ones and wrong ones, under roots of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from attrs import evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from innkeeper_confidential_workflows.attestation import Attestation, Expectations, Report, Root, explain, verify

VECTORS = Path(__file__).parent / "vectors"
NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
ES384 = bytes.fromhex("a1013822")
ORDER_P384 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973

Key = ec.EllipticCurvePrivateKey
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@frozen
class Level:
    """One certificate of a chain to make."""

    name: str
    ca: bool = True
    path_length: int | None = None
    usage: tuple[str, ...] | None = ("key_cert_sign",)
    usage_critical: bool = True
    constraints: bool = True
    constraints_critical: bool = True
    curve: ec.EllipticCurve = field(factory=ec.SECP384R1)
    digest: hashes.HashAlgorithm = field(factory=hashes.SHA384)
    not_before: datetime = NOW - timedelta(minutes=1)
    not_after: datetime = NOW + timedelta(hours=3)
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()


LEVELS = (
    Level("root"),
    Level("region", path_length=2),
    Level("zone", path_length=1),
    Level("instance", path_length=0),
    Level("leaf", ca=False, usage=("digital_signature", "content_commitment"), usage_critical=False),
)


@frozen
class Pki:
    """A chain with the keys of each level."""

    certificates: tuple[x509.Certificate, ...]
    keys: tuple[Key, ...]

    @property
    def der(self) -> list[bytes]:
        return [certificate.public_bytes(Encoding.DER) for certificate in self.certificates]

    @property
    def root(self) -> Root:
        return Root(self.der[0], "sim")


def make_level(level: Level, issuer: x509.Name, issuer_key: Key | None) -> tuple[x509.Certificate, Key]:
    key = ec.generate_private_key(level.curve)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, level.name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer if issuer_key else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(level.not_before)
        .not_valid_after(level.not_after)
    )
    if level.constraints:
        constraints = x509.BasicConstraints(ca=level.ca, path_length=level.path_length)
        builder = builder.add_extension(constraints, critical=level.constraints_critical)
    if level.usage is not None:
        usage = x509.KeyUsage(**{name: name in level.usage for name in USAGES})
        builder = builder.add_extension(usage, critical=level.usage_critical)
    for extension, critical in level.extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key or key, level.digest), key


def make_pki(levels: tuple[Level, ...] = LEVELS) -> Pki:
    certificates: list[x509.Certificate] = []
    keys: list[Key] = []
    for level in levels:
        issuer = certificates[-1].subject if certificates else x509.Name([])
        certificate, key = make_level(level, issuer, keys[-1] if keys else None)
        certificates.append(certificate)
        keys.append(key)
    return Pki(tuple(certificates), tuple(keys))


def changed(index: int, **changes: Any) -> tuple[Level, ...]:
    """Return the levels with one of them changed; -1 is the leaf."""
    levels = list(LEVELS)
    levels[index] = evolve(levels[index], **changes)
    return tuple(levels)


def sign(payload: bytes, key: Key, *, protected: bytes = ES384, digest: hashes.HashAlgorithm | None = None) -> bytes:
    """Return r and s, each as long as the key's numbers are."""
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(digest or hashes.SHA384())))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def head(major: int, length: int) -> bytes:
    """Return the head of a CBOR item of fewer than 65536."""
    if length < 24:
        return bytes([major << 5 | length])
    if length < 256:
        return bytes([major << 5 | 24, length])
    return bytes([major << 5 | 25]) + length.to_bytes(2, "big")


def raw_map(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return a map out of items already encoded, in this order, doubles and all."""
    return head(5, len(pairs)) + b"".join(key + value for key, value in pairs)


@frozen
class Forge:
    """Makes documents under one chain, and whatever a test needs for them."""

    pki: Pki

    now = NOW
    levels = LEVELS
    order = ORDER_P384
    head = staticmethod(head)
    raw_map = staticmethod(raw_map)
    sign = staticmethod(sign)

    @staticmethod
    def changed(index: int, **changes: Any) -> Forge:
        """Return a signer under a chain of its own with one level changed; -1 is the leaf."""
        return Forge(make_pki(changed(index, **changes)))

    @staticmethod
    def chain(levels: tuple[Level, ...]) -> Forge:
        """Return a signer under a chain of its own."""
        return Forge(make_pki(levels))

    def fields(self, **changes: Any) -> dict[str, Any]:
        """Return the fields of a right document, some replaced; ``...`` leaves one out."""
        der = self.pki.der
        fields: dict[str, Any] = {
            "module_id": "i-INSECURE-SIM-test",
            "digest": "SHA384",
            "timestamp": int(NOW.timestamp() * 1000),
            "pcrs": {index: bytes([index + 1]) * 48 for index in range(16)},
            "certificate": der[-1],
            "cabundle": der[:-1],
            "public_key": None,
            "user_data": None,
            "nonce": None,
        }
        fields.update(changes)
        return {key: value for key, value in fields.items() if value is not ...}

    def pairs(self, **changes: Any) -> list[tuple[bytes, bytes]]:
        """Return the encoded keys and values of a right document, some replaced."""
        return [(cbor2.dumps(key), cbor2.dumps(value)) for key, value in self.fields(**changes).items()]

    def wrap(
        self,
        payload: Any,
        *,
        protected: Any = ES384,
        unprotected: Any = None,
        signature: Any = None,
        key: Key | None = None,
    ) -> bytes:
        """Return a COSE_Sign1 around a payload, signed by the leaf's key unless a signature is given."""
        if signature is None:
            signature = sign(payload, key or self.pki.keys[-1], protected=protected)
        return cbor2.dumps([protected, {} if unprotected is None else unprotected, payload, signature])

    def document(self, **changes: Any) -> bytes:
        """Return a document with some fields replaced."""
        return self.wrap(cbor2.dumps(self.fields(**changes)))

    def explain(self, document: bytes, *, now: datetime = NOW, expect: Expectations | None = None) -> Report:
        return explain(document, now=now, roots=[self.pki.root], expect=expect or Expectations())

    def verify(self, document: bytes, *, now: datetime = NOW, expect: Expectations | None = None) -> Attestation:
        return verify(document, now=now, roots=[self.pki.root], expect=expect or Expectations())

    def verdict(self, document: bytes, *, now: datetime = NOW, expect: Expectations | None = None) -> tuple[str, str]:
        """Return the verdict and the last check that was run."""
        report = self.explain(document, now=now, expect=expect)
        return report.verdict, report.steps[-1].name


@pytest.fixture(scope="session")
def forge() -> Forge:
    """Return a signer under a chain of the right shape."""
    return Forge(make_pki())


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Return the directory of the published documents."""
    return VECTORS
