"""Bodies: strict both ways."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.protocol import (
    MAX_PAYLOAD_BYTES,
    MAX_SECRETS,
    SUITE,
    Body,
    CapabilityBody,
    ResultBody,
    SecretName,
    SecretsBody,
    cbor,
    is_name,
)
from tests.plugins.confidential_workflows.protocol.protocol_world import (
    capability_body,
    result_body,
    secrets_body,
)

HEX = "0123456789abcdef"
NAMES = st.text(min_size=1, max_size=16).filter(is_name)
COMMON = {
    "workflow_id": st.text(HEX, min_size=64, max_size=64),
    "owner": st.text(HEX, min_size=40, max_size=40),
    "execution_id": st.just("") | st.text(HEX, min_size=64, max_size=64),
    "binary_sha256": st.binary(min_size=32, max_size=32),
    "request_sha256": st.binary(min_size=32, max_size=32),
    "config_hash": st.binary(min_size=32, max_size=32),
    "challenge_id": st.binary(min_size=16, max_size=16),
}
SECRETS = st.lists(st.builds(SecretName, NAMES, NAMES), min_size=1, max_size=5, unique=True).map(tuple)
BODIES: st.SearchStrategy[Body] = st.one_of(
    st.builds(SecretsBody, **COMMON, secrets=SECRETS),
    st.builds(
        CapabilityBody,
        **COMMON,
        reference_id=st.integers(-(2**31), 2**31 - 1).map(str),
        capability_id=st.text(max_size=40),
        method_name=st.text(max_size=40),
        payload=st.binary(max_size=40),
    ),
    st.builds(
        ResultBody,
        **COMMON,
        result_sha256=st.binary(min_size=32, max_size=32),
    ),
)
EXAMPLES = [secrets_body(), capability_body(), result_body()]
KEYS = [(body, key) for body in EXAMPLES for key in ["v", "method", *(a.name for a in fields(type(body)))]]
IDS = [f"{type(body).__name__}.{key}" for body, key in KEYS]


def content(body: Body) -> dict[str, Any]:
    value = cbor.decode(body.encode(), limit=10**6, what="it")
    assert isinstance(value, dict)
    return value


def refused(kind: type[Body], value: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        kind.decode(cbor.encode(value))
    return caught.value.code


def refused_fields(make: Any, **changes: Any) -> Code:
    with pytest.raises(AttestationError) as caught:
        make(**changes)
    return caught.value.code


@given(BODIES)
def test_what_is_encoded_comes_back(body: Body) -> None:
    assert type(body).decode(body.encode()) == body


@given(BODIES, st.binary(min_size=1, max_size=3))
def test_a_byte_behind_a_body_is_malformed(body: Body, more: bytes) -> None:
    with pytest.raises(AttestationError):
        type(body).decode(body.encode() + more)


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: type(body).__name__)
def test_only_its_own_kind_reads_a_body(body: Body) -> None:
    for kind in (SecretsBody, CapabilityBody, ResultBody):
        if kind is not type(body):
            assert refused(kind, content(body)) is Code.MALFORMED
            assert refused(kind, {**content(body), "method": kind.METHOD}) is Code.MALFORMED


@pytest.mark.parametrize(("body", "key"), KEYS, ids=IDS)
def test_a_body_without_one_of_its_keys_is_malformed(body: Body, key: str) -> None:
    value = content(body)
    del value[key]
    assert refused(type(body), value) is Code.MALFORMED


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: type(body).__name__)
@pytest.mark.parametrize("key", ["", "V", "Owner", "more"])
def test_a_body_with_another_key_is_malformed(body: Body, key: str) -> None:
    assert refused(type(body), {**content(body), key: 1}) is Code.MALFORMED


@pytest.mark.parametrize(("body", "key"), KEYS, ids=IDS)
@pytest.mark.parametrize("value", [None, 1, 0, "x", b"", b"x", [], {}, ["x"]], ids=repr)
def test_a_value_of_another_type_or_length_is_malformed(body: Body, key: str, value: Any) -> None:
    allowed = (
        (key == "v" and value == 1)
        or (key in ("capability_id", "method_name") and value == "x")
        or (key == "payload" and isinstance(value, bytes))
    )
    changed = {**content(body), key: value}
    if allowed:
        assert type(body).decode(cbor.encode(changed))
    else:
        assert refused(type(body), changed) is Code.MALFORMED


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: type(body).__name__)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workflow_id", "A1" * 32),
        ("workflow_id", "a1" * 31),
        ("workflow_id", "a1" * 32 + "\n"),
        ("workflow_id", "\u0660" * 64),
        ("workflow_id", ""),
        ("owner", "0x" + "0f" * 19),
        ("owner", "0F" * 20),
        ("owner", "0x" + "0f" * 20),
        ("execution_id", "E1" * 32),
        ("execution_id", " "),
        ("binary_sha256", b"\x00" * 31),
        ("binary_sha256", "b1" * 16),
        ("config_hash", b"\x00" * 33),
        ("challenge_id", b"\x00" * 32),
        ("v", 2),
    ],
)
def test_an_identity_has_one_spelling(body: Body, key: str, value: Any) -> None:
    assert refused(type(body), {**content(body), key: value}) is Code.MALFORMED


@pytest.mark.parametrize(
    "secrets",
    [
        pytest.param([], id="none"),
        pytest.param([["main"]], id="no pair"),
        pytest.param([["main", "a", "b"]], id="three"),
        pytest.param([["", "a"]], id="a namespace that is not normalised"),
        pytest.param([["main", ""]], id="an empty key"),
        pytest.param([["main", "a"], ["main", "b"], ["main", "a"]], id="one twice"),
        pytest.param([["main", "a" * 65]], id="a key of 65 bytes"),
        pytest.param([["ä" * 33, "a"]], id="a namespace of 66 bytes"),
        pytest.param([["main", "e\u0301"]], id="not composed"),
        pytest.param([["main", "a\nb"]], id="a line end"),
        pytest.param([["main", "a\u202eb"]], id="a direction mark"),
        pytest.param([["main", 1]], id="a number"),
        pytest.param([["main", b"a"]], id="bytes"),
        pytest.param(["ab"], id="a text of two letters"),
        pytest.param({"main": "a"}, id="a map"),
    ],
)
def test_names_of_secrets_are_good_and_unique(secrets: Any) -> None:
    assert refused(SecretsBody, {**content(secrets_body()), "secrets": secrets}) is Code.MALFORMED


def test_the_order_of_secrets_is_the_guests() -> None:
    names = (SecretName("z", "1"), SecretName("a", "2"), SecretName("a", "1"))
    assert SecretsBody.decode(secrets_body(secrets=names).encode()).secrets == names


def test_one_key_in_two_namespaces_is_two_secrets() -> None:
    assert len(secrets_body(secrets=(("a", "k"), ("b", "k"))).secrets) == 2


def test_a_hundred_secrets_fit_and_one_more_does_not() -> None:
    names = [("main", f"k{n}") for n in range(MAX_SECRETS + 1)]
    assert len(secrets_body(secrets=names[:-1]).secrets) == 100
    assert refused_fields(secrets_body, secrets=names) is Code.TOO_LARGE


def test_names_of_64_bytes_fit() -> None:
    assert secrets_body(secrets=(("n" * 64, "ä" * 32),)).encode()


@pytest.mark.parametrize("suite", ["", SUITE.lower(), "HPKE-X25519-HKDF-SHA256-AES-128-GCM", None])
def test_there_is_one_suite(suite: Any) -> None:
    assert refused_fields(secrets_body, suite=suite) is Code.MALFORMED


@pytest.mark.parametrize("reference", ["", "-0", "01", "+1", "1.0", "12345678901", " 1", "1\n", "٣", 1])
def test_a_reference_is_a_decimal_number(reference: Any) -> None:
    assert refused_fields(capability_body, reference_id=reference) is Code.MALFORMED


def test_a_capability_id_is_a_guests_own_and_may_be_any_text() -> None:
    for text in ("", "nothing", "é@1", "\n"):
        body = capability_body(capability_id=text, method_name=text)
        assert CapabilityBody.decode(body.encode()) == body
    assert refused_fields(capability_body, capability_id="x" * 4097) is Code.TOO_LARGE


def test_a_payload_has_its_own_limit() -> None:
    body = capability_body(payload=bytes(MAX_PAYLOAD_BYTES))
    assert CapabilityBody.decode(body.encode()).payload == body.payload
    assert refused_fields(capability_body, payload=bytes(MAX_PAYLOAD_BYTES + 1)) is Code.TOO_LARGE


def test_a_body_over_the_limit_is_not_even_read() -> None:
    for kind in (SecretsBody, ResultBody):
        with pytest.raises(AttestationError) as caught:
            kind.decode(bytes(512 * 1024 + 1))
        assert caught.value.code is Code.TOO_LARGE


def test_no_repr_or_error_shows_a_payload() -> None:
    body = capability_body(payload=b"canary")
    assert "canary" not in repr(body)
    with pytest.raises(AttestationError) as caught:
        capability_body(payload="canary")
    assert "canary" not in f"{caught.value} {caught.value!r}"
