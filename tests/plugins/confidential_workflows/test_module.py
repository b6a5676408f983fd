"""The module type ``confidential``: what it sends, what it takes for an answer, and what it refuses."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from innkeeper_confidential_workflows.exchange import CAPABILITY, ConfidentialFailedError
from innkeeper_confidential_workflows.module import (
    GATE,
    ConfidentialDisabledError,
    ConfidentialModule,
    ConfidentialModuleType,
    ResultUnverifiedError,
)
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    ConfidentialWorkflowResponse,
    ProvidedTeesResponse,
)
from innkeeper_confidential_workflows.relay.executions import LiveExecutions
from innkeeper_sdk.capability import CapabilityError, CapabilityRequest, ErrorCode, Origin
from innkeeper_sdk.errors import (
    ConflictError,
    DeadlineExceededError,
    UnavailableError,
    VerificationError,
    WorkflowError,
)
from innkeeper_sdk.module import LimitValue, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from tests.plugins.confidential_workflows.relay.relay_world import (
    BINARY,
    EXECUTION,
    OTHER,
    OWNER,
    WORKFLOW,
    FakeHelper,
    FakeRegistry,
    packed,
)

SPEC = WorkflowSpec(
    workflow_id=WORKFLOW,
    owner=OWNER,
    name="my-workflow",
    tag="v1",
    kind="wasm_file",
    binary_url=f"artifact:sha256/{BINARY.hex()}",
    attributes={"confidential": True},
)
BYTES = b"the binary"

Answer = Callable[[CapabilityRequest], Awaitable[Message]]


class Gate:
    """Limits of which a test sets the gate."""

    def __init__(self, value: LimitValue = True) -> None:
        self.value = value
        self.asked: list[tuple[str, str, str]] = []

    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> LimitValue:
        self.asked.append((name, owner, workflow_id))
        return self.value


class World:
    """A module type, and an enclave that is a function."""

    def __init__(self) -> None:
        self.registry = FakeRegistry()
        self.registry.add(CAPABILITY, "Execute", self._execute)
        self.gate = Gate()
        self.live = LiveExecutions()
        self.helper = FakeHelper()
        self.requests: list[ConfidentialWorkflowRequest] = []
        self.result = value("done")
        self.answer: Answer | None = None
        self.attest = True
        self.type = ConfidentialModuleType(
            registry=self.registry, limits=self.gate, live=self.live, logger=logging.getLogger("test.module")
        )

    async def module(self, spec: WorkflowSpec = SPEC) -> ConfidentialModule:
        module = await self.type.load(spec, BYTES)
        await module.start()
        return module

    async def execute(self, *, request: sdk.ExecuteRequest | None = None, **changes: Any) -> sdk.ExecutionResult:
        return await (await self.module()).execute(request or trigger(), self.run(**changes))

    def run(self, **changes: Any) -> Run:
        content: dict[str, Any] = {
            "execution_id": EXECUTION,
            "attempt": 1,
            "deadline": time.monotonic() + 30,
            "helper": self.helper,
        }
        return Run(**(content | changes))

    def submit(self, serialized: bytes, execution_id: str = EXECUTION) -> None:
        """Attest a result, as the relay does for the enclave."""
        self.live.get(WORKFLOW, execution_id).submit(hashlib.sha256(serialized).digest())

    async def _execute(self, call: CapabilityRequest) -> Message:
        request = ConfidentialWorkflowRequest()
        assert call.payload.Unpack(request)
        self.requests.append(request)
        if self.answer is not None:
            return await self.answer(call)
        serialized = self.result.SerializeToString(deterministic=True)
        if self.attest:
            self.submit(serialized, request.execution.execution_id)
        return ConfidentialWorkflowResponse(execution_result=serialized, sdk_execution_result=self.result)


@pytest.fixture
def world() -> World:
    return World()


def value(text: str) -> sdk.ExecutionResult:
    result = sdk.ExecutionResult()
    result.value.string_value = text
    return result


def trigger(text: bytes = b"event") -> sdk.ExecuteRequest:
    payload = AnyMessage(type_url="type.googleapis.com/x.Event", value=text)
    return sdk.ExecuteRequest(config=b"config", trigger=sdk.Trigger(id=1, payload=payload), max_response_size=1000)


def subscribing() -> sdk.ExecuteRequest:
    request = sdk.ExecuteRequest(config=b"config")
    request.subscribe.SetInParent()
    return request


# What is sent.


async def test_a_result_is_the_capabilitys_and_the_request_says_what_it_is_for(world: World) -> None:
    assert await world.execute() == world.result
    (request,) = world.requests
    execution = request.execution
    assert execution.workflow_id == WORKFLOW
    assert execution.owner == f"0x{OWNER}"
    assert execution.execution_id == EXECUTION
    assert execution.binary_url == SPEC.binary_url
    assert execution.org_id == ""
    assert execution.sdk_execute_request == trigger()
    assert execution.execute_request == trigger().SerializeToString(deterministic=True)


async def test_the_digest_is_that_of_the_bytes_as_they_are_stored(world: World) -> None:
    await world.execute()
    assert world.requests[0].execution.binary_hash == hashlib.sha256(BYTES).digest()


async def test_secrets_are_never_declared_ahead_and_the_older_url_is_not_used(world: World) -> None:
    await world.execute()
    (request,) = world.requests
    assert not request.vault_don_secrets
    assert not request.binary_url


async def test_who_asks_is_said_as_the_host_knows_it(world: World) -> None:
    await world.execute()
    (call,) = world.registry.calls
    assert (call.capability_id, call.method) == (CAPABILITY, "Execute")
    said = call.metadata
    assert (said.workflow_id, said.workflow_owner, said.workflow_execution_id) == (WORKFLOW, OWNER, EXECUTION)
    assert (said.decoded_workflow_name, said.workflow_tag) == ("my-workflow", "v1")
    assert bytes.fromhex(said.workflow_name).decode() == hashlib.sha256(b"my-workflow").hexdigest()[:10]


async def test_the_call_has_the_executions_deadline(world: World) -> None:
    deadline = time.monotonic() + 12
    await world.execute(deadline=deadline)
    assert world.registry.calls[0].deadline == deadline


async def test_equal_requests_are_equal_byte_for_byte(world: World) -> None:
    for _ in range(2):
        await world.execute()
    one, two = world.registry.calls
    assert one.payload == two.payload


async def test_requirements_are_those_of_this_execution(world: World) -> None:
    requirements = sdk.Requirements(tee=sdk.Tee(any_regions=sdk.Regions(regions=["local"])))
    module = await world.module()
    await module.execute(trigger(), world.run(requirements=requirements))
    await module.execute(trigger(), world.run())
    assert world.requests[0].execution.requirements == requirements
    assert not world.requests[1].execution.HasField("requirements")


async def test_restrictions_are_those_of_this_execution_also_beside_others(world: World) -> None:
    restrictions = sdk.Restrictions(capabilities=sdk.CapabilityRestrictions(max_total_calls=7))
    requirements = sdk.Requirements(tee=sdk.Tee(any_regions=sdk.Regions()))
    module = await world.module()
    await asyncio.gather(
        module.execute(trigger(), world.run(restrictions=restrictions, requirements=requirements)),
        module.execute(trigger(), world.run(execution_id=OTHER)),
    )
    sent = {request.execution.execution_id: request.execution for request in world.requests}
    assert sent[EXECUTION].restrictions.capabilities.max_total_calls == 7
    assert sent[EXECUTION].requirements == requirements
    assert not sent[OTHER].HasField("restrictions")


async def test_the_request_is_not_changed(world: World) -> None:
    request = trigger()
    await world.execute(request=request)
    assert request == trigger()


# The gate.


async def test_the_gate_is_asked_for_this_workflow_at_every_execution(world: World) -> None:
    module = await world.module()
    world.gate.asked.clear()
    await module.execute(trigger(), world.run())
    world.gate.value = False
    with pytest.raises(ConfidentialDisabledError, match="confidential-workflows capability is disabled by settings"):
        await module.execute(trigger(), world.run())
    assert world.gate.asked == [(GATE, OWNER, WORKFLOW)] * 2
    assert len(world.requests) == 1


async def test_the_gate_holds_for_subscribing_and_loading_too(world: World) -> None:
    module = await world.module()
    world.gate.value = False
    with pytest.raises(WorkflowError, match="disabled by settings"):
        await module.execute(subscribing(), world.run(execution_id=""))
    with pytest.raises(WorkflowError, match="disabled by settings"):
        await world.type.load(SPEC, BYTES)
    assert not world.requests


@pytest.mark.parametrize("answer", [None, 1, "true", "yes"])
async def test_a_gate_that_does_not_say_yes_says_no(world: World, answer: Any) -> None:
    world.gate.value = answer
    with pytest.raises(ConfidentialDisabledError):
        await world.type.load(SPEC, BYTES)


async def test_a_gate_that_is_not_declared_is_no_gate_that_is_open(world: World) -> None:
    class Nothing:
        def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> LimitValue:
            raise KeyError(name)

    module = ConfidentialModule(SPEC, BINARY, registry=world.registry, limits=Nothing(), live=world.live)
    with pytest.raises(KeyError):
        await module.execute(trigger(), world.run())
    assert not world.requests


# Readiness.


async def test_while_the_capability_is_not_ready_a_workflow_is_deferred(world: World) -> None:
    world.registry.set_ready(CAPABILITY, ready=False)
    with pytest.raises(UnavailableError, match="is not ready"):
        await world.type.load(SPEC, BYTES)


async def test_without_the_capability_a_workflow_is_deferred(world: World) -> None:
    world.registry._ready.clear()
    with pytest.raises(UnavailableError):
        await world.type.load(SPEC, BYTES)


async def test_subscribing_does_not_wait_but_is_deferred(world: World) -> None:
    module = await world.module()
    world.registry.set_ready(CAPABILITY, ready=False)
    with pytest.raises(UnavailableError, match="is not ready"):
        await asyncio.wait_for(module.execute(subscribing(), world.run(execution_id="")), 5)


async def test_an_execution_waits_until_the_capability_is_back(world: World) -> None:
    module = await world.module()
    world.registry.set_ready(CAPABILITY, ready=False)
    running = asyncio.create_task(module.execute(trigger(), world.run()))
    done, _ = await asyncio.wait({running}, timeout=0.05)
    assert not done
    assert len(world.live) == 0, "nothing is live before its request is sent"
    world.registry.set_ready(CAPABILITY)
    assert await asyncio.wait_for(running, 5) == world.result


async def test_an_execution_waits_no_longer_than_its_deadline(world: World) -> None:
    module = await world.module()
    world.registry.set_ready(CAPABILITY, ready=False)
    with pytest.raises(DeadlineExceededError, match="not ready before the execution's deadline"):
        await module.execute(trigger(), world.run(deadline=time.monotonic() + 0.02))


async def test_a_capability_that_is_not_there_any_more_fails_the_execution(world: World) -> None:
    module = await world.module()
    world.registry._ready.clear()
    with pytest.raises(ConfidentialFailedError, match="failed to get confidential-workflows capability: "):
        await module.execute(trigger(), world.run())
    assert not world.requests


# Failures of the capability.


def failing(error: Exception) -> Answer:
    async def answer(_: CapabilityRequest) -> Message:
        raise error

    return answer


def answering(message: Message) -> Answer:
    async def answer(_: CapabilityRequest) -> Message:
        return message

    return answer


async def test_an_error_of_the_capability_is_told(world: World) -> None:
    world.answer = failing(
        CapabilityError("binary hash mismatch: expected a, found b", error_code=ErrorCode.FailedPrecondition)
    )
    with pytest.raises(
        ConfidentialFailedError, match=r"confidential-workflows capability execution failed: .*binary hash mismatch"
    ):
        await world.execute()


async def test_an_error_of_the_workflow_stays_the_workflows(world: World) -> None:
    world.answer = failing(CapabilityError("the guest exited with 1", origin=Origin.USER))
    with pytest.raises(WorkflowError, match=r"execution failed: .*the guest exited with 1"):
        await world.execute()


async def test_an_error_result_is_a_result(world: World) -> None:
    world.result = sdk.ExecutionResult(error="no luck today")
    assert (await world.execute()).error == "no luck today"


async def test_an_execution_that_was_too_slow_is_said_to_be(world: World) -> None:
    world.answer = failing(CapabilityError("late", error_code=ErrorCode.DeadlineExceeded))
    with pytest.raises(DeadlineExceededError):
        await world.execute()


@pytest.mark.parametrize("code", [ErrorCode.Unavailable, ErrorCode.ResourceExhausted])
async def test_a_request_that_never_began_may_be_tried_by_another_attempt(world: World, code: ErrorCode) -> None:
    world.answer = failing(CapabilityError("the process is gone", error_code=code))
    with pytest.raises(UnavailableError, match="the process is gone"):
        await world.execute()
    assert len(world.requests) == 1, "the module itself asks once"


async def test_an_execution_that_was_lost_after_it_asked_for_something_has_failed(world: World) -> None:
    async def lost(_: CapabilityRequest) -> Message:
        await world.live.get(WORKFLOW, EXECUTION).run(world.helper.node_time())
        raise CapabilityError("the process is gone", error_code=ErrorCode.Unavailable)

    world.answer = lost
    with pytest.raises(ConfidentialFailedError, match="the process is gone"):
        await world.execute()
    assert len(world.requests) == 1


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (AnyMessage(), "confidential-workflows capability returned nil payload"),
        (packed(Empty()), "failed to unmarshal capability response: expected a "),
        (
            AnyMessage(type_url=packed(ConfidentialWorkflowResponse()).type_url, value=b"\xff"),
            "failed to unmarshal capability response: ",
        ),
        (packed(ConfidentialWorkflowResponse()), "returned no execution result"),
        (
            packed(ConfidentialWorkflowResponse(execution_result=b"\xff")),
            "failed to unmarshal capability response: execution_result: ",
        ),
        (
            packed(
                ConfidentialWorkflowResponse(
                    execution_result=value("one").SerializeToString(), sdk_execution_result=value("two")
                )
            ),
            "returned two execution results that differ",
        ),
    ],
    ids=["nil", "wrong", "broken", "no result", "broken result", "two results"],
)
async def test_what_is_no_answer_is_the_capabilitys_failure(world: World, payload: AnyMessage, text: str) -> None:
    world.answer = answering(payload)
    with pytest.raises(ConfidentialFailedError) as caught:
        await world.execute()
    assert caught.value.message.startswith((text, "confidential-workflows capability " + text))
    assert caught.value.code == "confidential-failed"


@pytest.mark.parametrize("newer", [True, False])
async def test_either_form_of_the_result_is_taken(world: World, newer: bool) -> None:
    serialized = world.result.SerializeToString(deterministic=True)

    async def answer(_: CapabilityRequest) -> Message:
        world.submit(serialized)
        if newer:
            return ConfidentialWorkflowResponse(sdk_execution_result=world.result)
        return ConfidentialWorkflowResponse(execution_result=serialized)

    world.answer = answer
    assert await world.execute() == world.result


# Attested results.


async def test_a_result_that_was_not_attested_is_refused(world: World) -> None:
    world.attest = False
    with pytest.raises(ResultUnverifiedError, match="is not one that the enclave has attested") as caught:
        await world.execute()
    assert isinstance(caught.value, VerificationError)
    assert caught.value.code == "confidential-result-unverified"


async def test_another_result_than_the_attested_one_is_refused(world: World) -> None:
    async def swapped(_: CapabilityRequest) -> Message:
        world.submit(value("true").SerializeToString(deterministic=True))
        return ConfidentialWorkflowResponse(sdk_execution_result=value("forged"))

    world.answer = swapped
    with pytest.raises(ResultUnverifiedError) as caught:
        await world.execute()
    assert "forged" not in str(caught.value)


async def test_what_another_execution_has_attested_does_not_count(world: World) -> None:
    serialized = world.result.SerializeToString(deterministic=True)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def answer(call: CapabilityRequest) -> Message:
        if call.metadata.workflow_execution_id == OTHER:
            world.submit(serialized, OTHER)
            inside.set()
            await leave.wait()
        return ConfidentialWorkflowResponse(execution_result=serialized)

    world.answer = answer
    module = await world.module()
    other = asyncio.create_task(module.execute(trigger(), world.run(execution_id=OTHER)))
    await inside.wait()
    with pytest.raises(ResultUnverifiedError):
        await module.execute(trigger(), world.run())
    leave.set()
    assert await other == world.result


async def test_what_the_last_attempt_has_attested_does_not_count(world: World) -> None:
    module = await world.module()
    await module.execute(trigger(), world.run())
    world.attest = False
    with pytest.raises(ResultUnverifiedError):
        await module.execute(trigger(), world.run(attempt=2))


# Live executions.


async def test_an_execution_is_live_while_the_capability_runs_it_and_as_it_was_registered(world: World) -> None:
    seen: list[Any] = []

    async def look(call: CapabilityRequest) -> Message:
        live = world.live.get(WORKFLOW, EXECUTION)
        seen.append(live)
        assert live.request_sha256 == hashlib.sha256(call.payload.value).digest()
        raise CapabilityError("enough", error_code=ErrorCode.Internal)

    world.answer = look
    deadline = time.monotonic() + 20
    with pytest.raises(ConfidentialFailedError):
        await world.execute(attempt=4, deadline=deadline)
    (live,) = seen
    assert (live.owner, live.attempt, live.helper, live.deadline) == (OWNER, 4, world.helper, deadline)
    assert live.binary_sha256 == hashlib.sha256(BYTES).digest()
    assert len(world.live) == 0, "a failure ends it too"


async def test_the_same_execution_twice_at_once_is_refused(world: World) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()
    serialized = world.result.SerializeToString(deterministic=True)

    async def slow(_: CapabilityRequest) -> Message:
        inside.set()
        await leave.wait()
        world.submit(serialized)
        return ConfidentialWorkflowResponse(execution_result=serialized)

    world.answer = slow
    module = await world.module()
    first = asyncio.create_task(module.execute(trigger(), world.run()))
    await inside.wait()
    with pytest.raises(ConflictError, match="runs already"):
        await module.execute(trigger(), world.run(attempt=2))
    leave.set()
    assert await first == world.result, "the second one does not end the first"
    assert len(world.requests) == 1


async def test_a_subscribe_is_an_execution_without_an_id(world: World) -> None:
    world.result = sdk.ExecutionResult()
    world.result.trigger_subscriptions.subscriptions.add(id="cron-trigger@1.0.0")
    result = await world.execute(request=subscribing(), execution_id="")
    assert result == world.result
    assert world.requests[0].execution.execution_id == ""


async def test_whoever_cancels_an_execution_cancels_its_call(world: World) -> None:
    inside, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(_: CapabilityRequest) -> Message:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    world.answer = slow
    running = asyncio.create_task(world.execute())
    await inside.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(cancelled.wait(), 5)
    assert len(world.live) == 0


# Start and close.


async def test_start_and_close_are_idempotent_in_any_order(world: World) -> None:
    module = await world.type.load(SPEC, BYTES)
    await module.close()
    await module.start()
    await module.start()
    assert await module.execute(trigger(), world.run()) == world.result
    await module.close()
    await module.close()
    with pytest.raises(WorkflowError, match="is closed"):
        await module.execute(trigger(), world.run())
    await module.start()
    assert await module.execute(trigger(), world.run()) == world.result


async def test_closing_ends_what_runs(world: World) -> None:
    inside = asyncio.Event()

    async def slow(_: CapabilityRequest) -> Message:
        inside.set()
        await asyncio.Event().wait()
        raise AssertionError

    world.answer = slow
    module = await world.module()
    running = asyncio.create_task(module.execute(trigger(), world.run()))
    await inside.wait()
    await module.close()
    with pytest.raises(WorkflowError, match="was closed during the execution"):
        await running
    assert len(world.live) == 0


async def test_a_module_that_is_closed_while_it_waits_sends_nothing(world: World) -> None:
    module = await world.module()
    world.registry.set_ready(CAPABILITY, ready=False)
    running = asyncio.create_task(module.execute(trigger(), world.run()))
    await asyncio.sleep(0)
    await module.close()
    world.registry.calls.clear()
    world.registry.set_ready(CAPABILITY)
    with pytest.raises(WorkflowError, match="was closed while it waited"):
        await running
    assert not world.registry.calls


async def test_a_module_keeps_no_bytes_of_its_binary(world: World) -> None:
    binary = bytes(1024)
    module = await world.type.load(SPEC, binary)
    assert not any(held is binary for held in vars(module).values())


# What is offered.


def provided(*regions: str) -> ProvidedTeesResponse:
    return ProvidedTeesResponse(tee=[sdk.TeeTypeAndRegions(type=sdk.TEE_TYPE_AWS_NITRO, regions=regions)])


async def test_what_is_offered_is_asked_for_anew_each_time(world: World) -> None:
    world.registry.add(CAPABILITY, "ProvidedTees", answering(provided("here")))
    assert list(await world.type.offers()) == list(provided("here").tee)
    world.registry.add(CAPABILITY, "ProvidedTees", answering(provided("there")))
    assert list(await world.type.offers()) == list(provided("there").tee)
    assert len(world.registry.calls) == 2


async def test_it_is_asked_for_without_an_execution(world: World) -> None:
    world.registry.add(CAPABILITY, "ProvidedTees", answering(provided()))
    await world.type.offers()
    (call,) = world.registry.calls
    assert call.method == "ProvidedTees"
    assert call.metadata.workflow_execution_id == ""
    assert call.payload == packed(Empty())
    assert call.deadline is not None


async def test_none_is_offered_only_if_the_capability_says_so(world: World) -> None:
    world.registry.add(CAPABILITY, "ProvidedTees", answering(ProvidedTeesResponse()))
    assert list(await world.type.offers()) == []


@pytest.mark.parametrize(
    "answer",
    [
        failing(CapabilityError("no", error_code=ErrorCode.Internal)),
        answering(AnyMessage()),
        answering(packed(Empty())),
    ],
    ids=["error", "nil payload", "wrong payload"],
)
async def test_a_failure_to_say_is_not_yet_and_never_none(world: World, answer: Answer) -> None:
    world.registry.add(CAPABILITY, "ProvidedTees", answer)
    with pytest.raises(UnavailableError, match="does not say which TEEs it has"):
        await world.type.offers()
    world.registry.add(CAPABILITY, "ProvidedTees", answering(provided("late")))
    assert list(await world.type.offers()) == list(provided("late").tee), "it is not remembered"


async def test_without_the_capability_what_is_offered_is_not_known_yet(world: World) -> None:
    world.registry._ready.clear()
    with pytest.raises(UnavailableError, match="not found"):
        await world.type.offers()


# The start of the module type.


async def test_the_start_says_that_the_simulation_protects_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.type.start()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "INSECURE SIMULATION" in record.getMessage()
    assert "first measurement" in record.getMessage()
