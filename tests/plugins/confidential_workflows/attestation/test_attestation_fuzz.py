"""Documents that were changed anywhere are refused with a code, in no time worth speaking of."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation import (
    AWS_ROOT_G1,
    AttestationError,
    Code,
    Expectations,
    explain,
    peek_root,
)

VECTORS = Path(__file__).parent / "vectors"
REAL = json.loads((VECTORS / "index.json").read_text())
CODES = {str(code) for code in Code} - {"internal"}
# A verification takes about 6 ms; a hundred times that is a fault also on a busy machine.
BOUND = 0.6  # seconds of the process's own time


@contextmanager
def quietly() -> Iterator[None]:
    """Let the parser warn of oddities in certificates that it takes all the same; the chain does not hold then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def verdict(document: bytes, now: datetime) -> str:
    begin = time.process_time()
    with quietly():
        report = explain(document, now=now, roots=[AWS_ROOT_G1], expect=Expectations())
    assert time.process_time() - begin < BOUND
    return report.verdict


def load(entry: dict[str, Any]) -> tuple[bytes, datetime]:
    return (VECTORS / entry["file"]).read_bytes(), datetime.fromisoformat(entry["verify_at"])


PRODUCTION = next(entry for entry in REAL if entry["file"] == "nitro-prod-indefinite-2026-01-03.cose")


def test_a_flip_of_any_byte_is_refused_with_a_code() -> None:
    document, now = load(PRODUCTION)
    assert verdict(document, now) == "ok"
    seen: Counter[str] = Counter()

    for position in range(len(document)):
        changed = bytearray(document)
        changed[position] ^= 0x01
        seen[verdict(bytes(changed), now)] += 1

    assert set(seen) <= CODES, seen
    # One of each class of bytes at least: encoding, certificates, everything else that is signed.
    assert {"malformed", "untrusted_chain", "bad_signature"} <= set(seen)
    assert seen.total() == len(document)


@pytest.mark.parametrize("entry", REAL, ids=lambda entry: str(entry["file"]))
@pytest.mark.parametrize("mask", [0x80, 0x20, 0xFF])
def test_a_flip_of_other_bits_is_refused_with_a_code(entry: dict[str, Any], mask: int) -> None:
    document, now = load(entry)

    # A prime, so that the sample meets every kind of field.
    for position in range(mask % 7, len(document), 37):
        changed = bytearray(document)
        changed[position] ^= mask
        assert verdict(bytes(changed), now) in CODES


def test_a_document_cut_anywhere_is_refused() -> None:
    document, now = load(PRODUCTION)

    assert {verdict(document[:length], now) for length in range(0, len(document), 5)} == {"malformed"}


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_bytes_put_in_left_out_or_moved_are_refused(data: st.DataObject) -> None:
    document, now = load(PRODUCTION)
    begin = data.draw(st.integers(0, len(document) - 1))
    end = data.draw(st.integers(begin, min(len(document), begin + 64)))
    between = data.draw(st.binary(max_size=64))
    changed = document[:begin] + between + document[end:]

    if changed != document:
        assert verdict(changed, now) in CODES


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_code(document: bytes) -> None:
    assert verdict(document, datetime.fromisoformat(PRODUCTION["verify_at"])) in {"malformed", "too_large"}


SCALARS = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats() | st.binary() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3))
FIELDS = st.sampled_from(
    ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce"]
)


@settings(deadline=None, max_examples=300)
@given(replaced=st.dictionaries(FIELDS, VALUES, min_size=1, max_size=3), extra=st.dictionaries(st.text(), VALUES))
def test_any_value_in_any_field_gives_a_verdict(replaced: dict[str, Any], extra: dict[str, Any]) -> None:
    document, now = load(PRODUCTION)
    parts = cbor2.loads(document)
    fields = {**extra, **cbor2.loads(parts[2]), **replaced}
    parts[2] = cbor2.dumps(fields)

    # Never ok: it is not signed.
    assert verdict(cbor2.dumps(parts), now) in CODES


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=1, max_size=1024), st.integers(1, 4))
def test_any_bytes_in_the_place_of_a_certificate_give_a_verdict(certificate: bytes, place: int) -> None:
    document, now = load(PRODUCTION)
    parts = cbor2.loads(document)
    fields = cbor2.loads(parts[2])
    if place == 4:
        fields["certificate"] = certificate
    else:
        fields["cabundle"][place] = certificate
    parts[2] = cbor2.dumps(fields)

    assert verdict(cbor2.dumps(parts), now) in {"malformed", "untrusted_chain"}


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_certificate_changed_anywhere_gives_a_verdict(data: st.DataObject) -> None:
    document, now = load(PRODUCTION)
    parts = cbor2.loads(document)
    fields = cbor2.loads(parts[2])
    place = data.draw(st.integers(0, 4))
    certificate = bytearray(fields["certificate"] if place == 4 else fields["cabundle"][place])
    for _ in range(data.draw(st.integers(1, 4))):
        certificate[data.draw(st.integers(0, len(certificate) - 1))] = data.draw(st.integers(0, 255))
    if place == 4:
        fields["certificate"] = bytes(certificate)
    else:
        fields["cabundle"][place] = bytes(certificate)
    parts[2] = cbor2.dumps(fields)

    # The payload is encoded anew, so that even an unchanged certificate leaves a signature that does not fit.
    assert verdict(cbor2.dumps(parts), now) in {"malformed", "untrusted_chain", "expired_chain", "bad_signature"}


@given(st.binary(max_size=300))
def test_peeking_at_any_bytes_raises_nothing_else(document: bytes) -> None:
    with pytest.raises(AttestationError):
        peek_root(document)
