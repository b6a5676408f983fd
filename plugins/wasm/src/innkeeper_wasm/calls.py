"""What a guest's host calls mean: the protobuf side of one execution.

Rules of this module:

1. A call is started, then awaited, by an id that is burned with it (see :mod:`innkeeper_wasm.pending`). Capability
   calls and secret requests have separate ids, and one pool.
2. Ids are awaited in the order of the request. If one fails, those before it are consumed.
3. Error texts are those of the reference host, which guests and their tests know.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, TypeVar

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
    ExecuteRequest,
    ExecutionResult,
    GetSecretsRequest,
    SecretResponses,
)
from innkeeper_wasm.driver import CallRefused
from innkeeper_wasm.metrics import parse_metric
from innkeeper_wasm.pending import PendingCalls

__all__ = [
    "ERRNO_FAULT",
    "MODE_DON",
    "SECRETS_REFUSED",
    "START_REFUSED",
    "CallHelper",
    "CommonCalls",
    "GuestCalls",
    "parse",
    "take_secrets",
    "told",
]

MODE_DON: Final = 1
# What send_response returns for bytes that are no ExecutionResult: FAULT in WASI's order of errnos.
ERRNO_FAULT: Final = 21

START_REFUSED: Final = "error calling proto unmarshal: "
"""What the refusal of a start that cannot be read begins with."""
SECRETS_REFUSED: Final = "error calling getSecretsAsync: "
"""What the refusal to start a secrets request begins with."""

# What a guest is told when the request does not say: the reference's module default, 5 MiB.
_MAX_RESPONSE_SIZE: Final = 5 * 1024 * 1024

_M = TypeVar("_M", bound=Message)
_R = TypeVar("_R")


class CallHelper(Protocol):
    """What answers the calls that all guests have: a part of an execution helper."""

    async def call_capability(self, request: CapabilityRequest) -> CapabilityResponse:
        """Call a capability on behalf of the workflow."""

    async def node_time(self) -> int:
        """Return this node's time, in nanoseconds since the epoch."""

    async def don_time(self) -> int:
        """Return the DON's time, in nanoseconds since the epoch."""


class CommonCalls:
    """The host's side of those calls of one execution that mean the same wherever it runs.

    Args:
        helper: What answers them.
        pool: The workflow's pool of pending calls.
    """

    def __init__(self, helper: CallHelper, pool: asyncio.Semaphore) -> None:
        self._source = helper
        self._capabilities: PendingCalls[CapabilityResponse] = PendingCalls(pool, "error calling callCapAsync: ")
        self.result: ExecutionResult | None = None

    async def call_capability(self, data: bytes) -> None:
        """Start a capability call.

        Args:
            data: A serialized CapabilityRequest.

        Raises:
            CallRefused: It cannot be started.
        """
        request = parse(CapabilityRequest, data, prefix=START_REFUSED)
        await self._capabilities.start(request.callback_id, self._capability(request))

    async def await_capabilities(self, data: bytes) -> bytes:
        """Return a serialized AwaitCapabilitiesResponse, once every call asked for is answered.

        Raises:
            CallRefused: The request is no AwaitCapabilitiesRequest, or an id is unknown or already awaited.
        """
        request = parse(AwaitCapabilitiesRequest, data)
        response = AwaitCapabilitiesResponse()
        for call_id in request.ids:
            response.responses[call_id].CopyFrom(await self._capabilities.take(call_id))
        return response.SerializeToString(deterministic=True)

    async def now(self, mode: int) -> int:
        """Return the time that a guest in this mode sees, in nanoseconds since the epoch."""
        return await (self._source.don_time() if mode == MODE_DON else self._source.node_time())

    async def node_time(self) -> int:
        """Return the time of the guest's clocks, which is never the DON's."""
        return await self._source.node_time()

    async def send_response(self, data: bytes) -> int:
        """Take the guest's result, the last one of which counts; return 0, or 21 for bytes that are none."""
        try:
            self.result = ExecutionResult.FromString(data)
        except DecodeError:
            return ERRNO_FAULT
        return 0

    async def close(self) -> None:
        """Cancel what was not answered, and wait for it to be gone."""
        await self._capabilities.close()

    async def _capability(self, request: CapabilityRequest) -> CapabilityResponse:
        try:
            return await self._source.call_capability(request)
        except CapabilityError as error:
            return CapabilityResponse(error=error.serialize())
        except InnkeeperError as error:
            return CapabilityResponse(error=str(error))


class GuestCalls(CommonCalls):
    """The host's side of one execution's calls, where the host brings it everything.

    Args:
        helper: The execution's callbacks.
        pool: The workflow's pool of pending calls.
    """

    def __init__(self, helper: ExecutionHelper, pool: asyncio.Semaphore) -> None:
        super().__init__(helper, pool)
        self._helper = helper
        self._secrets: PendingCalls[SecretResponses] = PendingCalls(pool, SECRETS_REFUSED)

    async def get_secrets(self, data: bytes) -> None:
        """Start a secrets request.

        Args:
            data: A serialized GetSecretsRequest.

        Raises:
            CallRefused: It cannot be started.
        """
        request = parse(GetSecretsRequest, data, prefix=START_REFUSED)
        await self._secrets.start(request.callback_id, self._get_secrets(request))

    async def await_secrets(self, data: bytes) -> bytes:
        """Return a serialized AwaitSecretsResponse, once every request asked for is answered.

        Raises:
            CallRefused: The request is no AwaitSecretsRequest, an id is unknown or already awaited, or one failed.
        """
        request = parse(AwaitSecretsRequest, data)
        response = AwaitSecretsResponse()
        for call_id in request.ids:
            response.responses[call_id].CopyFrom(await take_secrets(self._secrets, call_id))
        return response.SerializeToString(deterministic=True)

    async def emit_metric(self, data: bytes) -> int:
        """Record a user metric; return 0, or -1 when it is refused."""
        try:
            self._helper.emit_metric(parse_metric(data))
        except (DecodeError, InnkeeperError):
            return -1
        return 0

    def log(self, mode: int, data: bytes) -> None:
        """Record a line of the user's log; guests send raw bytes, which need not be UTF-8."""
        del mode
        self._helper.emit_log(data.decode("utf-8", "replace"))

    async def close(self) -> None:
        """Cancel what was not answered, and wait for it to be gone."""
        await super().close()
        await self._secrets.close()

    async def _get_secrets(self, request: GetSecretsRequest) -> SecretResponses:
        return SecretResponses(responses=await self._helper.get_secrets(request))


async def take_secrets(calls: PendingCalls[_R], call_id: int) -> _R:
    """Return the answer to a secrets request, once it is there, and burn its id.

    Raises:
        CallRefused: The id is unknown or already awaited, or the request has failed.
    """
    try:
        return await calls.take(call_id)
    except InnkeeperError as error:
        raise CallRefused(f"failed to get secrets for call {call_id}: {error}") from error


def told(request: ExecuteRequest) -> bytes:
    """Return what a guest finds in its arguments: a copy of the request, with the size of its response filled in."""
    copy = ExecuteRequest()
    copy.CopyFrom(request)
    copy.max_response_size = request.max_response_size or _MAX_RESPONSE_SIZE
    return copy.SerializeToString(deterministic=True)


def parse(message: type[_M], data: bytes, *, prefix: str = "") -> _M:
    """Read a message of a guest.

    Raises:
        CallRefused: The bytes are none; the text begins with ``prefix``.
    """
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise CallRefused(f"{prefix}{error}") from error
