"""The answers that the guests of the yardsticks get, the same from the subject and from the baseline."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any

from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest,
    CapabilityResponse,
    GetSecretsRequest,
    Secret,
    SecretResponse,
    SimpleConsensusInputs,
)

__all__ = ["answer_call", "answer_secrets"]


def answer_call(request: CapabilityRequest) -> CapabilityResponse:
    """Answer a call of consensus with what it observed."""
    inputs = SimpleConsensusInputs()
    request.payload.Unpack(inputs)
    payload = Any()
    payload.Pack(inputs.value)
    return CapabilityResponse(payload=payload)


def answer_secrets(request: GetSecretsRequest) -> list[SecretResponse]:
    """Answer every secret with the value ``Bar``."""
    return [
        SecretResponse(secret=Secret(id=item.id, namespace=item.namespace, value="Bar")) for item in request.requests
    ]
