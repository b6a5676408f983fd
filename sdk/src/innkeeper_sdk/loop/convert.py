"""The SDK's records and the wire's messages, turned into each other.

Rules of this module:

1. Go peers need some fields to be there even when nothing is in them (``config``, ``inputs``, ``value``, the metadata
   of a response): they are always sent.
2. A request without metadata says nothing of who asks, so it is refused. One without a payload has the form from
   before payloads, which this SDK does not speak, and is refused too.
3. Deadlines are gRPC's. What the messages have no field for, and what Go peers hand on from call to call, travels as
   the call's metadata.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, TypeAlias

from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    RequestMetadata,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.loop.texts import error_from_text, error_to_text
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.loop import capabilities_registry_pb2 as registry_pb

__all__ = [
    "api_type",
    "call_metadata",
    "deadline_in",
    "event_from_proto",
    "event_to_proto",
    "idempotency_key",
    "info_from_proto",
    "info_to_proto",
    "registration_from_proto",
    "registration_to_proto",
    "request_from_proto",
    "request_to_proto",
    "response_from_proto",
    "response_to_proto",
    "seconds_until",
]

_CallMetadata: TypeAlias = tuple[tuple[str, str], ...]

# Of chainlink-common, contexts/grpc.go: what calls hand on about the workflow on whose behalf they are made.
_OWNER_KEY: Final = "x-chainlink-owner"
_WORKFLOW_KEY: Final = "x-chainlink-workflow"
# Ours; a peer that does not know it ignores it.
_IDEMPOTENCY_KEY: Final = "x-innkeeper-idempotency-key"

# gRPC says that there is no deadline by naming one that is centuries away.
_NEVER: Final = 10 * 365 * 86400.0

_TYPES: Final = {
    CapabilityType.TRIGGER: pb.CAPABILITY_TYPE_TRIGGER,
    CapabilityType.ACTION: pb.CAPABILITY_TYPE_ACTION,
    CapabilityType.CONSENSUS: pb.CAPABILITY_TYPE_CONSENSUS,
    CapabilityType.TARGET: pb.CAPABILITY_TYPE_TARGET,
    CapabilityType.COMBINED: pb.CAPABILITY_TYPE_COMBINED,
}
_TYPES_BACK: Final = {number: kind for kind, number in _TYPES.items()}


def api_type(kind: CapabilityType) -> registry_pb.ExecuteAPIType.ValueType:
    """Return which services a capability of this type serves, as the registry's calls say it."""
    if kind is CapabilityType.TRIGGER:
        return registry_pb.EXECUTE_API_TYPE_TRIGGER
    if kind is CapabilityType.COMBINED:
        return registry_pb.EXECUTE_API_TYPE_COMBINED
    return registry_pb.EXECUTE_API_TYPE_EXECUTE


def info_to_proto(info: CapabilityInfo) -> pb.CapabilityInfoReply:
    """Return what a capability answers to Info; it is local, for a remote one is another node's."""
    return pb.CapabilityInfoReply(
        id=info.id, capability_type=_TYPES[info.type], description=info.description, isLocal=True
    )


def info_from_proto(reply: pb.CapabilityInfoReply) -> CapabilityInfo:
    """Return what a capability says of itself; the wire has no methods, so it has none.

    Raises:
        CapabilityError: Its type is not known.
    """
    kind = _TYPES_BACK.get(reply.capability_type)
    if kind is None:
        raise _unusable(f"capability {reply.id!r} is of no known type ({reply.capability_type})")
    return CapabilityInfo(id=reply.id, type=kind, description=reply.description)


def request_to_proto(request: CapabilityRequest) -> pb.CapabilityRequest:
    """Return a call as the wire has it; its deadline and idempotency key belong to the gRPC call."""
    proto = pb.CapabilityRequest(
        metadata=_metadata_to_proto(request.metadata),
        payload=request.payload,
        method=request.method,
        capabilityId=request.capability_id,
    )
    proto.config.SetInParent()
    proto.inputs.SetInParent()
    return proto


def request_from_proto(
    proto: pb.CapabilityRequest, *, capability_id: str, deadline: float | None = None, idempotency_key: str = ""
) -> CapabilityRequest:
    """Return a call as the SDK has it.

    Args:
        proto: From a peer.
        capability_id: The id of the capability that is served there, whatever the request names.
        deadline: Seconds of ``time.monotonic``.
        idempotency_key: From the call's metadata.

    Raises:
        CapabilityError: It has no metadata or no payload.
    """
    if not proto.HasField("payload"):
        raise _refused("the request has no payload; its older form, with inputs, is not supported")
    return CapabilityRequest(
        metadata=_metadata_from_proto(proto),
        capability_id=capability_id,
        method=proto.method,
        payload=proto.payload,
        deadline=deadline,
        idempotency_key=idempotency_key,
    )


def response_to_proto(answer: CapabilityResponse | CapabilityError) -> pb.CapabilityResponse:
    """Return the answer of a call, or its failure, as the wire has it."""
    proto = pb.CapabilityResponse()
    proto.value.SetInParent()
    proto.metadata.SetInParent()
    if isinstance(answer, CapabilityError):
        proto.error = error_to_text(answer)
    else:
        proto.payload.CopyFrom(answer.payload)
    return proto


def response_from_proto(proto: pb.CapabilityResponse) -> CapabilityResponse:
    """Return the answer of a call.

    Raises:
        CapabilityError: The call failed, or the answer has no payload.
    """
    if proto.error:
        raise error_from_text(proto.error)
    if not proto.HasField("payload"):
        raise _unusable("the capability answered without a payload")
    return CapabilityResponse(payload=proto.payload)


def registration_to_proto(registration: TriggerRegistration) -> pb.TriggerRegistrationRequest:
    """Return a subscription as the wire has it."""
    proto = pb.TriggerRegistrationRequest(
        triggerId=registration.trigger_id,
        metadata=_metadata_to_proto(registration.metadata),
        payload=registration.payload,
        method=registration.method,
    )
    proto.config.SetInParent()
    return proto


def registration_from_proto(proto: pb.TriggerRegistrationRequest) -> TriggerRegistration:
    """Return a subscription as the SDK has it.

    Raises:
        CapabilityError: It has no metadata, no payload or no id.
    """
    if not proto.HasField("payload"):
        raise _refused("the registration has no payload; its older form, with config, is not supported")
    if not proto.triggerId:
        raise _refused("the registration has no trigger id")
    return TriggerRegistration(
        trigger_id=proto.triggerId,
        metadata=_metadata_from_proto(proto),
        method=proto.method,
        payload=proto.payload,
    )


def event_to_proto(event: TriggerEvent | CapabilityError, *, capability_id: str) -> pb.TriggerResponseMessage:
    """Return an event, or the failure that ends a subscription, as the wire has it."""
    message = pb.TriggerResponseMessage()
    if isinstance(event, CapabilityError):
        message.response.error = error_to_text(event)
        return message
    message.response.event.triggerType = capability_id
    message.response.event.id = event.id
    message.response.event.outputs.SetInParent()
    message.response.event.payload.CopyFrom(event.payload)
    return message


def event_from_proto(response: pb.TriggerResponse) -> TriggerEvent:
    """Return an event as the SDK has it.

    Raises:
        CapabilityError: The subscription failed, or the event has no id or no payload.
    """
    if response.error:
        raise error_from_text(response.error)
    event = response.event
    if not event.id or not event.HasField("payload"):
        raise _unusable("the trigger sent an event without an id or without a payload")
    return TriggerEvent(id=event.id, payload=event.payload)


def seconds_until(deadline: float | None) -> float | None:
    """Return the timeout of a gRPC call that is to end by a deadline, in seconds; None without one."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def deadline_in(seconds: float | None) -> float | None:
    """Return the deadline of a gRPC call that has so many seconds left, as ``time.monotonic`` counts."""
    return None if seconds is None or seconds > _NEVER else time.monotonic() + seconds


def call_metadata(metadata: RequestMetadata, idempotency_key: str = "") -> _CallMetadata:
    """Return the metadata of a gRPC call that is made on behalf of a workflow."""
    pairs = (
        (_OWNER_KEY, metadata.workflow_owner.lower().removeprefix("0x")),
        (_WORKFLOW_KEY, metadata.workflow_id.lower().removeprefix("0x")),
        (_IDEMPOTENCY_KEY, idempotency_key),
    )
    # gRPC takes no value that is not printable ASCII.
    return tuple((key, value) for key, value in pairs if value and value.isascii() and value.isprintable())


def idempotency_key(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return the idempotency key among a call's metadata; empty without one."""
    for key, value in metadata or ():
        if key == _IDEMPOTENCY_KEY and isinstance(value, str):
            return value
    return ""


def _metadata_to_proto(metadata: RequestMetadata) -> pb.RequestMetadata:
    return pb.RequestMetadata(
        workflow_id=metadata.workflow_id,
        workflow_execution_id=metadata.workflow_execution_id,
        workflow_owner=metadata.workflow_owner,
        workflow_name=metadata.workflow_name,
        workflow_don_id=metadata.workflow_don_id,
        workflow_don_config_version=metadata.workflow_don_config_version,
        reference_id=metadata.reference_id,
        decoded_workflow_name=metadata.decoded_workflow_name,
        workflow_tag=metadata.workflow_tag,
    )


def _metadata_from_proto(proto: pb.CapabilityRequest | pb.TriggerRegistrationRequest) -> RequestMetadata:
    if not proto.HasField("metadata"):
        raise _refused("the request has no metadata, so it does not say who asks")
    metadata = proto.metadata
    return RequestMetadata(
        workflow_id=metadata.workflow_id,
        workflow_owner=metadata.workflow_owner,
        workflow_execution_id=metadata.workflow_execution_id,
        workflow_name=metadata.workflow_name,
        decoded_workflow_name=metadata.decoded_workflow_name,
        workflow_tag=metadata.workflow_tag,
        reference_id=metadata.reference_id,
        workflow_don_id=metadata.workflow_don_id,
        workflow_don_config_version=metadata.workflow_don_config_version,
    )


def _refused(text: str) -> CapabilityError:
    return CapabilityError(text, error_code=ErrorCode.InvalidArgument)


def _unusable(text: str) -> CapabilityError:
    return CapabilityError(text, error_code=ErrorCode.Internal)
