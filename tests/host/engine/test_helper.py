"""The execution helper: calls, limits, secrets, time and metrics of one attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.engine.errors import ReplayDivergenceError
from innkeeper.engine.helper import AttemptHelper, Services, metadata, pre_hook_helper
from innkeeper.engine.journal import Journal
from innkeeper.engine.limits import EngineLimits
from innkeeper.engine.logs import LogBuffer
from innkeeper.engine.metrics import UserMetrics
from innkeeper.engine.ports import SecretRefusal
from innkeeper.engine.secrets import MemorySecrets, NoSecrets
from innkeeper.engine.subscription import SubscribeHelper
from innkeeper.store.executions import ExecutionRecord, ExecutionStatus
from innkeeper.workflows.identity import idempotency_key
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    CapabilityType,
    ErrorCode,
    Origin,
    RequestMetadata,
    Visibility,
)
from innkeeper_sdk.errors import InnkeeperError, LimitExceededError, NotFoundError, WorkflowError
from innkeeper_sdk.manifest import CapabilityDeclaration, Method
from innkeeper_sdk.module import UserMetric, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import GetSecretsRequest, SecretRequest
from tests.host.engine.engine_world import (
    ACTION,
    OWNER,
    WORKFLOW,
    ScriptedAction,
    ScriptedClock,
    World,
    ask,
    limit_table,
    text,
    untext,
)

ID = "ab" * 32
SPEC = WorkflowSpec(workflow_id=WORKFLOW, owner=OWNER, name="my-workflow", tag="v1", kind="test")


@define
class Sink:
    """What a metric sink was told."""

    recorded: list[tuple[str, UserMetric]]

    def record(self, spec: WorkflowSpec, name: str, metric: UserMetric) -> None:
        self.recorded.append((name, metric))


@define
class Attempt:
    """One attempt's helper, and what is around it."""

    helper: AttemptHelper
    journal: Journal
    logs: LogBuffer
    services: Services
    sink: Sink


Open = Callable[..., AbstractAsyncContextManager[Attempt]]


@pytest.fixture
def attempt(tmp_path: Path, world: World) -> Open:
    """Return what makes an attempt's helper."""

    @asynccontextmanager
    async def make(
        *, limits: Mapping[str, Any] | None = None, deadline: float = 60.0, replay: bool = False, **changes: Any
    ) -> AsyncIterator[Attempt]:
        table = limit_table(**(limits or {}))
        own = EngineLimits.of(table, owner=OWNER, workflow_id=WORKFLOW)
        sink = Sink([])
        clock = ScriptedClock()
        services = Services(
            spec=SPEC,
            registry=world.registry,
            secrets=MemorySecrets({("main", "KEY"): "geheim"}),
            limits=table,
            own=own,
            clock=clock,
            metrics=UserMetrics(SPEC, own, sink),
            calls=asyncio.Semaphore(own.capability_calls_at_once),
            secret_calls=asyncio.Semaphore(own.secrets_calls_at_once),
        )
        services = evolve(services, **changes)
        record = ExecutionRecord(ID, WORKFLOW, 0, "e", ExecutionStatus.ACCEPTED, datetime(2026, 1, 1, tzinfo=UTC))
        await world.stores.executions.accept(record, b"")
        entries = await world.stores.journal.load(ID) if replay else ()
        journal = Journal(world.stores.database, ID, entries)
        logs = LogBuffer(workflow_id=WORKFLOW, execution_id=ID, line_bytes=100, lines=10, clock=clock, write=None)
        helper = AttemptHelper(
            services, execution_id=ID, journal=journal, logs=logs, deadline=time.monotonic() + deadline
        )
        try:
            yield Attempt(helper, journal, logs, services, sink)
        finally:
            await helper.close()
            if not journal.fault.done():
                await journal.settle()
            journal.close()

    return make


async def said(attempt: Attempt, callback_id: int, **changes: Any) -> str:
    """Return what a call is answered, or the error that the guest is told."""
    try:
        response = await attempt.helper.call_capability(ask(callback_id, **changes))
    except CapabilityError as error:
        return error.serialize()
    except InnkeeperError as error:
        return str(error)
    return untext(response.payload)


async def test_a_call_is_answered_and_carries_what_the_host_knows(world: World, attempt: Open) -> None:
    async with attempt() as one:
        before = time.monotonic()
        assert await said(one, 7) == "answer to question"
    (call,) = world.action.calls
    assert call.metadata == RequestMetadata(
        workflow_id=WORKFLOW,
        workflow_owner=OWNER,
        workflow_execution_id=ID,
        workflow_name="38383931353862366163",
        decoded_workflow_name="my-workflow",
        workflow_tag="v1",
        reference_id="7",
        workflow_don_id=1,
        workflow_don_config_version=1,
    )
    assert (call.capability_id, call.method) == (ACTION, "Do")
    assert call.idempotency_key == idempotency_key(WORKFLOW, ID, "7")
    assert call.deadline is not None
    assert before < call.deadline <= before + 61


def test_a_registrations_metadata_has_no_execution() -> None:
    found = metadata(SPEC, reference_id="trigger_3")
    assert (found.reference_id, found.workflow_execution_id) == ("trigger_3", "")


async def test_calls_with_negative_ids_are_calls_like_others(world: World, attempt: Open) -> None:
    async with attempt() as one:
        assert await said(one, -1) == "answer to question"
        assert world.action.calls[0].metadata.reference_id == "-1"


async def test_a_capability_that_is_not_there_is_the_registrys_one_error(attempt: Open) -> None:
    async with attempt() as one:
        with pytest.raises(NotFoundError, match=r"capability nothing@1\.0\.0 not found"):
            await one.helper.call_capability(ask(1, capability="nothing@1.0.0"))


def add(world: World, action: ScriptedAction, visibility: Visibility, *, calls: str | None = None) -> None:
    methods = {"Do": Method(calls=calls), "Read": Method(idempotent=True, calls=calls)}
    declaration = CapabilityDeclaration(
        id=action.id, type=CapabilityType.ACTION, visibility=visibility, methods=methods
    )
    world.registry.declare("other", [declaration])
    world.registry.register("other", action)


async def test_an_internal_capability_looks_as_if_it_were_not_there(world: World, attempt: Open) -> None:
    internal = ScriptedAction(id="internal@1.0.0")
    add(world, internal, Visibility.INTERNAL)
    async with attempt() as one:
        hidden = await said(one, 1, capability="internal@1.0.0")
        absent = await said(one, 2, capability="internal@2.0.0")
        compatible = await said(one, 3, capability="internal@1.0.0-0")
    assert hidden.replace("1.0.0", "X") == absent.replace("2.0.0", "X") == compatible.replace("1.0.0-0", "X")
    assert internal.calls == []


async def test_the_resolved_capability_is_called_whatever_compatible_version_was_asked_for(
    world: World, attempt: Open
) -> None:
    action = ScriptedAction(id="versioned@1.4.2")
    add(world, action, Visibility.PUBLIC)
    async with attempt() as one:
        assert await said(one, 1, capability="versioned@1.0.0") == "answer to question"
    assert action.calls[0].capability_id == "versioned@1.4.2"


async def test_a_capabilitys_error_reaches_the_guest_in_its_wire_form(world: World, attempt: Open) -> None:
    async def refuse(request: CapabilityRequest) -> AnyMessage:
        raise CapabilityError("bad", error_code=ErrorCode.InvalidArgument, origin=Origin.USER)

    world.action.on_call = refuse
    async with attempt() as one:
        assert await said(one, 1) == "Public:User:InvalidArgument:bad"


async def test_a_method_without_a_declared_limit_may_be_called_five_times(world: World, attempt: Open) -> None:
    async with attempt() as one:
        answers = [await said(one, number) for number in range(6)]
        other = await said(one, 6, method="Read")
    assert answers[:5] == ["answer to question"] * 5
    assert answers[5] == "Public:User:LimitExceeded:capability call limit exceeded for test-action.Do"
    assert other == "answer to question"
    assert len(world.action.calls) == 6


async def test_methods_that_share_a_declared_limit_share_its_count(world: World, attempt: Open) -> None:
    name = "PerWorkflow.Secrets.CallLimit"  # any count will do
    action = ScriptedAction(id="sharing@1.0.0")
    add(world, action, Visibility.PUBLIC, calls=name)
    async with attempt(limits={name.replace(".", "__"): 2}) as one:
        answers = [
            await said(one, number, capability="sharing@1.0.0", method=method)
            for number, method in enumerate(("Do", "Read", "Do"))
        ]
        other = await said(one, 9)
    assert answers[:2] == ["answer to question"] * 2
    assert answers[2].startswith("Public:User:LimitExceeded:")
    assert other == "answer to question"


async def test_calls_under_way_are_limited_and_others_wait(world: World, attempt: Open) -> None:
    entered, leave = asyncio.Semaphore(0), asyncio.Event()

    async def hold(request: CapabilityRequest) -> AnyMessage:
        entered.release()
        await leave.wait()
        return text("done")

    world.action.on_call = hold
    async with attempt(limits={"PerWorkflow__CapabilityConcurrencyLimit": 2}) as one:
        calls = [asyncio.create_task(said(one, number)) for number in range(3)]
        for _ in range(2):
            await asyncio.wait_for(entered.acquire(), 5)
        assert len(world.action.calls) == 2
        leave.set()
        assert await asyncio.gather(*calls) == ["done"] * 3


async def test_a_call_that_takes_too_long_is_cancelled_and_its_guest_is_told(world: World, attempt: Open) -> None:
    cancelled = asyncio.Event()

    async def hang(request: CapabilityRequest) -> AnyMessage:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        raise AssertionError

    world.action.on_call = hang
    async with attempt(limits={"PerWorkflow__CapabilityCallTimeout": 0.05}) as one:
        assert (await said(one, 1)).startswith("Public:System:DeadlineExceeded:")
        assert cancelled.is_set()


async def test_a_call_never_outlasts_its_execution(world: World, attempt: Open) -> None:
    async with attempt(deadline=0.5) as one:
        await said(one, 1)
    deadline = world.action.calls[0].deadline
    assert deadline is not None
    assert deadline < time.monotonic() + 1


async def test_after_the_end_calls_under_way_are_cancelled_and_new_ones_refused(world: World, attempt: Open) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request: CapabilityRequest) -> AnyMessage:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        raise AssertionError

    world.action.on_call = hang
    async with attempt() as one:
        call = asyncio.create_task(one.helper.call_capability(ask(1)))
        await asyncio.wait_for(entered.wait(), 5)
        await one.helper.close()
        assert cancelled.is_set()
        with pytest.raises(asyncio.CancelledError):
            await call
        for late in (one.helper.call_capability(ask(2)), one.helper.get_secrets(GetSecretsRequest())):
            with pytest.raises(WorkflowError, match="the execution is over"):
                await late
        one.helper.emit_log("late")
        assert one.logs.take() == []
    assert len(world.action.calls) == 1


async def test_a_guest_that_stops_waiting_cancels_its_call(world: World, attempt: Open) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request: CapabilityRequest) -> AnyMessage:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        raise AssertionError

    world.action.on_call = hang
    async with attempt() as one:
        call = asyncio.create_task(one.helper.call_capability(ask(1)))
        await asyncio.wait_for(entered.wait(), 5)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_what_was_answered_is_not_asked_again_and_counts_all_the_same(world: World, attempt: Open) -> None:
    async with attempt() as one:
        first = [await said(one, number) for number in range(5)]
    world.action.calls.clear()
    async with attempt(replay=True) as one:
        assert [await said(one, number) for number in range(5)] == first
        assert world.action.calls == []
        assert (await said(one, 5)).startswith("Public:User:LimitExceeded:")


async def test_a_refusal_is_replayed_though_the_capability_is_there_now(world: World, attempt: Open) -> None:
    world.registry.unregister("test", ACTION)
    async with attempt() as one:
        refused = await said(one, 1)
    world.registry.register("test", world.action)
    async with attempt(replay=True) as one:
        assert await said(one, 1) == refused
    assert refused.startswith("Public:System:Unavailable:")


async def test_the_guest_is_never_told_of_a_divergence(world: World, attempt: Open) -> None:
    async with attempt() as one:
        await said(one, 1, payload="question")
    async with attempt(replay=True) as one:
        call = asyncio.create_task(said(one, 1, payload="another question"))
        await asyncio.wait({one.journal.fault})
        for _ in range(5):
            await asyncio.sleep(0)
        assert not call.done()
        await one.helper.close()
        await asyncio.wait({call})
        assert call.cancelled()
    assert len(world.action.calls) == 1


async def test_secrets_are_answered_one_by_one_in_their_order(attempt: Open) -> None:
    async with attempt() as one:
        request = GetSecretsRequest(
            requests=[SecretRequest(id="MISSING"), SecretRequest(id="KEY"), SecretRequest(id="KEY", namespace="other")]
        )
        responses = await one.helper.get_secrets(request)
    assert [response.WhichOneof("response") for response in responses] == ["error", "secret", "error"]
    secret = responses[1].secret
    assert (secret.id, secret.namespace, secret.owner, secret.value) == ("KEY", "main", OWNER, "geheim")
    assert responses[0].error.error == "secret MISSING in namespace main not found"
    assert responses[2].error.namespace == "other"


async def test_without_a_store_every_secret_is_refused_with_the_reason(attempt: Open) -> None:
    async with attempt(secrets=NoSecrets()) as one:
        (response,) = await one.helper.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="KEY")]))
    assert "no secret store is enabled" in response.error.error


async def test_requests_for_secrets_are_limited(attempt: Open) -> None:
    async with attempt(limits={"PerWorkflow__Secrets__CallLimit": 1}) as one:
        await one.helper.get_secrets(GetSecretsRequest(callback_id=1))
        with pytest.raises(LimitExceededError, match=rf"limited for workflow\[{WORKFLOW}\]: cannot use 2, limit is 1"):
            await one.helper.get_secrets(GetSecretsRequest(callback_id=2))


async def test_requests_for_secrets_under_way_are_limited(attempt: Open) -> None:
    entered, leave = asyncio.Semaphore(0), asyncio.Event()

    class Slow:
        running = 0
        most = 0

        async def get(self, owner: str, namespace: str, name: str) -> str | SecretRefusal:
            Slow.running += 1
            Slow.most = max(Slow.most, Slow.running)
            entered.release()
            await leave.wait()
            Slow.running -= 1
            return "value"

    async with attempt(limits={"PerWorkflow__SecretsConcurrencyLimit": 2}, secrets=Slow()) as one:
        requests = [
            asyncio.create_task(
                one.helper.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="K")], callback_id=number))
            )
            for number in range(4)
        ]
        for _ in range(2):
            await asyncio.wait_for(entered.acquire(), 5)
        leave.set()
        await asyncio.gather(*requests)
        assert Slow.most == 2


async def test_a_reservation_admits_secrets_and_reads_none(world: World, attempt: Open) -> None:
    class Unread:
        async def get(self, owner: str, namespace: str, name: str) -> str | SecretRefusal:
            raise AssertionError("a value was read")

    request = GetSecretsRequest(requests=[SecretRequest(id="KEY"), SecretRequest(id="OTHER")], callback_id=4)
    async with attempt(secrets=Unread()) as one:
        async with one.helper.reserve_secrets(request) as refusals:
            assert refusals == [None, None]
        await one.journal.settle()
        (entry,) = await world.stores.journal.load(ID)
        assert (entry.callback_id, entry.value) == (4, None)


async def test_a_reservation_counts_as_the_request_that_it_stands_for(attempt: Open) -> None:
    async with attempt(limits={"PerWorkflow__Secrets__CallLimit": 2}) as one:
        await one.helper.get_secrets(GetSecretsRequest(callback_id=1))
        async with one.helper.reserve_secrets(GetSecretsRequest(callback_id=2)):
            pass
        with pytest.raises(LimitExceededError, match="cannot use 3, limit is 2"):
            async with one.helper.reserve_secrets(GetSecretsRequest(callback_id=3)):
                pass


async def test_a_reservation_uses_its_callback_id(attempt: Open) -> None:
    async with attempt() as one:
        async with one.helper.reserve_secrets(GetSecretsRequest(callback_id=1)):
            pass
        with pytest.raises(WorkflowError, match="used twice"):
            async with one.helper.reserve_secrets(GetSecretsRequest(callback_id=1)):
                pass


async def test_a_replayed_reservation_is_compared_with_what_was_asked_before(attempt: Open) -> None:
    async with attempt() as one:
        asked = GetSecretsRequest(requests=[SecretRequest(id="KEY")], callback_id=1)
        async with one.helper.reserve_secrets(asked):
            pass
        await one.journal.settle()
    async with attempt(replay=True) as two:
        other = GetSecretsRequest(requests=[SecretRequest(id="ELSE")], callback_id=1)
        late = asyncio.create_task(enter(two.helper.reserve_secrets(other)))
        with pytest.raises(ReplayDivergenceError, match="other secrets"):
            async with asyncio.timeout(10):
                await asyncio.shield(two.journal.fault)
        assert not late.done(), "the guest does not learn why its attempt is over"
        await two.helper.close()
        await asyncio.wait({late})
        assert late.cancelled()


async def enter(context: AbstractAsyncContextManager[object]) -> object:
    async with context as entered:
        return entered


async def test_reservations_under_way_are_limited_together_with_requests(attempt: Open) -> None:
    async with attempt(limits={"PerWorkflow__SecretsConcurrencyLimit": 1}) as one:
        async with one.helper.reserve_secrets(GetSecretsRequest(callback_id=1)):
            waiting = asyncio.create_task(
                one.helper.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="KEY")], callback_id=2))
            )
            done, _ = await asyncio.wait({waiting}, timeout=0.05)
            assert not done
        (answer,) = await asyncio.wait_for(waiting, 5)
        assert answer.secret.value == "geheim"


async def test_after_the_end_nothing_is_reserved(attempt: Open) -> None:
    async with attempt(limits={"PerWorkflow__SecretsConcurrencyLimit": 1}) as one:
        async with one.helper.reserve_secrets(GetSecretsRequest(callback_id=1)):
            late = asyncio.create_task(enter(one.helper.reserve_secrets(GetSecretsRequest(callback_id=2))))
            await asyncio.wait({late}, timeout=0.05)
            await one.helper.close()
        with pytest.raises(WorkflowError, match="over"):
            await late
        with pytest.raises(WorkflowError, match="over"):
            await enter(one.helper.reserve_secrets(GetSecretsRequest(callback_id=3)))


async def test_no_secret_reaches_the_journal_or_a_repr(world: World, attempt: Open) -> None:
    async with attempt() as one:
        await one.helper.get_secrets(GetSecretsRequest(requests=[SecretRequest(id="KEY")], callback_id=1))
        await one.journal.settle()
        (entry,) = await world.stores.journal.load(ID)
        assert entry.value is None
        assert "geheim" not in repr(one.services.secrets)


async def test_don_time_grows_and_node_time_is_the_clocks(attempt: Open) -> None:
    async with attempt() as one:
        clock = one.services.clock
        assert await one.helper.node_time() == clock.now()
        first, second = await one.helper.don_time(), await one.helper.don_time()
        assert first == clock.now()
        assert second - first == 1_000_000


async def test_replayed_time_is_what_it_was_and_goes_on_after_it(attempt: Open) -> None:
    async with attempt() as one:
        told = [await one.helper.don_time(), await one.helper.node_time(), await one.helper.don_time()]
    async with attempt(replay=True, clock=ScriptedClock(wall=0)) as one:
        again = [await one.helper.don_time(), await one.helper.node_time(), await one.helper.don_time()]
        assert again == told
        assert await one.helper.don_time() > told[2]
        assert await one.helper.node_time() == 0


def metric(**changes: Any) -> UserMetric:
    return evolve(UserMetric(name="n", value=1.5, kind="counter", labels={"a": "b"}), **changes)


async def test_a_pre_hook_has_calls_of_its_own_and_shares_the_limits(world: World, attempt: Open) -> None:
    async with attempt() as one:
        hook = pre_hook_helper(one.helper)
        answers = [
            untext((await helper.call_capability(ask(number))).payload)
            for helper, numbers in ((hook, (0, 1, 2)), (one.helper, (0, 1)))
            for number in numbers
        ]
        assert answers == ["answer to question"] * 5
        assert (await said(one, 2)).startswith("Public:User:LimitExceeded:")
        assert len({call.idempotency_key for call in world.action.calls}) == 5
        assert hook.execution_id == ID
        await one.helper.close()
        with pytest.raises(WorkflowError, match="the execution is over"):
            await hook.call_capability(ask(9))


def test_a_helper_of_somebody_else_is_its_own_pre_hook_helper() -> None:
    helper = SubscribeHelper(
        LogBuffer(workflow_id="", execution_id="", line_bytes=1, lines=1, clock=ScriptedClock(), write=None),
        ScriptedClock(),
    )
    assert pre_hook_helper(helper) is helper


async def test_user_metrics_are_off_unless_they_are_switched_on(attempt: Open) -> None:
    async with attempt() as one:
        with pytest.raises(WorkflowError, match="user metrics are off"):
            one.helper.emit_metric(metric())
        assert one.sink.recorded == []


async def test_user_metrics_get_the_references_names(attempt: Open) -> None:
    async with attempt(limits={"PerWorkflow__UserMetricEnabled": True}) as one:
        one.helper.emit_metric(metric())
        one.helper.emit_metric(metric(kind="gauge"))
    assert [name for name, _ in one.sink.recorded] == ["user_workflow_n_counter", "user_workflow_n_gauge"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "histogram"}, "unsupported user metric type"),
        ({"name": ""}, "has no name"),
        ({"name": "n" * 129}, "name of a user metric is too large"),
        ({"labels": {str(number): "" for number in range(11)}}, "number of labels"),
        ({"labels": {"a": "é" * 129}}, "label value"),
    ],
)
async def test_user_metrics_that_are_none_or_too_large_are_refused(
    attempt: Open, changes: dict[str, Any], message: str
) -> None:
    async with attempt(limits={"PerWorkflow__UserMetricEnabled": True}) as one:
        with pytest.raises(InnkeeperError, match=message):
            one.helper.emit_metric(metric(**changes))
    assert one.sink.recorded == []


async def test_two_attempts_of_one_call_have_one_key_and_no_two_calls_share_one(world: World, tmp_path: Path) -> None:
    keys = {
        idempotency_key(WORKFLOW, ID, "1"),
        idempotency_key(WORKFLOW, ID, "11"),
        idempotency_key(WORKFLOW, ID, "-1"),
        idempotency_key(WORKFLOW, ID[:-1], "1"),
        idempotency_key(WORKFLOW + ID[0], ID[1:], "1"),
    }
    assert len(keys) == 5
    assert idempotency_key(WORKFLOW, ID, "1") in keys


LIMIT = "PerWorkflow__JournalEntryLimit"


async def ends(attempt: Attempt, asked: Coroutine[Any, Any, Any]) -> None:
    """Check that what is asked is never answered, and ends the attempt instead."""
    task = asyncio.create_task(asked)
    with pytest.raises(LimitExceededError, match=r"at most \d+ entries \(PerWorkflow\.JournalEntryLimit\)"):
        async with asyncio.timeout(10):
            await asyncio.shield(attempt.journal.fault)
    assert not task.done()
    await attempt.helper.close()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_readings_of_clocks_are_stored_batch_by_batch(world: World, attempt: Open) -> None:
    async with attempt() as one:
        for number in range(1000):
            await (one.helper.don_time() if number % 2 else one.helper.node_time())
        stored = await world.stores.journal.load(ID)
    assert [entry.position for entry in stored] == list(range(len(stored)))
    assert 1000 - 256 <= len(stored) < 1000


@pytest.mark.parametrize("replay", [False, True])
async def test_a_guest_that_reads_clocks_without_end_is_ended(attempt: Open, replay: bool) -> None:
    limits = {LIMIT: 600}
    async with attempt(limits=limits) as one:
        told = [await one.helper.don_time() for _ in range(500 if replay else 600)]
        if not replay:
            await ends(one, one.helper.node_time())
            return
    async with attempt(limits=limits, replay=True) as two:
        assert [await two.helper.don_time() for _ in range(500)] == told
        new = [await two.helper.don_time() for _ in range(100)]
        assert new[0] > told[-1]
        await ends(two, two.helper.don_time())


async def test_what_a_full_journal_holds_is_replayed(attempt: Open) -> None:
    limits = {LIMIT: 4}
    async with attempt(limits=limits) as one:
        told = [await one.helper.don_time() for _ in range(2)]
        refused = await said(one, 1, capability="nothing@1.0.0")
        await one.helper.get_secrets(GetSecretsRequest(callback_id=1))
    async with attempt(limits=limits, replay=True) as two:
        assert [await two.helper.don_time() for _ in range(2)] == told
        assert await said(two, 1, capability="nothing@1.0.0") == refused
        await two.helper.get_secrets(GetSecretsRequest(callback_id=1))
        assert not two.journal.fault.done()
        await ends(two, two.helper.node_time())


async def test_refused_calls_and_requests_fill_the_journal_too(world: World, attempt: Open) -> None:
    async with attempt(limits={LIMIT: 300}) as one:
        for number in range(300):
            assert "not found" in await said(one, number, capability="nothing@1.0.0")
        assert len(await world.stores.journal.load(ID)) >= 256
        await ends(one, one.helper.get_secrets(GetSecretsRequest(callback_id=1)))


async def test_a_call_leaves_only_if_it_can_be_recorded_and_its_answer_always_can(world: World, attempt: Open) -> None:
    async with attempt(limits={LIMIT: 1}) as one:
        assert await said(one, 1) == "answer to question"
        await ends(one, one.helper.call_capability(ask(2)))
    assert len(world.action.calls) == 1
    # Of an attempt that was ended nobody waits for what is still being stored. Writes keep their order.
    await world.stores.database.write(lambda _: None)
    assert len(await world.stores.journal.load(ID)) == 2
