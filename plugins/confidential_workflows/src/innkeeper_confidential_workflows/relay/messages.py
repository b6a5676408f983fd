"""The messages of the relay, read strictly, and its refusals.

Rules of this module:

1. A payload is exactly the message that the method takes: another one, broken bytes, or fields that this host does not
   know are refused. What it cannot read might forbid what it would allow.
2. A refusal is a public error of the system: its text begins with a code of the protocol, and quotes nothing that was
   sent.
"""

from __future__ import annotations

from typing import Final, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from innkeeper_confidential_workflows.attestation.errors import AttestationError, Code
from innkeeper_sdk.capability import CapabilityError, CapabilityResponse, ErrorCode, Origin
from innkeeper_sdk.errors import InnkeeperError

__all__ = ["answer", "no_message", "parse", "refused", "told", "unpack"]

_M = TypeVar("_M", bound=Message)

# Of what a guest is told of an error: enough for a sentence, and no way to send megabytes back.
_TEXT: Final = 4096

_CODES: Final = {
    Code.MALFORMED: ErrorCode.InvalidArgument,
    Code.TOO_LARGE: ErrorCode.InvalidArgument,
    Code.RATE_LIMITED: ErrorCode.ResourceExhausted,
    Code.CONFIG_MISMATCH: ErrorCode.FailedPrecondition,
    Code.INTERNAL: ErrorCode.Internal,
}


def parse(cls: type[_M], data: bytes, what: str) -> _M:
    """Read a message.

    Args:
        cls: The message.
        data: Its bytes.
        what: What it is, for the refusal.

    Raises:
        CapabilityError: They are none, or have fields that this host does not know (``InvalidArgument``).
    """
    try:
        message = cls.FromString(data)
    except DecodeError:
        raise no_message(cls, what) from None
    known = cls()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise no_message(cls, what)
    return message


def unpack(cls: type[_M], payload: AnyMessage) -> _M:
    """Read a method's message.

    Raises:
        CapabilityError: It is another one, or is none (``InvalidArgument``).
    """
    if payload.TypeName() != cls.DESCRIPTOR.full_name:
        raise no_message(cls, "the payload")
    return parse(cls, payload.value, "the payload")


def answer(message: Message) -> CapabilityResponse:
    """Return a message as a method's answer."""
    payload = AnyMessage()
    payload.Pack(message, deterministic=True)
    return CapabilityResponse(payload=payload)


def no_message(cls: type[Message], what: str) -> CapabilityError:
    """Return the refusal of what is not the message that it should be."""
    return CapabilityError(
        f"{Code.MALFORMED}: {what} is no {cls.DESCRIPTOR.full_name} that this host can read",
        error_code=ErrorCode.InvalidArgument,
    )


def refused(error: AttestationError) -> CapabilityError:
    """Return a refusal of the protocol as the capability's error."""
    return CapabilityError(str(error), error_code=_CODES.get(error.code, ErrorCode.PermissionDenied))


def told(error: InnkeeperError) -> CapabilityError:
    """Return what the execution's helper refused, as the capability's error; the workflow may be told."""
    if isinstance(error, CapabilityError):
        return error
    return CapabilityError(str(error)[:_TEXT], error_code=ErrorCode.LimitExceeded, origin=Origin.USER)
