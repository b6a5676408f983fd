"""Starting an engine: the binary says its triggers, and all of them are registered, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from innkeeper.engine.engine import EngineState
from innkeeper.engine.errors import TriggerRegistrationError
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Origin, TriggerRegistration
from innkeeper_sdk.errors import (
    ConflictError,
    DeadlineExceededError,
    InnkeeperError,
    LimitExceededError,
    NotFoundError,
    ProviderError,
    WorkflowError,
)
from innkeeper_sdk.module import Run, UserMetric
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult, GetSecretsRequest
from tests.host.engine.engine_world import (
    TRIGGER,
    WORKFLOW,
    ScriptedModule,
    World,
    answer,
    ask,
    forever,
    open_world,
    subscription,
    text,
)


def registration_id(index: int) -> str:
    return f"trigger_reg_{WORKFLOW}_{index}"


async def test_starting_asks_for_the_triggers_and_registers_them(world: World) -> None:
    module = ScriptedModule(subscriptions=[subscription(), subscription()])
    engine = world.engine(module, config=b"config")
    await engine.start()
    assert engine.state is EngineState.RUNNING
    assert module.history == ["started"]
    (request,) = module.requests
    assert (request.WhichOneof("request"), request.config, request.max_response_size) == (
        "subscribe",
        b"config",
        100_000,
    )
    assert module.runs[0].execution_id == ""
    assert [found.trigger_id for found in world.trigger.registrations] == [registration_id(0), registration_id(1)]
    found = world.trigger.registrations[1]
    assert (found.method, found.payload) == ("Trigger", text("config"))
    assert found.metadata.reference_id == "trigger_1"
    assert found.metadata.workflow_execution_id == ""
    assert found.metadata.workflow_don_config_version == 1
    assert [one.id for one in engine.subscriptions.subscriptions] == [TRIGGER, TRIGGER]


async def test_an_engine_starts_once(world: World) -> None:
    engine, _ = await world.started()
    with pytest.raises(ConflictError, match="starts once"):
        await engine.start()


Refused = Callable[[Run], Awaitable[object]]


async def capability(run: Run) -> object:
    return await run.helper.call_capability(ask(1))


async def secrets(run: Run) -> object:
    return await run.helper.get_secrets(GetSecretsRequest())


async def reservation(run: Run) -> object:
    async with run.helper.reserve_secrets(GetSecretsRequest()) as refusals:
        return refusals


async def metric(run: Run) -> object:
    run.helper.emit_metric(UserMetric(name="n", value=1.0, kind="counter", labels={}))
    return None


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (capability, "capability calls cannot be made during trigger subscription"),
        (secrets, "secrets calls cannot be made during trigger subscription"),
        (reservation, "secrets calls cannot be made during trigger subscription"),
        (metric, "user metrics cannot be emitted during trigger subscription"),
    ],
)
async def test_while_subscribing_a_binary_may_ask_for_nothing(world: World, act: Refused, message: str) -> None:
    said: list[str] = []

    async def subscribe(request: ExecuteRequest, run: Run) -> ExecutionResult:
        try:
            await act(run)
        except WorkflowError as error:
            said.append(str(error))
        raise WorkflowError("the guest gave up")

    module = ScriptedModule(on_subscribe=subscribe)
    with pytest.raises(WorkflowError, match="the guest gave up"):
        await world.engine(module).start()
    assert said == [message]
    assert world.action.calls == []
    assert module.history == ["started", "closed"]


async def test_while_subscribing_a_binary_may_log_and_read_the_time(world: World) -> None:
    async def subscribe(request: ExecuteRequest, run: Run) -> ExecutionResult:
        run.helper.emit_log("subscribing")
        assert await run.helper.don_time() > 0
        assert await run.helper.node_time() > 0
        result = ExecutionResult()
        result.trigger_subscriptions.subscriptions.append(subscription())
        return result

    await world.engine(ScriptedModule(on_subscribe=subscribe)).start()
    (line,) = await world.stores.logs.lines(workflow_id=WORKFLOW)
    assert (line.execution_id, line.message) == ("", "subscribing")


async def test_the_lines_of_a_subscribing_that_failed_are_kept(world: World) -> None:
    async def subscribe(request: ExecuteRequest, run: Run) -> ExecutionResult:
        run.helper.emit_log("this is why")
        raise WorkflowError("trap")

    with pytest.raises(WorkflowError, match="trap"):
        await world.engine(ScriptedModule(on_subscribe=subscribe)).start()
    assert [line.message for line in await world.stores.logs.lines()] == ["this is why"]


def result_of(kind: str) -> ExecutionResult:
    result = ExecutionResult()
    if kind == "error":
        result.error = "the guest's reason"
    elif kind == "value":
        result = answer()
    elif kind == "none at all":
        result.trigger_subscriptions.SetInParent()
    return result


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("error", "failed while it said its triggers: the guest's reason"),
        ("value", r"did not answer with its triggers \(expected trigger_subscriptions, found value\)"),
        ("nothing", r"did not answer with its triggers \(expected trigger_subscriptions, found nothing\)"),
        ("none at all", "no triggers, so it would never run"),
    ],
)
async def test_what_is_no_list_of_triggers_is_an_error(world: World, kind: str, message: str) -> None:
    async def subscribe(request: ExecuteRequest, run: Run) -> ExecutionResult:
        return result_of(kind)

    module = ScriptedModule(on_subscribe=subscribe)
    with pytest.raises(WorkflowError, match=message):
        await world.engine(module).start()
    assert module.history == ["started", "closed"]


async def test_a_binary_that_says_nothing_in_time_is_ended(tmp_path: Path) -> None:
    async def hang(request: ExecuteRequest, run: Run) -> ExecutionResult:
        await forever()

    module = ScriptedModule(on_subscribe=hang)
    async with open_world(tmp_path, limits={"PerWorkflow.TriggerSubscriptionTimeout": 0.05}) as world:
        with pytest.raises(DeadlineExceededError, match=r"within 0\.05 s"):
            await world.engine(module).start()
    assert module.history == ["started", "closed"]


async def test_too_many_triggers_are_refused_in_the_references_words(world: World) -> None:
    module = ScriptedModule(subscriptions=[subscription() for _ in range(11)])
    with pytest.raises(
        LimitExceededError,
        match=rf"PerWorkflow\.TriggerSubscriptionLimit limited for workflow\[{WORKFLOW}\]: cannot use 11, limit is 10",
    ):
        await world.engine(module).start()
    assert world.trigger.registrations == []
    assert module.history == ["started", "closed"]


async def test_a_module_that_does_not_start_is_closed(world: World) -> None:
    module = ScriptedModule(on_start=WorkflowError("it is broken"))
    engine = world.engine(module)
    with pytest.raises(WorkflowError, match="it is broken"):
        await engine.start()
    assert module.history == ["started", "closed"]
    assert engine.state is EngineState.CLOSED
    await engine.close()
    assert module.history == ["started", "closed"]


async def test_a_capability_that_is_not_there_registers_nothing(world: World) -> None:
    module = ScriptedModule(subscriptions=[subscription(), subscription("missing@1.0.0")])
    with pytest.raises(TriggerRegistrationError, match=r"trigger 1 \(missing@1\.0\.0\): .* not found") as caught:
        await world.engine(module).start()
    assert isinstance(caught.value.__cause__, NotFoundError)
    assert world.trigger.registrations == []
    assert module.history == ["started", "closed"]


async def test_a_refused_registration_takes_the_others_back(world: World) -> None:
    refusal = CapabilityError("bad schedule", error_code=ErrorCode.InvalidArgument, origin=Origin.USER)
    world.trigger.refuse[registration_id(1)] = refusal
    module = ScriptedModule(subscriptions=[subscription() for _ in range(3)])
    with pytest.raises(TriggerRegistrationError, match=r"failed to register trigger 1 .*bad schedule") as caught:
        await world.engine(module).start()
    assert caught.value.__cause__ is refusal
    assert registration_id(1) not in world.trigger.unregistered
    assert world.trigger.registered == {}
    assert {registration_id(0)} <= set(world.trigger.unregistered)
    assert module.history == ["started", "closed"]


async def test_registrations_that_are_too_slow_are_cut_off_and_taken_back(tmp_path: Path) -> None:
    async def slow(registration: TriggerRegistration) -> None:
        if registration.trigger_id == registration_id(1):
            await forever()

    module = ScriptedModule(subscriptions=[subscription(), subscription()])
    async with open_world(tmp_path, limits={"PerWorkflow.TriggerRegistrationsTimeout": 0.05}) as world:
        world.trigger.on_register = slow
        with pytest.raises(TriggerRegistrationError, match=r"trigger 1 .* within 0\.05 s"):
            await world.engine(module).start()
        assert sorted(world.trigger.unregistered) == [registration_id(0), registration_id(1)]
        assert world.trigger.registered == {}


async def test_an_internal_trigger_looks_as_if_it_were_not_there(world: World) -> None:
    world.registry.withdraw("test")
    module = ScriptedModule()
    with pytest.raises(TriggerRegistrationError, match="not found"):
        await world.engine(module).start()
    assert world.trigger.registrations == []


async def test_an_engine_that_is_closed_while_it_starts_leaves_nothing(world: World) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(registration: TriggerRegistration) -> None:
        entered.set()
        await leave.wait()

    world.trigger.on_register = slow
    module = ScriptedModule()
    engine = world.engine(module)
    starting = asyncio.create_task(engine.start())
    await asyncio.wait_for(entered.wait(), 5)
    closing = asyncio.create_task(engine.close())
    leave.set()
    with pytest.raises(InnkeeperError):
        await starting
    await closing
    assert world.trigger.registered == {}
    assert module.history.count("closed") == 1


async def test_a_start_that_is_cancelled_leaves_nothing(world: World) -> None:
    entered = asyncio.Event()

    async def hang(registration: TriggerRegistration) -> None:
        entered.set()
        await forever()

    world.trigger.on_register = hang
    module = ScriptedModule()
    starting = asyncio.create_task(world.engine(module).start())
    await asyncio.wait_for(entered.wait(), 5)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert module.history == ["started", "closed"]
    assert world.trigger.registered == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), asyncio.CancelledError()])
async def test_a_module_that_would_end_the_host_while_subscribing_fails_alone(
    world: World, error: BaseException
) -> None:
    async def handler(request: ExecuteRequest, run: Run) -> ExecutionResult:
        raise error

    engine = world.engine(ScriptedModule(on_subscribe=handler))
    with pytest.raises(ProviderError, match=f"the module is at fault: {type(error).__name__}"):
        await engine.start()
