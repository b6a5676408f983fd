"""The authority of simulated documents: a root that stays, and a chain below it that is renewed.

Rules of this module:

1. The root's key is made once and kept in ``authority.pem``, together with its certificate, 0600 from the first byte.
   Who comes second waits, and takes what the first one made.
2. A file that others may read, or that holds something else, is an error: what it signed is worth nothing then, and a
   new root in its place would hide that.
3. The certificate alone is in ``root.pem``, for ``innkeeper attestation verify --root``; it is written at each start,
   since nothing depends on what stands there.
4. Keys below the root are never stored. The chain is renewed well before its leaf runs out, so that no document is
   signed that its readers could not verify for as long as it is fresh.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from innkeeper_confidential_workflows.attestation.roots import SIMULATION_ORGANISATION, Root, Tee
from innkeeper_confidential_workflows.nsm.certificates import IssuedChain, issue_chain, issue_root
from innkeeper_sdk.errors import HostError, ProviderError, VerificationError
from innkeeper_sdk.private_files import locked, private_directory, read_private, replace

__all__ = ["AUTHORITY_FILE", "ROOT_FILE", "Authority", "AuthorityError", "Clock", "utc_now"]

AUTHORITY_FILE: Final = "authority.pem"
ROOT_FILE: Final = "root.pem"

# A document is fresh for five minutes, and clocks may differ by as much.
_RENEWED_BEFORE: Final = timedelta(minutes=10)

_PROVIDER: Final = "confidential-workflows"

# Of ``authority.pem``, in bytes: several times of what is written.
_LONGEST: Final = 16 * 1024

Clock = Callable[[], datetime]


class AuthorityError(ProviderError):
    """Raised when the root of the simulated enclaves cannot be made, or cannot be used."""

    code = "confidential-simulation"


def utc_now() -> datetime:
    """Return the time of the machine."""
    return datetime.now(UTC)


class Authority:
    """Issues the certificates of simulated documents.

    Args:
        certificate: The root's.
        key: The root's.
        clock: Returns the time, with a time zone.
        region: The part of the certificates' names that stands for AWS's region.
    """

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        *,
        clock: Clock = utc_now,
        region: str = "local",
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._region = region
        self._chain: IssuedChain | None = None
        self._lock = Lock()

    @classmethod
    def create(cls, *, clock: Clock = utc_now, region: str = "local") -> Self:
        """Return a new authority, which is stored nowhere."""
        key = ec.generate_private_key(ec.SECP384R1())
        return cls(issue_root(key, clock()), key, clock=clock, region=region)

    @classmethod
    def load_or_create(cls, directory: Path, *, clock: Clock = utc_now, region: str = "local") -> Self:
        """Return the authority that a directory holds, which is made if it holds none.

        Args:
            directory: A private directory; it is made if it is missing.
            clock: Returns the time, with a time zone.
            region: The part of the certificates' names that stands for AWS's region.

        Raises:
            AuthorityError: The files cannot be written, are not this user's alone, or are not what was written.
        """
        path = directory / AUTHORITY_FILE
        try:
            private_directory(directory, make=True)
            with locked(directory):
                content = read_private(path, limit=_LONGEST)
                if content is None:
                    authority = cls.create(clock=clock, region=region)
                    replace(path, authority._private_pem())
                else:
                    authority = cls._read(content, path, clock, region)
                replace(directory / ROOT_FILE, authority.root_certificate_pem)
        except (VerificationError, HostError) as error:
            raise AuthorityError(
                f"the root of the simulated enclaves cannot be used: {error.message}",
                provider=_PROVIDER,
                path=error.path or str(path),
                expected=error.expected,
                actual=error.actual,
                hint=error.hint,
            ) from error
        return authority

    @classmethod
    def _read(cls, content: bytes, path: Path, clock: Clock, region: str) -> Self:
        try:
            key = load_pem_private_key(content, None)
            certificate = x509.load_pem_x509_certificate(content)
        except Exception as error:  # whatever the parsers raise for what somebody wrote there
            raise _unusable(path, "a key and a certificate", "something else") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
            raise _unusable(path, "a P-384 key", type(key).__name__)
        spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certificate.public_key().public_bytes(*spki) != key.public_key().public_bytes(*spki):
            raise _unusable(path, "a certificate of that key", "one of another key")
        if SIMULATION_ORGANISATION not in certificate.subject.rfc4514_string():
            raise _unusable(path, "a root that says that it is a simulation", certificate.subject.rfc4514_string())
        return cls(certificate, key, clock=clock, region=region)

    @property
    def root_certificate(self) -> bytes:
        """The root, DER."""
        return self._certificate.public_bytes(Encoding.DER)

    @property
    def root_certificate_pem(self) -> bytes:
        """The root, PEM."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def root(self) -> Root:
        """The root, as the verifier takes it."""
        return Root(self.root_certificate, Tee.SIM)

    def chain(self) -> IssuedChain:
        """Return a chain that is valid now and for as long as a document made now is fresh."""
        now = self._clock()
        with self._lock:
            chain = self._chain
            # The clock may have been set back, too.
            if chain is None or not chain.not_before <= now < chain.not_after - _RENEWED_BEFORE:
                chain = issue_chain(self._certificate, self._key, region=self._region, now=now)
                self._chain = chain
            return chain

    def _private_pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + self.root_certificate_pem


def _unusable(path: Path, expected: str, actual: str) -> AuthorityError:
    return AuthorityError(
        "the root of the simulated enclaves cannot be used",
        provider=_PROVIDER,
        path=str(path),
        expected=expected,
        actual=actual,
        hint="remove the file to make a new root; what trusts the old one must then be told",
    )
