"""The method ``Simple``: one value made of what the nodes observed.

Rules of this module:

1. Pure: what a request asks, who asks, its size limit and f give the outcome or the error.
2. At least f+1 errors, or a rule without an outcome, mean failure; then the default, if there is one, is the outcome
   and the call succeeds.
3. An observation above the size limit is an error observation, so that a default still applies.
4. Disagreement, and the nodes' own errors, are the author's fault; a rule that cannot be applied is the system's, as in
   the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from innkeeper_consensus.aggregate import aggregate, describe, usable
from innkeeper_consensus.faults import ConsensusError, RuleError
from innkeeper_consensus.limits import OBSERVATION_SIZE_LIMIT, bound_text, format_size
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin, RequestMetadata
from innkeeper_sdk.proto.capabilities.capabilities_pb2 import RequestMetadata as WireMetadata
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ConsensusDescriptor, ReportRequest, SimpleConsensusInputs
from innkeeper_sdk.proto.values.v1.values_pb2 import Value

__all__ = ["OUTCOME_LIMIT", "conclude", "details", "request_id", "settle", "size_fault"]

OUTCOME_LIMIT: Final = 1_000_000  # bytes of an outcome or a report


def conclude(inputs: SimpleConsensusInputs, metadata: RequestMetadata, *, size_limit: int) -> Value:
    """Return the outcome of a request on one node, which tolerates no fault.

    Args:
        inputs: The node's observation, the descriptor and the default.
        metadata: Who asks.
        size_limit: Most bytes of the observation with its metadata.

    Raises:
        CapabilityError: The observation does not decode, or there is neither consensus nor a default.
    """
    values: list[Value] = []
    errors: list[str] = []
    _check(inputs.default if inputs.WhichOneof("observation") is None else inputs.value)
    too_big = size_fault(inputs, metadata, size_limit)
    if too_big is not None:
        errors.append(too_big)
    elif inputs.WhichOneof("observation") == "error":
        errors.append(inputs.error)
    elif inputs.WhichOneof("observation") == "value":
        values.append(inputs.value)
    outcome = settle(inputs.descriptors, values, errors, inputs.default, f=0, metadata=metadata)
    size = outcome.ByteSize()
    if size > OUTCOME_LIMIT:
        raise ConsensusError(
            f"outcome too large: the outcome for this request is {size} bytes which exceeds the maximum allowed size "
            f"of {OUTCOME_LIMIT} bytes",
            origin=Origin.SYSTEM,
            details=details(metadata, inputs.descriptors),
        )
    return outcome


def settle(
    descriptor: ConsensusDescriptor,
    values: Sequence[Value],
    errors: Sequence[str],
    default: Value | None,
    *,
    f: int,
    metadata: RequestMetadata,
) -> Value:
    """Return the outcome of what the nodes observed: the rule's, else the default.

    Args:
        descriptor: What to do with the values.
        values: What nodes observed.
        errors: What other nodes failed with.
        default: What to fall back on; without a kind it stands for none.
        f: Faulty nodes tolerated.
        metadata: Who asks.

    Raises:
        ConsensusError: There is neither.
    """
    fallback = usable(default)
    try:
        if len(errors) < f + 1:
            return aggregate(descriptor, values, fallback, f)
        reason = f"received {len(errors)} errors which is >= f+1 ({f + 1}) for requestID {request_id(metadata)}"
        origin = Origin.USER
    except RuleError as error:
        reason, origin = error.message, Origin.USER if error.disagreement else Origin.SYSTEM
    if fallback is not None:
        return fallback
    told = f"; Errors received: [{','.join(errors)}]" if errors else ""
    raise ConsensusError(
        f"consensus calculation failed: {reason}{told}", origin=origin, details=details(metadata, descriptor)
    )


def size_fault(
    message: SimpleConsensusInputs | ReportRequest, metadata: RequestMetadata, size_limit: int
) -> str | None:
    """Return the error observation that a request above the size limit stands for; None for one within it."""
    size = message.ByteSize() + _wire(metadata).ByteSize()
    if size <= size_limit:
        return None
    bound = bound_text(OBSERVATION_SIZE_LIMIT, metadata.workflow_id, format_size(size), format_size(size_limit))
    code = ErrorCode.LimitExceeded
    return f"[{code.value}]{code.name}: request size {size} bytes exceeds maximum allowed size: {bound}"


def request_id(metadata: RequestMetadata) -> str:
    """Return the id that the reference gives a request: execution and callback."""
    return f"{metadata.workflow_execution_id}-{metadata.reference_id}"


def details(metadata: RequestMetadata, descriptor: ConsensusDescriptor) -> dict[str, str]:
    """Return what an error says of its request besides its text."""
    return {
        "requestId": request_id(metadata),
        "workflowExecutionId": metadata.workflow_execution_id,
        "workflowStepReference": metadata.reference_id,
        "workflowId": metadata.workflow_id,
        "workflowOwner": metadata.workflow_owner,
        "workflowName": metadata.workflow_name,
        "workflowDonId": str(metadata.workflow_don_id),
        "workflowDonConfigVersion": str(metadata.workflow_don_config_version),
        "descriptorType": describe(descriptor),
    }


def _check(value: Value) -> None:
    if any(not number.decimal_value.HasField("coefficient") for number in _decimals(value)):
        raise CapabilityError(
            "failed to decode observation: a decimal has no coefficient", error_code=ErrorCode.InvalidArgument
        )


def _decimals(value: Value) -> Iterator[Value]:
    match value.WhichOneof("value"):
        case "decimal_value":
            yield value
        case "list_value":
            for element in value.list_value.fields:
                yield from _decimals(element)
        case "map_value":
            for element in value.map_value.fields.values():
                yield from _decimals(element)


def _wire(metadata: RequestMetadata) -> WireMetadata:
    return WireMetadata(
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
