"""The process part: it works, and it beats; who it is shows in all of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_sdk.capability import (
    Capability,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.loop import serve


class Work(Capability):
    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo("work@1.0.0", CapabilityType.ACTION)

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        text = StringValue()
        request.payload.Unpack(text)
        answer = AnyMessage()
        answer.Pack(StringValue(value=f"{text.value} by {os.getpid()}"))
        return CapabilityResponse(answer)


class Pulse(Capability):
    @property
    def info(self) -> CapabilityInfo:
        return CapabilityInfo("pulse@1.0.0", CapabilityType.TRIGGER)

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        return self._beats(registration.trigger_id)

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        pass

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent | None:
        return None

    async def _beats(self, trigger_id: str) -> AsyncIterator[TriggerEvent]:
        while True:
            beat = AnyMessage()
            beat.Pack(Timestamp(seconds=os.getpid()))
            yield TriggerEvent(f"{trigger_id}-{time.time_ns()}", beat)
            await asyncio.sleep(0.2)


class Stubborn(Work):
    async def close(self) -> None:
        await asyncio.Event().wait()


def main() -> None:
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
        serve(lambda context: [Stubborn(), Pulse()])
    serve(lambda context: [Work(), Pulse()])
