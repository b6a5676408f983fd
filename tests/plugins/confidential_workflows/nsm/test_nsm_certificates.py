"""The simulated chain has the shape of AWS's, and says what it is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from innkeeper_confidential_workflows.nsm.certificates import MARKER_OID, MARKER_TEXT

VECTORS = Path(__file__).parent.parent / "attestation" / "vectors"
LEVELS = ("root", "region", "zone", "instance", "leaf")


def chain(document: bytes) -> list[x509.Certificate]:
    payload = cbor2.loads(cbor2.loads(document)[2])
    return [x509.load_der_x509_certificate(der) for der in [*payload["cabundle"], payload["certificate"]]]


def shape(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what a verifier looks at."""
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    key = certificate.public_key()
    return {
        "extensions": {
            extension.oid.dotted_string: extension.critical
            for extension in certificate.extensions
            if extension.oid != MARKER_OID
        },
        "usage": (usage.value, usage.critical),
        "constraints": (constraints.value, constraints.critical),
        "algorithm": certificate.signature_algorithm_oid.dotted_string,
        "curve": key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else None,
    }


@pytest.mark.parametrize("index", range(5), ids=LEVELS)
def test_each_certificate_has_the_extensions_of_the_real_one(bench: Any, index: int) -> None:
    real = chain((VECTORS / "nitro-prod-2022-10-13.cose").read_bytes())
    simulated = chain(bench.client.attest())

    assert shape(simulated[index]) == shape(real[index])


@pytest.mark.parametrize("index", range(5), ids=LEVELS)
def test_each_certificate_lives_as_long_as_the_real_one(bench: Any, index: int) -> None:
    def lifetime(certificate: x509.Certificate) -> timedelta:
        return certificate.not_valid_after_utc - certificate.not_valid_before_utc

    real = chain((VECTORS / "nitro-prod-2022-10-13.cose").read_bytes())
    simulated = chain(bench.client.attest())

    # Those of zones vary by a few hours.
    assert abs(lifetime(simulated[index]) - lifetime(real[index])) <= timedelta(hours=4)


def test_the_leaf_lives_three_hours_and_three_seconds(bench: Any) -> None:
    leaf = chain(bench.client.attest())[-1]

    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=3, seconds=3)


def test_certificates_fit_into_a_document(bench: Any) -> None:
    payload = cbor2.loads(cbor2.loads(bench.client.attest())[2])

    assert max(map(len, [*payload["cabundle"], payload["certificate"]])) <= 1024


def test_the_root_is_marked_in_a_way_that_verifiers_may_skip(bench: Any) -> None:
    (marker,) = (item for item in chain(bench.client.attest())[0].extensions if item.oid == MARKER_OID)

    assert not marker.critical
    assert MARKER_TEXT in marker.value.public_bytes()
    assert MARKER_TEXT == b"INSECURE SIMULATION - NO TEE"


def test_no_two_chains_share_a_key_or_a_number(bench: Any) -> None:
    first = chain(bench.client.attest())[1:]
    bench.clock.advance(timedelta(hours=4))
    second = chain(bench.client.attest())[1:]

    assert not {item.serial_number for item in first} & {item.serial_number for item in second}
    numbers = [item.public_key().public_numbers() for item in (*first, *second)]  # type: ignore[union-attr]  # all on P-384
    assert len(set(numbers)) == 8
