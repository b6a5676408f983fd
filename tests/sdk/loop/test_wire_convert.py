"""Records and messages, both ways."""

from __future__ import annotations

import time

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    ErrorVisibility,
    Origin,
    RequestMetadata,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.loop import convert
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.goplugin.broker_pb2 import ConnInfo
from innkeeper_sdk.proto.loop import capabilities_registry_pb2 as registry_pb

TEXT = st.text(max_size=20)
U32 = st.integers(0, 2**32 - 1)
PAYLOADS = st.builds(AnyMessage, type_url=TEXT, value=st.binary(max_size=40))
METADATA = st.builds(
    RequestMetadata,
    workflow_id=TEXT,
    workflow_owner=TEXT,
    workflow_execution_id=TEXT,
    workflow_name=TEXT,
    decoded_workflow_name=TEXT,
    workflow_tag=TEXT,
    reference_id=TEXT,
    workflow_don_id=U32,
    workflow_don_config_version=U32,
)
REQUESTS = st.builds(
    CapabilityRequest, metadata=METADATA, capability_id=st.just("a@1.0.0"), method=TEXT, payload=PAYLOADS
)
ERRORS = st.builds(
    CapabilityError,
    TEXT,
    error_code=st.sampled_from(ErrorCode),
    origin=st.sampled_from(Origin),
    visibility=st.sampled_from(ErrorVisibility),
)


def parts(error: CapabilityError) -> tuple[str, ErrorCode, Origin, ErrorVisibility]:
    return error.message, error.error_code, error.origin, error.visibility


# Bytes, written out by hand from the numbers of the wire.


def test_the_bytes_of_a_call_are_those_of_the_wire() -> None:
    request = CapabilityRequest(
        metadata=RequestMetadata(workflow_id="w", workflow_owner="o", workflow_execution_id="e", reference_id="7"),
        capability_id="c@1.0.0",
        method="M",
        payload=AnyMessage(type_url="t", value=b"v"),
    )

    assert (
        convert.request_to_proto(request).SerializeToString(deterministic=True)
        == (
            b"\x0a\x10" + b"\x0a\x01w\x12\x01e\x1a\x01o\x30\x01\x38\x01\x42\x017"
            b"\x12\x00"  # config, empty but there
            b"\x1a\x00"  # inputs, likewise
            b"\x22\x06\x0a\x01t\x12\x01v"
            b"\x32\x01M"
            b"\x3a\x07c@1.0.0"
        )
    )


def test_the_bytes_of_answers_are_those_of_the_wire() -> None:
    answer = CapabilityResponse(payload=AnyMessage(type_url="t"))

    assert convert.response_to_proto(answer).SerializeToString(deterministic=True) == (
        b"\x0a\x00\x1a\x00\x22\x03\x0a\x01t"
    )
    failure = convert.response_to_proto(CapabilityError("m", error_code=ErrorCode.NotFound))
    assert failure.SerializeToString(deterministic=True) == (b"\x0a\x00\x12\x18Public:System:NotFound:m\x1a\x00")


def test_the_bytes_of_a_triggers_messages_are_those_of_the_wire() -> None:
    event = TriggerEvent(id="i", payload=AnyMessage(type_url="t"))

    assert pb.TriggerResponseMessage(ack=Empty()).SerializeToString() == b"\x0a\x00"
    assert convert.event_to_proto(event, capability_id="c").SerializeToString(deterministic=True) == (
        b"\x12\x0f\x0a\x0d\x0a\x01c\x12\x01i\x22\x00\x32\x03\x0a\x01t"
    )


def test_the_bytes_of_the_registry_and_the_broker_are_those_of_the_wire() -> None:
    add = registry_pb.AddRequest(capabilityID=5, type=convert.api_type(CapabilityType.COMBINED))

    assert add.SerializeToString() == b"\x08\x05\x10\x03"
    assert ConnInfo(service_id=3, network="unix", address="/s").SerializeToString() == b"\x08\x03\x12\x04unix\x1a\x02/s"
    assert pb.InitialiseRequest(config="c", capRegistry_id=4, org_resolver_id=9).SerializeToString() == (
        b"\x0a\x01c\x28\x04\x58\x09"
    )


# There and back.


@given(REQUESTS)
def test_a_call_comes_back_as_it_was(request: CapabilityRequest) -> None:
    proto = pb.CapabilityRequest.FromString(convert.request_to_proto(request).SerializeToString())

    assert convert.request_from_proto(proto, capability_id="a@1.0.0") == request


def test_a_call_is_for_the_capability_that_is_served_whatever_it_names() -> None:
    proto = pb.CapabilityRequest(capabilityId="other@1.0.0")
    proto.metadata.SetInParent()
    proto.payload.SetInParent()

    assert convert.request_from_proto(proto, capability_id="a@1.0.0").capability_id == "a@1.0.0"


@given(METADATA, TEXT.filter(bool), TEXT, PAYLOADS)
def test_a_registration_comes_back_as_it_was(
    metadata: RequestMetadata, trigger_id: str, method: str, payload: AnyMessage
) -> None:
    record = TriggerRegistration(trigger_id=trigger_id, metadata=metadata, method=method, payload=payload)
    proto = pb.TriggerRegistrationRequest.FromString(convert.registration_to_proto(record).SerializeToString())

    assert convert.registration_from_proto(proto) == record


@given(TEXT.filter(bool), PAYLOADS)
def test_an_event_comes_back_as_it_was(event_id: str, payload: AnyMessage) -> None:
    event = TriggerEvent(id=event_id, payload=payload)
    message = pb.TriggerResponseMessage.FromString(convert.event_to_proto(event, capability_id="c").SerializeToString())

    assert message.WhichOneof("message") == "response"
    assert convert.event_from_proto(message.response) == event


@given(PAYLOADS)
def test_an_answer_comes_back_as_it_was(payload: AnyMessage) -> None:
    answer = CapabilityResponse(payload=payload)

    assert convert.response_from_proto(convert.response_to_proto(answer)) == answer


@pytest.mark.parametrize("kind", CapabilityType)
def test_every_type_comes_back_as_it_was(kind: CapabilityType) -> None:
    info = CapabilityInfo(id="a@1.0.0", type=kind, description="d")

    assert convert.info_from_proto(convert.info_to_proto(info)) == info


@pytest.mark.parametrize("number", [0, 6, 99])
def test_a_type_that_is_not_known_is_an_error(number: int) -> None:
    reply = pb.CapabilityInfoReply(id="a@1.0.0")
    reply.MergeFromString(b"\x10" + bytes([number]))

    with pytest.raises(CapabilityError, match="no known type"):
        convert.info_from_proto(reply)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (CapabilityType.TRIGGER, 1),
        (CapabilityType.ACTION, 2),
        (CapabilityType.CONSENSUS, 2),
        (CapabilityType.TARGET, 2),
        (CapabilityType.COMBINED, 3),
    ],
)
def test_the_registry_is_told_which_services_a_type_has(kind: CapabilityType, number: int) -> None:
    assert convert.api_type(kind) == number


# Errors.


@given(ERRORS)
def test_an_error_comes_back_in_its_four_parts(error: CapabilityError) -> None:
    with pytest.raises(CapabilityError) as back:
        convert.response_from_proto(convert.response_to_proto(error))

    assert parts(back.value) == parts(error)
    with pytest.raises(CapabilityError) as told:
        convert.event_from_proto(convert.event_to_proto(error, capability_id="c").response)
    assert parts(told.value) == parts(error)


# What is refused.


@pytest.mark.parametrize(("missing", "said"), [("metadata", "who asks"), ("payload", "no payload")])
def test_a_call_without_metadata_or_payload_is_refused(missing: str, said: str) -> None:
    proto = pb.CapabilityRequest()
    proto.metadata.SetInParent()
    proto.payload.SetInParent()
    proto.ClearField(missing)  # type: ignore[arg-type] # one of two names

    with pytest.raises(CapabilityError, match=said) as refused:
        convert.request_from_proto(proto, capability_id="a@1.0.0")
    assert refused.value.error_code is ErrorCode.InvalidArgument


@pytest.mark.parametrize(
    ("missing", "said"), [("metadata", "who asks"), ("payload", "no payload"), ("triggerId", "no trigger id")]
)
def test_a_registration_without_metadata_payload_or_id_is_refused(missing: str, said: str) -> None:
    proto = pb.TriggerRegistrationRequest(triggerId="t")
    proto.metadata.SetInParent()
    proto.payload.SetInParent()
    proto.ClearField(missing)  # type: ignore[arg-type] # one of three names

    with pytest.raises(CapabilityError, match=said):
        convert.registration_from_proto(proto)


def test_an_answer_without_a_payload_is_an_error() -> None:
    with pytest.raises(CapabilityError, match="without a payload"):
        convert.response_from_proto(pb.CapabilityResponse())


@pytest.mark.parametrize("event", [pb.TriggerEvent(), pb.TriggerEvent(id="i"), pb.TriggerEvent(payload=AnyMessage())])
def test_an_event_without_an_id_or_a_payload_is_an_error(event: pb.TriggerEvent) -> None:
    with pytest.raises(CapabilityError, match="without an id"):
        convert.event_from_proto(pb.TriggerResponse(event=event))


# Deadlines and the metadata of calls.


def test_a_deadline_comes_back_about_as_it_was() -> None:
    deadline = time.monotonic() + 30

    assert convert.deadline_in(convert.seconds_until(deadline)) == pytest.approx(deadline, abs=1)


def test_no_deadline_stays_none_and_a_past_one_is_now() -> None:
    assert convert.seconds_until(None) is None
    assert convert.deadline_in(None) is None
    assert convert.deadline_in(1e10) is None
    assert convert.seconds_until(time.monotonic() - 5) == 0.0


def test_who_it_is_for_is_handed_on_without_0x_and_in_lower_case() -> None:
    metadata = RequestMetadata(workflow_id="0xAB", workflow_owner="0xCD")

    assert convert.call_metadata(metadata, "k") == (
        ("x-chainlink-owner", "cd"),
        ("x-chainlink-workflow", "ab"),
        ("x-innkeeper-idempotency-key", "k"),
    )


@given(TEXT, TEXT, TEXT)
def test_the_metadata_of_a_call_is_always_what_grpc_takes(workflow: str, owner: str, key: str) -> None:
    for name, value in convert.call_metadata(RequestMetadata(workflow_id=workflow, workflow_owner=owner), key):
        assert name.islower()
        assert value
        assert all(" " <= character <= "~" for character in value)


def test_the_idempotency_key_is_found_among_the_metadata() -> None:
    pairs = [("other", "x"), ("x-innkeeper-idempotency-key", "k"), ("x-innkeeper-idempotency-key", "l")]

    assert convert.idempotency_key(pairs) == "k"
    assert convert.idempotency_key([("other", b"x")]) == ""
    assert convert.idempotency_key(None) == ""
