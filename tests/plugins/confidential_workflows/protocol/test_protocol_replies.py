"""Replies: signed by the host, for one method and one request."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.enclave.frames import Answer
from innkeeper_confidential_workflows.enclave.frames import encode as frame
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import SignedReply
from innkeeper_confidential_workflows.protocol import (
    MAX_ANSWER_BYTES,
    REPLY_PREFIX,
    Reply,
    cbor,
    check_reply,
    domain_hash,
    request_digest,
    sign_reply,
)
from innkeeper_confidential_workflows.protocol.signatures import sign
from innkeeper_sdk.signing import peer_id_payload
from tests.plugins.confidential_workflows.protocol.protocol_world import World, new_world

WORLD = new_world()
REQUEST = b"the request as it was sent"
CANARY = b"canary-71c2"


def reply(**changes: Any) -> Reply:
    content: dict[str, Any] = {"method": "Clock", "request_sha256": request_digest(REQUEST), "answer": CANARY}
    return Reply(**{**content, **changes})


def answered(world: World, data: bytes, signature: bytes, **changes: Any) -> bytes:
    content: dict[str, Any] = {"host_key": world.config.host_key, "method": "Clock", "request": REQUEST}
    return check_reply(data, signature, **{**content, **changes})


def refused(world: World, data: bytes, signature: bytes, **changes: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        answered(world, data, signature, **changes)
    assert CANARY.decode() not in f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"
    return caught.value.code


def signed(world: World, data: bytes) -> bytes:
    return world.host_sign(REPLY_PREFIX, domain_hash(REPLY_PREFIX, data))


@pytest.mark.parametrize("answer", [b"", CANARY])
def test_the_hosts_reply_gives_its_answer(world: World, answer: bytes) -> None:
    assert answered(world, *sign_reply(reply(answer=answer), world.host_sign)) == answer


def test_the_signature_is_over_the_tagged_hash(world: World) -> None:
    data, signature = sign_reply(reply(), world.host_sign)
    message = peer_id_payload("cw-reply/1", domain_hash("cw-reply/1", data))
    world.host.public_key().verify(signature, message)


def test_another_signer_is_refused(world: World) -> None:
    data = reply().encode()
    message = domain_hash(REPLY_PREFIX, data)
    for key in (Ed25519PrivateKey.generate(), world.vault):
        assert refused(world, data, sign(key, REPLY_PREFIX, message)) is Code.BAD_SIGNATURE


@pytest.mark.parametrize("prefix", ["cw-grant/1", "cw-release/1", "cw-reply/2"])
def test_a_signature_under_another_prefix_is_refused(world: World, prefix: str) -> None:
    data = reply().encode()
    assert refused(world, data, world.host_sign(prefix, domain_hash(REPLY_PREFIX, data))) is Code.BAD_SIGNATURE
    assert refused(world, data, world.host_sign(REPLY_PREFIX, domain_hash(prefix, data))) is Code.BAD_SIGNATURE


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_no_signature_is_refused(world: World, signature: bytes) -> None:
    assert refused(world, reply().encode(), signature) is Code.BAD_SIGNATURE


def test_a_bare_signature_is_refused(world: World) -> None:
    data = reply().encode()
    assert refused(world, data, world.host.sign(data)) is Code.BAD_SIGNATURE


@given(st.data())
def test_a_changed_byte_is_refused(data: st.DataObject) -> None:
    body, signature = sign_reply(reply(), WORLD.host_sign)
    changed = bytearray(body + signature)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    assert refused(WORLD, bytes(changed[: len(body)]), bytes(changed[len(body) :])) is Code.BAD_SIGNATURE


def test_the_answer_to_another_request_is_refused(world: World) -> None:
    data, signature = sign_reply(reply(), world.host_sign)
    assert refused(world, data, signature, request=REQUEST + b"\x00") is Code.BAD_SIGNATURE


def test_the_answer_of_another_method_is_refused(world: World) -> None:
    data, signature = sign_reply(reply(), world.host_sign)
    assert refused(world, data, signature, method="CapabilityExecute") is Code.BAD_SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"more": 1},
        {"method": ""},
        {"method": "m" * 65},
        {"method": b"Clock"},
        {"request_sha256": bytes(31)},
        {"request_sha256": "x"},
        {"answer": None},
        {"answer": "text"},
    ],
    ids=str,
)
def test_a_reply_that_is_signed_and_none_is_malformed(world: World, change: dict[str, Any]) -> None:
    value = cbor.decode(reply().encode(), limit=1000, what="it")
    assert isinstance(value, dict)
    data = cbor2.dumps({**value, **change}, canonical=True)
    assert refused(world, data, signed(world, data)) is Code.MALFORMED


def test_a_reply_without_a_field_or_in_another_form_is_malformed(world: World) -> None:
    value = cbor.decode(reply().encode(), limit=1000, what="it")
    assert isinstance(value, dict)
    whole = reply().encode()
    forms = [cbor.encode({name: value[name] for name in value if name != gone}) for gone in value]
    for data in (*forms, whole + b"\x00", cbor2.dumps(dict(reversed(value.items()))), b"", cbor.encode([1])):
        assert refused(world, data, signed(world, data)) is Code.MALFORMED


def test_the_largest_reply_fits_into_a_frame_and_a_larger_one_is_not_even_read(world: World) -> None:
    data, signature = sign_reply(reply(method="m" * 64, answer=bytes(MAX_ANSWER_BYTES)), world.host_sign)
    assert len(answered(world, data, signature, method="m" * 64)) == MAX_ANSWER_BYTES
    frame(Answer(id=2**63 - 1, payload=SignedReply(body=data, signature=signature).SerializeToString()))
    with pytest.raises(AttestationError) as caught:
        reply(answer=bytes(MAX_ANSWER_BYTES + 1))
    assert caught.value.code is Code.TOO_LARGE
    assert refused(world, bytes(MAX_ANSWER_BYTES + 1025), b"") is Code.TOO_LARGE


def test_no_repr_shows_an_answer() -> None:
    assert "canary" not in repr(reply())
