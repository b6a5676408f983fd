"""The simulated NSM: its documents, which the one verifier takes, and its refusals, which are the device's."""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innkeeper_confidential_workflows.attestation import (
    AWS_ROOT_G1,
    Expectations,
    KeyKind,
    Measurement,
    explain,
    is_simulation,
    peek_root,
)
from innkeeper_confidential_workflows.nsm import Authority, SimulatedNsm, simulated_pcr

ERRORS = {"InvalidArgument", "InvalidIndex", "ReadOnlyIndex", "InvalidOperation", "InputTooLarge"}


def ask(bench: Any, request: Any) -> Any:
    return cbor2.loads(bench.nsm.handle(cbor2.dumps(request)))


def attest(bench: Any, **fields: Any) -> Any:
    return ask(bench, {"Attestation": {"user_data": None, "nonce": None, "public_key": None, **fields}})


# --- documents -------------------------------------------------------------------------------------------------------


def test_the_verifier_takes_its_documents_under_its_root(bench: Any) -> None:
    key = X25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    found = bench.verify(
        bench.client.attest(b"u" * 32, b"n" * 32, key),
        user_data=b"u" * 32,
        nonce=b"n" * 32,
        public_key=KeyKind.X25519,
        measurements=[Measurement({0: b"\x01" * 48, 1: b"\x02" * 48, 2: b"\x03" * 48})],
        not_before=bench.clock(),
    )

    assert found.tee == "sim"
    assert found.module_id == "i-INSECURE-SIM-0123-enc"
    assert found.timestamp == bench.clock()
    assert found.pcrs[4] == b"\x05" * 48
    assert found.pcrs[3] == bytes(48)


def test_nobody_takes_its_documents_who_trusts_hardware_alone(bench: Any) -> None:
    report = explain(bench.client.attest(), now=bench.clock(), roots=[AWS_ROOT_G1], expect=Expectations())

    assert (report.verdict, report.steps[-1].name) == ("untrusted_chain", "root")


def test_its_documents_are_built_as_real_ones_are(bench: Any) -> None:
    document = bench.client.attest()
    parts = cbor2.loads(document)
    payload = cbor2.loads(parts[2])

    assert document.startswith(bytes.fromhex("8444a1013822a059"))
    assert parts[2][:1] == b"\xbf"
    assert list(payload) == [
        "module_id",
        "digest",
        "timestamp",
        "pcrs",
        "certificate",
        "cabundle",
        "public_key",
        "user_data",
        "nonce",
    ]
    assert payload["public_key"] is payload["user_data"] is payload["nonce"] is None
    assert list(payload["pcrs"]) == list(range(16))
    assert {len(value) for value in payload["pcrs"].values()} == {48}
    assert len(payload["cabundle"]) == 4


def test_everything_in_a_document_says_that_it_is_a_simulation(bench: Any) -> None:
    payload = cbor2.loads(cbor2.loads(bench.client.attest())[2])

    assert payload["module_id"].startswith("i-INSECURE-SIM-")
    for der in [*payload["cabundle"], payload["certificate"]]:
        assert is_simulation(der)
        name = x509.load_der_x509_certificate(der).subject.rfc4514_string()
        assert "INSECURE SIMULATION - NO TEE" in name
        assert ".INSECURE.invalid" in name
    assert peek_root(bench.client.attest()) == bench.authority.root_certificate


def test_a_module_id_that_hides_it_is_refused(bench: Any) -> None:
    with pytest.raises(ValueError, match="i-INSECURE-SIM-"):
        SimulatedNsm(bench.authority, module_id="i-0368fa67e156d6d23-enc", pcrs={})


def test_an_enclave_that_was_not_measured_is_a_debug_enclave(bench: Any) -> None:
    nsm = SimulatedNsm(bench.authority, module_id="i-INSECURE-SIM-1", pcrs={}, clock=bench.clock)
    document = cbor2.loads(nsm.handle(cbor2.dumps({"Attestation": {}})))["Attestation"]["document"]

    report = explain(document, now=bench.clock(), roots=[bench.authority.root], expect=Expectations())

    assert report.verdict == "debug_enclave"


def test_documents_stay_valid_from_chain_to_chain(bench: Any) -> None:
    leaves = set()
    for _ in range(40):
        document = bench.client.attest(nonce=b"n")
        # For as long as it is fresh, its chain is valid.
        bench.verify(document, nonce=b"n")
        bench.clock.advance(timedelta(minutes=5))
        bench.verify(document, nonce=b"n")
        leaves.add(cbor2.loads(cbor2.loads(document)[2])["certificate"])
        bench.clock.advance(timedelta(minutes=5))

    assert len(leaves) == 3


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "most"), [("user_data", 512), ("nonce", 512), ("public_key", 1024)])
def test_fields_are_limited_as_the_device_limits_them(bench: Any, field: str, most: int) -> None:
    assert "document" in attest(bench, **{field: b"x" * most})["Attestation"]
    assert attest(bench, **{field: b"x" * (most + 1)}) == {"Error": "InputTooLarge"}


def test_an_empty_public_key_is_refused_and_empty_user_data_is_not(bench: Any) -> None:
    assert attest(bench, public_key=b"") == {"Error": "InvalidArgument"}
    assert "document" in attest(bench, user_data=b"", nonce=b"")["Attestation"]


def test_the_largest_document_is_one_that_the_verifier_reads(bench: Any) -> None:
    for index in range(16, 32):
        bench.client.lock(index)

    document = bench.client.attest(b"u" * 512, b"n" * 512, b"k" * 1024)

    assert len(bench.verify(document).pcrs) == 32


@pytest.mark.parametrize("value", ["text", 1, True, [1, 2], {}], ids=str)
def test_fields_are_byte_strings(bench: Any, value: Any) -> None:
    assert attest(bench, nonce=value) == {"Error": "InvalidArgument"}


# --- requests --------------------------------------------------------------------------------------------------------


def test_it_describes_itself(bench: Any) -> None:
    assert ask(bench, "DescribeNSM")["DescribeNSM"] == {
        "version_major": 1,
        "version_minor": 0,
        "version_patch": 0,
        "module_id": "i-INSECURE-SIM-0123-enc",
        "max_pcrs": 32,
        "locked_pcrs": list(range(16)),
        "digest": "SHA384",
    }


def test_it_gives_random_bytes_that_are_new_each_time(bench: Any) -> None:
    first, second = (ask(bench, "GetRandom")["GetRandom"]["random"] for _ in range(2))

    assert len(first) == len(second) == 256
    assert first != second


def test_a_pcr_of_the_enclave_is_extended_locked_and_attested(bench: Any) -> None:
    value = hashlib.sha384(bytes(48) + b"config").digest()

    assert ask(bench, {"ExtendPCR": {"index": 16, "data": b"config"}}) == {"ExtendPCR": {"data": value}}
    assert 16 not in bench.verify(bench.client.attest()).pcrs
    assert ask(bench, {"LockPCR": {"index": 16}}) == "LockPCR"
    assert ask(bench, {"DescribePCR": {"index": 16}}) == {"DescribePCR": {"lock": True, "data": value}}
    assert bench.verify(bench.client.attest()).pcrs[16] == value


def test_a_locked_pcr_is_neither_extended_nor_locked_again(bench: Any) -> None:
    bench.client.lock(16)

    for index in (0, 15, 16):
        assert ask(bench, {"ExtendPCR": {"index": index, "data": b"x"}}) == {"Error": "ReadOnlyIndex"}
        assert ask(bench, {"LockPCR": {"index": index}}) == {"Error": "ReadOnlyIndex"}
    assert bench.verify(bench.client.attest()).pcrs[16] == bytes(48)


def test_the_first_pcrs_are_locked_together(bench: Any) -> None:
    assert ask(bench, {"LockPCRs": {"range": 20}}) == "LockPCRs"
    assert ask(bench, "DescribeNSM")["DescribeNSM"]["locked_pcrs"] == list(range(20))
    assert ask(bench, {"LockPCRs": {"range": 33}}) == {"Error": "InvalidArgument"}
    assert ask(bench, {"LockPCRs": {"range": -1}}) == {"Error": "InvalidArgument"}


@pytest.mark.parametrize("index", [-1, 32, 65536])
@pytest.mark.parametrize("request_name", ["DescribePCR", "ExtendPCR", "LockPCR"])
def test_there_are_32_pcrs(bench: Any, request_name: str, index: int) -> None:
    fields = {"index": index, **({"data": b"x"} if request_name == "ExtendPCR" else {})}

    assert ask(bench, {request_name: fields}) == {"Error": "InvalidIndex"}


@pytest.mark.parametrize(
    "request_body", ["Nothing", {"Nothing": {}}, 1, None, [], {}, {"a": 1, "b": 2}, {1: {}}], ids=str
)
def test_what_is_no_request_is_no_operation(bench: Any, request_body: Any) -> None:
    assert ask(bench, request_body) == {"Error": "InvalidOperation"}


@pytest.mark.parametrize(
    "request_body",
    [
        "LockPCR",
        {"LockPCR": {}},
        {"LockPCR": {"index": "16"}},
        {"LockPCR": {"index": True}},
        {"LockPCR": {"index": None}},
        {"LockPCR": {"index": 16, "more": 1}},
        {"LockPCR": [16]},
        {"ExtendPCR": {"index": 16}},
        {"ExtendPCR": {"index": 16, "data": "x"}},
        {"Attestation": {"nonces": b"x"}},
        {"GetRandom": {"count": 1}},
    ],
    ids=str,
)
def test_a_request_has_its_own_fields(bench: Any, request_body: Any) -> None:
    assert ask(bench, request_body) == {"Error": "InvalidArgument"}
    assert not bench.client.describe(16).locked


def test_a_request_without_optional_fields_is_one(bench: Any) -> None:
    assert "document" in ask(bench, {"Attestation": {}})["Attestation"]
    assert "document" in ask(bench, "Attestation")["Attestation"]


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xa1", b"\x6bDescribeNSM\x00", b"\xc1\x00"], ids=bytes.hex)
def test_what_is_no_cbor_is_no_operation(bench: Any, data: bytes) -> None:
    assert cbor2.loads(bench.nsm.handle(data)) == {"Error": "InvalidOperation"}


def test_a_request_of_more_than_4096_bytes_is_too_large(bench: Any) -> None:
    fitting = cbor2.dumps({"ExtendPCR": {"index": 16, "data": b""}})
    data = b"x" * (4096 - len(fitting) - 2)

    assert "data" in ask(bench, {"ExtendPCR": {"index": 16, "data": data}})["ExtendPCR"]
    assert ask(bench, {"ExtendPCR": {"index": 16, "data": data + b"x"}}) == {"Error": "InputTooLarge"}


def test_what_fails_inside_is_answered_and_logged(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Authority):
        def chain(self) -> Any:
            raise OSError("no entropy")

    broken = Broken.create(clock=bench.clock)
    nsm = SimulatedNsm(broken, module_id="i-INSECURE-SIM-1", pcrs={}, clock=bench.clock)

    with caplog.at_level(logging.ERROR):
        answer = cbor2.loads(nsm.handle(cbor2.dumps({"Attestation": {}})))

    assert answer == {"Error": "InternalError"}
    assert "no entropy" in caplog.text


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_get_an_answer(bench: Any, data: bytes) -> None:
    answer = cbor2.loads(bench.nsm.handle(data))

    assert answer.keys() == {"Error"}
    assert answer["Error"] in ERRORS


# --- measurements ----------------------------------------------------------------------------------------------------


def test_a_simulated_measurement_depends_on_data_and_register_and_is_none_of_a_real_image() -> None:
    real = hashlib.sha384(bytes(48) + hashlib.sha384(b"image").digest()).digest()

    values = {simulated_pcr(0, b"image"), simulated_pcr(1, b"image"), simulated_pcr(0, b"other"), real}

    assert len(values) == 4
    assert simulated_pcr(0, b"image") == simulated_pcr(0, b"image")
    assert {len(value) for value in values} == {48}


@pytest.mark.parametrize("pcrs", [{16: b"\x01" * 48}, {-1: b"\x01" * 48}, {0: b"\x01" * 47}, {0: b""}], ids=str)
def test_only_the_first_sixteen_pcrs_are_measured_before_the_start(bench: Any, pcrs: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="PCR"):
        SimulatedNsm(bench.authority, module_id="i-INSECURE-SIM-1", pcrs=pcrs)
