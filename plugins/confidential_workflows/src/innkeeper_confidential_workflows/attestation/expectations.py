"""What a verifier expects a document to say.

Rules of this module:

1. A reference value has all of PCR0, PCR1 and PCR2, 48 bytes each and none zero, or it does not load: a set of zeros
   would accept debug enclaves, and a set without a PCR any value of it.
2. A PCR that is expected must be there *and* equal. Absent is never equal to absent.
3. Everything is compared in constant time, and all reference values are compared, whichever fits.
4. ``None`` means that something is not judged. No expectation turns off what is judged of every document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from hmac import compare_digest
from types import MappingProxyType
from typing import Final

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from innkeeper_confidential_workflows.attestation.document import MAX_PCRS, PCR_LENGTHS

__all__ = [
    "CHALLENGE_SKEW",
    "CODE_PCRS",
    "PCR_LENGTH",
    "WINDOW",
    "Expectations",
    "KeyKind",
    "Measurement",
    "is_zero",
]

# How far a document's time may lie from now, both ways; the reference's verifier has the same.
WINDOW: Final = timedelta(minutes=5)
# How far an enclave's clock may be behind that of whoever issued the challenge: as long as a challenge lives.
CHALLENGE_SKEW: Final = timedelta(seconds=60)
# Image, kernel with boot file system, application: together the code that runs.
CODE_PCRS: Final = (0, 1, 2)
PCR_LENGTH: Final = 48  # bytes, SHA-384


def is_zero(value: bytes) -> bool:
    """Say whether a PCR was never measured into: a debug enclave's."""
    return not any(value)


def _frozen_pcrs(pcrs: Mapping[int, bytes]) -> Mapping[int, bytes]:
    for index, value in pcrs.items():
        if type(index) is not int or type(value) is not bytes:
            raise ValueError("PCRs are numbers with bytes")
    return MappingProxyType(dict(sorted(pcrs.items())))


def _equal(expected: Mapping[int, bytes], found: Mapping[int, bytes]) -> bool:
    # No short cut: how long it takes does not depend on which byte of which PCR differs.
    results = [compare_digest(value, found.get(index, b"")) for index, value in expected.items()]
    return all(results)


@frozen
class Measurement:
    """One reference value: the PCRs of one release.

    Args:
        pcrs: Index to value, 48 bytes each; PCR0, PCR1 and PCR2 at least, which are not zero.

    Raises:
        ValueError: It is no such set.
    """

    pcrs: Mapping[int, bytes] = field(converter=_frozen_pcrs)

    def __attrs_post_init__(self) -> None:
        """Check what a reference value must have."""
        for index, value in self.pcrs.items():
            if not 0 <= index < MAX_PCRS:
                raise ValueError(f"a reference value has a PCR{index}; there are 0 to {MAX_PCRS - 1}")
            if len(value) != PCR_LENGTH:
                raise ValueError(f"PCR{index} of a reference value has {len(value)} bytes, not {PCR_LENGTH}")
        for index in CODE_PCRS:
            if index not in self.pcrs:
                raise ValueError(f"a reference value has no PCR{index}")
            if is_zero(self.pcrs[index]):
                raise ValueError(f"PCR{index} of a reference value is zero, as only that of a debug enclave is")

    def matches(self, found: Mapping[int, bytes]) -> bool:
        """Say whether a document has every PCR of this value, and each is equal."""
        return _equal(self.pcrs, found)


class KeyKind(Enum):
    """What the public key in a document must be."""

    X25519 = "X25519"

    def accepts(self, spki: bytes) -> bool:
        """Say whether bytes are a key of this kind in the one encoding that it has, SubjectPublicKeyInfo in DER."""
        try:
            key = load_der_public_key(spki)
        except Exception:  # noqa: BLE001 - whatever the parser raises for hostile bytes: it is no such key
            return False
        return (
            isinstance(key, X25519PublicKey)
            and key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki
        )


def _measurements(value: Sequence[Measurement] | None) -> tuple[Measurement, ...] | None:
    return None if value is None else tuple(value)


def _pcrs(value: Mapping[int, bytes] | None) -> Mapping[int, bytes]:
    return _frozen_pcrs(value or {})


def _aware(_instance: object, _attribute: object, value: datetime | None) -> None:
    if value is not None and value.tzinfo is None:
        raise ValueError("not_before has no time zone")


@frozen
class Expectations:
    """What one document must say beside being genuine.

    Args:
        measurements: Reference values, one of which it must match; an empty sequence matches nothing.
        pcrs: Single PCRs, each of which it must have with that value.
        nonce: The nonce of the challenge.
        user_data: What the document is to bind.
        not_before: When the challenge was issued.
        public_key: The kind of key that it must carry.

    Raises:
        ValueError: An expected PCR can be in no document, or ``not_before`` has no time zone.
    """

    measurements: tuple[Measurement, ...] | None = field(default=None, converter=_measurements)
    pcrs: Mapping[int, bytes] = field(default=None, converter=_pcrs)
    nonce: bytes | None = None
    user_data: bytes | None = None
    not_before: datetime | None = field(default=None, validator=_aware)
    public_key: KeyKind | None = None

    @pcrs.validator
    def _check_pcrs(self, _attribute: object, value: Mapping[int, bytes]) -> None:
        for index, pcr in value.items():
            if not 0 <= index < MAX_PCRS or len(pcr) not in PCR_LENGTHS:
                raise ValueError(f"no document has a PCR{index} of {len(pcr)} bytes")

    @property
    def judges_measurements(self) -> bool:
        """Whether more is asked of the PCRs than that there is code behind them."""
        return self.measurements is not None or bool(self.pcrs)

    def accepts_pcrs(self, found: Mapping[int, bytes]) -> bool:
        """Say whether a document's PCRs are what is expected."""
        single = _equal(self.pcrs, found)
        if self.measurements is None:
            return single
        known = [measurement.matches(found) for measurement in self.measurements]
        return single and any(known)
