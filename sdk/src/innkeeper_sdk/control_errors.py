"""Errors on the control protocol, in both directions.

Rules of this module:

1. An error crosses as a gRPC status with the whole record in the trailing metadata, and is the same class with the same
   fields on the other side.
2. The record stays below gRPC's default limit of metadata (8 KiB with everything, base64 included): texts are cut.
3. A status without a record is the transport's own; it is turned into the error that says what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import grpc

from innkeeper_sdk import errors
from innkeeper_sdk.errors import (
    ConfigError,
    ConflictError,
    DeadlineExceededError,
    ExitCode,
    HostError,
    HostUnreachableError,
    InnkeeperError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
    UsageError,
    VerificationError,
    WorkflowError,
)
from innkeeper_sdk.proto.innkeeper.control.v1.control_pb2 import Error

__all__ = [
    "ERROR_KEY",
    "RemoteError",
    "error_of_call",
    "error_of_message",
    "error_of_record",
    "message_of_error",
    "status_of_error",
]

ERROR_KEY: Final = "innkeeper-error-bin"

# Bytes per field; with their tags they are below 4 KiB, 5.4 KiB in base64.
_FIELD_LIMITS: Final = {
    "code": 64,
    "message": 2048,
    "provider": 128,
    "path": 384,
    "expected": 384,
    "actual": 384,
    "hint": 512,
}
_MARK: Final = " […]"

# How gRPC says that a message is too large; its other exhausted resource is the number of calls at once.
_TOO_LARGE: Final = "message larger than max"

_STATUS: Final[tuple[tuple[type[InnkeeperError], grpc.StatusCode], ...]] = (
    (UsageError, grpc.StatusCode.INVALID_ARGUMENT),
    (ConfigError, grpc.StatusCode.FAILED_PRECONDITION),
    (VerificationError, grpc.StatusCode.FAILED_PRECONDITION),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.ABORTED),
    # A WorkflowError too, so it stands before it.
    (DeadlineExceededError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (WorkflowError, grpc.StatusCode.FAILED_PRECONDITION),
    (LimitExceededError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
)


class RemoteError(InnkeeperError):
    """Raised for an error of the host, or of one of its providers, whose class this side does not have."""


def status_of_error(error: InnkeeperError) -> grpc.StatusCode:
    """Return the gRPC status that an error's class stands for."""
    return next((status for cls, status in _STATUS if isinstance(error, cls)), grpc.StatusCode.INTERNAL)


def message_of_error(error: InnkeeperError) -> Error:
    """Return an error as it crosses the socket, each text cut to its limit."""
    # A class with a sentence of its own keeps it: its other fields do not cross.
    own_sentence = type(error).__str__ is not InnkeeperError.__str__
    fields = {
        "code": error.code,
        "message": str(error) if own_sentence else error.message,
        "provider": error.provider,
        "path": error.path,
        "expected": error.expected,
        "actual": error.actual,
        "hint": error.hint,
    }
    cut = {name: _cut(text, _FIELD_LIMITS[name]) for name, text in fields.items() if text}
    return Error(**cut, exit_code=int(error.exit_code))


def error_of_message(message: Error) -> InnkeeperError:
    """Return the error that crossed the socket, in its own class if this side has it."""
    return _class_of(message.code, message.exit_code)(
        message.message,
        provider=message.provider or None,
        path=message.path or None,
        expected=message.expected or None,
        actual=message.actual or None,
        hint=message.hint or None,
    )


def error_of_record(record: Mapping[str, Any]) -> InnkeeperError:
    """Return the error that ``to_dict`` describes; ``exit_code`` may stand beside its fields."""
    return error_of_message(Error(**record))


def error_of_call(error: grpc.RpcError, *, socket: str) -> InnkeeperError:
    """Return what a failed call means.

    Args:
        error: As gRPC raised it.
        socket: The control socket, for errors.

    Returns:
        The host's own error, or one that says what is wrong with the connection.
    """
    # A grpc.Call, or what grpc.aio raises: that has the same methods, and no class in common with it but this one.
    call: Any = error
    if not hasattr(call, "trailing_metadata"):
        return HostUnreachableError(f"the call failed: {error}", path=socket)
    for key, value in call.trailing_metadata() or ():
        if key == ERROR_KEY:
            return error_of_message(Error.FromString(value))
    return _transport_error(call.code(), call.details() or "no reason given", socket)


def _transport_error(code: grpc.StatusCode, details: str, socket: str) -> InnkeeperError:
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return HostUnreachableError(f"the host does not answer: {details}", path=socket, hint="look at its log")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return HostUnreachableError("the host did not answer in time", path=socket, hint="look at its log")
        case grpc.StatusCode.CANCELLED:
            return HostUnreachableError("the host stopped before it answered", path=socket, hint="look at its log")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _exhausted(details, socket)
        case grpc.StatusCode.UNIMPLEMENTED:
            return HostError(
                "the host does not know this request: it is of another version",
                path=socket,
                hint="restart the host with the installed version",
            )
        case _:
            return HostError(f"the call failed: {details}", path=socket, actual=code.name)


def _exhausted(details: str, socket: str) -> LimitExceededError:
    if _TOO_LARGE in details:
        return LimitExceededError(f"the request is larger than the host takes: {details}")
    return LimitExceededError(f"the host has too much to do: {details}", path=socket, hint="try again later")


@cache
def _classes() -> dict[str, type[InnkeeperError]]:
    classes = (getattr(errors, name) for name in errors.__all__)
    return {cls.code: cls for cls in classes if isinstance(cls, type) and issubclass(cls, InnkeeperError)}


def _class_of(code: str, exit_code: int) -> type[InnkeeperError]:
    known = _classes().get(code)
    if known is not None:
        return known
    # Whatever the other side says, a failure does not end with 0.
    exits = ExitCode(exit_code) if exit_code in set(ExitCode) - {ExitCode.OK} else ExitCode.PROBLEMS
    return type(RemoteError.__name__, (RemoteError,), {"code": code or InnkeeperError.code, "exit_code": exits})


def _cut(text: str, limit: int) -> str:
    # What is not text (lone surrogates of file names) is shown escaped; protobuf would refuse it.
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - len(_MARK.encode())].decode("utf-8", "ignore") + _MARK
