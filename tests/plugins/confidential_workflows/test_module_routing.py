"""Which module runs a workflow: the real choice, handler and engine around the real module type.

The enclave is a function behind the registry; whatever takes the kind ``plain`` stands for workflows in the open.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from google.protobuf.message import Message

from innkeeper.capabilities.limits import GLOBAL, LimitTable, declare_limits
from innkeeper.engine.environment import Environment
from innkeeper.modules.attributes import declare_attributes
from innkeeper.modules.selection import Modules, Surroundings
from innkeeper.store.executions import ExecutionStatus
from innkeeper.store.specs import SpecHeader
from innkeeper.workflows.creation import Creation, Plan
from innkeeper.workflows.deployment import Deployment
from innkeeper.workflows.engines import Engines
from innkeeper.workflows.handler import Handler
from innkeeper.workflows.views import WorkflowState
from innkeeper_confidential_workflows.exchange import CAPABILITY
from innkeeper_confidential_workflows.module import GATE, ConfidentialModuleType
from innkeeper_confidential_workflows.proto.capabilities.compute.confidentialworkflow.v1alpha.client_pb2 import (
    ConfidentialWorkflowRequest,
    ConfidentialWorkflowResponse,
    ProvidedTeesResponse,
)
from innkeeper_confidential_workflows.relay.executions import LiveExecutions
from innkeeper_sdk.capability import CapabilityRequest
from innkeeper_sdk.errors import ConflictError, WorkflowError
from innkeeper_sdk.manifest import MANIFEST_NAME, Kind, Manifest, ModuleDeclaration, read_manifest
from innkeeper_sdk.module import Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha import sdk_pb2 as sdk
from tests.host.engine.engine_world import OWNER, World, answer, open_world, subscription
from tests.plugins.confidential_workflows.relay.relay_world import FakeRegistry

CONFIDENTIAL = b'{"confidential": true}'
BINARY = b"the binary"
TEE = sdk.Requirements(tee=sdk.Tee(any_regions=sdk.Regions(regions=["local"])))


class Plain(ModuleType):
    """What runs workflows in the open, and remembers that it did."""

    name = "plain"

    def __init__(self) -> None:
        self.loaded: list[WorkflowSpec] = []
        self.modules: list[PlainModule] = []
        self.subscriptions = [subscription()]

    async def load(self, spec: WorkflowSpec, binary: bytes) -> Module:
        self.loaded.append(spec)
        module = PlainModule(self.subscriptions)
        self.modules.append(module)
        return module


@define(eq=False)
class PlainModule(Module):
    subscriptions: list[sdk.TriggerSubscription]
    triggered: list[sdk.ExecuteRequest] = field(factory=list)
    closed: bool = False

    async def execute(self, request: sdk.ExecuteRequest, run: Run) -> sdk.ExecutionResult:
        if request.HasField("trigger"):
            self.triggered.append(request)
            return answer("in the open")
        return subscribed(self.subscriptions)

    async def close(self) -> None:
        self.closed = True


@define
class Ready:
    provider_id: str
    module_type: ModuleType
    manifest: Manifest


def subscribed(subscriptions: list[sdk.TriggerSubscription]) -> sdk.ExecutionResult:
    result = sdk.ExecutionResult()
    result.trigger_subscriptions.subscriptions.extend(subscriptions)
    return result


class Hosted:
    """A host with both module types."""

    def __init__(self, world: World, manifest: Manifest) -> None:
        self.world = world
        self.manifest = manifest
        self.registry = FakeRegistry()
        self.registry.add(CAPABILITY, "Execute", self._execute)
        self.registry.add(CAPABILITY, "ProvidedTees", self._tees)
        self.settings: dict[str, Any] = {GATE: True}
        self.plain = Plain()
        self.live = LiveExecutions()
        self.requests: list[ConfidentialWorkflowRequest] = []
        self.regions = ["local"]
        self.ready: dict[str, Ready] = {}
        self.pending: dict[str, str] = {}
        self.limits = LimitTable(declare_limits([manifest]).limits, {GLOBAL: self.settings})
        self.environment: Environment = evolve(world.environment, limits=self.limits)
        plain = Manifest(
            id="plain",
            title="Plain",
            sdk="",
            modules=[ModuleDeclaration("plain")],
            kinds=[Kind(name="plain_file", module="plain")],
        )
        self.ready["plain"] = Ready("plain", self.plain, plain)
        self.enable()
        self.modules = Modules(
            Surroundings(
                ready=lambda: dict(self.ready),
                registry=world.registry,
                limits=self.limits,
                pending=lambda: dict(self.pending),
            )
        )
        self.attributes = declare_attributes([manifest]).keys
        self.handler = Handler(
            self.environment, self.modules, attributes=self.attributes, kinds={"plain_file"}, drain_seconds=5.0
        )

    def enable(self) -> None:
        """Let the confidential provider be ready."""
        module_type = ConfidentialModuleType(
            registry=self.registry, limits=self.limits, live=self.live, logger=logging.getLogger("test.module")
        )
        self.ready["confidential"] = Ready("confidential-workflows", module_type, self.manifest)

    def disable(self) -> None:
        """Take it away."""
        del self.ready["confidential"]

    async def _execute(self, call: CapabilityRequest) -> Message:
        request = ConfidentialWorkflowRequest()
        assert call.payload.Unpack(request)
        self.requests.append(request)
        execution = request.execution
        subscribing = execution.sdk_execute_request.HasField("subscribe")
        result = subscribed([subscription()]) if subscribing else answer("in the enclave")
        serialized = result.SerializeToString(deterministic=True)
        self.live.get(execution.workflow_id, execution.execution_id).submit(hashlib.sha256(serialized).digest())
        return ConfidentialWorkflowResponse(execution_result=serialized, sdk_execution_result=result)

    async def _tees(self, call: CapabilityRequest) -> Message:
        return ProvidedTeesResponse(tee=[sdk.TeeTypeAndRegions(type=sdk.TEE_TYPE_AWS_NITRO, regions=self.regions)])

    async def result(self) -> str:
        """Let the trigger fire, and return what came of it."""
        self.world.trigger.emit("e1")
        (record,) = await self.world.ended()
        assert record.status is ExecutionStatus.SUCCESS, record.error
        return sdk.ExecutionResult.FromString(record.result).value.string_value

    @property
    def executed(self) -> list[ConfidentialWorkflowRequest]:
        """Return the requests that were for events."""
        return [one for one in self.requests if one.execution.sdk_execute_request.HasField("trigger")]


@pytest.fixture
async def hosted(tmp_path: Path) -> AsyncIterator[Hosted]:
    spec = find_spec("innkeeper_confidential_workflows")
    assert spec is not None
    assert spec.origin is not None
    manifest = read_manifest(Path(spec.origin).parent / MANIFEST_NAME)
    async with open_world(tmp_path) as world:
        one = Hosted(world, manifest)
        try:
            yield one
        finally:
            await one.handler.close()


def deployment(**changes: Any) -> Deployment:
    return evolve(Deployment(binary=BINARY, kind="plain_file", name="my-workflow", owner=OWNER), **changes)


async def test_a_confidential_workflow_never_meets_what_runs_in_the_open(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment(attributes=CONFIDENTIAL))
    assert view.state is WorkflowState.RUNNING, view.reason
    assert await hosted.result() == "in the enclave"
    assert not hosted.plain.loaded
    assert [one.execution.execution_id == "" for one in hosted.requests] == [True, False]


async def test_a_workflow_in_the_open_never_meets_the_enclave(hosted: Hosted) -> None:
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.RUNNING, view.reason
    assert await hosted.result() == "in the open"
    assert len(hosted.plain.loaded) == 1
    assert not hosted.registry.calls


@pytest.mark.parametrize("attributes", [b'{"confidential": "yes"}', b"{", b"null", b'{"confidental": true}'])
async def test_malformed_attributes_register_nothing(hosted: Hosted, attributes: bytes) -> None:
    with pytest.raises(WorkflowError, match="attribute"):
        await hosted.handler.deploy(deployment(attributes=attributes))
    assert await hosted.handler.views() == []
    assert not hosted.plain.loaded
    assert not hosted.registry.calls


async def test_a_trigger_that_requires_a_tee_is_run_there_and_asked_for_exactly(hosted: Hosted) -> None:
    hosted.plain.subscriptions[0].requirements.CopyFrom(TEE)
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.RUNNING, view.reason
    assert await hosted.result() == "in the enclave"
    (module,) = hosted.plain.modules
    assert not module.triggered, "in the open nothing is run"
    (request,) = hosted.executed
    execution = request.execution
    assert execution.requirements == TEE
    assert execution.binary_hash == hashlib.sha256(BINARY).digest()
    assert execution.binary_url == f"artifact:sha256/{hashlib.sha256(BINARY).hexdigest()}"
    assert execution.owner == f"0x{OWNER}"
    assert execution.workflow_id == view.workflow_id
    assert len(execution.execution_id) == 64


async def test_a_tee_that_is_nowhere_is_an_error_and_not_the_open(hosted: Hosted) -> None:
    hosted.plain.subscriptions[0].requirements.CopyFrom(TEE)
    hosted.regions = ["elsewhere"]
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.FAILED
    assert "cannot find a runner that can satisfy the requirements for trigger 0" in view.reason


async def test_while_the_capability_does_not_say_what_it_has_a_workflow_is_deferred(hosted: Hosted) -> None:
    hosted.plain.subscriptions[0].requirements.CopyFrom(TEE)
    hosted.registry.set_ready(CAPABILITY, ready=False)
    view = await hosted.handler.deploy(deployment())
    assert view.state is WorkflowState.DEFERRED
    hosted.registry.set_ready(CAPABILITY)
    hosted.handler.providers_changed()
    await hosted.handler.reconcile()
    assert (await hosted.handler.view(view.workflow_id)).state is WorkflowState.RUNNING


@pytest.mark.parametrize("how", ["absent", "not ready", "capability down"])
async def test_without_its_provider_a_confidential_workflow_is_deferred_and_never_run_elsewhere(
    hosted: Hosted, how: str
) -> None:
    if how == "capability down":
        hosted.registry.set_ready(CAPABILITY, ready=False)
    else:
        hosted.disable()
    if how == "not ready":
        hosted.pending["confidential"] = "its provider is restarting"
    view = await hosted.handler.deploy(deployment(attributes=CONFIDENTIAL))
    assert view.state is WorkflowState.DEFERRED
    if how == "not ready":
        assert "its provider is restarting" in view.reason
    assert not hosted.plain.loaded
    hosted.registry.set_ready(CAPABILITY)
    hosted.enable()
    hosted.handler.providers_changed()
    await hosted.handler.reconcile()
    assert (await hosted.handler.view(view.workflow_id)).state is WorkflowState.RUNNING
    assert not hosted.plain.loaded


async def test_a_gate_that_is_shut_is_a_failure_with_its_reason(hosted: Hosted) -> None:
    hosted.settings[GATE] = False
    view = await hosted.handler.deploy(deployment(attributes=CONFIDENTIAL))
    assert view.state is WorkflowState.FAILED
    assert "confidential-workflows capability is disabled by settings" in view.reason
    assert not hosted.requests
    assert not hosted.plain.loaded


async def test_a_second_engine_of_a_confidential_workflow_is_closed_and_both_sources_are_told(
    hosted: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    view = await hosted.handler.deploy(deployment(attributes=CONFIDENTIAL))
    plan = await hosted.handler._lifecycle._plan(await _header(hosted, view.workflow_id))
    engines = Engines(hosted.limits)
    creation = Creation(hosted.environment, hosted.modules, engines, logger=logging.getLogger("test.creation"))
    first = await creation.create(_from(plan, "contract:1:0xabc"))
    with pytest.raises(ConflictError, match="invariant violation"):
        await creation.create(_from(plan, "grpc:other:v1"))
    (record,) = [record for record in caplog.records if "collision" in record.message]
    told = vars(record)
    assert (told["existing_source"], told["attempted_source"]) == ("contract:1:0xabc", "grpc:other:v1")
    registered = engines.get(view.workflow_id)
    assert registered is not None
    assert registered.engine is first, "the first one stays"
    await first.close()
    assert len(hosted.live) == 0


async def _header(hosted: Hosted, workflow_id: str) -> SpecHeader:
    header = await hosted.environment.stores.specs.header(workflow_id)
    assert header is not None
    return header


def _from(plan: Plan, source: str) -> Plan:
    return evolve(plan, header=evolve(plan.header, source=source))
