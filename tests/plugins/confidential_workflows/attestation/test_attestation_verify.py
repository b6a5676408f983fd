"""The verifier: its order, its signature, its clock, and what it gives back."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from innkeeper_confidential_workflows.attestation import (
    STEP_NAMES,
    AttestationError,
    Code,
    Expectations,
    KeyKind,
    Measurement,
    explain,
    verify,
)

MEASUREMENT = Measurement({index: bytes([index + 1]) * 48 for index in range(3)})


def twin(document: bytes, order: int) -> bytes:
    """Return the other document that the same signature makes: (r, n - s)."""
    parts = cbor2.loads(document)
    r, s = parts[3][:48], int.from_bytes(parts[3][48:], "big")
    parts[3] = r + (order - s).to_bytes(48, "big")
    return cbor2.dumps(parts)


# --- results ---------------------------------------------------------------------------------------------------------


def test_what_is_returned_is_what_was_signed(forge: Any) -> None:
    document = forge.document(nonce=b"n", user_data=b"u", public_key=b"k")

    found = forge.verify(document)

    assert (found.module_id, found.timestamp, found.tee) == ("i-INSECURE-SIM-test", forge.now, "sim")
    assert found.pcrs == {index: bytes([index + 1]) * 48 for index in range(16)}
    assert (found.nonce, found.user_data, found.public_key) == (b"n", b"u", b"k")
    assert found.payload_sha256 == hashlib.sha256(cbor2.loads(document)[2]).digest()


def test_what_is_returned_cannot_be_changed(forge: Any) -> None:
    found = forge.verify(forge.document())

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        found.tee = "nitro"
    with pytest.raises(TypeError):
        found.pcrs[0] = b"\0" * 48


def test_a_report_of_an_accepted_document_has_every_check(forge: Any) -> None:
    report = forge.explain(forge.document())

    assert report.verdict == "ok"
    assert tuple(step.name for step in report.steps) == STEP_NAMES
    assert all(step.ok and step.detail for step in report.steps)
    assert report.attestation == forge.verify(forge.document())


def test_a_report_of_a_refused_document_ends_with_the_check_that_refused_it(forge: Any) -> None:
    report = forge.explain(forge.document(), expect=Expectations(nonce=b"n"))

    assert [step.ok for step in report.steps] == [True] * (len(report.steps) - 1) + [False]
    assert report.steps[-1].name == "nonce"
    assert report.attestation is None
    assert report.claims.module_id == "i-INSECURE-SIM-test"


def test_verifying_raises_what_a_report_says(forge: Any) -> None:
    document = forge.document(timestamp=1)

    with pytest.raises(AttestationError) as refused:
        forge.verify(document)

    report = forge.explain(document)
    assert refused.value.code is Code.STALE
    assert refused.value.step == report.steps[-1].name == "freshness"
    assert refused.value.message == report.steps[-1].detail
    assert str(refused.value).startswith("stale: freshness: ")


def test_there_are_no_claims_of_what_could_not_be_read(forge: Any) -> None:
    assert forge.explain(b"").claims is None
    assert forge.explain(forge.document(digest="SHA256")).claims is None


# --- order -----------------------------------------------------------------------------------------------------------


def test_the_checks_are_run_in_their_order(forge: Any) -> None:
    """Begin with a document that is wrong in every way, and right one after the other from the front."""
    own = forge.chain(forge.levels)
    zero = {index: bytes(48) for index in range(3)}
    wrong: dict[str, Any] = {
        "digest": "SHA256",
        "cabundle": own.pki.der[:-1],
        "timestamp": 1,
        "pcrs": zero,
        "nonce": b"another",
        "user_data": b"another",
        "public_key": b"none",
    }
    expect = Expectations(measurements=[MEASUREMENT], nonce=b"n" * 32, user_data=b"u" * 32, public_key=KeyKind.X25519)
    spki = X25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    seen = []
    for right in (
        {},
        {"digest": "SHA384"},
        {"cabundle": [forge.pki.der[0], *own.pki.der[1:-1]]},
        {"cabundle": forge.pki.der[:-1]},
        {"signed": True},
        {"timestamp": forge.fields()["timestamp"]},
        {"pcrs": {0: b"\x01" * 48, 1: b"\x02" * 48}},
        {"pcrs": {0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x04" * 48}},
        {"pcrs": dict(MEASUREMENT.pcrs)},
        {"nonce": b"n" * 32},
        {"user_data": b"u" * 32},
        {"public_key": spki},
    ):
        wrong.update(right)
        signed = wrong.pop("signed", False) or "signed" in seen
        if signed:
            seen.append("signed")
        payload = cbor2.dumps(forge.fields(**wrong))
        document = forge.wrap(payload, signature=None if signed else b"\x01" * 96)
        seen.append(forge.verdict(document, expect=expect))

    assert [item for item in seen if item != "signed"] == [
        ("malformed", "fields"),
        ("untrusted_chain", "root"),
        ("untrusted_chain", "chain"),
        ("bad_signature", "signature"),
        ("stale", "freshness"),
        ("debug_enclave", "debug"),
        ("measurement_unknown", "measurements"),
        ("measurement_unknown", "measurements"),
        ("nonce_mismatch", "nonce"),
        ("user_data_mismatch", "user_data"),
        ("malformed", "public_key"),
        ("ok", "public_key"),
    ]


# --- signature -------------------------------------------------------------------------------------------------------


def test_a_signature_of_another_key_is_refused(forge: Any) -> None:
    other = forge.chain(forge.levels)

    document = forge.wrap(cbor2.dumps(forge.fields()), key=other.pki.keys[-1])

    assert forge.verdict(document) == ("bad_signature", "signature")


@pytest.mark.parametrize("index", range(4))
def test_a_signature_of_an_authority_is_none_of_the_leaf(forge: Any, index: int) -> None:
    document = forge.wrap(cbor2.dumps(forge.fields()), key=forge.pki.keys[index])

    assert forge.verdict(document) == ("bad_signature", "signature")


@pytest.mark.parametrize(
    "signature",
    [bytes(96), b"\xff" * 96, bytes(47) + b"\x01" + bytes(48), bytes(48) + bytes(47) + b"\x01"],
    ids=["zero", "past the order", "s zero", "r zero"],
)
def test_numbers_that_are_in_no_signature_are_refused(forge: Any, signature: bytes) -> None:
    assert forge.verdict(forge.wrap(cbor2.dumps(forge.fields()), signature=signature)) == (
        "bad_signature",
        "signature",
    )


@pytest.mark.parametrize("field", ["module_id", "timestamp", "pcrs", "public_key", "user_data", "nonce"])
def test_a_field_changed_after_signing_is_noticed(forge: Any, field: str) -> None:
    document = forge.document(public_key=b"k", user_data=b"u", nonce=b"n")
    parts = cbor2.loads(document)
    fields = cbor2.loads(parts[2])
    fields[field] = {
        "module_id": "i-other",
        "timestamp": fields["timestamp"] + 1,
        "pcrs": {**fields["pcrs"], 0: b"\xee" * 48},
    }.get(field, b"x")
    parts[2] = cbor2.dumps(fields)

    assert forge.verdict(cbor2.dumps(parts)) == ("bad_signature", "signature")


def test_the_twin_of_a_document_is_the_same_statement_and_has_the_same_digest(forge: Any) -> None:
    document = forge.document(nonce=b"n" * 32)
    other = twin(document, forge.order)

    assert other != document
    assert forge.verify(other) == forge.verify(document) == forge.verify(b"\xd2" + document)
    assert forge.verify(other).payload_sha256 == forge.verify(document).payload_sha256


# --- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "verdict"),
    [
        (timedelta(0), "ok"),
        (timedelta(minutes=5), "ok"),
        (timedelta(minutes=5, microseconds=1), "stale"),
        (timedelta(minutes=10), "stale"),
        (timedelta(minutes=-1), "ok"),
    ],
    ids=str,
)
def test_a_document_is_fresh_for_five_minutes(forge: Any, offset: timedelta, verdict: str) -> None:
    assert forge.verdict(forge.document(), now=forge.now + offset)[0] == verdict


def test_a_document_from_the_future_is_as_stale_as_one_from_the_past(forge: Any) -> None:
    made = forge.fields()["timestamp"]

    assert forge.verdict(forge.document(timestamp=made + 300_000))[0] == "ok"
    assert forge.verdict(forge.document(timestamp=made + 300_001)) == ("stale", "freshness")
    assert forge.verdict(forge.document(timestamp=made - 300_001)) == ("stale", "freshness")


def test_the_clock_has_a_time_zone_which_may_be_any(forge: Any) -> None:
    elsewhere = forge.now.astimezone(timezone(timedelta(hours=-7)))

    assert forge.verdict(forge.document(), now=elsewhere)[0] == "ok"
    with pytest.raises(ValueError, match="time zone"):
        forge.verdict(forge.document(), now=forge.now.replace(tzinfo=None))


@pytest.mark.parametrize("now", [datetime.min, datetime.max], ids=str)
def test_no_time_is_too_far_away(forge: Any, now: datetime) -> None:
    assert forge.verdict(forge.document(), now=now.replace(tzinfo=UTC)) == ("expired_chain", "chain")


def test_a_document_made_before_its_challenge_is_stale(forge: Any) -> None:
    minute = timedelta(seconds=60)

    assert forge.verdict(forge.document(), expect=Expectations(not_before=forge.now))[0] == "ok"
    assert forge.verdict(forge.document(), expect=Expectations(not_before=forge.now + minute))[0] == "ok"
    late = Expectations(not_before=forge.now + minute + timedelta(milliseconds=1))
    assert forge.verdict(forge.document(), expect=late) == ("stale", "freshness")


# --- purity ----------------------------------------------------------------------------------------------------------


def test_clock_roots_and_expectations_have_no_defaults(forge: Any) -> None:
    for function in (verify, explain):
        with pytest.raises(TypeError, match="missing"):
            function(forge.document())  # type: ignore[call-arg]  # what is tested


def test_the_library_needs_no_asyncio_no_grpc_no_sdk() -> None:
    program = (
        "import sys\n"
        "import innkeeper_confidential_workflows.attestation\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'asyncio', 'grpc', 'google', 'innkeeper_sdk'}))\n"
    )

    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
