"""What the relay answers: calls, results, time and challenges of an execution that is live."""

from __future__ import annotations

import asyncio
import logging

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1 import protocol_pb2 as messages
from innkeeper_confidential_workflows.protocol import CapabilityBody, Purpose
from innkeeper_confidential_workflows.relay.capability import RELAY
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    CapabilityType,
    ErrorCode,
    ErrorVisibility,
    Origin,
    RequestMetadata,
)
from innkeeper_sdk.errors import NotFoundError, WorkflowError
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from tests.plugins.confidential_workflows.relay.relay_world import (
    CANARY,
    EXECUTION,
    OTHER,
    REQUEST,
    RESULT,
    WORKFLOW,
    RelayWorld,
    capability_request,
    challenge_request,
    clock_request,
)


def test_it_says_what_the_manifest_declares(world: RelayWorld) -> None:
    assert (world.relay.info.id, world.relay.info.type) == (RELAY, CapabilityType.ACTION)


@pytest.mark.parametrize("method", ["", "execute", "configuration", "_call", "GetSecrets", "x" * 1000])
async def test_any_other_method_is_not_found(running: RelayWorld, method: str) -> None:
    with pytest.raises(CapabilityError, match="not found") as caught:
        await running.ask(method, Empty(), Empty)
    assert caught.value.error_code is ErrorCode.Unimplemented
    assert len(str(caught.value)) < 200


async def test_a_call_goes_through_the_executions_helper_as_it_was_asked(running: RelayWorld) -> None:
    response = await running.call()
    assert running.helper.calls == [capability_request()]
    answer = StringValue()
    assert response.payload.Unpack(answer)
    assert answer.value == "answer"


async def test_many_calls_run_at_once(running: RelayWorld) -> None:
    running.helper.hold = asyncio.Event()
    calls = [asyncio.create_task(running.call()) for _ in range(8)]
    async with asyncio.timeout(10):
        while len(running.helper.calls) < len(calls):  # noqa: ASYNC110 - the helper has no event for it
            await asyncio.sleep(0.001)
    running.helper.hold.set()
    assert all(response.HasField("payload") for response in await asyncio.gather(*calls))


async def test_a_call_that_failed_is_answered_in_four_parts(running: RelayWorld) -> None:
    running.helper.fault = CapabilityError(
        "no: luck", error_code=ErrorCode.InvalidArgument, origin=Origin.USER, visibility=ErrorVisibility.PUBLIC
    )
    response = await running.call()
    assert response == sdk.CapabilityResponse(error="Public:User:InvalidArgument:no: luck")


async def test_what_a_workflow_may_not_call_is_not_found_as_in_the_open(running: RelayWorld) -> None:
    running.helper.fault = NotFoundError("capability vault@1.0.0 not found")
    payload = capability_request(id="vault@1.0.0").SerializeToString()
    response = await running.call(capability_id="vault@1.0.0", payload=payload)
    assert response == sdk.CapabilityResponse(error=str(running.helper.fault))
    assert [call.id for call in running.helper.calls] == ["vault@1.0.0"], "it is asked for as the workflow"


async def test_a_call_ends_with_its_execution(world: RelayWorld) -> None:
    world.helper.hold = asyncio.Event()
    async with world.live.registered(world.execution()):
        call = asyncio.create_task(world.call())
        async with asyncio.timeout(10):
            while not world.helper.calls:  # noqa: ASYNC110 - the helper has no event for it
                await asyncio.sleep(0.001)
    assert world.helper.cancelled
    with pytest.raises(CapabilityError, match=r"not_authorized: .* is over"):
        await call


async def test_a_result_is_noted(world: RelayWorld) -> None:
    live = world.execution()
    async with world.live.registered(live):
        await world.submit()
    assert live.attested(RESULT)
    assert not live.attested(REQUEST)


async def test_a_result_of_another_request_is_refused(world: RelayWorld) -> None:
    live = world.execution()
    async with world.live.registered(live):
        with pytest.raises(CapabilityError, match="not_authorized: the body is for another request_sha256"):
            await world.submit(request_sha256=RESULT)
    assert not live.attested(RESULT)


async def test_after_its_result_an_execution_gets_nothing_more(running: RelayWorld) -> None:
    late = await running.request(CapabilityBody)
    await running.submit()
    for method, message in (
        ("CapabilityExecute", late),
        ("ResultSubmit", late),
        ("SecretsGet", late),
        (
            "Challenge",
            challenge_request("PURPOSE_RESULT"),
        ),
        ("Clock", clock_request()),
    ):
        with pytest.raises(CapabilityError, match=r"not_authorized: .* after its result"):
            await running.ask(method, message, Empty)
    assert not running.helper.calls


async def test_time_is_the_helpers_so_that_the_journal_has_it(running: RelayWorld) -> None:
    for don, expected in ((False, await running.helper.node_time()), (True, await running.helper.don_time())):
        assert (await running.ask_signed("Clock", clock_request(don=don), messages.ClockReply)).time_ns == expected


async def test_a_refused_reading_of_the_time_is_told_to_the_workflow(running: RelayWorld) -> None:
    running.helper.fault = WorkflowError("too many readings")
    with pytest.raises(CapabilityError, match="too many readings") as caught:
        await running.ask("Clock", clock_request(), messages.SignedReply)
    assert caught.value.origin is Origin.USER


async def test_a_challenge_is_fresh_each_time_and_short(running: RelayWorld) -> None:
    one, two = await running.challenge(Purpose.CAPABILITY), await running.challenge(Purpose.CAPABILITY)
    assert (len(one.id), len(one.nonce)) == (16, 32)
    assert one.id != two.id
    assert one.nonce != two.nonce
    assert one.expires_ms == int((running.clock().timestamp() + 60) * 1000)


async def test_a_challenge_for_secrets_is_the_vaults(running: RelayWorld) -> None:
    challenge = await running.challenge(Purpose.SECRETS)
    running.vault.challenges.take(challenge.id, WORKFLOW, EXECUTION, Purpose.SECRETS).match(challenge.nonce)


async def test_a_challenge_without_a_purpose_is_refused(running: RelayWorld) -> None:
    asked = challenge_request("PURPOSE_UNSPECIFIED")
    with pytest.raises(CapabilityError, match=r"malformed: .*purpose") as caught:
        await running.ask("Challenge", asked, messages.Challenge)
    assert caught.value.error_code is ErrorCode.InvalidArgument


@pytest.mark.parametrize(
    "payload",
    [
        AnyMessage(),
        AnyMessage(type_url="type.googleapis.com/google.protobuf.Empty"),
        AnyMessage(type_url="type.googleapis.com/innkeeper.confidential.v1.AttestedRequest", value=b"\xff"),
        AnyMessage(type_url="type.googleapis.com/innkeeper.confidential.v1.AttestedRequest", value=b"\xfa\x3e\x01x"),
    ],
    ids=["none", "another", "broken", "unknown field"],
)
async def test_a_payload_is_exactly_the_methods_message(running: RelayWorld, payload: AnyMessage) -> None:
    request = CapabilityRequest(
        metadata=RequestMetadata(workflow_id=WORKFLOW, workflow_owner=""),
        capability_id=RELAY,
        method="CapabilityExecute",
        payload=payload,
    )
    with pytest.raises(CapabilityError, match=r"malformed: the payload is no innkeeper\.confidential"):
        await running.relay.execute(request)


async def test_nothing_that_is_asked_or_answered_is_in_the_log(
    running: RelayWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await running.call()
    await running.secrets()
    challenge = await running.challenge(Purpose.CAPABILITY)
    body = running.body(CapabilityBody, challenge, owner="99" * 20)
    with pytest.raises(CapabilityError):
        await running.ask("CapabilityExecute", running.envelope(body, challenge.nonce), messages.SignedReply)
    text = "\n".join(str({**record.__dict__, "message": record.getMessage()}) for record in caplog.records)
    assert "not_authorized" in text
    assert WORKFLOW in text
    for hidden in (CANARY, challenge.nonce.hex(), str(challenge.nonce)):
        assert hidden not in text


async def test_the_log_is_not_filled_by_what_the_process_says(
    world: RelayWorld, caplog: pytest.LogCaptureFixture
) -> None:
    request = CapabilityRequest(
        metadata=RequestMetadata(workflow_id="w" * 10_000, workflow_owner="", workflow_execution_id="e" * 10_000),
        capability_id=RELAY,
        method="m" * 10_000,
        payload=AnyMessage(value=b"x" * 10_000),
    )
    with pytest.raises(CapabilityError):
        await world.relay.execute(request)
    with pytest.raises(CapabilityError, match="no such execution is live"):
        await world.ask("Clock", clock_request(workflow_id=OTHER * 1000), messages.SignedReply)
    assert sum(len(str(record.__dict__)) for record in caplog.records if record.name == "test.relay") < 4000
