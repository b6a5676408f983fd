"""What the control protocol's calls do: each asks one part of the host, as the operator.

Rules of this module:

1. The operator sees every capability and calls none.
2. Simulation is for a development host: it takes secrets from whoever asks, and starts executions by hand.
3. Nothing of a request is logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from innkeeper.capabilities.callers import Operator, Right
from innkeeper.capabilities.registry import Registry
from innkeeper.control import convert
from innkeeper.control.simulation import Simulation
from innkeeper.control.status import MAX_CONFIG_BYTES, MAX_FILE_BYTES, HostStatus
from innkeeper.control.streams import execution_changes, log_lines
from innkeeper.engine.events import Broadcast
from innkeeper.engine.secrets import MemorySecrets
from innkeeper.modules.kinds import DeclaredKind, decode, kind_of
from innkeeper.modules.messages import Messages
from innkeeper.providers.manager import Providers
from innkeeper.store.executions import ExecutionStatus
from innkeeper.store.stores import Stores
from innkeeper.workflows.deployment import Deployment
from innkeeper.workflows.handler import Handler
from innkeeper.workflows.views import WorkflowView
from innkeeper_sdk.errors import ConflictError, LimitExceededError, NotFoundError, UsageError
from innkeeper_sdk.namespaces import normalise
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb
from innkeeper_sdk.proto.innkeeper.control.v1.control_pb2_grpc import ControlServicer

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

__all__ = ["ControlService"]

_DEFAULT_LIMIT = 100
_MOST = 10_000

# gRPC's own context is not used: who may call is decided by the socket, how long by the host's limits.
_Context = Any


class ControlService(ControlServicer):
    """Answer the calls.

    Args:
        status: What the host says of itself.
        providers: Its providers.
        registry: Its capabilities.
        handler: Its workflows.
        stores: What is stored.
        events: What happens.
        messages: What shows and reads payloads.
        kinds: The kinds of binaries that enabled providers declare.
    """

    def __init__(
        self,
        *,
        status: HostStatus,
        providers: Providers,
        registry: Registry,
        handler: Handler,
        stores: Stores,
        events: Broadcast,
        messages: Messages,
        kinds: Sequence[DeclaredKind],
    ) -> None:
        self._status = status
        self._providers = providers
        self._registry = registry
        self._handler = handler
        self._stores = stores
        self._events = events
        self._messages = messages
        self._kinds = kinds
        self._simulation = Simulation(handler, events, stores.logs)

    async def GetHost(self, request: pb.GetHostRequest, context: _Context) -> pb.Host:
        """Say which host this is."""
        return self._status.message()

    async def ListProviders(self, request: pb.ListProvidersRequest, context: _Context) -> pb.ListProvidersResponse:
        """List the entries of plugins.yaml, as they are."""
        return pb.ListProvidersResponse(providers=map(convert.provider, self._providers.statuses()))

    async def ListCapabilities(
        self, request: pb.ListCapabilitiesRequest, context: _Context
    ) -> pb.ListCapabilitiesResponse:
        """List every capability."""
        return pb.ListCapabilitiesResponse(capabilities=map(convert.capability, self._registry.list(Operator())))

    async def GetCapability(self, request: pb.GetCapabilityRequest, context: _Context) -> pb.Capability:
        """Show one capability."""
        try:
            return convert.capability(self._registry.resolve(Operator(), request.id, Right.SEE))
        except NotFoundError as error:
            near = self._registry.suggestions(Operator(), request.id)
            if near:
                raise NotFoundError(error.message, hint=f"did you mean {' or '.join(near)}?") from None
            raise

    async def DeployWorkflow(self, request: pb.DeployWorkflowRequest, context: _Context) -> pb.Workflow:
        """Deploy a workflow."""
        deployment = await self._deployment(request.artifacts)
        view = await self._handler.deploy(deployment, paused=request.paused, allow_plain=request.allow_plain)
        return self._workflow(view)

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: _Context) -> pb.ListWorkflowsResponse:
        """List the workflows by owner and name."""
        views = sorted(await self._handler.views(), key=lambda view: (view.owner, view.name))
        return pb.ListWorkflowsResponse(workflows=map(self._workflow, views))

    async def GetWorkflow(self, request: pb.WorkflowSelector, context: _Context) -> pb.Workflow:
        """Show one workflow."""
        return self._workflow(await self._selected(request))

    async def ActivateWorkflow(self, request: pb.WorkflowSelector, context: _Context) -> pb.Workflow:
        """Start a workflow."""
        return self._workflow(await self._handler.activate((await self._selected(request)).workflow_id))

    async def PauseWorkflow(self, request: pb.WorkflowSelector, context: _Context) -> pb.Workflow:
        """Stop a workflow and keep it."""
        return self._workflow(await self._handler.pause((await self._selected(request)).workflow_id))

    async def DeleteWorkflow(self, request: pb.WorkflowSelector, context: _Context) -> pb.DeleteWorkflowResponse:
        """Stop a workflow and forget it."""
        await self._handler.delete((await self._selected(request)).workflow_id)
        return pb.DeleteWorkflowResponse()

    async def StreamLogs(self, request: pb.StreamLogsRequest, context: _Context) -> AsyncIterator[pb.LogLine]:
        """Send a workflow's lines."""
        selected = await self._selected(request.workflow)
        async for line in log_lines(
            self._stores.logs,
            self._events,
            workflow_id=selected.workflow_id,
            execution_id=request.execution_id,
            tail=request.tail,
            follow=request.follow,
        ):
            yield convert.log_line(line)

    async def SimulateWorkflow(self, request: pb.SimulateWorkflowRequest, context: _Context) -> pb.SimulatedWorkflow:
        """Deploy a workflow that only FireTrigger starts."""
        self._check_development()
        secrets = MemorySecrets(_secrets(request.secrets))
        view = await self._handler.simulate(await self._deployment(request.artifacts), secrets=secrets)
        return pb.SimulatedWorkflow(workflow=self._workflow(view))

    async def FireTrigger(
        self, request: pb.FireTriggerRequest, context: _Context
    ) -> AsyncIterator[pb.FireTriggerUpdate]:
        """Fire a trigger of a simulated workflow."""
        self._check_development()
        event = await self._event(request) if request.payload_json else None
        async for update in self._simulation.fire(request.workflow_id, request.trigger, event):
            yield update

    async def ListExecutions(self, request: pb.ListExecutionsRequest, context: _Context) -> pb.ListExecutionsResponse:
        """List executions, newest first."""
        workflow_id = (await self._selected(request.workflow)).workflow_id if request.HasField("workflow") else None
        records = await self._stores.executions.newest(
            workflow_id=workflow_id,
            status=_status(request.status) if request.status else None,
            limit=min(request.limit or _DEFAULT_LIMIT, _MOST),
        )
        return pb.ListExecutionsResponse(executions=map(convert.execution, records))

    async def GetExecution(self, request: pb.GetExecutionRequest, context: _Context) -> pb.Execution:
        """Show one execution with its log."""
        record = await self._stores.executions.get(request.execution_id)
        if record is None:
            raise NotFoundError(
                f"there is no execution {request.execution_id[:64]!r}", hint="innkeeper executions list shows all"
            )
        message = convert.execution(record)
        lines = await self._stores.logs.lines(execution_id=record.execution_id)
        message.logs.extend(map(convert.log_line, lines))
        return message

    async def WatchExecutions(
        self, request: pb.WatchExecutionsRequest, context: _Context
    ) -> AsyncIterator[pb.Execution]:
        """Send executions as they change."""
        workflow_id = (await self._selected(request.workflow)).workflow_id if request.HasField("workflow") else ""
        async for record in execution_changes(self._events, workflow_id=workflow_id):
            yield convert.execution(record)

    async def _selected(self, selector: pb.WorkflowSelector) -> WorkflowView:
        return await self._handler.find(selector.workflow, owner=selector.owner)

    def _workflow(self, view: WorkflowView) -> pb.Workflow:
        return convert.workflow(view, self._messages)

    async def _deployment(self, artifacts: pb.WorkflowArtifacts) -> Deployment:
        for what, data, most in (
            ("the binary", artifacts.binary, MAX_FILE_BYTES),
            ("the configuration", artifacts.config, MAX_CONFIG_BYTES),
        ):
            if len(data) > most:
                raise LimitExceededError(
                    f"{what} is larger than this host takes",
                    expected=f"at most {most} bytes",
                    actual=str(len(data)),
                )
        content = artifacts.binary
        match = kind_of(artifacts.file_name, content, self._kinds)
        # Tens of megabytes of base64 would hold the event loop up.
        binary = await asyncio.to_thread(decode, content, match, path=artifacts.file_name)
        return Deployment(
            binary=binary,
            kind=match.kind,
            name=artifacts.name,
            owner=artifacts.owner or self._status.settings.default_owner,
            config=artifacts.config,
            attributes=artifacts.attributes,
            tag=artifacts.tag,
        )

    async def _event(self, request: pb.FireTriggerRequest) -> AnyMessage:
        triggers = (await self._handler.view(request.workflow_id)).triggers
        if request.trigger >= len(triggers):
            raise UsageError(f"there is no trigger {request.trigger}", expected=f"one of {len(triggers)}, from 0")
        trigger = triggers[request.trigger]
        method = self._registry.resolve(Operator(), trigger.id, Right.SEE).info.methods.get(trigger.method)
        if method is None or method.output is None:
            raise UsageError(
                f"the trigger {trigger.id} does not say which message its method {trigger.method} delivers",
                hint="leave the payload out: the trigger's own event is taken",
            )
        return self._messages.from_json(method.output, request.payload_json)

    def _check_development(self) -> None:
        if not self._status.development:
            raise ConflictError(
                "workflows are simulated on a development host only",
                actual=f"environment {self._status.settings.environment}",
                hint="use `innkeeper workflow run`, which starts one",
            )


def _secrets(given: Iterable[pb.Secret]) -> dict[tuple[str, str], str]:
    secrets: dict[tuple[str, str], str] = {}
    for secret in given:
        key = (normalise(secret.namespace), secret.name)
        if key in secrets:
            raise UsageError(f"the secret {secret.name[:64]!r} is given twice in the namespace {key[0][:64]!r}")
        secrets[key] = secret.value
    return secrets


def _status(text: str) -> ExecutionStatus:
    try:
        return ExecutionStatus(text)
    except ValueError:
        raise UsageError(
            f"no execution has the status {text[:64]!r}", expected=", ".join(status.value for status in ExecutionStatus)
        ) from None
