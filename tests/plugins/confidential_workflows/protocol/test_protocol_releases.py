"""Releases: signed by the vault, for one request, whole and in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cbor2
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.protocol import (
    MAX_SECRET_BYTES,
    MAX_SECRETS,
    OpenedSecret,
    RefusedSecret,
    Release,
    SealedSecret,
    SecretName,
    SecretsBody,
    cbor,
    domain_hash,
    new_private_key,
    open_release,
    public_key_of,
    request_digest,
    seal,
    seal_info,
    sign_release,
    verify_release,
)
from innkeeper_confidential_workflows.protocol.releases import ReleaseItem
from innkeeper_confidential_workflows.protocol.signatures import sign
from innkeeper_sdk.signing import peer_id_payload
from tests.plugins.confidential_workflows.protocol.protocol_world import World, secrets_body

NONCE = b"\x0e" * 32
BODY = secrets_body(secrets=(("main", "A"), ("main", "B"), ("other", "A")))
VALUES = {("main", "A"): "first", ("other", "A"): "zweite ✓"}


def items(world: World, body: SecretsBody = BODY, nonce: bytes = NONCE) -> list[ReleaseItem]:
    found: list[ReleaseItem] = []
    for name in body.secrets:
        value = VALUES.get(tuple(name))
        if value is None:
            found.append(RefusedSecret(namespace=name.namespace, key=name.key, error="not found"))
        else:
            sealed = seal(public_key_of(world.key), seal_info(body, name, 2, nonce), value.encode())
            found.append(SealedSecret(namespace=name.namespace, key=name.key, version=2, sealed=sealed))
    return found


def release(world: World, content: Sequence[ReleaseItem] | None = None, **changes: Any) -> tuple[bytes, bytes]:
    fields: dict[str, Any] = {"request_sha256": request_digest(BODY.encode()), "items": content or items(world)}
    return sign_release(Release(**{**fields, **changes}), world.vault)


def opened(world: World, data: bytes, signature: bytes, **changes: Any) -> tuple[OpenedSecret | RefusedSecret, ...]:
    fields: dict[str, Any] = {
        "vault_key": world.config.vault_key,
        "request": BODY.encode(),
        "nonce": NONCE,
        "private_key": world.key,
    }
    return open_release(data, signature, **{**fields, **changes})


def refused(world: World, data: bytes, signature: bytes, **changes: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        opened(world, data, signature, **changes)
    return caught.value.code


def test_an_execution_gets_what_it_asked_for_in_that_order(world: World) -> None:
    assert opened(world, *release(world)) == (
        OpenedSecret(namespace="main", key="A", value="first"),
        RefusedSecret(namespace="main", key="B", error="not found"),
        OpenedSecret(namespace="other", key="A", value="zweite ✓"),
    )


def test_the_signature_is_over_the_tagged_hash(world: World) -> None:
    data, signature = release(world)
    message = peer_id_payload("cw-release/1", domain_hash("cw-release/1", data))
    world.vault.public_key().verify(signature, message)


def test_another_vault_is_refused(world: World) -> None:
    data, _ = release(world)
    forged = sign(Ed25519PrivateKey.generate(), "cw-release/1", domain_hash("cw-release/1", data))
    assert refused(world, data, forged) is Code.BAD_SIGNATURE
    assert refused(world, data, world.vault.sign(data)) is Code.BAD_SIGNATURE
    assert (
        refused(world, data, sign(world.vault, "cw-grant/1", domain_hash("cw-release/1", data))) is Code.BAD_SIGNATURE
    )
    assert refused(world, data, b"") is Code.BAD_SIGNATURE


def test_a_changed_byte_is_refused(world: World) -> None:
    data, signature = release(world)
    for index in range(0, len(data), 7):
        changed = bytearray(data)
        changed[index] ^= 1
        assert refused(world, bytes(changed), signature) is Code.BAD_SIGNATURE


def test_the_answer_to_another_request_is_refused(world: World) -> None:
    other = evolve(BODY, challenge_id=b"\x02" * 16)
    data, signature = release(world, request_sha256=request_digest(other.encode()))
    assert refused(world, data, signature) is Code.BAD_SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[:-1], id="dropped"),
        pytest.param(lambda content: [*content, content[0]], id="doubled"),
        pytest.param(lambda content: [content[1], content[0], content[2]], id="moved"),
        pytest.param(lambda content: [content[0], content[0], content[2]], id="replaced"),
        pytest.param(
            lambda content: [*content, RefusedSecret(namespace="main", key="C", error="not found")], id="added"
        ),
        pytest.param(lambda content: [evolve(content[0], namespace="x"), *content[1:]], id="renamed"),
    ],
)
def test_a_set_or_order_that_was_not_asked_for_is_refused(world: World, change: Any) -> None:
    assert refused(world, *release(world, change(items(world)))) is Code.BAD_SIGNATURE


def test_a_secret_that_was_sealed_for_another_name_does_not_open(world: World) -> None:
    first, missing, last = items(world)
    assert isinstance(first, SealedSecret)
    assert isinstance(last, SealedSecret)
    swapped = [evolve(first, sealed=last.sealed), missing, evolve(last, sealed=first.sealed)]
    assert refused(world, *release(world, swapped)) is Code.BAD_SIGNATURE


def test_another_version_challenge_key_or_execution_does_not_open(world: World) -> None:
    first, missing, last = items(world)
    assert isinstance(first, SealedSecret)
    assert refused(world, *release(world, [evolve(first, version=1), missing, last])) is Code.BAD_SIGNATURE
    assert refused(world, *release(world), nonce=b"\x0f" * 32) is Code.BAD_SIGNATURE
    assert refused(world, *release(world), private_key=new_private_key()) is Code.BAD_SIGNATURE
    other = evolve(BODY, execution_id="e2" * 32)
    data, signature = release(world, items(world, other))
    assert refused(world, data, signature) is Code.BAD_SIGNATURE


def test_a_secret_that_is_no_text_is_malformed_and_not_shown(world: World) -> None:
    body = secrets_body(secrets=(("main", "A"),))
    sealed = seal(public_key_of(world.key), seal_info(body, SecretName("main", "A"), 1, NONCE), b"canary\xff")
    content = [SealedSecret(namespace="main", key="A", version=1, sealed=sealed)]
    data, signature = release(world, content, request_sha256=request_digest(body.encode()))
    with pytest.raises(AttestationError) as caught:
        opened(world, data, signature, request=body.encode())
    assert caught.value.code is Code.MALFORMED
    assert "canary" not in f"{caught.value!r} {caught.value.__context__!r} {caught.value.__cause__!r}"


def test_no_repr_shows_a_value(world: World) -> None:
    assert "first" not in repr(opened(world, *release(world)))


def test_the_largest_release_fits(world: World) -> None:
    body = secrets_body(secrets=[("n" * 64, f"{n:064}") for n in range(MAX_SECRETS)])
    content = [
        SealedSecret(
            namespace=name.namespace,
            key=name.key,
            version=1,
            sealed=seal(public_key_of(world.key), seal_info(body, name, 1, NONCE), b"x" * MAX_SECRET_BYTES),
        )
        for name in body.secrets
    ]
    data, signature = release(world, content, request_sha256=request_digest(body.encode()))
    assert len(opened(world, data, signature, request=body.encode())) == MAX_SECRETS


def test_a_release_over_the_limit_is_not_even_read(world: World) -> None:
    with pytest.raises(AttestationError) as caught:
        verify_release(bytes(4 * 1024 * 1024 + 1), b"", vault_key=world.config.vault_key, request=BODY.encode())
    assert caught.value.code is Code.TOO_LARGE


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"items": []},
        {"items": [1]},
        {"items": [{}]},
        {"items": {"a": 1}},
        {"items": [{"namespace": "main", "key": "A", "version": 1, "sealed": b"x" * 48, "error": "both"}]},
        {"items": [{"namespace": "main", "key": "A", "version": 1}]},
        {"items": [{"namespace": "main", "key": "A", "version": 0, "sealed": b"x" * 48}]},
        {"items": [{"namespace": "main", "key": "A", "version": True, "sealed": b"x" * 48}]},
        {"items": [{"namespace": "main", "key": "A", "version": 1, "sealed": b"x" * 47}]},
        {"items": [{"namespace": "", "key": "A", "version": 1, "sealed": b"x" * 48}]},
        {"items": [{"namespace": "main", "key": "A", "error": ""}]},
        {"items": [{"namespace": "main", "key": "A", "error": "x" * 513}]},
        {"items": [{"namespace": "main", "key": "A", "error": "x"}] * 101},
        {"request_sha256": b"\x00" * 31},
        {"more": 1},
    ],
)
def test_a_release_that_is_signed_and_none_is_malformed(world: World, change: dict[str, Any]) -> None:
    value = cbor.decode(release(world)[0], limit=10**6, what="it")
    assert isinstance(value, dict)
    data = cbor2.dumps({**value, **change}, canonical=True)
    signature = sign(world.vault, "cw-release/1", domain_hash("cw-release/1", data))
    assert refused(world, data, signature) is Code.MALFORMED
