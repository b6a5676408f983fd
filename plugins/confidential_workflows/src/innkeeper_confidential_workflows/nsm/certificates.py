"""The chain of five certificates above a simulated document, of the same shape as AWS's.

Rules of this module:

1. Lifetimes and extensions are those of the real chain: root, region, zone, instance, enclave; the last is valid for
   3 h 0 min 3 s and has no identifiers of keys.
2. Every certificate says in its organisation and its name that nothing stands behind it. The names end in ``.invalid``,
   which no name in use does (RFC 2606).
3. The root carries a private extension, too, which says it once more. It is not critical: standard verifiers, ours
   among them, refuse a critical extension that they do not know. What keeps a simulation out is that its root is not
   pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from innkeeper_confidential_workflows.attestation.roots import SIMULATION_ORGANISATION

__all__ = ["LEAF_LIFETIME", "MARKER_OID", "MARKER_TEXT", "IssuedChain", "issue_chain", "issue_root"]

# Under 1.3.6.1.4.1.32473, which RFC 5612 sets aside for examples: no one else's meaning can be attached to it.
MARKER_OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.32473.1")
MARKER_TEXT: Final = SIMULATION_ORGANISATION.encode()

ROOT_LIFETIME: Final = timedelta(days=10958)
# Region, zone, instance: names, lifetimes as seen of AWS's, path lengths, and whether there are identifiers
# of keys and a place of revocation lists, which nobody reads.
_AUTHORITIES: Final = (
    ("{serial}.{region}.INSECURE.invalid", timedelta(days=20, hours=1), 2, True),
    ("{serial}.zonal.{region}.INSECURE.invalid", timedelta(days=5, hours=16), 1, True),
    ("i-INSECURE-SIM-{serial}.{region}.INSECURE.invalid", timedelta(days=1), 0, False),
)
_REVOCATIONS: Final = "http://crl.INSECURE.invalid/"
_LEAF_NAME: Final = "i-INSECURE-SIM-{serial}-enc.{region}.INSECURE.invalid"
LEAF_LIFETIME: Final = timedelta(hours=3)
# A certificate is valid from a little before it is made, as AWS's are, which explains the 3 seconds.
_BACKDATED: Final = timedelta(seconds=3)

_USAGES: Final = (
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
class IssuedChain:
    """Certificates below the root, and the key of the last.

    Args:
        authorities: Region, zone, instance; DER.
        leaf: DER.
        key: The leaf's.
        not_before: From when all of them are valid.
        not_after: Until when.
    """

    authorities: tuple[bytes, ...] = field(repr=False)
    leaf: bytes = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    not_before: datetime
    not_after: datetime


def issue_root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return a new root, signed by its own key."""
    name = _name("sim-root.INSECURE.invalid")
    return (
        _builder(name, name, key, now, ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage("digital_signature", "key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.UnrecognizedExtension(MARKER_OID, _utf8_string(MARKER_TEXT)), critical=False)
        .sign(key, SHA384())
    )


def issue_chain(
    root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, *, region: str, now: datetime
) -> IssuedChain:
    """Return a new chain below a root, with new keys.

    Args:
        root: The root's certificate.
        root_key: Its key.
        region: The part of the names that stands for AWS's region; at most 16 characters.
        now: When it is issued.
    """
    issuer, issuer_key = root, root_key
    authorities: list[x509.Certificate] = []
    for pattern, lifetime, depth, identified in _AUTHORITIES:
        key = ec.generate_private_key(ec.SECP384R1())
        name = _name(pattern.format(serial=_serial(), region=region))
        builder = _builder(name, issuer.subject, key, now, lifetime).add_extension(
            x509.BasicConstraints(ca=True, path_length=depth), critical=True
        )
        if identified:
            builder = (
                builder.add_extension(_identifier(issuer_key), critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                .add_extension(_usage("digital_signature", "key_cert_sign", "crl_sign"), critical=True)
                .add_extension(_revocations(), critical=False)
            )
        else:
            builder = builder.add_extension(_usage("key_cert_sign"), critical=True)
        issuer = builder.sign(issuer_key, SHA384())
        issuer_key = key
        authorities.append(issuer)
    leaf_key = ec.generate_private_key(ec.SECP384R1())
    leaf = (
        _builder(
            _name(_LEAF_NAME.format(serial=_serial(), region=region)), issuer.subject, leaf_key, now, LEAF_LIFETIME
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature", "content_commitment"), critical=False)
        .sign(issuer_key, SHA384())
    )
    return IssuedChain(
        authorities=_der(authorities),
        leaf=leaf.public_bytes(Encoding.DER),
        key=leaf_key,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "ZZ"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SIMULATION_ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _serial() -> str:
    return f"{x509.random_serial_number() & 0xFFFF_FFFF:08x}"


def _identifier(issuer_key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())


def _revocations() -> x509.CRLDistributionPoints:
    place = x509.DistributionPoint([x509.UniformResourceIdentifier(_REVOCATIONS)], None, None, None)
    return x509.CRLDistributionPoints([place])


def _usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _USAGES})


def _utf8_string(text: bytes) -> bytes:
    # DER: the tag of a UTF8String and a length below 128.
    return bytes([0x0C, len(text)]) + text


def _der(certificates: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
