"""What is said to the capability that runs confidential workflows, and how its answers are read.

Rules of this module:

1. A request is serialized deterministically, once: its digest is what the enclave attests to have answered.
2. Requests carry the older and the newer form of what they ask. Of an answer either form is taken, and two that differ
   are refused.
3. An answer without a payload, with another message, or with broken bytes is the capability's failure, each with its
   own text. The texts are the reference's (chainlink, ``services/workflows/v2/confidential_module.go``).
"""

from __future__ import annotations

import hashlib
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    ConfidentialWorkflowResponse,
    WorkflowExecution,
)
from innkeeper_sdk.capability import CapabilityResponse, RequestMetadata
from innkeeper_sdk.errors import ProviderFailedError
from innkeeper_sdk.module import Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult

__all__ = [
    "CAPABILITY",
    "WHAT",
    "ConfidentialFailedError",
    "build_request",
    "metadata",
    "packed",
    "read_response",
    "unpack",
]

CAPABILITY: Final = "confidential-workflows@1.0.0-alpha"

WHAT: Final = "confidential-workflows capability"
"""What the capability is called in errors."""

_PROVIDER: Final = "confidential-workflows"


class ConfidentialFailedError(ProviderFailedError):
    """Raised when the capability that runs confidential workflows failed, or answered with what is no answer."""

    code = "confidential-failed"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, provider=_PROVIDER, hint=hint)


def build_request(
    spec: WorkflowSpec, binary_sha256: bytes, request: ExecuteRequest, run: Run
) -> ConfidentialWorkflowRequest:
    """Return the request for one execution; all of it is public.

    Args:
        spec: The workflow.
        binary_sha256: Of its binary as it is stored.
        request: What the guest is told.
        run: The attempt.
    """
    return ConfidentialWorkflowRequest(
        execution=WorkflowExecution(
            workflow_id=spec.workflow_id,
            binary_url=spec.binary_url,
            binary_hash=binary_sha256,
            execute_request=request.SerializeToString(deterministic=True),
            owner=f"0x{spec.owner}",
            execution_id=run.execution_id,
            requirements=run.requirements,
            sdk_execute_request=request,
            restrictions=run.restrictions,
        )
    )


def read_response(response: CapabilityResponse) -> tuple[ExecutionResult, bytes]:
    """Return the result of an answer, and the bytes that are to be attested.

    The older form without any bytes is none: its field cannot tell an empty result from no result.

    Args:
        response: What the capability answered.

    Raises:
        ConfidentialFailedError: It is no answer, has no result, or has two that differ.
    """
    answer = ConfidentialWorkflowResponse()
    unpack(response, answer)
    found = answer.sdk_execution_result if answer.HasField("sdk_execution_result") else None
    if not answer.execution_result:
        if found is None:
            raise ConfidentialFailedError(f"{WHAT} returned no execution result")
        return found, found.SerializeToString(deterministic=True)
    try:
        older = ExecutionResult.FromString(answer.execution_result)
    except DecodeError as error:
        raise _unreadable(f"execution_result: {error}") from error
    if found is not None and not _equal(found, older):
        raise ConfidentialFailedError(f"{WHAT} returned two execution results that differ")
    return older, answer.execution_result


def unpack(response: CapabilityResponse, message: Message) -> None:
    """Read an answer into a message.

    Raises:
        ConfidentialFailedError: It has no payload, another message, or broken bytes.
    """
    payload = response.payload
    if payload is None or not payload.type_url:
        raise ConfidentialFailedError(f"{WHAT} returned nil payload")
    if payload.TypeName() != message.DESCRIPTOR.full_name:
        raise _unreadable(f"expected a {message.DESCRIPTOR.full_name}, found a {payload.TypeName():.128}")
    try:
        message.ParseFromString(payload.value)
    except DecodeError as error:
        raise _unreadable(str(error)) from error


def packed(message: Message) -> AnyMessage:
    """Return a message as a payload."""
    payload = AnyMessage()
    payload.Pack(message, deterministic=True)
    return payload


def metadata(spec: WorkflowSpec, execution_id: str) -> RequestMetadata:
    """Return what the capability is told of who asks.

    Args:
        spec: The workflow.
        execution_id: 64 hexadecimal digits; empty while subscribing.
    """
    # The first ten hexadecimal digits of the name's SHA-256, and those in hexadecimal: chainlink-common, pkg/workflows.
    wire_name = hashlib.sha256(spec.name.encode()).hexdigest()[:10]
    return RequestMetadata(
        workflow_id=spec.workflow_id,
        workflow_owner=spec.owner,
        workflow_execution_id=execution_id,
        workflow_name=wire_name.encode().hex(),
        decoded_workflow_name=spec.name,
        workflow_tag=spec.tag,
    )


def _unreadable(what: str) -> ConfidentialFailedError:
    return ConfidentialFailedError(f"failed to unmarshal capability response: {what}")


def _equal(one: Message, other: Message) -> bool:
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
