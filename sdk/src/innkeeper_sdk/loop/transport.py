"""What the failure of a call on the way means to who called.

Rules of this module:

1. Only that the other process did not answer is told: gRPC's own texts name addresses. They go to the log.
2. An end by the other side counts as the loss of the connection: a process that stops cancels its calls.
3. So does the end of the channel on this side, which gRPC tells as a cancellation: only a task that was cancelled
   itself sees one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import grpc.aio

from innkeeper_sdk.capability import CapabilityError, ErrorCode

__all__ = ["transport_error", "transport_errors"]

_LOGGER: Final = logging.getLogger(__name__)

_SAID: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (ErrorCode.DeadlineExceeded, "did not answer in time"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ErrorCode.ResourceExhausted, "cannot take more, or not so much at once"),
    grpc.StatusCode.UNIMPLEMENTED: (ErrorCode.Unimplemented, "does not take this kind of call"),
}
_LOST: Final = (ErrorCode.Unavailable, "is not available: its process did not answer")


def transport_error(error: grpc.aio.AioRpcError, who: str) -> CapabilityError:
    """Return what a caller is told when a call failed on the way.

    Args:
        error: From gRPC.
        who: What was called, such as ``capability clock@1.0.0``.

    Returns:
        A public error of the system, without an address.
    """
    _LOGGER.debug("a call of %s failed on the way: %s: %s", who, error.code().name, error.details())
    code, text = _SAID.get(error.code(), _LOST)
    return CapabilityError(f"{who} {text}", error_code=code)


@contextmanager
def transport_errors(who: str) -> Iterator[None]:
    """Turn what gRPC raises within into what a caller is told.

    Args:
        who: What is called.

    Raises:
        CapabilityError: The call failed on the way.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise transport_error(error, who) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        code, text = _LOST
        raise CapabilityError(f"{who} {text}", error_code=code) from None
