"""Which documents are trusted: by which root, with which measurements.

Rules of this module:

1. In production a document is verified against AWS's root and reference values. Without any, none is trusted.
2. In development the first genuine document of a simulated enclave is trusted, and a warning says so: its root and its
   PCR0 to PCR2 are pinned, in a file of this user's alone. From then on these are trusted, and nothing else.
3. What is pinned is never replaced: a file that is damaged or open to others is an error. Removing it is the operator's
   act.
4. Nothing is pinned before every other check has held, those of the challenge too.
"""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, Self

from attrs import evolve, field, frozen

from innkeeper_confidential_workflows.attestation import (
    AWS_ROOT_G1,
    Attestation,
    Code,
    Expectations,
    Measurement,
    Root,
    Tee,
    is_simulation,
    peek_root,
    verify,
)
from innkeeper_confidential_workflows.attestation.expectations import CODE_PCRS
from innkeeper_confidential_workflows.protocol.errors import refusal
from innkeeper_sdk.errors import VerificationError
from innkeeper_sdk.private_files import locked, private_directory, read_private, replace

__all__ = ["PIN_NAME", "FirstMeasurement", "ReferenceTrust", "Trust", "trust_for"]

# In the provider's own directory.
PIN_NAME: Final = "first-measurement.json"

_MAX_BYTES: Final = 64 * 1024
_STEP: Final = "trust"
_VERSION: Final = 1

Accept = Callable[[Attestation], None]


class Trust(Protocol):
    """What documents are verified against."""

    def verify(self, document: bytes, *, now: datetime, expect: Expectations, accept: Accept) -> Attestation:
        """Return what a document says, if it is trusted.

        Args:
            document: As it was received.
            now: The time, with a time zone.
            expect: What else it must say; its measurements are this trust's own and not the caller's.
            accept: Raises if something that no check of a document knows does not hold.

        Raises:
            AttestationError: It is not trusted, or ``accept`` refused it.
        """


@frozen
class ReferenceTrust:
    """Trust in AWS's root and in reference values.

    Attributes:
        measurements: The reference values; none trusts no document.
    """

    measurements: Sequence[Measurement] = ()

    def verify(self, document: bytes, *, now: datetime, expect: Expectations, accept: Accept) -> Attestation:
        """Return what a document says, if it is trusted; see :class:`Trust`."""
        expect = evolve(expect, measurements=self.measurements)
        attestation = verify(document, now=now, roots=(AWS_ROOT_G1,), expect=expect)
        accept(attestation)
        return attestation


@frozen
class _Pin:
    root: Root
    measurement: Measurement

    def encode(self) -> bytes:
        content = {
            "v": _VERSION,
            "root": b64encode(self.root.certificate).decode(),
            "pcrs": {str(index): value.hex() for index, value in self.measurement.pcrs.items()},
        }
        return json.dumps(content, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the pin of a file; a ValueError if it is none."""
        content = json.loads(data)
        if not isinstance(content, dict) or content.keys() != {"v", "root", "pcrs"} or content["v"] != _VERSION:
            raise ValueError("not a pin")
        pcrs: Mapping[Any, Any] = content["pcrs"]
        if not isinstance(pcrs, dict) or pcrs.keys() != {str(index) for index in CODE_PCRS}:
            raise ValueError("not the PCRs of a pin")
        root = Root(b64decode(content["root"], validate=True), Tee.SIM)
        return cls(root, Measurement({int(index): bytes.fromhex(value) for index, value in pcrs.items()}))


@frozen
class FirstMeasurement:
    """Trust in the first simulated enclave that is seen; for development only.

    Attributes:
        path: Where it is pinned.
        logger: Where the warning goes.
    """

    path: Path
    logger: logging.Logger = field(repr=False)

    def verify(self, document: bytes, *, now: datetime, expect: Expectations, accept: Accept) -> Attestation:
        """Return what a document says, if it is trusted; see :class:`Trust`.

        Raises:
            AttestationError: As :class:`Trust` says: ``untrusted_chain`` for another root than the first,
                ``measurement_unknown`` for another measurement.
            VerificationError: What is pinned is damaged, or open to others.
            HostError: It cannot be read or written.
        """
        private_directory(self.path.parent, make=True)
        pin = self._pinned()
        if pin is not None:
            return _verified(pin, document, now, expect, accept)
        with locked(self.path.parent):
            # Somebody else may have been first.
            pin = self._pinned()
            if pin is not None:
                return _verified(pin, document, now, expect, accept)
            return self._first(document, now, expect, accept)

    def _pinned(self) -> _Pin | None:
        data = read_private(self.path, limit=_MAX_BYTES)
        if data is None:
            return None
        try:
            return _Pin.decode(data)
        except (ValueError, TypeError, Base64Error, RecursionError):
            raise VerificationError(
                "the first measurement is damaged",
                path=str(self.path),
                expected="what was pinned when the first enclave was seen",
                hint="restore the file, or remove it to trust the next simulated enclave that comes",
            ) from None

    def _first(self, document: bytes, now: datetime, expect: Expectations, accept: Accept) -> Attestation:
        certificate = peek_root(document)
        if not is_simulation(certificate):
            raise refusal(
                Code.UNTRUSTED_CHAIN, "the root is none of a simulated enclave, and no other is trusted", step=_STEP
            )
        root = Root(certificate, Tee.SIM)
        attestation = verify(document, now=now, roots=(root,), expect=evolve(expect, measurements=None))
        accept(attestation)
        pin = _Pin(root, _measured(attestation))
        replace(self.path, pin.encode())
        self.logger.warning(
            "development only: trusting the first simulated enclave that was seen, which is no protection against "
            "whoever came first; root %s, PCR0 %s, PCR1 %s, PCR2 %s, pinned in %s",
            root.sha256,
            *(attestation.pcrs[index].hex() for index in CODE_PCRS),
            self.path,
        )
        return attestation


def trust_for(environment: str, directory: Path, logger: logging.Logger) -> Trust:
    """Return what documents are verified against in an environment.

    Args:
        environment: ``production`` or ``development``.
        directory: The provider's own directory.
        logger: Where it says whom it trusts.

    Raises:
        AttestationError: ``insecure_backend``: the environment is neither.
    """
    if environment == "production":
        return ReferenceTrust()
    if environment == "development":
        return FirstMeasurement(directory / PIN_NAME, logger)
    raise refusal(Code.INSECURE_BACKEND, "the environment is neither production nor development", step=_STEP)


def _measured(attestation: Attestation) -> Measurement:
    try:
        return Measurement({index: attestation.pcrs[index] for index in CODE_PCRS})
    except ValueError:
        # A document may have PCRs of another hash, and no reference value may.
        raise refusal(Code.MEASUREMENT_UNKNOWN, "the PCRs are not those of SHA-384", step=_STEP) from None


def _verified(pin: _Pin, document: bytes, now: datetime, expect: Expectations, accept: Accept) -> Attestation:
    expect = evolve(expect, measurements=(pin.measurement,))
    attestation = verify(document, now=now, roots=(pin.root,), expect=expect)
    accept(attestation)
    return attestation
