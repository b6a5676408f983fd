"""What a guest's host calls mean: the protobuf side of one execution.

Rules of this module:

1. A call is started, then awaited. Its id is burned for the whole execution: a second start with it is refused, and
   so is a second await. Capability calls and secret requests have separate ids.
2. A start takes a slot of the workflow's pool of pending calls, and the guest waits until there is one; the slot is
   free again when the call is answered, not when it is awaited.
3. Ids are awaited in the order of the request. If one fails, those before it are consumed.
4. Error texts are those of the reference host, which guests and their tests know.
5. What the guest did not await is cancelled when the execution is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from innkeeper_sdk.capability import CapabilityError
from innkeeper_sdk.errors import InnkeeperError
from innkeeper_sdk.module import ExecutionHelper
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import (
    AwaitCapabilitiesRequest,
    AwaitCapabilitiesResponse,
    AwaitSecretsRequest,
    AwaitSecretsResponse,
    CapabilityRequest,
    CapabilityResponse,
    ExecutionResult,
    GetSecretsRequest,
    SecretResponses,
)
from innkeeper_wasm.driver import CallRefused
from innkeeper_wasm.metrics import parse_metric

__all__ = ["ERRNO_FAULT", "MODE_DON", "GuestCalls"]

MODE_DON: Final = 1
# What send_response returns for bytes that are no ExecutionResult: FAULT in WASI's order of errnos.
ERRNO_FAULT: Final = 21

_M = TypeVar("_M", bound=Message)
_R = TypeVar("_R")


class GuestCalls:
    """The host's side of one execution's calls.

    Args:
        helper: The execution's callbacks.
        pool: The workflow's pool of pending calls.
    """

    def __init__(self, helper: ExecutionHelper, pool: asyncio.Semaphore) -> None:
        self._helper = helper
        self._pool = pool
        self._capabilities: dict[int, asyncio.Task[CapabilityResponse] | None] = {}
        self._secrets: dict[int, asyncio.Task[SecretResponses] | None] = {}
        self.result: ExecutionResult | None = None

    async def call_capability(self, data: bytes) -> None:
        """Start a capability call.

        Args:
            data: A serialized CapabilityRequest.

        Raises:
            CallRefused: It cannot be started.
        """
        request = _parse(CapabilityRequest, data, prefix="error calling proto unmarshal: ")
        await self._start(
            self._capabilities, request.callback_id, self._capability(request), "error calling callCapAsync: "
        )

    async def get_secrets(self, data: bytes) -> None:
        """Start a secrets request.

        Args:
            data: A serialized GetSecretsRequest.

        Raises:
            CallRefused: It cannot be started.
        """
        request = _parse(GetSecretsRequest, data, prefix="error calling proto unmarshal: ")
        await self._start(
            self._secrets, request.callback_id, self._get_secrets(request), "error calling getSecretsAsync: "
        )

    async def await_capabilities(self, data: bytes) -> bytes:
        """Return a serialized AwaitCapabilitiesResponse, once every call asked for is answered.

        Raises:
            CallRefused: The request is no AwaitCapabilitiesRequest, or an id is unknown or already awaited.
        """
        request = _parse(AwaitCapabilitiesRequest, data)
        response = AwaitCapabilitiesResponse()
        for call_id in request.ids:
            response.responses[call_id].CopyFrom(await _take(self._capabilities, call_id))
        return response.SerializeToString(deterministic=True)

    async def await_secrets(self, data: bytes) -> bytes:
        """Return a serialized AwaitSecretsResponse, once every request asked for is answered.

        Raises:
            CallRefused: The request is no AwaitSecretsRequest, an id is unknown or already awaited, or one failed.
        """
        request = _parse(AwaitSecretsRequest, data)
        response = AwaitSecretsResponse()
        for call_id in request.ids:
            try:
                secrets = await _take(self._secrets, call_id)
            except InnkeeperError as error:
                raise CallRefused(f"failed to get secrets for call {call_id}: {error}") from error
            response.responses[call_id].CopyFrom(secrets)
        return response.SerializeToString(deterministic=True)

    async def now(self, mode: int) -> int:
        """Return the time that a guest in this mode sees, in nanoseconds since the epoch."""
        return await (self._helper.don_time() if mode == MODE_DON else self._helper.node_time())

    async def node_time(self) -> int:
        """Return the time of the guest's clocks, which is never the DON's."""
        return await self._helper.node_time()

    async def emit_metric(self, data: bytes) -> int:
        """Record a user metric; return 0, or -1 when it is refused."""
        try:
            self._helper.emit_metric(parse_metric(data))
        except (DecodeError, InnkeeperError):
            return -1
        return 0

    async def send_response(self, data: bytes) -> int:
        """Take the guest's result, the last one of which counts; return 0, or 21 for bytes that are none."""
        try:
            self.result = ExecutionResult.FromString(data)
        except DecodeError:
            return ERRNO_FAULT
        return 0

    def log(self, mode: int, data: bytes) -> None:
        """Record a line of the user's log; guests send raw bytes, which need not be UTF-8."""
        del mode
        self._helper.emit_log(data.decode("utf-8", "replace"))

    async def close(self) -> None:
        """Cancel what was not answered, and wait for it to be gone."""
        tasks = [task for task in (*self._capabilities.values(), *self._secrets.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(
        self,
        calls: dict[int, asyncio.Task[_R] | None],
        call_id: int,
        work: Coroutine[Any, Any, _R],
        prefix: str,
    ) -> None:
        try:
            await self._pool.acquire()
        except BaseException:
            work.close()
            raise
        if call_id in calls:
            self._pool.release()
            work.close()
            raise CallRefused(f"{prefix}duplicate callback id not allowed")
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._pool.release())
        calls[call_id] = task

    async def _capability(self, request: CapabilityRequest) -> CapabilityResponse:
        try:
            return await self._helper.call_capability(request)
        except CapabilityError as error:
            return CapabilityResponse(error=error.serialize())
        except InnkeeperError as error:
            return CapabilityResponse(error=str(error))

    async def _get_secrets(self, request: GetSecretsRequest) -> SecretResponses:
        return SecretResponses(responses=await self._helper.get_secrets(request))


async def _take(calls: dict[int, asyncio.Task[_R] | None], call_id: int) -> _R:
    task = calls.get(call_id)
    if task is None:
        raise CallRefused(f"failed to get call from store : {call_id}")
    calls[call_id] = None
    return await task


def _parse(message: type[_M], data: bytes, *, prefix: str = "") -> _M:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise CallRefused(f"{prefix}{error}") from error
