"""How an answer is read: which form of the result is taken, and which bytes are to be attested."""

from __future__ import annotations

import math

import pytest
from google.protobuf.message import Message

from innkeeper_confidential_workflows.exchange import ConfidentialFailedError, packed, read_response
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowResponse,
)
from innkeeper_sdk.capability import CapabilityResponse
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecutionResult
from innkeeper_sdk.proto.values.v1.values_pb2 import Map, Value

EMPTY = ExecutionResult()
TEXT = ExecutionResult(value=Value(string_value="text"))


def answered(message: Message) -> CapabilityResponse:
    return CapabilityResponse(payload=packed(message))


def of_map(**values: str) -> ExecutionResult:
    fields = {key: Value(string_value=value) for key, value in values.items()}
    return ExecutionResult(value=Value(map_value=Map(fields=fields)))


@pytest.mark.parametrize("result", [TEXT, EMPTY, of_map(b="2", a="1")], ids=["text", "empty", "map"])
def test_the_newer_form_is_taken_where_the_older_one_has_no_bytes(result: ExecutionResult) -> None:
    answer = ConfidentialWorkflowResponse(sdk_execution_result=result, execution_result=b"")
    assert read_response(answered(answer)) == (result, result.SerializeToString(deterministic=True))


def test_the_older_form_is_taken_as_the_bytes_that_came() -> None:
    data = TEXT.SerializeToString()
    assert read_response(answered(ConfidentialWorkflowResponse(execution_result=data))) == (TEXT, data)


def test_no_bytes_and_no_newer_form_are_no_result() -> None:
    # In the older form alone, an empty result cannot be told from none.
    for answer in (ConfidentialWorkflowResponse(), ConfidentialWorkflowResponse(execution_result=b"")):
        with pytest.raises(ConfidentialFailedError, match="returned no execution result"):
            read_response(answered(answer))


def test_two_forms_are_compared_by_what_they_say_and_not_by_their_bytes() -> None:
    # Messages that follow each other are merged: the same map, its entries in another order and in two parts.
    data = of_map(b="2").SerializeToString() + of_map(a="1").SerializeToString()
    both = of_map(a="1", b="2")
    assert data != both.SerializeToString(deterministic=True)
    assert read_response(answered(ConfidentialWorkflowResponse(execution_result=data, sdk_execution_result=both))) == (
        both,
        data,
    )


def test_a_result_that_is_no_number_is_equal_to_itself() -> None:
    result = ExecutionResult(value=Value(float64_value=math.nan))
    answer = ConfidentialWorkflowResponse(
        execution_result=result.SerializeToString(deterministic=True), sdk_execution_result=result
    )
    found, _ = read_response(answered(answer))
    assert math.isnan(found.value.float64_value)


@pytest.mark.parametrize("newer", [EMPTY, of_map(a="1")], ids=["empty", "map"])
def test_two_forms_that_differ_are_refused(newer: ExecutionResult) -> None:
    answer = ConfidentialWorkflowResponse(execution_result=TEXT.SerializeToString(), sdk_execution_result=newer)
    with pytest.raises(ConfidentialFailedError, match="two execution results that differ"):
        read_response(answered(answer))
