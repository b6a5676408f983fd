"""The gRPC services of one capability.

Rules of this module:

1. Which services a connection has depends on the capability's type: the base always, and the trigger's, the
   executable's, or both.
2. A failure of a call or a registration is a message, not a status. Only a :class:`CapabilityError` has its text
   told; of anything else a caller learns that it happened, and the log learns of what type it was and where: its text
   may hold what nobody may see.
3. A call whose caller has gone is cancelled in the capability.
4. A registration is acknowledged once it stands, and is unregistered once: when its stream ends for whatever reason,
   when the peer says so, or when the same trigger id is registered anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import cast

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityType,
)
from innkeeper_sdk.loop import convert
from innkeeper_sdk.loop.faults import hidden
from innkeeper_sdk.loop.registrations import Registration
from innkeeper_sdk.loop.texts import status_text
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb
from innkeeper_sdk.proto.capabilities import capabilities_pb2_grpc as rpc

__all__ = ["CapabilityServices"]


class CapabilityServices:
    """Serve one capability on one connection.

    Args:
        capability: A started capability.
        kind: The type whose services are served; by default the capability's own. Go hosts serve what was asked for
            as a trigger with a trigger's services, whatever it is besides.
    """

    def __init__(self, capability: Capability, *, kind: CapabilityType | None = None) -> None:
        self._capability = capability
        self._kind = kind or capability.info.type
        self._triggers = _Triggers(capability)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the services to a server that is not started yet."""
        rpc.add_BaseCapabilityServicer_to_server(_Base(self._capability.info), server)
        if self._kind in (CapabilityType.TRIGGER, CapabilityType.COMBINED):
            rpc.add_TriggerExecutableServicer_to_server(self._triggers, server)
        if self._kind is not CapabilityType.TRIGGER:
            rpc.add_ExecutableServicer_to_server(_Executable(self._capability), server)

    async def close(self) -> None:
        """Unregister what is still registered, after the server was stopped; idempotent."""
        await self._triggers.close()


class _Base(rpc.BaseCapabilityServicer):
    def __init__(self, info: CapabilityInfo) -> None:
        self._reply = convert.info_to_proto(info)

    async def Info(self, request: Empty, context: rpc._ServicerContext) -> pb.CapabilityInfoReply:
        return self._reply


class _Executable(rpc.ExecutableServicer):
    def __init__(self, capability: Capability) -> None:
        self._capability = capability
        self._id = capability.info.id

    async def RegisterToWorkflow(self, request: pb.RegisterToWorkflowRequest, context: rpc._ServicerContext) -> Empty:
        # Capabilities of this SDK need not be told who will call them.
        return Empty()

    async def UnregisterFromWorkflow(
        self, request: pb.UnregisterFromWorkflowRequest, context: rpc._ServicerContext
    ) -> Empty:
        return Empty()

    async def Execute(  # type: ignore[override] # gRPC also takes a coroutine that writes
        self, request: pb.CapabilityRequest, context: rpc._ServicerContext
    ) -> None:
        await context.write(await self._answer(request, context))

    async def _answer(self, request: pb.CapabilityRequest, context: rpc._ServicerContext) -> pb.CapabilityResponse:
        try:
            call = convert.request_from_proto(
                request,
                capability_id=self._id,
                deadline=convert.deadline_in(context.time_remaining()),
                idempotency_key=convert.idempotency_key(
                    cast("Iterable[tuple[str, str | bytes]]", context.invocation_metadata())
                ),
            )
            return convert.response_to_proto(await self._capability.execute(call))
        except CapabilityError as error:
            return convert.response_to_proto(error)
        except Exception as error:  # noqa: BLE001 - a capability may raise anything; the caller gets an answer
            return convert.response_to_proto(hidden(error, f"{self._id}, method {request.method}"))


class _Triggers(rpc.TriggerExecutableServicer):
    def __init__(self, capability: Capability) -> None:
        self._capability = capability
        self._id = capability.info.id
        self._active: dict[str, Registration] = {}

    async def RegisterTrigger(  # type: ignore[override] # gRPC also takes a coroutine that writes
        self, request: pb.TriggerRegistrationRequest, context: rpc._ServicerContext
    ) -> None:
        try:
            record = convert.registration_from_proto(request)
            while (earlier := self._active.get(record.trigger_id)) is not None:
                await earlier.end_quietly()
            await self._run(Registration(self._capability, record, self._active), context)
        except CapabilityError as error:
            await context.write(convert.event_to_proto(error, capability_id=self._id))

    async def _run(self, registration: Registration, context: rpc._ServicerContext) -> None:
        try:
            events = await registration.begin()
            await context.write(pb.TriggerResponseMessage(ack=Empty()))
            while (message := await registration.next_message(events)) is not None:
                await context.write(message)
        finally:
            await registration.end_quietly()

    async def UnregisterTrigger(self, request: pb.TriggerRegistrationRequest, context: rpc._ServicerContext) -> Empty:
        return await self._empty(self._unregister(request), context)

    async def AckEvent(self, request: pb.AckEventRequest, context: rpc._ServicerContext) -> Empty:
        acknowledged = self._capability.ack_event(request.trigger_id, request.event_id, request.method)
        return await self._empty(acknowledged, context)

    async def _unregister(self, request: pb.TriggerRegistrationRequest) -> None:
        record = convert.registration_from_proto(request)
        active = self._active.get(record.trigger_id)
        await (self._capability.unregister_trigger(record) if active is None else active.end())

    async def _empty(self, call: Awaitable[None], context: rpc._ServicerContext) -> Empty:
        # Answers without a field for errors fail as Go peers expect it: of unknown code, with the error as the text.
        try:
            await call
        except CapabilityError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, status_text(error.serialize()))
        except Exception as error:  # noqa: BLE001 - as above
            failure = hidden(error, f"trigger {self._id}")
            await context.abort(grpc.StatusCode.UNKNOWN, status_text(failure.serialize()))
        return Empty()

    async def close(self) -> None:
        await asyncio.gather(*(registration.end_quietly() for registration in list(self._active.values())))
