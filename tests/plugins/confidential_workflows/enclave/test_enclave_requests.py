"""What a request may say, and that whatever else it says is refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.enclave.requests import HASH_MISMATCH, read_request
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
)
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    ExecuteRequest,
    Requirements,
    Restrictions,
    SecretsRestritions,
    Tee,
    TeeTypeAndRegions,
)
from tests.plugins.confidential_workflows.enclave.enclave_world import OWNER, WORKFLOW, work

BINARY = b"a binary"
TRIGGER = ExecuteRequest(config=b"c", max_response_size=1)
TRIGGER.trigger.id = 7
OTHER = ExecuteRequest(config=b"d", max_response_size=1)
OTHER.trigger.id = 7
UNKNOWN_FIELD = b"\xf8\x3f\x01"


def read(request: ConfidentialWorkflowRequest) -> Any:
    return read_request(request.SerializeToString())


def refusal(request: ConfidentialWorkflowRequest | bytes) -> CapabilityError:
    with pytest.raises(CapabilityError) as caught:
        read_request(request if isinstance(request, bytes) else request.SerializeToString())
    return caught.value


def with_unknown_field(message: Message) -> Message:
    copy = type(message)()
    copy.MergeFromString(message.SerializeToString() + UNKNOWN_FIELD)
    return copy


def test_a_good_request_is_read() -> None:
    found = read(work(BINARY, 5))
    assert found.identity.workflow_id == WORKFLOW
    assert found.identity.owner == OWNER
    assert found.identity.execution_id == f"{5:064x}"
    assert found.locator.endswith(found.identity.binary_sha256.hex())
    assert found.phase == "trigger"
    assert found.request.WhichOneof("request") == "trigger"


@pytest.mark.parametrize("kind", ["trigger", "pre_hook", "subscribe"])
def test_either_form_of_the_execute_request_is_enough(kind: str) -> None:
    older = read(work(BINARY, kind=kind, sdk_execute_request=None))
    newer = read(work(BINARY, kind=kind, execute_request=None))
    assert older.request == newer.request
    assert older.phase == kind


def test_two_forms_that_are_encoded_differently_but_mean_the_same_are_taken() -> None:
    data = TRIGGER.SerializeToString()
    # The same field twice: the last one counts.
    again = b"\x20\x09" + data
    assert read(work(BINARY, execute_request=again, sdk_execute_request=TRIGGER)).request == TRIGGER


def test_two_forms_that_differ_are_refused() -> None:
    error = refusal(work(BINARY, execute_request=TRIGGER.SerializeToString(), sdk_execute_request=OTHER))
    assert "execute_request and sdk_execute_request differ" in error.message
    assert error.error_code is ErrorCode.InvalidArgument


def test_a_form_with_a_field_that_only_one_has_is_refused() -> None:
    error = refusal(
        work(BINARY, execute_request=TRIGGER.SerializeToString() + UNKNOWN_FIELD, sdk_execute_request=TRIGGER)
    )
    assert "differ" in error.message


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"execute_request": None, "sdk_execute_request": None}, "missing"),
        ({"execute_request": b"\xff", "sdk_execute_request": None}, "no ExecuteRequest"),
        ({"execute_request": b"", "sdk_execute_request": ExecuteRequest(config=b"x")}, "asks for nothing"),
        ({"workflow_id": ""}, "workflow_id"),
        ({"workflow_id": "AB" * 32}, "workflow_id"),
        ({"workflow_id": "11" * 32 + "\n"}, "workflow_id"),
        ({"owner": ""}, "owner"),
        ({"owner": "22" * 20}, "owner"),
        ({"owner": "0X" + "22" * 20}, "owner"),
        ({"owner": "0x" + "AB" * 20}, "owner"),
        ({"execution_id": "1"}, "execution_id"),
        ({"execution_id": "AB" * 32}, "execution_id"),
        ({"execution_id": None}, "an execution has an id"),
        ({"binary_hash": b""}, "binary_hash"),
        ({"binary_hash": bytes(31)}, "binary_hash"),
        ({"binary_url": None}, "names no binary"),
        ({"binary_url": "x" * 3000}, "locator"),
    ],
)
def test_what_is_missing_or_badly_spelt_is_refused(fields: dict[str, Any], text: str) -> None:
    error = refusal(work(BINARY, **fields))
    assert text in error.message
    assert error.message.startswith("malformed: ")
    assert error.error_code is ErrorCode.InvalidArgument


def test_subscribing_under_an_execution_id_is_refused() -> None:
    request = work(BINARY, kind="subscribe")
    request.execution.execution_id = "33" * 32
    assert "subscribing has none" in refusal(request).message


def test_secrets_that_are_declared_ahead_are_refused() -> None:
    request = work(BINARY)
    request.vault_don_secrets.add(key="k")
    assert "fetched at run time" in refusal(request).message


def test_a_locator_that_names_another_digest_is_a_mismatch() -> None:
    error = refusal(work(BINARY, binary_hash=bytes(32)))
    assert HASH_MISMATCH in error.message
    assert error.error_code is ErrorCode.FailedPrecondition


def test_a_locator_of_another_kind_is_taken_and_judged_by_what_it_brings() -> None:
    assert read(work(BINARY, binary_url="https://example.invalid/x")).locator == "https://example.invalid/x"


def test_the_older_place_of_the_locator_is_taken_too_and_refused_if_it_differs() -> None:
    request = work(BINARY, binary_url=None)
    request.binary_url = "somewhere"
    assert read(request).locator == "somewhere"
    request = work(BINARY)
    request.binary_url = "somewhere"
    assert "two that differ" in refusal(request).message


@pytest.mark.parametrize("name", ["requirements", "restrictions"])
def test_demands_with_unknown_fields_are_refused(name: str) -> None:
    message = Requirements(tee=Tee()) if name == "requirements" else Restrictions(secrets=SecretsRestritions())
    assert f"{name} has a field" in refusal(work(BINARY, **{name: with_unknown_field(message)})).message


def test_unknown_fields_deep_in_demands_are_refused() -> None:
    requirements = Requirements()
    requirements.tee.any_regions.regions.append("local")
    requirements.tee.any_regions.MergeFromString(UNKNOWN_FIELD)
    assert "requirements has a field" in refusal(work(BINARY, requirements=requirements)).message


def tees(*types: int) -> Requirements:
    requirements = Requirements()
    requirements.tee.tee_types_and_regions.SetInParent()
    for kind in types:
        requirements.tee.tee_types_and_regions.tee_type_and_regions.append(
            TeeTypeAndRegions(type=kind)  # type: ignore[arg-type] # also numbers that are no type
        )
    return requirements


@pytest.mark.parametrize("requirements", [Requirements(), tees(1), tees(0, 1)])
def test_requirements_that_this_enclave_meets_are_taken(requirements: Requirements) -> None:
    assert read(work(BINARY, requirements=requirements)).phase == "trigger"


@pytest.mark.parametrize("requirements", [Requirements(tee=Tee()), tees(), tees(0), tees(9)])
def test_requirements_of_another_tee_are_refused(requirements: Requirements) -> None:
    error = refusal(work(BINARY, requirements=requirements))
    assert "another TEE" in error.message
    assert error.error_code is ErrorCode.FailedPrecondition


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    refusal(data)
