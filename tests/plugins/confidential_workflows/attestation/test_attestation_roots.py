"""Roots: the real one is a constant, all others are simulations, and production has none of those."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from innkeeper_confidential_workflows.attestation import (
    AWS_ROOT_G1,
    AttestationError,
    Root,
    Tee,
    is_simulation,
    load_roots,
    trusted_roots,
)


def pem(certificate: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)


def test_a_root_is_taken_as_pem_and_as_der(forge: Any) -> None:
    der = forge.pki.der[0]

    assert Root(der, "sim") == Root(pem(der), "sim") == Root(pem(der).decode(), Tee.SIM)
    assert Root(der, "sim").certificate == der


def test_no_other_root_stands_for_hardware(forge: Any) -> None:
    with pytest.raises(ValueError, match="none of the kind nitro"):
        Root(forge.pki.der[0], "nitro")


def test_the_root_of_aws_stands_for_no_simulation() -> None:
    with pytest.raises(ValueError, match="none of the kind sim"):
        Root(AWS_ROOT_G1.certificate, "sim")


@pytest.mark.parametrize("certificate", [b"", b"noise", b"-----BEGIN CERTIFICATE-----\nnoise", "text"], ids=str)
def test_what_is_no_certificate_is_no_root(certificate: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Root(certificate, "sim")


def test_a_certificate_of_a_version_that_there_is_not_is_no_root(forge: Any) -> None:
    # The version is the first thing in a certificate: [0] INTEGER 2, which is version 3.
    der = forge.pki.der[0].replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020107"), 1)

    with pytest.raises(ValueError, match="no certificate that can be read"):
        Root(der, "sim")
    body = base64.encodebytes(der).decode()
    with pytest.raises(ValueError, match="cannot be read"):
        load_roots(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n".encode())
    assert forge.verdict(forge.document(certificate=der)) == ("malformed", "certificates")


def test_there_are_two_kinds(forge: Any) -> None:
    with pytest.raises(ValueError, match="sgx"):
        Root(forge.pki.der[0], "sgx")


def test_a_file_of_roots_gives_each_the_kind_that_it_is(forge: Any) -> None:
    roots = load_roots(pem(forge.pki.der[0]) + pem(AWS_ROOT_G1.certificate))

    assert [root.tee for root in roots] == [Tee.SIM, Tee.NITRO]


@pytest.mark.parametrize("data", [b"", b"noise", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_root_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        load_roots(data)


def test_production_trusts_the_constant_alone(forge: Any) -> None:
    assert trusted_roots("production") == (AWS_ROOT_G1,)
    with pytest.raises(AttestationError) as refused:
        trusted_roots("production", [forge.pki.root])
    assert refused.value.code == "insecure_backend"


def test_development_may_trust_a_simulation_too(forge: Any) -> None:
    assert trusted_roots("development", [forge.pki.root]) == (AWS_ROOT_G1, forge.pki.root)
    assert trusted_roots("development") == (AWS_ROOT_G1,)


@pytest.mark.parametrize("environment", ["", "Production", "dev", "test", "DEVELOPMENT"])
def test_an_environment_that_there_is_not_trusts_nothing(environment: str) -> None:
    with pytest.raises(AttestationError) as refused:
        trusted_roots(environment)

    assert refused.value.code == "insecure_backend"


def test_only_a_certificate_that_says_so_is_a_simulation(forge: Any) -> None:
    assert not is_simulation(AWS_ROOT_G1.certificate)
    assert not is_simulation(forge.pki.der[0])
    with pytest.raises(AttestationError) as refused:
        is_simulation(b"noise")
    assert refused.value.code == "malformed"
