"""The certificates of a document, from the pinned root to the key that signed it.

Rules of this module:

1. Leaf and intermediates have P-384 keys and ecdsa-with-SHA384 signatures.
2. The bundle's first certificate is, byte for byte, a pinned root; names and keys of certificates decide nothing there.
3. The chain is exactly the bundle in AWS's order and then the leaf, each signed by the one before: no certificate is
   left over, and none is looked for elsewhere.
4. A faulty chain is untrusted whatever its dates say; only one whose signatures hold can be expired.
5. The profile of web servers does not fit: real leaves have no identifiers of keys and no names of hosts. Ours asks for
   basic constraints and key usage; path lengths and unknown critical extensions are checked by the library.
6. Certificates are not looked up in lists of revoked ones: AWS says not to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import SignatureAlgorithmOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store

from innkeeper_confidential_workflows.attestation.document import Claims
from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_confidential_workflows.attestation.roots import Root

__all__ = ["MAX_BUNDLE", "Chain", "load_chain", "pinned_root", "validate_chain"]

MAX_BUNDLE: Final = 6  # certificates; real bundles have 4
# Certificates between root and leaf: region, zone, instance.
_MAX_INTERMEDIATES: Final = 3


@frozen
class Chain:
    """The parsed certificates of a document.

    Args:
        intermediates: From the root's child to the leaf's issuer.
        leaf: The certificate of the key that signed the document.
        key: That key.
    """

    intermediates: tuple[x509.Certificate, ...]
    leaf: x509.Certificate
    key: ec.EllipticCurvePublicKey


def _untrusted(message: str) -> AttestationError:
    return AttestationError(Code.UNTRUSTED_CHAIN, message)


def load_chain(claims: Claims) -> Chain:
    """Return leaf and intermediates, if each has the only kind of key and signature that there is.

    Raises:
        AttestationError: ``malformed`` for what is no certificate, ``untrusted_chain`` for other kinds.
    """
    intermediates = tuple(_load(der, f"cabundle[{index}]")[0] for index, der in enumerate(claims.cabundle) if index > 0)
    leaf, key = _load(claims.certificate, "certificate")
    return Chain(intermediates, leaf, key)


def _load(der: bytes, name: str) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        algorithm = certificate.signature_algorithm_oid
        # Read now, so that what cannot be read is refused here.
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.extensions
    except Exception as error:  # whatever the parser raises for hostile bytes
        raise AttestationError(Code.MALFORMED, f"{name} is no certificate that can be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _untrusted(f"the key of {name} is not on the curve P-384")
    if algorithm != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        raise _untrusted(f"{name} is not signed with ecdsa-with-SHA384")
    return certificate, key


def pinned_root(claims: Claims, roots: Sequence[Root]) -> Root:
    """Return the pinned root that the bundle begins with.

    Raises:
        AttestationError: ``untrusted_chain``.
    """
    if len(claims.cabundle) > MAX_BUNDLE:
        raise _untrusted(f"the bundle has {len(claims.cabundle)} certificates, more than {MAX_BUNDLE}")
    for root in roots:
        if root.certificate == claims.cabundle[0]:
            return root
    raise _untrusted("the first certificate of the bundle is no trusted root")


def validate_chain(chain: Chain, root: Root, now: datetime) -> str:
    """Check signatures, order, dates, constraints and usages from the root to the leaf.

    Args:
        chain: What :func:`load_chain` returned.
        root: What :func:`pinned_root` returned.
        now: The time at which the chain must be valid, with a time zone.

    Returns:
        What was found, for a person.

    Raises:
        AttestationError: ``untrusted_chain`` or ``expired_chain``.
    """
    anchor = x509.load_der_x509_certificate(root.certificate)
    path = (anchor, *chain.intermediates, chain.leaf)
    for index, (issuer, issued) in enumerate(pairwise(path)):
        _check_issued(issued, issuer, index)
    for index, certificate in enumerate(path):
        _check_window(certificate, index, now)
    try:
        verified = _policy(anchor, now).build_client_verifier().verify(chain.leaf, list(chain.intermediates))
    except Exception as error:  # its own VerificationError, and what its parsers raise
        raise _untrusted(f"the chain is not valid: {str(error)[:200]}") from error
    if tuple(reversed(verified.chain)) != path:
        raise _untrusted("the chain is valid in another order than that of the bundle")
    return f"{len(path)} certificates, all valid until {min(item.not_valid_after_utc for item in path).isoformat()}"


def _check_issued(issued: x509.Certificate, issuer: x509.Certificate, index: int) -> None:
    try:
        issued.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise _untrusted(
            f"certificate {index + 1} behind the root was not issued by the one before it in the bundle"
        ) from error


def _check_window(certificate: x509.Certificate, index: int, now: datetime) -> None:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= now <= last:
        which = "the root" if index == 0 else f"certificate {index} behind the root"
        raise AttestationError(
            Code.EXPIRED_CHAIN,
            f"{which} is valid from {first.isoformat()} to {last.isoformat()}, which {now.isoformat()} is not in",
        )


def _must(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _ca_constraints(_policy: Policy, _certificate: x509.Certificate, value: x509.BasicConstraints) -> None:
    _must(value.ca, "an issuer is no authority")


def _ca_usage(_policy: Policy, _certificate: x509.Certificate, value: x509.KeyUsage) -> None:
    _must(value.key_cert_sign, "an issuer may not sign certificates")


def _leaf_constraints(_policy: Policy, _certificate: x509.Certificate, value: x509.BasicConstraints) -> None:
    _must(not value.ca, "the leaf is an authority")


def _leaf_usage(_policy: Policy, _certificate: x509.Certificate, value: x509.KeyUsage) -> None:
    _must(value.digital_signature, "the leaf may not sign documents")


_CA_POLICY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.CRITICAL, _ca_constraints)
    .require_present(x509.KeyUsage, Criticality.CRITICAL, _ca_usage)
)
_LEAF_POLICY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _leaf_constraints)
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _leaf_usage)
)


def _policy(anchor: x509.Certificate, now: datetime) -> PolicyBuilder:
    return (
        PolicyBuilder()
        .store(Store([anchor]))
        .time(now)
        .max_chain_depth(_MAX_INTERMEDIATES)
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
    )
