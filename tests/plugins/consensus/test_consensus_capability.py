"""The capability: methods, messages, limits and lifetime."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attrs import evolve
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from innkeeper_consensus.capability import Consensus
from innkeeper_consensus.limits import OBSERVATION_SIZE_LIMIT
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    CapabilityType,
    ErrorCode,
    RequestMetadata,
    TriggerRegistration,
)
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AggregationType,
    ConsensusDescriptor,
    ReportRequest,
    ReportResponse,
    SimpleConsensusInputs,
)
from innkeeper_sdk.proto.values.v1.values_pb2 import Map, Value

METADATA = RequestMetadata(
    workflow_id="11" * 32,
    workflow_owner="22" * 20,
    workflow_execution_id="33" * 32,
    workflow_name="38383931353862366163",
    reference_id="0",
)
SIMPLE = SimpleConsensusInputs(
    value=Value(float64_value=1.5),
    descriptors=ConsensusDescriptor(aggregation=AggregationType.AGGREGATION_TYPE_MEDIAN),
)
REPORT = ReportRequest(encoded_payload=b"\xde\xad", encoder_name="evm", signing_algo="ecdsa", hashing_algo="keccak256")


class FixedLimits:
    """Limits that remember who asked."""

    def __init__(self, *, size: int = 100_000) -> None:
        self.values = {OBSERVATION_SIZE_LIMIT: size}
        self.asked: set[tuple[str, str, str]] = set()

    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> int:
        self.asked.add((name, owner, workflow_id))
        return self.values[name]


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def request(method: str, message: Message, metadata: RequestMetadata = METADATA) -> CapabilityRequest:
    payload = AnyMessage()
    payload.Pack(message)
    return CapabilityRequest(metadata, "consensus@1.0.0-alpha", method, payload)


@pytest.fixture
def limits() -> FixedLimits:
    return FixedLimits()


@pytest.fixture
async def consensus(tmp_path: Path, limits: FixedLimits) -> AsyncIterator[Consensus]:
    capability = Consensus(
        limits=limits, logger=logging.getLogger("innkeeper.test.consensus"), directory=tmp_path, clock=lambda: 100.0
    )
    await capability.start()
    yield capability
    await capability.close()


async def test_it_says_what_it_is(consensus: Consensus) -> None:
    info = consensus.info
    assert (info.id, info.type) == ("consensus@1.0.0-alpha", CapabilityType.CONSENSUS)
    assert {(method.name, method.input, method.output, method.idempotent) for method in info.methods.values()} == {
        ("Simple", "sdk.v1alpha.SimpleConsensusInputs", "values.v1.Value", True),
        ("Report", "sdk.v1alpha.ReportRequest", "sdk.v1alpha.ReportResponse", True),
    }


async def test_simple_answers_a_value(consensus: Consensus) -> None:
    response = await consensus.execute(request("Simple", SIMPLE))
    assert response.payload.type_url == "type.googleapis.com/values.v1.Value"
    assert Value.FromString(response.payload.value) == SIMPLE.value


async def test_report_answers_a_report_of_the_callers(consensus: Consensus) -> None:
    response = await consensus.execute(request("Report", REPORT, evolve(METADATA, reference_id="5")))
    assert response.payload.type_url == "type.googleapis.com/sdk.v1alpha.ReportResponse"
    report = ReportResponse.FromString(response.payload.value)
    assert report.raw_report[33:37] == (100).to_bytes(4, "big")
    assert report.raw_report[45:77].hex() == METADATA.workflow_id
    assert report.raw_report[107:109].hex() == "0005"


async def test_answers_are_encoded_the_same_way_every_time(consensus: Consensus) -> None:
    forwards, backwards = Value(map_value=Map()), Value(map_value=Map())
    for value, keys in ((forwards, "abcdefgh"), (backwards, "hgfedcba")):
        for key in keys:
            value.map_value.fields[key].string_value = key
    descriptors = ConsensusDescriptor(aggregation=AggregationType.AGGREGATION_TYPE_IDENTICAL)
    answers = [
        (
            await consensus.execute(request("Simple", SimpleConsensusInputs(value=value, descriptors=descriptors)))
        ).payload
        for value in (forwards, backwards)
    ]
    assert answers[0].value == answers[1].value == forwards.SerializeToString(deterministic=True)


@pytest.mark.parametrize("method", ["", "simple", "Trigger"])
async def test_another_method_is_not_found(consensus: Consensus, method: str) -> None:
    with pytest.raises(CapabilityError, match=f"method {method} not found"):
        await consensus.execute(request(method, SIMPLE))
    registration = TriggerRegistration("id", METADATA, method, AnyMessage())
    with pytest.raises(CapabilityError, match=f"trigger {method} not found"):
        await consensus.register_trigger(registration)


@pytest.mark.parametrize(
    ("method", "payload", "text"),
    [
        (
            "Simple",
            AnyMessage(),
            "failed to unmarshal payload: expected sdk.v1alpha.SimpleConsensusInputs, found nothing",
        ),
        (
            "Report",
            AnyMessage(type_url="type.googleapis.com/sdk.v1alpha.SimpleConsensusInputs"),
            "failed to unmarshal payload: expected sdk.v1alpha.ReportRequest, found "
            "type.googleapis.com/sdk.v1alpha.SimpleConsensusInputs",
        ),
        (
            "Simple",
            AnyMessage(type_url="type.googleapis.com/sdk.v1alpha.SimpleConsensusInputs", value=b"\x0a\xff"),
            "failed to unmarshal sdk.v1alpha.SimpleConsensusInputs: ",
        ),
    ],
)
async def test_another_payload_is_the_authors_fault(
    consensus: Consensus, method: str, payload: AnyMessage, text: str
) -> None:
    with pytest.raises(CapabilityError) as caught:
        await consensus.execute(CapabilityRequest(METADATA, "consensus@1.0.0-alpha", method, payload))
    assert caught.value.serialize().startswith(f"Public:User:InvalidArgument:{text}")


async def test_a_value_nested_too_deep_to_decode_is_refused(consensus: Consensus) -> None:
    value = b""
    for _ in range(200):
        value = _field(5, _field(2, value))
    payload = AnyMessage(type_url="type.googleapis.com/sdk.v1alpha.SimpleConsensusInputs", value=_field(1, value))
    with pytest.raises(CapabilityError) as caught:
        await consensus.execute(CapabilityRequest(METADATA, "consensus@1.0.0-alpha", "Simple", payload))
    assert caught.value.error_code is ErrorCode.InvalidArgument


async def test_limits_are_asked_for_the_workflow(consensus: Consensus, limits: FixedLimits) -> None:
    await consensus.execute(request("Simple", SIMPLE))
    who = (METADATA.workflow_owner, METADATA.workflow_id)
    assert limits.asked == {(OBSERVATION_SIZE_LIMIT, *who)}


async def test_the_size_limit_applies_to_both_methods(consensus: Consensus, limits: FixedLimits) -> None:
    limits.values[OBSERVATION_SIZE_LIMIT] = 10
    for method, message in (("Simple", SIMPLE), ("Report", REPORT)):
        with pytest.raises(CapabilityError, match="limit is 10b"):
            await consensus.execute(request(method, message))


async def test_a_call_whose_time_is_up_is_not_answered(consensus: Consensus) -> None:
    late = evolve(request("Simple", SIMPLE), deadline=time.monotonic())
    with pytest.raises(CapabilityError) as caught:
        await consensus.execute(late)
    assert caught.value.serialize() == (
        "Public:System:DeadlineExceeded:timeout exceeded: could not process consensus request before expiry, requestID "
        f"{'33' * 32}-0"
    )
    assert await consensus.execute(evolve(late, deadline=time.monotonic() + 60))


async def test_before_the_first_report_no_key_is_made(consensus: Consensus, tmp_path: Path) -> None:
    await consensus.execute(request("Simple", SIMPLE))
    assert entries(tmp_path) == []


def _field(number: int, content: bytes) -> bytes:
    """Return a field of length-delimited wire type."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + content
