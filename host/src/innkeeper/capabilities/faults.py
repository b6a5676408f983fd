"""What a provider's code raises, made harmless.

Rules of this module:

1. Nothing here runs the raised exception's own code: not its ``__str__``, ``__repr__``, ``__class__`` or another
   attribute that its class may have redefined. What is read is read as the interpreter keeps it.
2. Any ``BaseException`` out of a provider's call is the provider's fault. ``KeyboardInterrupt`` and ``SystemExit`` must
   not even reach the task that awaits: out of a task they end the event loop.
3. Only what the host itself asked for passes: the cancellation of the caller, and the closing of its coroutine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from innkeeper_sdk.errors import InnkeeperError

__all__ = ["class_name", "contain", "is_a", "location", "trace_of", "words"]

_T = TypeVar("_T")


def is_a(value: object, *classes: type) -> bool:
    """Return whether something is of a class, by its true type: ``isinstance`` would ask its ``__class__`` too."""
    return issubclass(type(value), classes)


def class_name(value: object) -> str:
    """Return the name of something's true type, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def trace_of(error: BaseException) -> TracebackType | None:
    """Return an exception's traceback, whatever its class says."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return trace


def location(error: BaseException) -> str:
    """Return where an exception was raised, as ``file:line``, or an empty text if nothing tells."""
    trace = trace_of(error)
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def words(error: BaseException) -> str:
    """Return what a log may say of an exception: an error of the contract speaks, of another there is its class."""
    return str(error) if is_a(error, InnkeeperError) else class_name(error)


async def contain(
    function: Callable[[], Awaitable[_T]],
    *,
    passes: tuple[type[BaseException], ...],
    fault: Callable[[BaseException], Exception],
) -> _T:
    """Call into a provider.

    Args:
        function: The call. Also what it looks up on the provider's objects belongs in it.
        passes: The exceptions that are its contract.
        fault: Makes the error that stands for any other.

    Raises:
        Exception: It failed: one of ``passes``, or what ``fault`` returned.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    try:
        return await function()
    except passes:
        raise
    except asyncio.CancelledError as error:
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this task: the provider lets a cancellation of its own escape.
        raise fault(error) from None
    except GeneratorExit as error:
        # A coroutine that is thrown away is closed by somebody else than its task.
        if task is None or asyncio.current_task(loop) is not task:
            raise
        raise fault(error) from None
    except BaseException as error:  # noqa: BLE001 - one bad provider never stops the host
        raise fault(error) from None
