"""What the monitor is asked to run, read strictly.

Rules of this module:

1. Everything that names something has one spelling: hexadecimal is lower case, an owner begins with ``0x``.
2. A request has its ExecuteRequest in one of two forms, or in both; two that differ are refused, never chosen from.
3. What is asked for and not understood is refused: secrets that are declared ahead, requirements and restrictions with
   fields that this enclave does not know, and another TEE than it is.
4. An execution id is empty while subscribing, and only then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from attrs import field, frozen
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from innkeeper_confidential_workflows.enclave.relay import Identity
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    WorkflowExecution,
)
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import TEE_TYPE_AWS_NITRO, ExecuteRequest, Requirements

__all__ = ["HASH_MISMATCH", "WorkRequest", "malformed", "read_request"]

HASH_MISMATCH: Final = "binary hash mismatch"
"""What the reference's enclave says; the host's operators and their alerts know it."""

_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OWNER: Final = re.compile(r"0x([0-9a-f]{40})", re.ASCII)
_ARTIFACT: Final = "artifact:sha256/"
_SHA256_BYTES: Final = 32
_MAX_LOCATOR: Final = 2048


@frozen(kw_only=True)
class WorkRequest:
    """A request that may be run.

    Attributes:
        identity: Whose execution it is, of which binary, and for which request.
        locator: Where the binary is.
        request: What the guest is told.
        phase: What it is asked for: ``subscribe``, ``trigger`` or ``pre_hook``.
    """

    identity: Identity
    locator: str
    request: ExecuteRequest = field(repr=False)
    phase: str


def malformed(text: str) -> CapabilityError:
    """Return the error for a request that is none."""
    return CapabilityError(f"malformed: {text}", error_code=ErrorCode.InvalidArgument)


def read_request(data: bytes) -> WorkRequest:
    """Return what a request asks for.

    Args:
        data: A serialized ConfidentialWorkflowRequest.

    Raises:
        CapabilityError: It is refused; the text says for which rule.
    """
    try:
        message = ConfidentialWorkflowRequest.FromString(data)
    except DecodeError:
        raise malformed("the request is no ConfidentialWorkflowRequest") from None
    if message.vault_don_secrets:
        raise malformed("vault_don_secrets is not taken: secrets are fetched at run time")
    execution = message.execution
    request = _execute_request(execution)
    phase = request.WhichOneof("request")
    if phase is None:
        raise malformed("the execute request asks for nothing")
    _check_demands(execution)
    identity = _identity(execution, hashlib.sha256(data).digest())
    if (phase == "subscribe") != (not identity.execution_id):
        raise malformed("an execution has an id, and subscribing has none")
    return WorkRequest(
        identity=identity,
        locator=_locator(message, identity.binary_sha256),
        request=request,
        phase=phase,
    )


def _identity(execution: WorkflowExecution, request_sha256: bytes) -> Identity:
    if not _ID.fullmatch(execution.workflow_id):
        raise malformed("workflow_id is not 64 lower-case hexadecimal digits")
    owner = _OWNER.fullmatch(execution.owner)
    if owner is None:
        raise malformed("owner is not 0x and 40 lower-case hexadecimal digits")
    if execution.execution_id and not _ID.fullmatch(execution.execution_id):
        raise malformed("execution_id is not 64 lower-case hexadecimal digits, or empty")
    if len(execution.binary_hash) != _SHA256_BYTES:
        raise malformed(f"binary_hash has {len(execution.binary_hash)} bytes, expected {_SHA256_BYTES}")
    return Identity(
        workflow_id=execution.workflow_id,
        owner=owner[1],
        execution_id=execution.execution_id,
        binary_sha256=execution.binary_hash,
        request_sha256=request_sha256,
    )


def _execute_request(execution: WorkflowExecution) -> ExecuteRequest:
    try:
        older = ExecuteRequest.FromString(execution.execute_request) if execution.execute_request else None
    except DecodeError:
        raise malformed("execute_request is no ExecuteRequest") from None
    newer = execution.sdk_execute_request if execution.HasField("sdk_execute_request") else None
    if older is not None and newer is not None and older != newer:
        raise malformed("execute_request and sdk_execute_request differ")
    found = older if newer is None else newer
    if found is None:
        raise malformed("the execute request is missing")
    return found


def _locator(message: ConfidentialWorkflowRequest, binary_sha256: bytes) -> str:
    named = {url for url in (message.execution.binary_url, message.binary_url) if url}
    if len(named) != 1:
        raise malformed("the request names no binary, or two that differ")
    (locator,) = named
    if len(locator) > _MAX_LOCATOR:
        raise malformed(f"the binary's locator has {len(locator)} characters, at most {_MAX_LOCATOR} are allowed")
    if locator.startswith(_ARTIFACT) and locator != _ARTIFACT + binary_sha256.hex():
        raise CapabilityError(
            f"{HASH_MISMATCH}: the locator names another digest than the request",
            error_code=ErrorCode.FailedPrecondition,
        )
    return locator


def _check_demands(execution: WorkflowExecution) -> None:
    for name, message in (("requirements", execution.requirements), ("restrictions", execution.restrictions)):
        if _has_unknown_fields(message):
            raise malformed(f"{name} has a field that this enclave does not know")
    if execution.HasField("requirements") and not _is_met(execution.requirements):
        raise CapabilityError(
            "the workflow requires another TEE than this enclave is", error_code=ErrorCode.FailedPrecondition
        )


def _is_met(requirements: Requirements) -> bool:
    """Return whether the type of this enclave is among those required; its region is the host's to say."""
    if not requirements.HasField("tee"):
        return True
    tee = requirements.tee
    match tee.WhichOneof("item"):
        case "any_regions":
            return True
        case "tee_types_and_regions":
            return any(item.type == TEE_TYPE_AWS_NITRO for item in tee.tee_types_and_regions.tee_type_and_regions)
        case None:
            return False


def _has_unknown_fields(message: Message) -> bool:
    if len(UnknownFieldSet(message)):
        return True
    return any(_has_unknown_fields(inner) for inner in _inner(message))


def _inner(message: Message) -> Iterable[Message]:
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            yield from value if descriptor.is_repeated else [value]
