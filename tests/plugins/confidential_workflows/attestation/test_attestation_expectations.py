"""Reference values that are whole, and what is compared with them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from innkeeper_confidential_workflows.attestation import Expectations, KeyKind, Measurement

CODE = {index: bytes([index + 1]) * 48 for index in range(3)}
UNKNOWN = ("measurement_unknown", "measurements")


def spki(key: Any) -> bytes:
    der: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


# --- loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_reference_value_has_each_pcr_of_the_code(index: int) -> None:
    with pytest.raises(ValueError, match=f"no PCR{index}"):
        Measurement({key: value for key, value in CODE.items() if key != index})


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_reference_value_of_a_debug_enclave_does_not_load(index: int) -> None:
    with pytest.raises(ValueError, match=f"PCR{index} of a reference value is zero"):
        Measurement({**CODE, index: bytes(48)})


@pytest.mark.parametrize("length", [0, 32, 47, 49, 64])
@pytest.mark.parametrize("index", [0, 8])
def test_the_pcrs_of_a_reference_value_have_48_bytes(index: int, length: int) -> None:
    with pytest.raises(ValueError, match=f"PCR{index}"):
        Measurement({**CODE, index: b"\x01" * length})


@pytest.mark.parametrize("index", [-1, 32])
def test_a_reference_value_has_no_pcr_that_there_is_not(index: int) -> None:
    with pytest.raises(ValueError, match="there are 0 to 31"):
        Measurement({**CODE, index: CODE[1]})


@pytest.mark.parametrize("pcrs", [{"3": b"\1" * 48}, {True: b"\1" * 48}, {3: 48}, {3: "1" * 48}, {3: None}], ids=str)
def test_pcrs_are_numbers_with_bytes(pcrs: Any) -> None:
    for make in (lambda: Measurement({0: CODE[0], 2: CODE[2], **pcrs}), lambda: Expectations(pcrs=pcrs)):
        with pytest.raises(ValueError, match="numbers with bytes"):
            make()


def test_an_empty_reference_value_does_not_load() -> None:
    with pytest.raises(ValueError, match="no PCR0"):
        Measurement({})


def test_a_pcr_beyond_the_code_may_be_zero() -> None:
    assert Measurement({**CODE, 3: bytes(48)}).pcrs[3] == bytes(48)


def test_a_reference_value_does_not_change_with_what_it_was_made_of() -> None:
    source = dict(CODE)
    measurement = Measurement(source)

    source[0] = bytes(48)

    assert measurement.pcrs == CODE
    with pytest.raises(TypeError):
        measurement.pcrs[0] = bytes(48)  # type: ignore[index]  # what is tested


@pytest.mark.parametrize("pcrs", [{32: b"\x01" * 48}, {-1: b"\x01" * 48}, {0: b"\x01" * 47}, {0: b""}], ids=str)
def test_expecting_a_pcr_that_no_document_has_is_an_error(pcrs: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="no document has a PCR"):
        Expectations(pcrs=pcrs)


def test_the_time_of_a_challenge_has_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Expectations(not_before=datetime(2026, 1, 1))


# --- measurements ----------------------------------------------------------------------------------------------------


def test_one_of_several_reference_values_is_enough(forge: Any) -> None:
    other = Measurement({index: b"\xaa" * 48 for index in range(3)})
    right = Measurement(CODE)

    for measurements in ([right], [other, right], [right, other]):
        assert forge.verdict(forge.document(), expect=Expectations(measurements=measurements))[0] == "ok"
    assert forge.verdict(forge.document(), expect=Expectations(measurements=[other])) == UNKNOWN


def test_no_reference_values_know_nothing(forge: Any) -> None:
    assert forge.verdict(forge.document(), expect=Expectations(measurements=[])) == UNKNOWN


@pytest.mark.parametrize("index", [0, 1, 2, 8])
def test_every_pcr_of_a_reference_value_counts(forge: Any, index: int) -> None:
    reference = {**CODE, 8: bytes([9]) * 48}
    assert forge.verdict(forge.document(), expect=Expectations(measurements=[Measurement(reference)]))[0] == "ok"

    reference[index] = reference[index][:-1] + b"\xee"

    assert forge.verdict(forge.document(), expect=Expectations(measurements=[Measurement(reference)])) == UNKNOWN


def test_pcrs_are_not_taken_for_each_other(forge: Any) -> None:
    swapped = Measurement({0: CODE[1], 1: CODE[0], 2: CODE[2]})

    assert forge.verdict(forge.document(), expect=Expectations(measurements=[swapped])) == UNKNOWN


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("expect", [Expectations(), Expectations(measurements=[Measurement(CODE)])], ids=["no", "yes"])
def test_a_document_without_a_pcr_of_the_code_is_unknown_whatever_is_expected(
    forge: Any, index: int, expect: Expectations
) -> None:
    pcrs = {key: value for key, value in forge.fields()["pcrs"].items() if key != index}

    assert forge.verdict(forge.document(pcrs=pcrs), expect=expect) == UNKNOWN


def test_a_pcr_that_is_expected_and_missing_is_unknown(forge: Any) -> None:
    expect = Expectations(measurements=[Measurement({**CODE, 16: bytes(48)})])

    assert forge.verdict(forge.document(), expect=expect) == UNKNOWN
    assert forge.verdict(forge.document(), expect=Expectations(pcrs={16: bytes(48)})) == UNKNOWN


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_pcr_of_the_code_that_is_zero_is_a_debug_enclave(forge: Any, index: int) -> None:
    pcrs = {**forge.fields()["pcrs"], index: bytes(48)}

    assert forge.verdict(forge.document(pcrs=pcrs)) == ("debug_enclave", "debug")
    assert forge.verdict(forge.document(pcrs=pcrs), expect=Expectations(pcrs=pcrs)) == ("debug_enclave", "debug")


def test_a_zero_of_another_length_is_a_debug_enclave_too(forge: Any) -> None:
    assert forge.verdict(forge.document(pcrs={**CODE, 1: bytes(32)}))[0] == "debug_enclave"


def test_a_debug_enclave_is_one_also_when_a_pcr_is_missing(forge: Any) -> None:
    assert forge.verdict(forge.document(pcrs={0: bytes(48), 1: CODE[1]}))[0] == "debug_enclave"


def test_other_pcrs_may_be_zero(forge: Any) -> None:
    pcrs = {index: CODE.get(index, bytes(48)) for index in range(16)}

    assert forge.verdict(forge.document(pcrs=pcrs))[0] == "ok"


def test_single_pcrs_must_all_be_right(forge: Any) -> None:
    right = {4: bytes([5]) * 48, 8: bytes([9]) * 48}

    assert forge.verdict(forge.document(), expect=Expectations(pcrs=right))[0] == "ok"
    assert forge.verdict(forge.document(), expect=Expectations(pcrs={**right, 8: b"\x01" * 48})) == UNKNOWN


def test_single_pcrs_count_beside_reference_values(forge: Any) -> None:
    expect = Expectations(measurements=[Measurement(CODE)], pcrs={4: b"\xee" * 48})

    assert forge.verdict(forge.document(), expect=expect) == UNKNOWN


# --- nonce and user data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "code"), [("nonce", "nonce_mismatch"), ("user_data", "user_data_mismatch")], ids=["nonce", "user_data"]
)
@pytest.mark.parametrize("found", [None, b"", b"expecteD", b"expected ", b"expecte"], ids=str)
def test_what_must_be_equal_is_neither_missing_nor_similar(
    forge: Any, field: str, code: str, found: bytes | None
) -> None:
    expect = Expectations(**{field: b"expected"})

    assert forge.verdict(forge.document(**{field: b"expected"}), expect=expect)[0] == "ok"
    assert forge.verdict(forge.document(**{field: found}), expect=expect) == (code, field)


@pytest.mark.parametrize("field", ["nonce", "user_data"])
def test_empty_is_not_absent(forge: Any, field: str) -> None:
    expect = Expectations(**{field: b""})

    assert forge.verdict(forge.document(**{field: b""}), expect=expect)[0] == "ok"
    assert forge.verdict(forge.document(**{field: None}), expect=expect)[0] != "ok"


def test_nonce_and_user_data_are_not_taken_for_each_other(forge: Any) -> None:
    document = forge.document(nonce=b"a" * 32, user_data=b"b" * 32)

    assert forge.verdict(document, expect=Expectations(nonce=b"b" * 32))[0] == "nonce_mismatch"
    assert forge.verdict(document, expect=Expectations(user_data=b"a" * 32))[0] == "user_data_mismatch"


# --- public key ------------------------------------------------------------------------------------------------------


def test_a_key_of_the_kind_asked_for_is_taken(forge: Any) -> None:
    key = spki(x25519.X25519PrivateKey.generate())

    assert len(key) == 44
    assert (
        forge.verify(forge.document(public_key=key), expect=Expectations(public_key=KeyKind.X25519)).public_key == key
    )


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"x" * 44,
        spki(ed25519.Ed25519PrivateKey.generate()),
        spki(x448.X448PrivateKey.generate()),
        spki(ec.generate_private_key(ec.SECP256R1())),
        spki(x25519.X25519PrivateKey.generate()) + b"\0",
        spki(x25519.X25519PrivateKey.generate())[:-1],
        x25519.X25519PrivateKey.generate().public_key().public_bytes_raw(),
        bytes.fromhex("302c300706032b656e0500032100") + bytes(range(32)),
    ],
    ids=["absent", "noise", "Ed25519", "X448", "P-256", "trailing", "short", "raw", "parameters"],
)
def test_a_key_of_another_kind_is_malformed(forge: Any, key: bytes | None) -> None:
    expect = Expectations(public_key=KeyKind.X25519)

    assert forge.verdict(forge.document(public_key=key), expect=expect) == ("malformed", "public_key")
    assert forge.verdict(forge.document(public_key=key))[0] == "ok"
