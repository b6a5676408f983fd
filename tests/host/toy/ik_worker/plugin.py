"""The host part: a module type whose workflows are run by the process part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_sdk import ProviderContext, hookimpl
from innkeeper_sdk.capability import CapabilityError, CapabilityRequest, ErrorCode, RequestMetadata
from innkeeper_sdk.errors import UnavailableError, VerificationError
from innkeeper_sdk.module import Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ExecuteRequest, ExecutionResult, TriggerSubscriptionRequest
from innkeeper_sdk.proto.values.v1.values_pb2 import Map
from innkeeper_sdk.values import unwrap, wrap


class WorkedModule(Module):
    def __init__(self, context: ProviderContext, spec: WorkflowSpec, binary: bytes) -> None:
        self._context = context
        self._spec = spec
        self._binary = binary

    async def start(self) -> None:
        """Read the binary as a process would, and compare."""
        data, size = b"", 1
        while len(data) < size:
            payload = AnyMessage()
            payload.Pack(Map(fields={"locator": wrap(self._spec.binary_url), "offset": wrap(len(data))}))
            answer = Map()
            (await self._call("artifacts@1.0.0", "Read", payload)).Unpack(answer)
            data += unwrap(answer.fields["data"])
            size = unwrap(answer.fields["size"])
        if hashlib.sha256(data).digest() != hashlib.sha256(self._binary).digest():
            raise VerificationError("the binary is another one")

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        payload = AnyMessage()
        payload.Pack(StringValue(value=self._binary.decode()))
        answer = StringValue()
        (await self._call("work@1.0.0", "Do", payload)).Unpack(answer)
        if request.HasField("subscribe"):
            subscribed = ExecutionResult(trigger_subscriptions=TriggerSubscriptionRequest())
            beat = AnyMessage()
            beat.Pack(Duration(seconds=1))
            subscribed.trigger_subscriptions.subscriptions.add(id="pulse@1.0.0", method="Tick", payload=beat)
            return subscribed
        return ExecutionResult(value=wrap(answer.value))

    async def _call(self, capability_id: str, method: str, payload: AnyMessage) -> AnyMessage:
        request = CapabilityRequest(
            RequestMetadata(self._spec.workflow_id, self._spec.owner), capability_id, method, payload
        )
        try:
            return (await self._context.registry.execute(request)).payload
        except CapabilityError as error:
            if error.error_code is ErrorCode.Unavailable:
                raise UnavailableError(error.message) from error
            raise


class WorkedModuleType(ModuleType):
    name = "worked"

    def __init__(self, context: ProviderContext) -> None:
        self._context = context

    async def load(self, spec: WorkflowSpec, binary: bytes) -> Module:
        return WorkedModule(self._context, spec, binary)


@hookimpl
def innkeeper_modules(context: ProviderContext) -> Sequence[ModuleType]:
    return [WorkedModuleType(context)]
