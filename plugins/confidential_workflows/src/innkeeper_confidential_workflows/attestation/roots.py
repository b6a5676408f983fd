"""The roots that documents are verified against.

Rules of this module:

1. Trust in real hardware is a constant of the code, one certificate per partition of AWS; no setting can replace it.
2. The kind of the enclave comes from the root that verified, never from what a document says: a root that is not one of
   the constants is a simulation, whatever it calls itself.
3. In production there are the constants and nothing else; another root is an error at the start, not a warning.

The certificate is AWS's root G1 of the commercial partition, from https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip.
The digest that is often quoted for it, 8cf60e2b…, is that of the archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code

__all__ = ["AWS_ROOT_G1", "SIMULATION_ORGANISATION", "Root", "Tee", "is_simulation", "load_roots", "trusted_roots"]

# What every certificate of a simulated enclave names as its organisation.
SIMULATION_ORGANISATION: Final = "INSECURE SIMULATION - NO TEE"

_AWS_ROOT_G1_SHA256: Final = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
_AWS_ROOT_G1_PEM: Final = b"""\
-----BEGIN CERTIFICATE-----
MIICETCCAZagAwIBAgIRAPkxdWgbkK/hHUbMtOTn+FYwCgYIKoZIzj0EAwMwSTEL
MAkGA1UEBhMCVVMxDzANBgNVBAoMBkFtYXpvbjEMMAoGA1UECwwDQVdTMRswGQYD
VQQDDBJhd3Mubml0cm8tZW5jbGF2ZXMwHhcNMTkxMDI4MTMyODA1WhcNNDkxMDI4
MTQyODA1WjBJMQswCQYDVQQGEwJVUzEPMA0GA1UECgwGQW1hem9uMQwwCgYDVQQL
DANBV1MxGzAZBgNVBAMMEmF3cy5uaXRyby1lbmNsYXZlczB2MBAGByqGSM49AgEG
BSuBBAAiA2IABPwCVOumCMHzaHDimtqQvkY4MpJzbolL//Zy2YlES1BR5TSksfbb
48C8WBoyt7F2Bw7eEtaaP+ohG2bnUs990d0JX28TcPQXCEPZ3BABIeTPYwEoCWZE
h8l5YoQwTcU/9KNCMEAwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUkCW1DdkF
R+eWw5b6cp3PmanfS5YwDgYDVR0PAQH/BAQDAgGGMAoGCCqGSM49BAMDA2kAMGYC
MQCjfy+Rocm9Xue4YnwWmNJVA44fA0P5W2OpYow9OYCVRaEevL8uO1XYru5xtMPW
rfMCMQCi85sWBbJwKKXdS6BptQFuZbT73o/gBh1qUxl/nNr12UO8Yfwr6wPLb+6N
IwLz3/Y=
-----END CERTIFICATE-----
"""


class Tee(StrEnum):
    """What stands behind a root."""

    NITRO = "nitro"
    SIM = "sim"


def _der(certificate: bytes | str) -> bytes:
    data = certificate.encode() if isinstance(certificate, str) else certificate
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER)
        x509.load_der_x509_certificate(data)
    except Exception as error:  # not only ValueError: a version that there is not has an error of its own
        raise ValueError(f"the root is no certificate that can be read: {error}") from error
    return data


@frozen
class Root:
    """A pinned root.

    Args:
        certificate: DER, or PEM of one certificate; kept as DER.
        tee: What it stands for. It must be what the certificate is: only AWS's own stand for hardware.

    Raises:
        ValueError: The certificate cannot be read, or is not of that kind.
    """

    certificate: bytes = field(converter=_der, repr=False)
    tee: Tee = field(converter=Tee)

    def __attrs_post_init__(self) -> None:
        """Compare kind and certificate."""
        if self.tee is not _kind(self.certificate):
            raise ValueError(f"the root with SHA-256 {self.sha256} is none of the kind {self.tee}")

    @property
    def sha256(self) -> str:
        """The certificate's fingerprint in hexadecimal."""
        return hashlib.sha256(self.certificate).hexdigest()


def _kind(certificate: bytes) -> Tee:
    return Tee.NITRO if hashlib.sha256(certificate).hexdigest() == _AWS_ROOT_G1_SHA256 else Tee.SIM


AWS_ROOT_G1: Final = Root(_AWS_ROOT_G1_PEM, Tee.NITRO)


def load_roots(pem: bytes) -> tuple[Root, ...]:
    """Return the roots of a PEM file, each of the kind that it is.

    Raises:
        ValueError: The file holds no certificate, or one that cannot be read.
    """
    try:
        certificates = [item.public_bytes(Encoding.DER) for item in x509.load_pem_x509_certificates(pem)]
    except Exception as error:  # as above
        raise ValueError("it holds no certificate, or one that cannot be read") from error
    return tuple(Root(certificate, _kind(certificate)) for certificate in certificates)


def trusted_roots(environment: str, simulated: Sequence[Root] = ()) -> tuple[Root, ...]:
    """Return the roots that may release something in an environment.

    Args:
        environment: ``production`` or ``development``.
        simulated: Roots of simulated enclaves to trust as well.

    Raises:
        AttestationError: ``insecure_backend``: there is such a root in production, or the environment is neither.
    """
    if environment == "production" and not simulated:
        return (AWS_ROOT_G1,)
    if environment == "development":
        return (AWS_ROOT_G1, *simulated)
    raise AttestationError(
        Code.INSECURE_BACKEND,
        f"{len(simulated)} roots of simulated enclaves are to be trusted in the environment {environment!r}; "
        "that is for development only",
    )


def is_simulation(certificate: bytes) -> bool:
    """Say whether a certificate, DER, names the organisation that every simulated one names.

    Raises:
        AttestationError: ``malformed``: it cannot be read.
    """
    try:
        names = x509.load_der_x509_certificate(certificate).subject.get_attributes_for_oid(
            x509.NameOID.ORGANIZATION_NAME
        )
    except Exception as error:  # whatever the parser raises for hostile bytes
        raise AttestationError(Code.MALFORMED, "the root is no certificate that can be read") from error
    return [name.value for name in names] == [SIMULATION_ORGANISATION]
