"""Grants: only the host's, only while they last, only for whom they are."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from attrs import fields
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.protocol import (
    GRANT_PREFIX,
    Grant,
    Refusal,
    SecretName,
    cbor,
    check_grant,
    request_digest,
    sign_grant,
    verify_grant,
)
from innkeeper_confidential_workflows.protocol.signatures import sign
from innkeeper_sdk.signing import peer_id_payload
from tests.plugins.confidential_workflows.protocol.protocol_world import World, new_world, secrets_body

WORLD = new_world()


def refused(world: World, data: bytes, signature: bytes, **changes: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        verify_grant(data, signature, changes.get("host_key", world.config.host_key), now=world.clock.now)
    return caught.value.code


def test_a_grant_of_the_host_is_good_until_it_runs_out(world: World) -> None:
    grant = world.grant()
    data, signature = sign_grant(grant, world.host_sign)
    assert verify_grant(data, signature, world.config.host_key, now=world.clock.now) == grant
    check_grant(grant, secrets_body())
    world.clock.forward(59.999)
    verify_grant(data, signature, world.config.host_key, now=world.clock.now)
    world.clock.forward(0.001)
    assert refused(world, data, signature) is Code.NOT_AUTHORIZED


def test_the_signature_is_over_the_payload_of_libocr(world: World) -> None:
    data, signature = sign_grant(world.grant(), world.host_sign)
    world.host.public_key().verify(signature, peer_id_payload("cw-grant/1", data))


def test_another_signer_is_refused(world: World) -> None:
    data = world.grant().encode()
    signature = sign(Ed25519PrivateKey.generate(), GRANT_PREFIX, data)
    assert refused(world, data, signature) is Code.NOT_AUTHORIZED


@pytest.mark.parametrize("prefix", ["cw-release/1", "cw-grant/2", "CONFIDENTIAL_COMPUTE_PAYLOAD_"])
def test_a_signature_under_another_prefix_is_refused(world: World, prefix: str) -> None:
    data = world.grant().encode()
    assert refused(world, data, world.host_sign(prefix, data)) is Code.NOT_AUTHORIZED


def test_a_bare_signature_is_refused(world: World) -> None:
    data = world.grant().encode()
    assert refused(world, data, world.host.sign(data)) is Code.NOT_AUTHORIZED


@pytest.mark.parametrize("signature", [b"", b"\x00" * 64, b"\x00" * 63])
def test_no_signature_is_refused(world: World, signature: bytes) -> None:
    assert refused(world, world.grant().encode(), signature) is Code.NOT_AUTHORIZED


@pytest.mark.parametrize("key", [b"", b"\x00" * 31, b"\xff" * 32])
def test_a_host_key_that_is_none_has_granted_nothing(world: World, key: bytes) -> None:
    data, signature = sign_grant(world.grant(), world.host_sign)
    assert refused(world, data, signature, host_key=key) is Code.NOT_AUTHORIZED


@given(st.data())
def test_a_changed_byte_is_refused(data: st.DataObject) -> None:
    world = WORLD
    grant, signature = sign_grant(world.grant(), world.host_sign)
    changed = bytearray(grant + signature)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    got = refused(world, bytes(changed[: len(grant)]), bytes(changed[len(grant) :]))
    assert got is Code.NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("owner", "1f" * 20),
        ("workflow_id", "a2" * 32),
        ("execution_id", "e2" * 32),
        ("binary_sha256", b"\xb2" * 32),
        ("request_sha256", b"\xb3" * 32),
    ],
)
def test_it_is_for_one_owner_workflow_execution_binary_and_request(world: World, name: str, value: Any) -> None:
    with pytest.raises(AttestationError, match=f"another {name}") as caught:
        check_grant(world.grant(**{name: value}), secrets_body())
    assert caught.value.code is Code.NOT_AUTHORIZED


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"more": 1},
        {"attempt": 0},
        {"attempt": True},
        {"expires_ms": -1},
        {"expires_ms": "1"},
        {"execution_id": ""},
        {"owner": "0F" * 20},
        {"request_sha256": b"\xb3" * 31},
        {"refused": None},
        {"refused": {}},
        {"refused": "no"},
        {"refused": [0]},
        {"refused": [[0]]},
        {"refused": [[0, "no", 1]]},
        {"refused": [["0", "no"]]},
        {"refused": [["no", 0]]},
        {"refused": [[-1, "no"]]},
        {"refused": [[100, "no"]]},
        {"refused": [[2**63, "no"]]},
        {"refused": [[False, "no"]]},
        {"refused": [[0, ""]]},
        {"refused": [[0, b"no"]]},
        {"refused": [[0, "n" * 513]]},
        {"refused": [[1, "no"], [0, "no"]]},
        {"refused": [[0, "no"], [0, "no"]]},
        {"refused": [[0, "no"], [0, "never"]]},
    ],
    ids=str,
)
def test_a_grant_that_is_signed_and_no_grant_is_malformed(world: World, change: dict[str, Any]) -> None:
    value = cbor.decode(world.grant().encode(), limit=1000, what="it")
    assert isinstance(value, dict)
    data = cbor2.dumps({**value, **change}, canonical=True)
    assert refused(world, data, world.host_sign(GRANT_PREFIX, data)) is Code.MALFORMED


def test_a_grant_without_a_field_is_malformed(world: World) -> None:
    for name in ("v", *(one.name for one in fields(Grant))):
        value = cbor.decode(world.grant().encode(), limit=1000, what="it")
        assert isinstance(value, dict)
        del value[name]
        data = cbor.encode(value)
        assert refused(world, data, world.host_sign(GRANT_PREFIX, data)) is Code.MALFORMED


def test_a_grant_may_refuse_all_that_can_be_asked_for_with_the_longest_texts(world: World) -> None:
    body = secrets_body(secrets=tuple(SecretName("main", f"K{place}") for place in range(100)))
    longest = "\U0010ffff" * 512  # four bytes a character
    grant = world.grant(
        attempt=2**63 - 1,
        expires_ms=2**63 - 1,
        request_sha256=request_digest(body.encode()),
        refused=[(place, longest) for place in range(100)],
    )
    data, signature = sign_grant(grant, world.host_sign)
    assert verify_grant(data, signature, world.config.host_key, now=world.clock.now) == grant
    check_grant(grant, body)


def test_a_larger_grant_is_refused_before_its_signature_is_looked_at(world: World) -> None:
    data = b"\x00" * 210_000
    assert refused(world, data, world.host_sign(GRANT_PREFIX, data)) is Code.TOO_LARGE


def test_a_refused_place_must_be_one_of_the_request(world: World) -> None:
    body = secrets_body()
    check_grant(world.grant(refused=[(0, "no"), (1, "no")]), body)
    with pytest.raises(AttestationError, match="not asked for") as caught:
        check_grant(world.grant(refused=[(0, "no"), (2, "no")]), body)
    assert caught.value.code is Code.NOT_AUTHORIZED


def test_what_is_encoded_comes_back(world: World) -> None:
    assert Grant.decode(world.grant(attempt=7).encode()) == world.grant(attempt=7)
    refusing = world.grant(refused=[Refusal(0, 'secret "K" denied'), Refusal(99, "x" * 512)])
    decoded = Grant.decode(refusing.encode())
    assert decoded == refusing
    assert decoded.refused == (Refusal(0, 'secret "K" denied'), Refusal(99, "x" * 512))


@given(st.dictionaries(st.integers(0, 99), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512)))
def test_refusals_come_back_whatever_their_texts_are(texts: dict[int, str]) -> None:
    grant = WORLD.grant(refused=sorted(texts.items()))
    assert dict(Grant.decode(grant.encode()).refused) == texts
