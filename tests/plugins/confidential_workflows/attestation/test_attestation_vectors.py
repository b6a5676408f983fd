"""The published documents, real ones and those of a test root, give the verdicts that they are known by."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from innkeeper_confidential_workflows.attestation import (
    AWS_ROOT_G1,
    AttestationError,
    Expectations,
    Measurement,
    Root,
    Tee,
    explain,
    peek_root,
    verify,
)

VECTORS = Path(__file__).parent / "vectors"
REAL = json.loads((VECTORS / "index.json").read_text())
CASES = json.loads((VECTORS / "test-root-cases.json").read_text())
PRODUCTION = [entry for entry in REAL if "prod" in entry["file"]]
DEBUG = [entry for entry in REAL if "debug" in entry["file"]]

LATER = {
    "+4 m 59 s": (timedelta(minutes=4, seconds=59), "ok"),
    "+5 m 01 s": (timedelta(minutes=5, seconds=1), "stale"),
    "-5 m 01 s": (timedelta(minutes=-5, seconds=-1), "expired_chain"),
    "+2 h 59 m": (timedelta(hours=2, minutes=59), "stale"),
    "+3 h 05 m": (timedelta(hours=3, minutes=5), "expired_chain"),
}


def name(entry: dict[str, Any]) -> str:
    return str(entry.get("file") or entry["name"])


def document(entry: dict[str, Any]) -> bytes:
    return (VECTORS / entry["file"]).read_bytes()


def verify_at(entry: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["verify_at"])


def verdict(raw: bytes, now: datetime, *roots: Root) -> str:
    return explain(raw, now=now, roots=roots, expect=Expectations()).verdict


@pytest.mark.parametrize("entry", REAL, ids=name)
def test_a_copy_is_the_published_file(entry: dict[str, Any]) -> None:
    assert hashlib.sha256(document(entry)).hexdigest() == entry["sha256"]


def test_the_embedded_root_is_the_one_that_aws_publishes() -> None:
    assert AWS_ROOT_G1.sha256 == "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
    assert AWS_ROOT_G1.tee is Tee.NITRO


@pytest.mark.parametrize("entry", REAL, ids=name)
def test_every_real_document_begins_its_bundle_with_the_embedded_root(entry: dict[str, Any]) -> None:
    assert peek_root(document(entry)) == AWS_ROOT_G1.certificate


@pytest.mark.parametrize("entry", PRODUCTION, ids=name)
def test_a_production_document_says_what_its_publisher_says(entry: dict[str, Any]) -> None:
    measurement = Measurement({index: bytes.fromhex(entry[f"pcr{index}"]) for index in range(3)})

    found = verify(
        document(entry), now=verify_at(entry), roots=[AWS_ROOT_G1], expect=Expectations(measurements=[measurement])
    )

    assert found.tee == "nitro"
    assert found.module_id == entry["module_id"]
    assert found.timestamp == datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=entry["timestamp_ms"])
    assert {index: found.pcrs[index].hex() for index in range(3)} == {n: entry[f"pcr{n}"] for n in range(3)}
    assert sorted(found.pcrs) == list(range(16))
    assert (not any(found.pcrs[8])) == entry["pcr8_zero"]
    for field in ("user_data", "nonce", "public_key"):
        value = getattr(found, field)
        assert (None if value is None else len(value)) == entry[f"{field}_len"]


@pytest.mark.parametrize("entry", DEBUG, ids=name)
def test_a_debug_document_is_refused_although_signature_and_chain_are_right(entry: dict[str, Any]) -> None:
    report = explain(document(entry), now=verify_at(entry), roots=[AWS_ROOT_G1], expect=Expectations())

    assert report.verdict == "debug_enclave"
    assert report.attestation is None
    assert {step.name for step in report.steps if step.ok} >= {"chain", "signature", "freshness"}


@pytest.mark.parametrize("entry", DEBUG, ids=name)
def test_expecting_the_zeros_of_a_debug_document_does_not_help_it(entry: dict[str, Any]) -> None:
    expect = Expectations(pcrs={index: bytes(48) for index in range(3)})

    with pytest.raises(AttestationError) as refused:
        verify(document(entry), now=verify_at(entry), roots=[AWS_ROOT_G1], expect=expect)

    assert refused.value.code == "debug_enclave"


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("entry", PRODUCTION, ids=name)
def test_a_production_document_ages(entry: dict[str, Any], later: str) -> None:
    after, want = LATER[later]

    assert verdict(document(entry), verify_at(entry) + after, AWS_ROOT_G1) == want


@pytest.mark.parametrize("entry", REAL, ids=name)
def test_before_its_leaf_was_valid_a_document_has_no_valid_chain(entry: dict[str, Any]) -> None:
    before = datetime.fromisoformat(entry["leaf_not_before"]) - timedelta(seconds=1)

    assert verdict(document(entry), before, AWS_ROOT_G1) == "expired_chain"


@pytest.mark.parametrize("entry", REAL, ids=name)
def test_the_leaf_is_valid_to_its_last_second_which_is_no_proof_of_freshness(entry: dict[str, Any]) -> None:
    last = datetime.fromisoformat(entry["leaf_not_after"])

    assert verdict(document(entry), last, AWS_ROOT_G1) == "stale"
    assert verdict(document(entry), last + timedelta(seconds=1), AWS_ROOT_G1) == "expired_chain"


def test_a_document_whose_leaf_is_older_than_itself_is_fresh_by_its_own_time() -> None:
    (entry,) = (entry for entry in REAL if entry["file"] == "nitro-debug-nonce-2023-09-18.cose")
    made = datetime.fromisoformat(entry["leaf_not_before"])

    assert verify_at(entry) - made > timedelta(minutes=20)
    assert verdict(document(entry), made, AWS_ROOT_G1) == "stale"
    assert verdict(document(entry), verify_at(entry), AWS_ROOT_G1) == "debug_enclave"


@pytest.mark.parametrize("entry", REAL, ids=name)
def test_a_real_document_is_not_trusted_without_the_real_root(entry: dict[str, Any]) -> None:
    other = Root(CASES["root_pem"], "sim")

    assert verdict(document(entry), verify_at(entry), other) == "untrusted_chain"
    assert verdict(document(entry), verify_at(entry)) == "untrusted_chain"


@pytest.mark.parametrize("entry", REAL, ids=name)
def test_a_tag_18_around_a_real_document_changes_nothing(entry: dict[str, Any]) -> None:
    raw = document(entry)

    assert verdict(b"\xd2" + raw, verify_at(entry), AWS_ROOT_G1) == verdict(raw, verify_at(entry), AWS_ROOT_G1)


@pytest.mark.parametrize("case", CASES["cases"], ids=name)
def test_a_document_of_the_test_root_gives_its_verdict(case: dict[str, Any]) -> None:
    now = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=case["verify_at_ms"])
    roots = (AWS_ROOT_G1, Root(CASES["root_pem"], "sim"))

    report = explain(base64.b64decode(case["doc"]), now=now, roots=roots, expect=Expectations())

    assert report.verdict == case["want"]
    if report.attestation is not None:
        assert report.attestation.tee == case["anchor"]
    # Nothing of the test root counts where only the constants are trusted.
    assert verdict(base64.b64decode(case["doc"]), now, AWS_ROOT_G1) != "ok"
