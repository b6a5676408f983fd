"""The header and the context of reports."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_consensus.header import HEADER_LENGTH, report_context, report_header, report_id
from innkeeper_sdk.capability import CapabilityError, RequestMetadata

EXECUTION = hashlib.sha256(b"x").hexdigest()
METADATA = RequestMetadata(
    workflow_id="11" * 32,
    workflow_owner="22" * 20,
    workflow_execution_id=EXECUTION,
    workflow_name="38383931353862366163",
    reference_id="258",
    workflow_don_id=0x01020304,
    workflow_don_config_version=0x05060708,
)


def test_every_field_of_a_header_is_at_its_place() -> None:
    header = report_header(METADATA, 1767225900)
    assert len(header) == HEADER_LENGTH == 109
    assert header[0] == 1
    assert header[1:33].hex() == EXECUTION
    assert int.from_bytes(header[33:37], "big") == 1767225900
    assert header[37:41].hex() == "01020304"
    assert header[41:45].hex() == "05060708"
    assert header[45:77].hex() == "11" * 32
    assert header[77:87] == b"889158b6ac"
    assert header[87:107].hex() == "22" * 20
    assert header[107:109].hex() == "0102"


def test_a_leading_0x_is_accepted_and_a_short_name_is_filled_up() -> None:
    prefixed = evolve(METADATA, workflow_id="0x" + "11" * 32, workflow_owner="0x" + "22" * 20)
    assert report_header(prefixed, 0) == report_header(METADATA, 0)
    assert report_header(evolve(METADATA, workflow_name="3838"), 0)[77:87].hex() == "3838" + "0" * 16
    assert report_header(evolve(METADATA, workflow_name="383"), 0)[77:87].hex() == "383" + "0" * 17


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"workflow_id": "11" * 31}, "WorkflowID: wrong length: expected 32 bytes, got 31"),
        ({"workflow_id": ""}, "WorkflowID: wrong length: expected 32 bytes, got 0"),
        ({"workflow_execution_id": "zz"}, "ExecutionID: invalid hex in field: 'zz'"),
        ({"workflow_execution_id": "1" * 63}, f"ExecutionID: invalid hex in field: '{'1' * 63}'"),
        ({"workflow_execution_id": "1 " * 64}, f"ExecutionID: invalid hex in field: '{'1 ' * 40}'"),
        ({"workflow_owner": "22" * 21}, "WorkflowOwner: wrong length: expected 20 bytes, got 21"),
        ({"workflow_owner": "0x0x" + "22" * 20}, f"WorkflowOwner: invalid hex in field: '0x0x{'22' * 20}'"),
        ({"workflow_name": "38" * 11}, "WorkflowName: wrong length: expected 10 bytes, got 11"),
        ({"workflow_don_id": 2**32}, "DONID: expected a number of 32 bits, found 4294967296"),
        ({"workflow_don_config_version": -1}, "DONConfigVersion: expected a number of 32 bits, found -1"),
        ({"reference_id": "65536"}, "report id: expected a decimal callback id of at most 65535, found '65536'"),
    ],
)
def test_a_field_that_does_not_fit_is_named(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        report_header(evolve(METADATA, **changes), 0)
    assert caught.value.serialize() == f"Public:System:Internal:{text}"


def test_a_time_beyond_32_bits_is_refused() -> None:
    with pytest.raises(CapabilityError, match="Timestamp: expected a number of 32 bits"):
        report_header(METADATA, 2**32)


@pytest.mark.parametrize(("reference", "encoded"), [("0", "0000"), ("1", "0001"), ("255", "00ff"), ("65535", "ffff")])
def test_a_report_id_is_the_callback_id_in_two_bytes(reference: str, encoded: str) -> None:
    assert report_id(reference).hex() == encoded


@pytest.mark.parametrize("reference", ["", "-1", "65536", "1.0", "0x1", " 1", "1\n", "٣", "trigger_0", "9" * 5000])
def test_another_reference_is_no_report_id(reference: str) -> None:
    with pytest.raises(CapabilityError, match="report id: expected a decimal callback id"):
        report_id(reference)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1))
def test_a_context_is_digest_number_and_zeros(digest: bytes, sequence: int) -> None:
    context = report_context(digest, sequence)
    assert len(context) == 96
    assert context[:32] == digest
    assert context[32:59] == bytes(27)
    assert int.from_bytes(context[59:63], "big") == sequence
    assert context[63:] == bytes(33)


def test_a_context_takes_no_other_digest_and_no_longer_number() -> None:
    with pytest.raises(ValueError, match="32 bytes, found 31"):
        report_context(bytes(31), 1)
    with pytest.raises(CapabilityError, match="SeqNr: expected a number of 32 bits"):
        report_context(bytes(32), 2**32)
