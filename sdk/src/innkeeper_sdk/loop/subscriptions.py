"""One registration of a trigger, as the side sees it that asked for it.

Rules of this module:

1. The first message says that the registration stands, or why not; all later ones are events or the last error.
2. A second acknowledgement, and whatever else is out of order, is an error and the end.
3. The end of the stream is the end of the events; the loss of the connection is an error first.
4. What is not drained stays in the other process: only few events are held here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Self

import grpc.aio

from innkeeper_sdk.capability import CapabilityError, ErrorCode, TriggerEvent
from innkeeper_sdk.loop import convert
from innkeeper_sdk.loop.transport import transport_errors
from innkeeper_sdk.proto.capabilities import capabilities_pb2 as pb

__all__ = ["Subscription"]

_HELD: Final = 16


class Subscription(AsyncIterator[TriggerEvent]):
    """The events of one registration; for one consumer.

    Args:
        call: The stream.
        who: Whose it is, for errors.
    """

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[pb.TriggerRegistrationRequest, pb.TriggerResponseMessage], who: str
    ) -> None:
        self._call = call
        self._who = who
        self._acknowledged: asyncio.Future[CapabilityError | None] = asyncio.get_running_loop().create_future()
        self._events: asyncio.Queue[TriggerEvent | CapabilityError | None] = asyncio.Queue(_HELD)
        self._over = False
        # The reading must not belong to a consumer: gRPC ends a stream whose reader is cancelled.
        self._reader = asyncio.create_task(self._read())

    async def acknowledged(self) -> None:
        """Return once the registration stands.

        Raises:
            CapabilityError: It does not.
        """
        error = await asyncio.shield(self._acknowledged)
        if error is not None:
            raise error

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> TriggerEvent:
        """Return the next event; after an error, and after the end, there is none."""
        if self._over:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, TriggerEvent):
            return event
        self._over = True
        if event is None:
            raise StopAsyncIteration
        raise event

    async def close(self) -> None:
        """End the stream, and with it the events that were not taken yet; idempotent."""
        # A reader that has not begun cannot say so itself.
        self._call.cancel()
        if not self._acknowledged.done():
            self._acknowledged.set_result(self._wrong("was given up before it stood"))
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(None)

    async def _read(self) -> None:
        last: CapabilityError | None = None
        try:
            with transport_errors(self._who):
                await self._read_all()
        except CapabilityError as error:
            last = error
        finally:
            self._call.cancel()
            if not self._acknowledged.done():
                self._acknowledged.set_result(last or self._wrong("ended without saying whether it stands"))
        await self._events.put(last)

    async def _read_all(self) -> None:
        async for message in self._call:
            kind = message.WhichOneof("message")
            if kind == "ack" and not self._acknowledged.done():
                self._acknowledged.set_result(None)
                continue
            if kind != "response":
                raise self._wrong("was acknowledged twice" if kind == "ack" else "sent an empty message")
            event = convert.event_from_proto(message.response)
            if not self._acknowledged.done():
                raise self._wrong("sent an event before it said whether it stands")
            await self._events.put(event)

    def _wrong(self, what: str) -> CapabilityError:
        return CapabilityError(f"a registration of {self._who} {what}", error_code=ErrorCode.Internal)
