"""Deterministic CBOR: what is encoded comes back, and nothing else is taken."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation import AttestationError, Code
from innkeeper_confidential_workflows.protocol import cbor

ATOMS = st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=8) | st.binary(max_size=8)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0) if isinstance(value, (dict, list)) else 0


def items(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(items, value.values()))
    return 1 + (sum(map(items, value)) if isinstance(value, list) else 0)


def refused(data: bytes, *, limit: int = 1000) -> Code:
    with pytest.raises(AttestationError) as caught:
        cbor.decode(data, limit=limit, what="it")
    return caught.value.code


def assert_only_encoding_or_malformed(data: bytes) -> None:
    code, value = None, None
    try:
        value = cbor.decode(data, limit=10_000, what="it")
    except AttestationError as error:
        code = error.code
    assert code is Code.MALFORMED or (code is None and cbor.encode(value) == data)


@given(VALUES.filter(lambda value: depth(value) <= 4))
def test_what_is_encoded_comes_back(value: Any) -> None:
    assert cbor.decode(cbor.encode(value), limit=10_000, what="it") == value


@given(st.binary(max_size=64))
def test_any_bytes_are_a_typed_refusal_or_the_only_encoding_of_their_value(data: bytes) -> None:
    assert_only_encoding_or_malformed(data)


@given(VALUES.filter(lambda value: depth(value) <= 4), st.data())
def test_a_flipped_byte_is_another_value_or_a_typed_refusal(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(cbor.encode(value))
    index = data.draw(st.integers(0, len(encoded) - 1))
    encoded[index] ^= data.draw(st.integers(1, 255))
    assert_only_encoding_or_malformed(bytes(encoded))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xa0\x00", id="a trailing byte"),
        pytest.param(b"\x18\x01", id="a number in a longer form"),
        pytest.param(b"\xbf\xff", id="a map of indefinite length"),
        pytest.param(b"\x5f\x41\x00\xff", id="a byte string in pieces"),
        pytest.param(b"\xa2\x61a\x01\x61a\x01", id="a key twice"),
        pytest.param(b"\xa2\x61b\x01\x61a\x01", id="keys out of order"),
        pytest.param(b"\xa2\x62aa\x01\x61b\x01", id="keys out of order by length"),
        pytest.param(b"\xa1\x01\x01", id="a key that is no text"),
        pytest.param(cbor2.dumps(True), id="a boolean"),
        pytest.param(cbor2.dumps(1.5), id="a float"),
        pytest.param(cbor2.dumps(math.nan), id="not a number"),
        pytest.param(cbor2.dumps(cbor2.undefined), id="undefined"),
        pytest.param(cbor2.dumps(2**63), id="too large a number"),
        pytest.param(cbor2.dumps(2**80), id="a big number"),
        pytest.param(b"\xd8\x23\x61(", id="a regular expression"),
        pytest.param(b"\xd8\x1c\x81\xd8\x1d\x00", id="a list that holds itself"),
        pytest.param(b"\xd9\xd9\xf7\x01", id="the tag of CBOR"),
        pytest.param(b"\x61\xff", id="a text that is none"),
        pytest.param(b"\x81" * 5 + b"\x01", id="too deep"),
        pytest.param(b"\x81" * 900, id="much too deep"),
        pytest.param(b"\x82\x01\x9f" + b"\xa0" * 900, id="a list of indefinite length in a list"),
        pytest.param(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", id="a list longer than memory"),
        pytest.param(b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", id="a byte string longer than memory"),
    ],
)
def test_anything_but_the_deterministic_form_is_malformed(data: bytes) -> None:
    assert refused(data) is Code.MALFORMED


def test_the_limit_counts_each_byte_and_comes_before_the_form() -> None:
    data = cbor.encode(b"x" * 100)
    assert cbor.decode(data, limit=len(data), what="it") == b"x" * 100
    assert refused(data, limit=len(data) - 1) is Code.TOO_LARGE
    assert refused(b"\xff" * 101, limit=100) is Code.TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x9a\x00\x40\x00\x00" + b"\xa0" * (1 << 22), id="empty maps"),
        pytest.param(b"\x9a\x00\x40\x00\x00" + b"\x80" * (1 << 22), id="empty lists"),
        pytest.param(b"\xa1\x61a\x9b\x00\x00\x00\x00\x00\x40\x00\x00" + bytes(1 << 22), id="numbers in a map"),
        pytest.param(b"\xc6\x9a\x00\x40\x00\x00" + b"\xa0" * (1 << 22), id="behind a tag"),
    ],
)
def test_what_has_too_many_items_is_refused_before_any_is_made(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(cbor.strict, "decode", lambda data, **_: decoded.append(data))
    with contextlib.suppress(AttestationError):
        cbor.decode(data[:10_000], limit=1 << 23, what="it", items=20_000)
    assert decoded, "it is the decoder that this counts for"
    decoded.clear()
    assert refused(data, limit=1 << 23) is Code.TOO_LARGE
    assert not decoded


@given(VALUES)
def test_each_item_is_counted_and_none_twice(value: Any) -> None:
    data = cbor2.dumps(value, canonical=True)
    assert not cbor._has_more_items(data, items(value))
    assert cbor._has_more_items(data, items(value) - 1)


@given(st.binary(max_size=200), st.integers(0, 50))
def test_counting_ends_whatever_the_bytes_are(data: bytes, most: int) -> None:
    assert cbor._has_more_items(data, most) in (True, False)


@pytest.mark.parametrize("value", [True, 1.5, {1: 2}, {b"a": 1}, {"a": {1, 2}}, 2**63, bytearray(b"x"), object()])
def test_what_is_no_part_of_the_protocol_is_not_encoded(value: Any) -> None:
    with pytest.raises(TypeError):
        cbor.encode(value)


def test_an_error_does_not_quote_what_was_received() -> None:
    for data in (b"\xa2\x66canary\x01\x66canary\x02", cbor2.dumps("canary") + b"\x00", b"\x66canar\xff"):
        with pytest.raises(AttestationError) as caught:
            cbor.decode(data, limit=100, what="it")
        assert "canar" not in f"{caught.value} {caught.value!r}"
