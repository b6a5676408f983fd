"""Sealing: to one key, for one context, and nothing of it in sight."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
from typing import Any

import pytest
from attrs import evolve, fields
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.protocol import SealInfo, new_private_key, open_sealed, public_key_of, seal
from innkeeper_confidential_workflows.protocol.sealing import SEAL_OVERHEAD
from tests.plugins.confidential_workflows.protocol.protocol_world import BINARY, EXECUTION, OWNER, WORKFLOW

KEY = new_private_key()
INFO = SealInfo(
    workflow_id=WORKFLOW,
    owner=OWNER,
    execution_id=EXECUTION,
    binary_sha256=BINARY,
    namespace="main",
    key="KEY",
    version=3,
    nonce=b"\x77" * 32,
)
CHANGES: dict[str, Any] = {
    "workflow_id": "a2" * 32,
    "owner": "1f" * 20,
    "execution_id": "e2" * 32,
    "binary_sha256": b"\xb2" * 32,
    "namespace": "mainK",
    "key": "KEYS",
    "version": 4,
    "nonce": b"\x78" * 32,
}


def refused(function: Any, *arguments: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        function(*arguments)
    return caught.value.code


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_and_costs_48_bytes(plaintext: bytes) -> None:
    sealed = seal(public_key_of(KEY), INFO, plaintext)
    assert len(sealed) == len(plaintext) + SEAL_OVERHEAD
    assert open_sealed(KEY, INFO, sealed) == plaintext


@pytest.mark.parametrize("name", [a.name for a in fields(SealInfo)])
def test_it_opens_for_nothing_else(name: str) -> None:
    sealed = seal(public_key_of(KEY), INFO, b"value")
    assert refused(open_sealed, KEY, evolve(INFO, **{name: CHANGES[name]}), sealed) is Code.BAD_SIGNATURE


def test_a_letter_that_moves_from_the_key_to_the_namespace_is_another_context() -> None:
    one = evolve(INFO, namespace="ab", key="c")
    other = evolve(INFO, namespace="a", key="bc")
    assert refused(open_sealed, KEY, other, seal(public_key_of(KEY), one, b"value")) is Code.BAD_SIGNATURE


def test_another_key_does_not_open_it() -> None:
    sealed = seal(public_key_of(KEY), INFO, b"value")
    assert refused(open_sealed, new_private_key(), INFO, sealed) is Code.BAD_SIGNATURE


@given(st.data())
def test_a_changed_byte_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(seal(public_key_of(KEY), INFO, b"value"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    # The highest bit of an X25519 key is no part of it (RFC 7748), but it is part of what HPKE binds.
    assert refused(open_sealed, KEY, INFO, bytes(sealed)) is Code.BAD_SIGNATURE


@given(st.binary(max_size=100))
def test_any_bytes_are_a_typed_refusal(sealed: bytes) -> None:
    assert refused(open_sealed, KEY, INFO, sealed) is Code.BAD_SIGNATURE


def spki(key: Any) -> bytes:
    der: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


@pytest.mark.parametrize(
    "public_key",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(public_key_of(KEY)[:-1], id="too short"),
        pytest.param(public_key_of(KEY) + b"\x00", id="too long"),
        pytest.param(KEY.public_key().public_bytes_raw(), id="the bare key"),
        pytest.param(spki(Ed25519PrivateKey.generate()), id="another kind of 44 bytes"),
        pytest.param(spki(ec.generate_private_key(ec.SECP256R1())), id="a curve of NIST"),
        pytest.param(public_key_of(KEY)[:12] + bytes(32), id="the point zero"),
        pytest.param(public_key_of(KEY)[:12] + b"\x01" + bytes(31), id="a point of low order"),
    ],
)
def test_it_is_sealed_to_good_x25519_keys_only(public_key: bytes) -> None:
    assert refused(seal, public_key, INFO, b"value") is Code.MALFORMED


@pytest.mark.parametrize(
    ("name", "value"),
    [("execution_id", ""), ("namespace", ""), ("version", 0), ("version", True), ("nonce", b""), ("owner", "0x")],
)
def test_a_context_is_whole(name: str, value: Any) -> None:
    with pytest.raises(AttestationError) as caught:
        evolve(INFO, **{name: value})
    assert caught.value.code is Code.MALFORMED


def test_two_forks_of_one_process_make_different_keys() -> None:
    # In a process of its own, which has one thread: the generator has been used before it forks.
    program = """
import os
from innkeeper_confidential_workflows.protocol import new_private_key, public_key_of
keys = {public_key_of(new_private_key())}
for _ in range(4):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, public_key_of(new_private_key()))
        os._exit(0)
    os.wait()
    keys.add(os.read(reader, 44))
keys.add(public_key_of(new_private_key()))
print(len(keys))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "6\n"


def test_no_error_or_repr_shows_what_is_sealed() -> None:
    canary = b"canary-" + os.urandom(8).hex().encode()
    sealed = seal(public_key_of(KEY), INFO, canary)
    assert canary not in sealed
    texts = [repr(INFO)]
    for key, info in ((new_private_key(), INFO), (KEY, evolve(INFO, version=9))):
        with pytest.raises(AttestationError) as caught:
            open_sealed(key, info, sealed)
        texts += [str(caught.value), repr(caught.value), repr(caught.value.__context__)]
    with pytest.raises(AttestationError) as caught:
        seal(b"", INFO, canary)
    texts += [str(caught.value), repr(caught.value)]
    assert canary.decode() not in " ".join(texts)
    assert INFO.nonce.hex() not in " ".join(texts)


def test_it_is_the_suite_of_rfc_9180() -> None:
    # Opened with the steps of base mode, written out from the RFC.
    def extract(salt: bytes, suite: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.new(salt, b"HPKE-v1" + suite + label + ikm, hashlib.sha256).digest()

    def expand(prk: bytes, suite: bytes, label: bytes, info: bytes, length: int) -> bytes:
        text = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
        return hmac.new(prk, text + b"\x01", hashlib.sha256).digest()[:length]

    sealed = seal(public_key_of(KEY), INFO, b"value")
    enc, ciphertext = sealed[:32], sealed[32:]
    kem, hpke = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    shared = KEY.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + KEY.public_key().public_bytes_raw()
    secret = expand(extract(b"", kem, b"eae_prk", shared), kem, b"shared_secret", context, 32)
    schedule = b"\x00" + extract(b"", hpke, b"psk_id_hash", b"") + extract(b"", hpke, b"info_hash", INFO.encode())
    base = extract(secret, hpke, b"secret", b"")
    key, nonce = expand(base, hpke, b"key", schedule, 32), expand(base, hpke, b"base_nonce", schedule, 12)
    assert AESGCM(key).decrypt(nonce, ciphertext, b"") == b"value"
