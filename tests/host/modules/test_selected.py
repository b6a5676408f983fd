"""Which module runs which trigger, and what a pre-hook does to an execution."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from attrs import evolve, frozen
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper.capabilities.limits import LimitTable, declare_limits
from innkeeper.capabilities.registry import Registry
from innkeeper.modules.attributes import Binding
from innkeeper.modules.selected import SelectedModule, Surroundings
from innkeeper.modules.selection import Modules
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityType,
    Visibility,
)
from innkeeper_sdk.errors import (
    DeadlineExceededError,
    InnkeeperError,
    ProviderError,
    UnavailableError,
    WorkflowError,
)
from innkeeper_sdk.manifest import CapabilityDeclaration, Kind, Manifest, ModuleDeclaration
from innkeeper_sdk.module import ExecutionHelper, Module, ModuleType, Run, UserMetric, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    CapabilityRequest,
    CapabilityResponse,
    CapabilityRestriction,
    CapabilityRestrictions,
    ExecuteRequest,
    ExecutionResult,
    GetSecretsRequest,
    MethodRestriction,
    Regions,
    Requirements,
    Restrictions,
    SecretError,
    SecretResponse,
    Tee,
    TeeType,
    TeeTypeAndRegions,
    Trigger,
    TriggerSubscription,
    TriggerSubscriptionRequest,
)

SPEC = WorkflowSpec(workflow_id="cc" * 32, owner="aa" * 20, name="w", tag="", kind="tape")
BOUND = Binding(provider_id="sealed-provider", module="sealed", keys=("sealed",))
TEE = Requirements(tee=Tee(any_regions=Regions()))
FAR = Requirements(tee=Tee(any_regions=Regions(regions=["far"])))
NEWER = Requirements.FromString(b"\x7a\x01x")
OFFER = TeeTypeAndRegions(type=TeeType.ValueType(1), regions=["near"])
FAR_OFFER = TeeTypeAndRegions(type=TeeType.ValueType(1), regions=["far"])


class Helper:
    """An execution helper that lets every call through."""

    def __init__(self, name: str = "helper") -> None:
        self.name = name
        self.calls: list[str] = []

    @property
    def execution_id(self) -> str:
        return "ef" * 32

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        self.calls.append(request.id)
        return CapabilityResponse()

    async def get_secrets(self, request: GetSecretsRequest) -> Sequence[SecretResponse]:
        return []

    @asynccontextmanager
    async def reserve_secrets(self, request: GetSecretsRequest) -> AsyncIterator[Sequence[SecretError | None]]:
        yield []

    async def node_time(self) -> int:
        return 1

    async def don_time(self) -> int:
        return 2

    def emit_log(self, message: str) -> None:
        self.calls.append(message)

    def emit_metric(self, metric: UserMetric) -> None:
        self.calls.append(metric.name)


class Type(ModuleType):
    """A module type whose module answers as a test says, and remembers what it was asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.subscriptions: list[TriggerSubscription] = []
        self.pre_hook: Callable[[], ExecutionResult] = lambda: ExecutionResult(restrictions=Restrictions())
        self.subscribed: ExecutionResult | None = None
        self.offered: list[TeeTypeAndRegions] | Exception = []
        self.asked = 0
        self.log: list[str] = []
        self.requests: list[tuple[ExecuteRequest, Run]] = []
        self.failing_close = False

    @property
    def name(self) -> str:
        return self._name

    async def load(self, spec: WorkflowSpec, binary: bytes) -> Module:
        self.log.append("load")
        return Loaded(self)

    async def offers(self) -> Sequence[TeeTypeAndRegions]:
        self.asked += 1
        if isinstance(self.offered, Exception):
            raise self.offered
        return self.offered


class Loaded(Module):
    def __init__(self, type_: Type) -> None:
        self._type = type_

    async def start(self) -> None:
        self._type.log.append("start")

    async def close(self) -> None:
        self._type.log.append("close")
        if self._type.failing_close:
            raise RuntimeError

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        type_ = self._type
        which = request.WhichOneof("request")
        type_.log.append(which or "")
        type_.requests.append((request, run))
        if which == "subscribe":
            answer = TriggerSubscriptionRequest(subscriptions=type_.subscriptions)
            return type_.subscribed or ExecutionResult(trigger_subscriptions=answer)
        if which == "pre_hook":
            return type_.pre_hook()
        for capability_id in ("a@1.0.0", "a@1.0.0"):
            try:
                await run.helper.call_capability(CapabilityRequest(id=capability_id, method="Do"))
            except CapabilityError as error:
                return ExecutionResult(error=error.serialize())
        return ExecutionResult(error=f"ran on {type_.name}")


@frozen
class Ready:
    provider_id: str
    module_type: Type
    manifest: Manifest


def ready(name: str, *kinds: str) -> Ready:
    manifest = Manifest(
        id=f"{name}-provider",
        title=name,
        sdk=">=0",
        modules=[ModuleDeclaration(name)],
        kinds=[Kind(name=kind, module=name) for kind in kinds],
    )
    return Ready(f"{name}-provider", Type(name), manifest)


class House:
    """Three module types: the main one, and in plugins.yaml before and behind it two that take no kind."""

    def __init__(self) -> None:
        entries = [ready("sealed"), ready("player", "tape"), ready("piano", "score"), ready("vault")]
        self.ready = {one.module_type.name: one for one in entries}
        self.pending: dict[str, str] = {}
        self.registry = Registry()
        self.around = Surroundings(
            ready=lambda: self.ready,
            registry=self.registry,
            limits=LimitTable(declare_limits([]).limits),
            pending=lambda: self.pending,
        )

    def type(self, name: str) -> Type:
        return self.ready[name].module_type

    async def create(self, *subscriptions: TriggerSubscription, binding: Binding | None = None) -> SelectedModule:
        for name in ("player", "sealed"):
            self.type(name).subscriptions = list(subscriptions)
        selected = await Modules(self.around).create(SPEC, b"binary", binding)
        await selected.start()
        return selected

    async def subscribed(self, *subscriptions: TriggerSubscription, binding: Binding | None = None) -> SelectedModule:
        selected = await self.create(*subscriptions, binding=binding)
        await subscribe(selected)
        return selected


@pytest.fixture
def house() -> House:
    return House()


def run(helper: ExecutionHelper | None = None, seconds: float = 60) -> Run:
    return Run(execution_id="ef" * 32, attempt=1, deadline=time.monotonic() + seconds, helper=helper or Helper())


async def subscribe(selected: SelectedModule) -> ExecutionResult:
    request = ExecuteRequest(config=b"config")
    request.subscribe.SetInParent()
    return await selected.execute(request, run())


def event(index: int) -> ExecuteRequest:
    payload = AnyMessage(value=b"event")
    return ExecuteRequest(config=b"config", max_response_size=9, trigger=Trigger(id=index, payload=payload))


async def fire(selected: SelectedModule, index: int, helper: ExecutionHelper | None = None) -> str:
    """Return the error text of an execution's result: where it ran, or what its guest was told."""
    return (await selected.execute(event(index), run(helper))).error


def trigger(requirements: Requirements | None = None, *, pre_hook: bool = False) -> TriggerSubscription:
    return TriggerSubscription(id="t@1.0.0", method="Tick", requirements=requirements, pre_hook=pre_hook)


# Choosing.


async def test_a_trigger_that_requires_nothing_runs_on_the_main_module(house: House) -> None:
    selected = await house.subscribed(trigger(), trigger(Requirements()))
    assert [selected.module_of(index) for index in range(3)] == ["player", "player", None]
    assert await fire(selected, 1) == "ran on player"
    assert [house.type(name).asked for name in house.ready] == [0, 0, 0, 0]
    assert house.type("sealed").log == []


async def test_each_trigger_runs_on_the_first_module_that_meets_its_requirements(house: House) -> None:
    house.type("sealed").offered = [OFFER]
    house.type("vault").offered = [OFFER, FAR_OFFER]
    selected = await house.subscribed(trigger(), trigger(TEE), trigger(FAR), trigger(TEE))
    assert [selected.module_of(index) for index in range(4)] == ["player", "sealed", "vault", "sealed"]
    assert [await fire(selected, index) for index in (2, 1, 0)] == ["ran on vault", "ran on sealed", "ran on player"]
    assert house.type("sealed").log == ["load", "start", "trigger"]
    assert house.type("piano").log == [], "a module type with kinds of its own does not take this one"
    assert house.type("piano").asked == 0
    assert house.type("sealed").asked == 1, "asked once a subscribe"
    ((_, seen),) = house.type("vault").requests
    assert seen.requirements == FAR
    assert house.type("player").requests[-1][1].requirements is None


async def test_the_main_module_comes_first_if_it_offers_what_is_required(house: House) -> None:
    house.type("player").offered = [OFFER]
    house.type("sealed").offered = [OFFER]
    selected = await house.subscribed(trigger(TEE))
    assert selected.module_of(0) == "player"


async def test_subscribing_always_runs_on_the_main_module_and_its_answer_is_returned(house: House) -> None:
    selected = await house.create(trigger())
    result = await subscribe(selected)
    assert result.trigger_subscriptions.subscriptions == [trigger()]
    assert house.type("player").requests[0][0].config == b"config"


@pytest.mark.parametrize("requirements", [TEE, FAR, NEWER, Requirements(tee=Tee())])
async def test_requirements_that_nothing_meets_are_an_error(house: House, requirements: Requirements) -> None:
    house.type("sealed").offered = [OFFER] if requirements is not TEE else []
    selected = await house.create(trigger(), trigger(requirements))
    with pytest.raises(WorkflowError, match="cannot find a runner that can satisfy the requirements for trigger 1"):
        await subscribe(selected)
    for index in (0, 1):
        with pytest.raises(WorkflowError, match="cannot trigger before gathering subscriptions"):
            await fire(selected, index)


async def test_what_is_not_ready_yet_defers_a_trigger_that_it_might_run(house: House) -> None:
    house.pending = {"bunker": "restarting"}
    selected = await house.create(trigger(TEE))
    with pytest.raises(UnavailableError, match="for trigger 0 yet: bunker: restarting"):
        await subscribe(selected)


async def test_what_is_not_ready_changes_nothing_where_it_cannot_help(house: House) -> None:
    house.pending = {"bunker": "restarting"}
    with pytest.raises(WorkflowError, match="cannot find a runner"):
        await subscribe(await house.create(trigger(NEWER)))
    assert (await house.subscribed(trigger())).module_of(0) == "player"


async def test_a_host_that_cannot_tell_what_is_pending_defers_nothing(house: House) -> None:
    house.around = Surroundings(ready=lambda: house.ready, registry=house.registry, limits=house.around.limits)
    with pytest.raises(WorkflowError, match="cannot find a runner"):
        await subscribe(await house.create(trigger(TEE)))


async def test_offers_that_cannot_be_told_yet_defer_only_who_needs_them(house: House) -> None:
    house.type("sealed").offered = UnavailableError("still measuring")
    house.type("vault").offered = [OFFER]
    with pytest.raises(UnavailableError, match="still measuring"):
        await subscribe(await house.create(trigger(TEE)))
    assert (await house.subscribed(trigger())).module_of(0) == "player"
    house.type("sealed").offered = RuntimeError("broken")
    with pytest.raises(ProviderError, match="its offers"):
        await subscribe(await house.create(trigger(TEE)))


async def test_offers_are_asked_anew_at_each_subscribe(house: House) -> None:
    selected = await house.create(trigger(TEE))
    with pytest.raises(WorkflowError):
        await subscribe(selected)
    house.type("sealed").offered = [OFFER]
    await subscribe(selected)
    assert selected.module_of(0) == "sealed"


async def test_a_module_type_that_is_back_is_loaded_anew(house: House) -> None:
    house.type("sealed").offered = [OFFER]
    selected = await house.subscribed(trigger(TEE))
    before = house.type("sealed")
    del house.ready["sealed"]
    with pytest.raises(WorkflowError):
        await subscribe(selected)
    house.ready["sealed"] = ready("sealed")
    house.type("sealed").offered = [OFFER]
    await subscribe(selected)
    assert await fire(selected, 0) == "ran on sealed"
    assert house.type("sealed").log == ["load", "start", "trigger"]
    await selected.close()
    assert before.log == ["load", "start", "close"]


async def test_a_new_choice_replaces_the_old_one_whole(house: House) -> None:
    selected = await house.subscribed(trigger(), trigger())
    house.type("player").subscriptions = [trigger()]
    await subscribe(selected)
    with pytest.raises(WorkflowError, match="before gathering"):
        await fire(selected, 1)
    house.type("player").subscribed = ExecutionResult(error="no more")
    assert (await subscribe(selected)).error == "no more"
    with pytest.raises(WorkflowError, match="before gathering"):
        await fire(selected, 0)


async def test_an_event_before_subscribing_is_refused(house: House) -> None:
    selected = await house.create(trigger())
    with pytest.raises(WorkflowError, match="cannot trigger before gathering subscriptions"):
        await fire(selected, 0)
    assert house.type("player").log == ["load", "start"]


@pytest.mark.parametrize("request_", [ExecuteRequest(), ExecuteRequest(pre_hook=Trigger())])
async def test_nothing_but_subscribe_and_events_is_executed(house: House, request_: ExecuteRequest) -> None:
    selected = await house.subscribed(trigger())
    with pytest.raises(WorkflowError, match="subscribe or trigger"):
        await selected.execute(request_, run())


# Bound workflows.


async def test_of_a_bound_workflow_everything_runs_on_its_module(house: House) -> None:
    house.type("sealed").offered = [OFFER]
    selected = await house.subscribed(trigger(), trigger(TEE), trigger(pre_hook=True), binding=BOUND)
    assert [selected.module_of(index) for index in range(3)] == ["sealed"] * 3
    assert [await fire(selected, index) for index in range(3)] == ["ran on sealed"] * 3
    assert house.type("sealed").log == ["load", "start", "subscribe", "trigger", "trigger", "pre_hook", "trigger"]
    assert [house.type(name).log for name in ("player", "vault")] == [[], []]


async def test_a_bound_workflow_is_run_by_no_other_that_meets_its_requirements(house: House) -> None:
    house.type("sealed").offered = [OFFER]
    house.type("vault").offered = [FAR_OFFER]
    house.pending = {"bunker": "restarting"}
    with pytest.raises(WorkflowError, match="cannot find a runner"):
        await subscribe(await house.create(trigger(FAR), binding=BOUND))
    assert house.type("vault").log == []


# Pre-hooks.


def only(*limits: tuple[str, int]) -> Restrictions:
    entries = [
        CapabilityRestriction(method=MethodRestriction(id=id_, method="Do", max_calls=most)) for id_, most in limits
    ]
    return Restrictions(capabilities=CapabilityRestrictions(restrictions=entries, max_total_calls=9))


async def test_a_pre_hook_runs_first_on_the_main_module_and_its_restrictions_are_kept(house: House) -> None:
    house.type("sealed").offered = [OFFER]
    house.type("player").pre_hook = lambda: ExecutionResult(restrictions=only(("a@1.0.0", 1)))
    selected = await house.subscribed(trigger(TEE, pre_hook=True), trigger(TEE))
    helper = Helper()
    told = "Public:User:LimitExceeded:call denied by user pre-hook restrictions: a@1.0.0 Do"
    assert await fire(selected, 0, helper) == told
    assert helper.calls == ["a@1.0.0"]
    assert house.type("player").log == ["load", "start", "subscribe", "pre_hook"]
    asked, seen = house.type("player").requests[-1]
    assert asked == ExecuteRequest(config=b"config", max_response_size=9, pre_hook=event(0).trigger)
    assert seen.helper is helper
    assert (seen.requirements, seen.restrictions) == (None, None)
    target, seen = house.type("sealed").requests[-1]
    assert target == event(0)
    assert (seen.requirements, seen.restrictions) == (TEE, only(("a@1.0.0", 1)))
    assert seen.helper is not helper
    assert await fire(selected, 1) == "ran on sealed"
    assert house.type("sealed").requests[-1][1].restrictions is None


async def test_each_execution_has_restrictions_of_its_own(house: House) -> None:
    house.type("player").pre_hook = lambda: ExecutionResult(restrictions=only(("a@1.0.0", 2)))
    selected = await house.subscribed(trigger(pre_hook=True))
    assert [await fire(selected, 0) for _ in range(3)] == ["ran on player"] * 3


async def test_a_restricted_id_is_what_it_resolves_to(house: House) -> None:
    declared = CapabilityDeclaration(id="a@1.5.0", type=CapabilityType.ACTION, visibility=Visibility.PUBLIC)

    class Public(Capability):
        @property
        def info(self) -> CapabilityInfo:
            return CapabilityInfo(id="a@1.5.0", type=CapabilityType.ACTION)

    house.registry.declare("p", [declared])
    house.registry.register("p", Public())
    house.type("player").pre_hook = lambda: ExecutionResult(restrictions=only(("a@1.5.0", 1)))
    selected = await house.subscribed(trigger(pre_hook=True))
    helper = Helper()
    assert "denied" in await fire(selected, 0, helper)
    assert helper.calls == ["a@1.0.0"], "the first of two calls was allowed under its other name"


async def test_a_restricted_id_that_stands_for_nothing_is_itself(house: House) -> None:
    house.type("player").pre_hook = lambda: ExecutionResult(restrictions=only(("nothing@1.0.0", 9)))
    selected = await house.subscribed(trigger(pre_hook=True))
    helper = Helper()
    assert "denied" in await fire(selected, 0, helper)
    assert helper.calls == []


async def test_an_error_of_the_pre_hook_is_the_result_and_nothing_else_runs(house: House) -> None:
    house.type("player").pre_hook = lambda: ExecutionResult(error="not for you")
    selected = await house.subscribed(trigger(pre_hook=True))
    assert await fire(selected, 0) == "not for you"
    assert house.type("player").log == ["load", "start", "subscribe", "pre_hook"]


def _raise(error: Exception) -> ExecutionResult:
    raise error


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (ExecutionResult, WorkflowError, "pre-hook execution failed: it answered without restrictions"),
        (
            lambda: ExecutionResult(trigger_subscriptions=TriggerSubscriptionRequest()),
            WorkflowError,
            "found trigger_subscriptions",
        ),
        (
            lambda: ExecutionResult(restrictions=Restrictions.FromString(b"\x7a\x01x")),
            WorkflowError,
            "does not know",
        ),
        (lambda: _raise(WorkflowError("trapped")), WorkflowError, "pre-hook execution failed: trapped"),
        (lambda: _raise(RuntimeError("x")), WorkflowError, "pre-hook execution failed: "),
        (lambda: _raise(DeadlineExceededError("late")), DeadlineExceededError, "pre-hook execution failed: late"),
        (lambda: _raise(UnavailableError("later")), UnavailableError, "later"),
    ],
)
async def test_a_pre_hook_that_does_not_restrict_fails_the_execution(
    house: House, answer: Callable[[], ExecutionResult], kind: type[InnkeeperError], text: str
) -> None:
    house.type("player").pre_hook = answer
    selected = await house.subscribed(trigger(pre_hook=True))
    with pytest.raises(kind) as caught:
        await fire(selected, 0)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert house.type("player").log[-1] == "pre_hook"


async def test_a_pre_hook_has_its_own_time_and_never_more_than_the_execution(house: House) -> None:
    selected = await house.subscribed(trigger(pre_hook=True))
    for seconds, most in ((60.0, 10.0), (3.0, 3.0)):
        before = time.monotonic()
        await selected.execute(event(0), run(seconds=seconds))
        (_, hook), (_, execution) = house.type("player").requests[-2:]
        assert before + most - 1 < hook.deadline < time.monotonic() + most
        assert hook.deadline <= execution.deadline


async def test_a_pre_hook_may_be_given_a_helper_of_its_own(house: House) -> None:
    given: list[ExecutionHelper] = []

    def of_its_own(helper: ExecutionHelper) -> ExecutionHelper:
        given.append(helper)
        return Helper("pre-hook")

    house.around = evolve(house.around, pre_hook_helper=of_its_own)
    selected = await house.subscribed(trigger(pre_hook=True))
    helper = Helper()
    await fire(selected, 0, helper)
    assert given == [helper]
    (_, hook), (_, execution) = house.type("player").requests[-2:]
    assert isinstance(hook.helper, Helper)
    assert hook.helper.name == "pre-hook"
    await execution.helper.call_capability(CapabilityRequest(id="b@1.0.0"))
    assert helper.calls[-1] == "b@1.0.0"


# Closing.


async def test_every_module_that_was_loaded_is_closed_also_if_one_does_not_close(house: House) -> None:
    house.type("sealed").offered = [OFFER]
    house.type("vault").offered = [FAR_OFFER]
    selected = await house.subscribed(trigger(TEE), trigger(FAR))
    house.type("sealed").failing_close = True
    with pytest.raises(ProviderError, match="its end"):
        await selected.close()
    await selected.close()
    assert [house.type(name).log.count("close") for name in ("sealed", "player", "piano", "vault")] == [1, 1, 0, 1]
    for index in (0, 1):
        with pytest.raises(WorkflowError, match="before gathering"):
            await fire(selected, index)
    with pytest.raises(UnavailableError, match="closed"):
        await subscribe(selected)
