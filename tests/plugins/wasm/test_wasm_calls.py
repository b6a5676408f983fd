"""The protobuf side of an execution's calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin
from innkeeper_sdk.errors import NotFoundError, WorkflowError
from innkeeper_sdk.module import UserMetric
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AwaitCapabilitiesRequest,
    AwaitCapabilitiesResponse,
    AwaitSecretsRequest,
    AwaitSecretsResponse,
    CapabilityRequest,
    CapabilityResponse,
    ExecutionResult,
    GetSecretsRequest,
    Secret,
    SecretRequest,
    SecretResponse,
)
from innkeeper_wasm.calls import ERRNO_FAULT, MODE_DON, GuestCalls
from innkeeper_wasm.driver import CallRefused
from innkeeper_wasm.proto.user_metric_pb2 import WorkflowUserMetric

GARBAGE = b"\xff\xff\xff"


class Helper:
    """Answers with the method's name, once its gate is open; ``fail`` and ``unknown`` raise."""

    execution_id = "11" * 32

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.cancelled: list[str] = []
        self.logs: list[str] = []
        self.metrics: list[UserMetric] = []
        self.refuse_secrets = False

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        self.started.append(request.method)
        try:
            if request.method in self.gates:
                await self.gates[request.method].wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.method)
            raise
        if request.method == "fail":
            raise CapabilityError("no: way", error_code=ErrorCode.LimitExceeded, origin=Origin.USER)
        if request.method == "unknown":
            raise NotFoundError("capability x not found")
        payload = Any()
        payload.Pack(StringValue(value=request.method))
        return CapabilityResponse(payload=payload)

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        if self.refuse_secrets:
            raise WorkflowError("too many")
        return [SecretResponse(secret=Secret(id=r.id, value="Bar")) for r in request.requests]

    async def node_time(self) -> int:
        return 1

    async def don_time(self) -> int:
        return 2

    def emit_log(self, message: str) -> None:
        self.logs.append(message)

    def emit_metric(self, metric: UserMetric) -> None:
        if metric.name == "refused":
            raise WorkflowError("off")
        self.metrics.append(metric)


def call(call_id: int, method: str = "echo") -> bytes:
    return CapabilityRequest(id="x@1.0.0", method=method, callback_id=call_id).SerializeToString()


def awaiting(*ids: int) -> bytes:
    return AwaitCapabilitiesRequest(ids=ids).SerializeToString()


def text(response: CapabilityResponse) -> str:
    value = StringValue()
    assert response.payload.Unpack(value)
    return value.value


async def answers(calls: GuestCalls, *ids: int) -> dict[int, CapabilityResponse]:
    return dict(AwaitCapabilitiesResponse.FromString(await calls.await_capabilities(awaiting(*ids))).responses)


@pytest.fixture
def helper() -> Helper:
    return Helper()


@pytest.fixture
def calls(helper: Helper) -> GuestCalls:
    return GuestCalls(helper, asyncio.Semaphore(30))


async def test_calls_run_at_once_and_are_awaited_by_id(calls: GuestCalls, helper: Helper) -> None:
    helper.gates["slow"] = asyncio.Event()
    await calls.call_capability(call(1, "slow"))
    await calls.call_capability(call(-1, "quick"))
    assert text((await answers(calls, -1))[-1]) == "quick"
    helper.gates["slow"].set()
    assert text((await answers(calls, 1))[1]) == "slow"


async def test_a_failed_call_is_an_answer_in_the_wire_form(calls: GuestCalls) -> None:
    await calls.call_capability(call(1, "fail"))
    await calls.call_capability(call(2, "unknown"))
    got = await answers(calls, 1, 2)
    assert got[1].error == "Public:User:LimitExceeded:no: way"
    assert got[2].error == "capability x not found"


async def test_an_id_is_burned_even_after_it_was_awaited(calls: GuestCalls, helper: Helper) -> None:
    await calls.call_capability(call(1))
    await answers(calls, 1)
    with pytest.raises(CallRefused) as refused:
        await calls.call_capability(call(1))
    assert refused.value.text == "error calling callCapAsync: duplicate callback id not allowed"
    assert helper.started == ["echo"]


async def test_an_execution_has_so_many_ids_and_no_more(calls: GuestCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innkeeper_wasm.pending._MAX_CALLS", 40)
    for id_ in range(40):
        await calls.call_capability(call(id_))
    for id_ in range(40, 80):  # More than there are slots: each refusal gives its own back.
        with pytest.raises(CallRefused, match="too many calls in one execution, at most 40 are allowed"):
            await calls.call_capability(call(id_))
    assert len(await answers(calls, *range(40))) == 40
    with pytest.raises(CallRefused, match="too many calls"):
        await calls.call_capability(call(80))
    await calls.get_secrets(GetSecretsRequest(callback_id=80).SerializeToString())


async def test_a_duplicate_leaves_the_original_and_frees_its_slot(helper: Helper) -> None:
    calls = GuestCalls(helper, asyncio.Semaphore(2))
    helper.gates["slow"] = asyncio.Event()
    await calls.call_capability(call(1, "slow"))
    for _ in range(3):
        with pytest.raises(CallRefused, match="duplicate callback id"):
            await calls.call_capability(call(1))
    helper.gates["slow"].set()
    assert text((await answers(calls, 1))[1]) == "slow"


async def test_capabilities_and_secrets_have_separate_ids(calls: GuestCalls) -> None:
    await calls.call_capability(call(1))
    await calls.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="Foo")], callback_id=1).SerializeToString())
    assert text((await answers(calls, 1))[1]) == "echo"
    got = AwaitSecretsResponse.FromString(await calls.await_secrets(AwaitSecretsRequest(ids=[1]).SerializeToString()))
    assert got.responses[1].responses[0].secret.value == "Bar"
    with pytest.raises(CallRefused, match="getSecretsAsync: duplicate callback id"):
        await calls.get_secrets(GetSecretsRequest(callback_id=1).SerializeToString())


@pytest.mark.parametrize("ids", [(7,), (1, 1)])
async def test_an_id_that_is_not_there_is_named(calls: GuestCalls, ids: tuple[int, ...]) -> None:
    await calls.call_capability(call(1))
    with pytest.raises(CallRefused) as refused:
        await answers(calls, *ids)
    assert refused.value.text == f"failed to get call from store : {ids[-1]}"


async def test_a_failed_await_has_consumed_what_came_before(calls: GuestCalls) -> None:
    await calls.call_capability(call(1))
    with pytest.raises(CallRefused):
        await answers(calls, 1, 7)
    with pytest.raises(CallRefused, match="from store : 1"):
        await answers(calls, 1)


async def test_a_start_waits_for_a_slot_of_the_pool(helper: Helper) -> None:
    calls = GuestCalls(helper, asyncio.Semaphore(1))
    helper.gates["slow"] = asyncio.Event()
    await calls.call_capability(call(1, "slow"))
    second = asyncio.create_task(calls.call_capability(call(2)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.done()
    helper.gates["slow"].set()
    await second
    assert text((await answers(calls, 2))[2]) == "echo"


async def test_a_cancelled_start_leaves_nothing(helper: Helper) -> None:
    pool = asyncio.Semaphore(1)
    calls = GuestCalls(helper, pool)
    helper.gates["slow"] = asyncio.Event()
    await calls.call_capability(call(1, "slow"))
    second = asyncio.create_task(calls.call_capability(call(2)))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await calls.close()
    assert not pool.locked()


async def test_what_was_not_awaited_is_cancelled(calls: GuestCalls, helper: Helper) -> None:
    helper.gates["slow"] = asyncio.Event()
    await calls.call_capability(call(1, "slow"))
    await asyncio.sleep(0)
    await calls.close()
    assert helper.cancelled == ["slow"]


async def test_refused_secrets_fail_the_await(calls: GuestCalls, helper: Helper) -> None:
    helper.refuse_secrets = True
    await calls.get_secrets(GetSecretsRequest(callback_id=3).SerializeToString())
    with pytest.raises(CallRefused) as refused:
        await calls.await_secrets(AwaitSecretsRequest(ids=[3]).SerializeToString())
    assert refused.value.text == "failed to get secrets for call 3: too many"


async def test_bytes_that_are_no_message_are_refused(calls: GuestCalls) -> None:
    for start in (calls.call_capability, calls.get_secrets):
        with pytest.raises(CallRefused, match=r"^error calling proto unmarshal: "):
            await start(GARBAGE)
    for await_ in (calls.await_capabilities, calls.await_secrets):
        with pytest.raises(CallRefused):
            await await_(GARBAGE)


async def test_the_last_response_that_is_one_counts(calls: GuestCalls) -> None:
    assert await calls.send_response(GARBAGE) == ERRNO_FAULT
    assert calls.result is None
    assert await calls.send_response(ExecutionResult(error="first").SerializeToString()) == 0
    assert await calls.send_response(ExecutionResult(error="second").SerializeToString()) == 0
    assert await calls.send_response(GARBAGE) == ERRNO_FAULT
    assert calls.result == ExecutionResult(error="second")


async def test_only_don_mode_sees_the_dons_time(calls: GuestCalls) -> None:
    assert [await calls.now(mode) for mode in (0, MODE_DON, 2, 99)] == [1, 2, 1, 1]
    assert await calls.node_time() == 1


async def test_a_log_line_need_not_be_utf8(calls: GuestCalls, helper: Helper) -> None:
    calls.log(1, b"caf\xe9")
    assert helper.logs == ["caf\ufffd"]


async def test_metrics_are_read_or_refused(calls: GuestCalls, helper: Helper) -> None:
    metric = WorkflowUserMetric(name="n", value=1.5, type=WorkflowUserMetric.GAUGE, labels={"a": "b"})
    assert await calls.emit_metric(metric.SerializeToString()) == 0
    assert helper.metrics == [UserMetric(name="n", value=1.5, kind="gauge", labels={"a": "b"})]
    assert await calls.emit_metric(GARBAGE) == -1
    assert await calls.emit_metric(WorkflowUserMetric(name="refused").SerializeToString()) == -1
