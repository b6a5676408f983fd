"""The capability ``consensus@1.0.0-alpha``, for one node, which tolerates no fault.

Rules of this module:

1. Methods are ``Simple`` and ``Report``; each takes and gives one message.
2. Who asks comes from the host's metadata alone.
3. Answers are encoded deterministically: the same question has the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from innkeeper_consensus.faults import invalid
from innkeeper_consensus.limits import OBSERVATION_SIZE_LIMIT
from innkeeper_consensus.report import Reporter
from innkeeper_consensus.simple import conclude, request_id
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityRequest,
    CapabilityResponse,
    CapabilityType,
    ErrorCode,
    MethodInfo,
)
from innkeeper_sdk.hooks import Limits
from innkeeper_sdk.proto.sdk.v1alpha.sdk_pb2 import ReportRequest, ReportResponse, SimpleConsensusInputs
from innkeeper_sdk.proto.values.v1.values_pb2 import Value

__all__ = ["CAPABILITY_ID", "Consensus"]

CAPABILITY_ID: Final = "consensus@1.0.0-alpha"

_SIMPLE: Final = "Simple"
_REPORT: Final = "Report"
_METHODS: Final = {
    name: MethodInfo(name, asked.DESCRIPTOR.full_name, answered.DESCRIPTOR.full_name, idempotent=True)
    for name, asked, answered in (
        (_SIMPLE, SimpleConsensusInputs, Value),
        # Asked again, it signs the same payload once more, under another number: nothing is lost or done twice.
        (_REPORT, ReportRequest, ReportResponse),
    )
}

_M = TypeVar("_M", bound=Message)


class Consensus(Capability):
    """The consensus of one node with itself.

    Args:
        limits: The limits; asked at each call.
        logger: Where the signers are told.
        directory: Where the signing keys are kept.
        clock: The time, in Unix seconds.
    """

    def __init__(
        self, *, limits: Limits, logger: logging.Logger, directory: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._limits = limits
        self._reporter = Reporter(directory, logger, clock)

    @property
    def info(self) -> CapabilityInfo:
        """Return what this capability says of itself."""
        return CapabilityInfo(
            id=CAPABILITY_ID,
            type=CapabilityType.CONSENSUS,
            description="Consensus on observations, and signed reports",
            methods=_METHODS,
        )

    async def close(self) -> None:
        """Let go of the signing keys; idempotent."""
        await self._reporter.close()

    async def execute(self, request: CapabilityRequest) -> CapabilityResponse:
        """Answer one call.

        Raises:
            CapabilityError: The call is refused, or there is no consensus.
        """
        if request.method not in _METHODS:
            return await super().execute(request)
        if request.deadline is not None and time.monotonic() >= request.deadline:
            raise CapabilityError(
                "timeout exceeded: could not process consensus request before expiry, requestID "
                + request_id(request.metadata),
                error_code=ErrorCode.DeadlineExceeded,
            )
        who = request.metadata
        size_limit = int(
            self._limits.get(OBSERVATION_SIZE_LIMIT, owner=who.workflow_owner, workflow_id=who.workflow_id)
        )
        answer: Message
        if request.method == _SIMPLE:
            answer = conclude(_unpack(request.payload, SimpleConsensusInputs), who, size_limit=size_limit)
        else:
            answer = await self._reporter.report(_unpack(request.payload, ReportRequest), who, size_limit=size_limit)
        payload = AnyMessage()
        payload.Pack(answer, deterministic=True)
        return CapabilityResponse(payload)


def _unpack(payload: AnyMessage, kind: type[_M]) -> _M:
    message = kind()
    name = message.DESCRIPTOR.full_name
    try:
        unpacked = payload.Unpack(message)
    except DecodeError as error:
        raise invalid(f"failed to unmarshal {name}: {error}") from error
    if not unpacked:
        raise invalid(f"failed to unmarshal payload: expected {name}, found {payload.type_url or 'nothing'}")
    return message
