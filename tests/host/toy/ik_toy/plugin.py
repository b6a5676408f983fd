"""The provider's hooks: a module type that runs JSON, and two triggers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from innkeeper_sdk import ProviderContext, hookimpl
from innkeeper_sdk.capability import (
    Capability,
    CapabilityInfo,
    CapabilityType,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.errors import WorkflowError
from innkeeper_sdk.module import Module, ModuleType, Run, WorkflowSpec
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    ExecuteRequest,
    ExecutionResult,
    GetSecretsRequest,
    SecretRequest,
    TriggerSubscriptionRequest,
)
from innkeeper_sdk.values import wrap


def packed(message: Duration | Timestamp) -> AnyMessage:
    payload = AnyMessage()
    payload.Pack(message)
    return payload


class ToyModule(Module):
    def __init__(self, binary: bytes) -> None:
        self.script = json.loads(binary)

    async def execute(self, request: ExecuteRequest, run: Run) -> ExecutionResult:
        script = self.script
        if request.HasField("subscribe"):
            if "refuses" in script:
                raise WorkflowError(script["refuses"])
            subscribed = ExecutionResult(trigger_subscriptions=TriggerSubscriptionRequest())
            for id_ in script.get("triggers", ["toy-trigger@1.0.0"]):
                subscribed.trigger_subscriptions.subscriptions.add(
                    id=id_, method="Tick", payload=packed(Duration(seconds=30))
                )
            return subscribed
        for line in script.get("logs", ()):
            run.helper.emit_log(line)
        if "sleep" in script:
            await asyncio.sleep(script["sleep"])
        if "fails" in script:
            raise WorkflowError(script["fails"])
        if "error" in script:
            return ExecutionResult(error=script["error"])
        return ExecutionResult(value=wrap(await self._value(request, run)))

    async def _value(self, request: ExecuteRequest, run: Run) -> object:
        script = self.script
        value = script.get("value")
        if value == "secret":
            (answer,) = await run.helper.get_secrets(
                GetSecretsRequest(requests=[SecretRequest(id=script["id"], namespace=script["namespace"])])
            )
            return answer.secret.value or answer.error.error
        if value == "event":
            stamp = Timestamp()
            request.trigger.payload.Unpack(stamp)
            return stamp.seconds
        return request.config if value == "config" else value


class ToyModuleType(ModuleType):
    name = "toy"

    def __init__(self, context: ProviderContext) -> None:
        self._start = context.config.get("start", "fine")

    async def start(self) -> None:
        if self._start == "fails":
            raise RuntimeError("the toy is broken")
        if self._start == "hangs":
            await asyncio.Event().wait()

    async def close(self) -> None:
        while self._start == "clings":
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def load(self, spec: WorkflowSpec, binary: bytes) -> Module:
        return ToyModule(binary)


class ToyTrigger(Capability):
    def __init__(self, id_: str, *, late: bool) -> None:
        self._info = CapabilityInfo(id=id_, type=CapabilityType.TRIGGER)
        self._late = late

    @property
    def info(self) -> CapabilityInfo:
        return self._info

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        return self._events(registration)

    async def _events(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        if self._late:
            await asyncio.sleep(1.5)
            yield TriggerEvent("late", packed(Timestamp(seconds=7)))
        number = 0
        while not self._late:
            # Events of a deployed workflow: as many as anybody can execute.
            number += 1
            yield TriggerEvent(f"{registration.trigger_id}-{time.time_ns()}", packed(Timestamp(seconds=number)))
            await asyncio.sleep(0.05)
        await asyncio.Event().wait()

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        pass

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        return None if self._late else TriggerEvent("next", packed(Timestamp(seconds=42)))


class ToyAction(Capability):
    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo(id="secret-action@1.0.0", type=CapabilityType.ACTION)


@hookimpl
def innkeeper_modules(context: ProviderContext) -> Sequence[ModuleType]:
    return [ToyModuleType(context)]


@hookimpl
def innkeeper_capabilities(context: ProviderContext) -> Sequence[Capability]:
    if context.config.get("start") == "blocks":
        subprocess.run(["sleep", "600"], check=False)
    return [
        ToyTrigger("toy-trigger@1.0.0", late=False),
        ToyTrigger("late-trigger@1.0.0", late=True),
        ToyAction(),
    ]
