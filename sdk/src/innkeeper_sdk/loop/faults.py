"""What may be said of an exception that somebody else's code raised.

Rules of this module:

1. An exception's text may hold anything the code had at hand, a secret too. Only an
   :class:`~innkeeper_sdk.errors.InnkeeperError`, whose texts are written to be read, has its text told.
2. Of any other, its type and the place that raised it are told: enough to find it, and nothing of its data.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import PurePath
from typing import Final

from innkeeper_sdk.capability import CapabilityError, ErrorCode, ErrorVisibility
from innkeeper_sdk.errors import InnkeeperError

__all__ = ["describe", "hidden"]

_LOGGER: Final = logging.getLogger(__name__)


def describe(error: BaseException) -> str:
    """Return what may be told of an exception: its text if it is ours, else its type and where it was raised."""
    if isinstance(error, InnkeeperError):
        return str(error)
    name = type(error).__name__
    for frame, line in traceback.walk_tb(error.__traceback__):
        # The last frame is where it was raised.
        name = f"{type(error).__name__} at {PurePath(frame.f_code.co_filename).name}:{line}"
    return name


def hidden(error: BaseException, where: str) -> CapabilityError:
    """Log that a capability raised what it should not, and return what its caller is told: that it did.

    Args:
        error: What it raised.
        where: The capability and the method, for the log.

    Returns:
        A private system error without any text of the exception.
    """
    _LOGGER.error("a capability failed unexpectedly: %s: %s", where, describe(error))
    return CapabilityError(
        "the capability failed unexpectedly; the log of its process says where",
        error_code=ErrorCode.Internal,
        visibility=ErrorVisibility.PRIVATE,
    )
