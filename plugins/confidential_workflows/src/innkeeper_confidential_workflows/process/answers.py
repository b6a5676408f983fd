"""Answering the enclave's questions: methods of the relay, and parts of binaries.

Rules of this module:

1. Only the relay's methods that an enclave uses can be asked for, by their names; the enclave never names a capability.
2. Whatever fails is told to the enclave as an error of four parts; nothing of it ends the process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from innkeeper_confidential_workflows.enclave.frames import (
    MAX_CHUNK_BYTES,
    Answer,
    Ask,
    Chunk,
    FrameError,
    Read,
    Refusal,
    encode,
)
from innkeeper_confidential_workflows.proto.innkeeper.confidential.v1.protocol_pb2 import (
    AttestedRequest,
    ChallengeRequest,
    ClockRequest,
)
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    ErrorCode,
    ErrorVisibility,
    Registry,
    RequestMetadata,
)
from innkeeper_sdk.errors import InnkeeperError, NotFoundError
from innkeeper_sdk.proto.values.v1.values_pb2 import Map
from innkeeper_sdk.values import ValueFormatError, unwrap, wrap

__all__ = ["ARTIFACTS", "RELAY", "answer_ask", "answer_read"]

RELAY: Final = "confidential-relay@1.0.0"
ARTIFACTS: Final = "artifacts@1.0.0"

_METHODS: Final[Mapping[str, type[Message]]] = {
    "Challenge": ChallengeRequest,
    "SecretsGet": AttestedRequest,
    "CapabilityExecute": AttestedRequest,
    "ResultSubmit": AttestedRequest,
    "Clock": ClockRequest,
}
_TYPE_PREFIX: Final = "type.googleapis.com/"
_SECONDS: Final = 300.0
"""How long an answer may take; no execution takes longer."""
# artifacts@1.0.0 is asked by a provider, for no workflow.
_NOBODY: Final = RequestMetadata(workflow_id="", workflow_owner="")

_log = logging.getLogger(__name__)


async def answer_ask(question: Ask, registry: Registry) -> Answer | Refusal:
    """Return what the relay answers.

    Args:
        question: The question.
        registry: The registry of this provider.
    """
    try:
        kind = _message_of(question.method)
        response = await registry.execute(
            CapabilityRequest(
                metadata=RequestMetadata(
                    workflow_id=question.workflow_id,
                    workflow_owner=question.owner,
                    workflow_execution_id=question.execution_id,
                ),
                capability_id=RELAY,
                method=question.method,
                payload=AnyMessage(type_url=_TYPE_PREFIX + kind.DESCRIPTOR.full_name, value=question.payload),
                deadline=time.monotonic() + _SECONDS,
            )
        )
        answer = Answer(id=question.id, payload=response.payload.value)
        encode(answer)
    except Exception as error:  # noqa: BLE001 - whatever fails is the enclave's to know
        return _refusal(question.id, error)
    return answer


async def answer_read(question: Read, registry: Registry) -> Chunk | Refusal:
    """Return a part of a binary.

    Args:
        question: The question.
        registry: The registry of this provider.
    """
    try:
        payload = AnyMessage()
        payload.Pack(Map(fields={"locator": wrap(question.locator), "offset": wrap(question.offset)}))
        response = await registry.execute(
            CapabilityRequest(
                metadata=_NOBODY,
                capability_id=ARTIFACTS,
                method="Read",
                payload=payload,
                deadline=time.monotonic() + _SECONDS,
            )
        )
        return _chunk(question.id, response.payload.value)
    except Exception as error:  # noqa: BLE001 - whatever fails is the enclave's to know
        return _refusal(question.id, error)


def _message_of(method: str) -> type[Message]:
    kind = _METHODS.get(method)
    if kind is None:
        raise CapabilityError(f"method {method:.64} not found", error_code=ErrorCode.Unimplemented)
    return kind


def _chunk(id_: int, data: bytes) -> Chunk:
    try:
        found = {name: unwrap(value) for name, value in Map.FromString(data).fields.items()}
    except (DecodeError, ValueFormatError):
        found = {}
    match found:
        # type(), since a boolean is an int to a pattern, and none to a frame.
        case {"data": bytes(part), "size": size} if (
            len(part) <= MAX_CHUNK_BYTES and type(size) is int and 0 <= size < 1 << 63
        ):
            return Chunk(id=id_, data=part, size=size)
        case _:
            raise CapabilityError(
                "the artifact was answered with what is no part of one", error_code=ErrorCode.Internal
            )


def _private(error: Exception, code: ErrorCode) -> CapabilityError:
    # It names parts of this host.
    _log.warning("a question of the enclave could not be answered: %s", error)
    return CapabilityError(str(error), error_code=code, visibility=ErrorVisibility.PRIVATE)


def _refusal(id_: int, error: Exception) -> Refusal:
    match error:
        case CapabilityError():
            told = error
        case NotFoundError():
            told = _private(error, ErrorCode.NotFound)
        case InnkeeperError() | FrameError():
            told = _private(error, ErrorCode.Unavailable)
        case _:
            _log.error("a question of the enclave could not be answered: %s", type(error).__name__)
            told = CapabilityError("internal: the host could not answer", error_code=ErrorCode.Internal)
    return Refusal(id=id_, error=told.serialize())
