"""How reports are signed, by encoder."""

from __future__ import annotations

import hashlib

import pytest
from coincurve import PublicKey
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_consensus.header import report_context, report_header
from innkeeper_consensus.signing import SIGNERS, keccak256
from innkeeper_sdk.capability import RequestMetadata

SECRET = b"\x01" * 32
ADDRESS = "1a642f0e3c3af545e7acbd38b07251b3990914f1"

# The reference's vector for encoder evm.
METADATA = RequestMetadata(
    workflow_id="11" * 32,
    workflow_owner="22" * 20,
    workflow_execution_id="4a5f3722853fe70fe0531e671569213ce0fc8b5b7f1e5e6b7d6bfc8ca199be03",
    workflow_name=hashlib.sha256(b"my-workflow").hexdigest()[:10].encode().hex(),
    reference_id="0",
)
RAW_REPORT = report_header(METADATA, 1767225900) + bytes.fromhex("dead")
CONTEXT = report_context(bytes(range(32)), 1)
DIGEST = "f1eb41995a6b42d415674b03e2628a27a350306b1c4c1f1d243f8a7679186625"
SIGNATURE = (
    "310dc44fd0d0cf148832fbc87f626c3079ae827222d9e33325383e61752a0519"
    "542a9b7ea70437b755404849e6a5f9afd3e8f6a7732aec4479fc0502cc4cd87b01"
)


def recovered_address(signature: bytes, digest: bytes) -> str:
    public = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    return keccak256(public.format(compressed=False)[1:])[12:].hex()


def verify_ed25519(public: bytes, digest: bytes, signature: bytes) -> None:
    eddsa.new(eddsa.import_public_key(public), "rfc8032").verify(digest, signature)


def test_keccak_is_that_of_ethereum() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_an_evm_signature_is_byte_for_byte_the_references() -> None:
    signer = SIGNERS["evm"](SECRET)
    assert keccak256(keccak256(RAW_REPORT) + CONTEXT).hex() == DIGEST
    assert signer.sign(RAW_REPORT, CONTEXT).hex() == SIGNATURE
    assert signer.public.hex() == ADDRESS


@given(raw_report=st.binary(max_size=600), context=st.binary(min_size=96, max_size=96))
def test_the_signer_of_an_evm_report_can_be_recovered(raw_report: bytes, context: bytes) -> None:
    signature = SIGNERS["evm"](SECRET).sign(raw_report, context)
    assert (len(signature), signature[64] in (0, 1)) == (65, True)
    assert recovered_address(signature, keccak256(keccak256(raw_report) + context)) == ADDRESS


@pytest.mark.parametrize("length", [0, 111, 255, 256, 300])
def test_a_solana_signature_is_over_the_length_byte_the_report_and_the_context(length: int) -> None:
    raw_report = bytes(length)
    signature = SIGNERS["solana"](SECRET).sign(raw_report, CONTEXT)
    digest = hashlib.sha256(bytes([length & 0xFF]) + raw_report + CONTEXT).digest()
    assert recovered_address(signature, digest) == ADDRESS


@pytest.mark.parametrize(
    ("encoder", "digest"),
    [
        ("aptos", hashlib.blake2b(CONTEXT + RAW_REPORT, digest_size=32).digest()),
        ("stellar", bytes.fromhex(DIGEST)),
    ],
)
def test_an_ed25519_signature_has_its_public_key_in_front(encoder: str, digest: bytes) -> None:
    signer = SIGNERS[encoder](SECRET)
    signature = signer.sign(RAW_REPORT, CONTEXT)
    assert signature[:32] == signer.public
    assert len(signature) == 96
    verify_ed25519(signature[:32], digest, signature[32:])
    with pytest.raises(ValueError, match="not authentic"):
        verify_ed25519(signature[:32], digest[::-1], signature[32:])


def test_an_ed25519_key_is_that_of_rfc_8032() -> None:
    # RFC 8032, section 7.1, test 1.
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert SIGNERS["aptos"](secret).public.hex() == public
    assert ECC.construct(curve="Ed25519", seed=secret).public_key().export_key(format="raw").hex() == public


@pytest.mark.parametrize("encoder", sorted(SIGNERS))
def test_no_secret_is_in_a_repr(encoder: str) -> None:
    secret = bytes(range(1, 33))
    text = repr(SIGNERS[encoder](secret))
    assert secret.hex() not in text
    assert str(int.from_bytes(secret, "big")) not in text


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_a_scalar_outside_the_curve_is_no_key(secret: bytes) -> None:
    with pytest.raises(ValueError, match=r"scalar|key"):
        SIGNERS["evm"](secret)
