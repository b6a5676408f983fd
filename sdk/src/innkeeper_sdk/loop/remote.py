"""A capability that is served by another process, as a capability.

Rules of this module:

1. A call is sent once, and exactly one answer is taken. Whether to try again is for who knows if that is harmless.
2. What fails on the way is the system's fault and public; its text names no address, file or process. What Go peers
   answer as a status without a message of its own is told in the same way.
3. A registration's stream belongs to the registration, not to who asked for it: only unregistering it, registering
   the same trigger id anew, or closing this object ends it from this side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Final

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    ErrorCode,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.loop import convert
from innkeeper_sdk.loop.subscriptions import Subscription
from innkeeper_sdk.loop.texts import error_from_text
from innkeeper_sdk.loop.transport import transport_errors
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.capabilities import capabilities_pb2_grpc as rpc

__all__ = ["RemoteCapability", "fetch_info"]

# None of Info, unregistering and acknowledging waits for anything but the other process. Go peers give Info one second
# (chainlink-common's capabilities_registry.go), which a process that starts on a busy machine does not always meet.
_UNARY_SECONDS: Final = 10.0


async def fetch_info(channel: grpc.aio.Channel, *, timeout: float = _UNARY_SECONDS) -> CapabilityInfo:  # noqa: ASYNC109 - of the RPC
    """Ask what is served at the other end of a connection.

    Args:
        channel: To the process that serves the capability.
        timeout: Seconds.

    Returns:
        What it says of itself; the wire has no methods.

    Raises:
        CapabilityError: It does not answer, or is of no known type.
    """
    with transport_errors("the capability"):
        reply = await rpc.BaseCapabilityStub(channel).Info(Empty(), timeout=timeout)
    return convert.info_from_proto(reply)


class RemoteCapability(Capability):
    """Call what is served at the other end of a connection.

    Args:
        channel: To the process that serves the capability; it stays its owner's.
        info: What the capability says of itself, with the methods that its manifest declares.
    """

    def __init__(self, channel: grpc.aio.Channel, info: CapabilityInfo) -> None:
        self._info = info
        self._executable = rpc.ExecutableStub(channel)
        self._trigger = rpc.TriggerExecutableStub(channel)
        self._subscriptions: dict[str, Subscription] = {}

    @property
    def info(self) -> CapabilityInfo:
        """Return what the capability says of itself."""
        return self._info

    async def close(self) -> None:
        """End the streams of all registrations; idempotent."""
        for subscription in list(self._subscriptions.values()):
            await subscription.close()

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call; cancelling this cancels the call in the other process."""
        call = self._executable.Execute(
            convert.request_to_proto(request),
            timeout=convert.seconds_until(request.deadline),
            metadata=convert.call_metadata(request.metadata, request.idempotency_key),
        )
        try:
            with transport_errors(f"capability {self._info.id}"):
                answer = await call.read()
                more = isinstance(answer, pb.CapabilityResponse) and isinstance(
                    await call.read(), pb.CapabilityResponse
                )
        finally:
            call.cancel()
        if not isinstance(answer, pb.CapabilityResponse) or more:
            number = "more than one answer" if more else "no answer"
            raise CapabilityError(
                f"capability {self._info.id} gave {number} to one call", error_code=ErrorCode.Internal
            )
        return convert.response_from_proto(answer)

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        """Register a subscription; return its events once it stands."""
        earlier = self._subscriptions.pop(registration.trigger_id, None)
        if earlier is not None:
            await earlier.close()
        call = self._trigger.RegisterTrigger(
            convert.registration_to_proto(registration), metadata=convert.call_metadata(registration.metadata)
        )
        subscription = Subscription(call, f"trigger {self._info.id}")
        self._subscriptions[registration.trigger_id] = subscription
        try:
            await subscription.acknowledged()
        except BaseException:
            await self._end(registration.trigger_id, subscription)
            raise
        return subscription

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        """End a subscription and its events; unknown ids are fine."""
        subscription = self._subscriptions.get(registration.trigger_id)
        call = self._trigger.UnregisterTrigger(
            convert.registration_to_proto(registration),
            timeout=_UNARY_SECONDS,
            metadata=convert.call_metadata(registration.metadata),
        )
        try:
            await self._empty(call)
        finally:
            if subscription is not None:
                await self._end(registration.trigger_id, subscription)

    async def ack_event(self, trigger_id: str, event_id: str, method: str) -> None:
        """Take note that an event is durably accepted."""
        request = pb.AckEventRequest(trigger_id=trigger_id, event_id=event_id, method=method)
        await self._empty(self._trigger.AckEvent(request, timeout=_UNARY_SECONDS))

    async def _end(self, trigger_id: str, subscription: Subscription) -> None:
        if self._subscriptions.get(trigger_id) is subscription:
            del self._subscriptions[trigger_id]
        await subscription.close()

    async def _empty(self, call: Awaitable[Empty]) -> None:
        with transport_errors(f"trigger {self._info.id}"):
            try:
                await call
            except grpc.aio.AioRpcError as error:
                # Answers without a field for errors come back of unknown code, with the error as the text.
                text = error.details()
                if error.code() is grpc.StatusCode.UNKNOWN and text:
                    raise error_from_text(text) from None
                raise
