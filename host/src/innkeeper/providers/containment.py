"""The wall around a provider's code while it is loaded, started and stopped.

Rules of this module:

1. What comes out of a provider is a value, a ``ProviderFailedError`` with one sentence, or the cancellation of the
   caller. ``SystemExit``, ``KeyboardInterrupt`` and a cancellation that nobody asked for are failures like others.
2. Code that may block runs in a daemon thread of its own: one that never ends is left behind, and does not keep the
   process from ending. Coroutines run as tasks; one that does not let itself be cancelled is left behind too, and
   named.
3. A failure says where in the provider it happened, or where the provider is stuck.
4. An exception is a provider's code too: its text and its traceback are made in a daemon thread, under a deadline, and
   only those texts reach the event loop. What else is read of it is read as the interpreter keeps it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import CoroutineType, FrameType, GeneratorType
from typing import Any, Final, TypeVar

from innkeeper.capabilities.faults import class_name, is_a, trace_of
from innkeeper.config.references import redact
from innkeeper_sdk.errors import InnkeeperError, ProviderFailedError

__all__ = ["Wall", "WalledError"]

_T = TypeVar("_T")

# Enough for a sentence; what somebody else's exception says has no bounds.
_TEXT_LENGTH: Final = 500
# How long a cancelled task may take to end before it is left behind.
_GRACE_SECONDS: Final = 1.0
# How long an exception may take to say what it is.
_WORDS_SECONDS: Final = 2.0


class WalledError(ProviderFailedError):
    """A failure in a provider's code, in texts alone.

    Attributes:
        trace: The traceback, without secrets; empty where the failure explains itself.
    """

    def __init__(self, message: str, *, provider: str, trace: str = "") -> None:
        super().__init__(message, provider=provider)
        self.trace = trace


class _EscapeError(Exception):
    """A provider's code tried to end the process."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Wall:
    """The wall around one provider.

    Args:
        provider_id: The provider.
        package_dir: The directory of its package, by which its frames are known.
    """

    def __init__(self, provider_id: str, package_dir: Path | None) -> None:
        self._provider_id = provider_id
        self._package_dir = package_dir
        self._secrets: set[str] = set()
        self.abandoned: set[asyncio.Task[Any]] = set()

    def hide(self, secrets: Iterable[str]) -> None:
        """Keep secrets out of everything that this wall says from now on."""
        self._secrets.update(secrets)

    async def in_thread(self, what: str, function: Callable[[], _T], *, seconds: float) -> _T:
        """Call a function that may block or never return.

        Args:
            what: What it is, for the error, such as ``its import``.
            function: The function.
            seconds: How long it may take.

        Raises:
            WalledError: It raised, or did not return in time.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def settle(value: _T | None, failure: WalledError | None) -> None:
            if future.done():
                return
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(value)  # type: ignore[arg-type]  # of two, the one that is

        def work() -> None:
            value: _T | None = None
            failure: WalledError | None = None
            try:
                value = function()
            except BaseException as error:  # noqa: BLE001 - see rule 1
                failure = self.failure(what, error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, value, failure)

        thread = threading.Thread(target=work, name=f"innkeeper {self._provider_id}: {what}", daemon=True)
        thread.start()
        try:
            done, _ = await asyncio.wait({future}, timeout=seconds)
        finally:
            # Of a thread that is left behind nobody takes the result.
            if not future.done():
                future.cancel()
        if done:
            return future.result()
        frame = sys._current_frames().get(thread.ident or 0)
        raise self._late(what, seconds, [] if frame is None else traceback.walk_stack(frame))

    async def in_task(self, what: str, function: Callable[[], Awaitable[_T]], *, seconds: float) -> _T:
        """Await a function that may never end.

        Args:
            what: What it is, for the error, such as ``the start of a service``.
            function: A coroutine function, if the provider keeps its contract.
            seconds: How long it may take.

        Raises:
            WalledError: It raised, or did not end in time.
        """

        async def work() -> _T:
            try:
                return await function()
            except (SystemExit, KeyboardInterrupt) as error:
                # Out of a task, these two end the event loop before anybody can look at them.
                raise _EscapeError(error) from None

        task = asyncio.create_task(work(), name=f"innkeeper {self._provider_id}: {what}")
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            await self._cancel(task)
            raise
        if done:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is None:
                return task.result()
            raise await self._told(what, error.error if type(error) is _EscapeError else error)
        late = self._late(what, seconds, _suspended(task))
        await self._cancel(task)
        raise late

    def failure(self, what: str, error: BaseException) -> WalledError:
        """Return the error for something that a provider's code raised; never on the event loop, see rule 4."""
        trace = ""
        if is_a(error, InnkeeperError):
            reason = f"{what} failed: {self.sentence(error)}"
        elif is_a(error, asyncio.CancelledError):
            reason = f"{what} was cancelled by the provider itself"
        else:
            trace = self.traceback(error)
            if is_a(error, SystemExit):
                reason = f"{what} ended with sys.exit({_exit_code(error)}){self._where(error)}"
            else:
                text = _text_of(error)
                reason = f"{what} failed: {class_name(error)}{': ' if text else ''}{text}{self._where(error)}"
        return WalledError(self._clean(reason), provider=self._provider_id, trace=trace)

    def sentence(self, error: BaseException) -> str:
        """Return what an error says, without secrets and without naming this provider once more."""
        return self._clean(_text_of(error).removeprefix(f"provider {self._provider_id}: ") or class_name(error))

    def traceback(self, error: BaseException) -> str:
        """Return an error's traceback, without secrets; of one that cannot be written, its places alone."""
        try:
            lines = traceback.format_exception(error)
        except BaseException:  # noqa: BLE001 - formatting runs the provider's code too
            lines = [*traceback.format_tb(trace_of(error)), class_name(error)]
        return redact("".join(lines).rstrip(), self._secrets)

    async def _told(self, what: str, error: BaseException) -> WalledError:
        """Return the error for something that a provider's code raised on the event loop."""
        try:
            return await self.in_thread(f"{what}, in words", lambda: self.failure(what, error), seconds=_WORDS_SECONDS)
        except WalledError:
            reason = f"{what} failed: {class_name(error)}{self._where(error)}"
            return WalledError(self._clean(reason), provider=self._provider_id)

    def _late(self, what: str, seconds: float, stack: Iterable[tuple[FrameType, int]]) -> WalledError:
        """Return the error for code that does not end; ``stack`` is where it is, the innermost frame first."""
        frames = [(frame.f_code.co_filename, line) for frame, line in stack]
        where = self._own(frames) or (frames[0] if frames else None)
        stuck = f", it is at {self._spot(*where)}" if where else ""
        return WalledError(f"{what} did not end in {seconds:g} s{stuck}", provider=self._provider_id)

    def _where(self, error: BaseException) -> str:
        frames = [(entry.f_code.co_filename, line) for entry, line in traceback.walk_tb(trace_of(error))]
        where = self._own(reversed(frames))
        return f" ({self._spot(*where)})" if where else ""

    def _own(self, frames: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
        """Return the first of some places that is in the provider's package."""
        if self._package_dir is None:
            return None
        return next(((name, line) for name, line in frames if Path(name).is_relative_to(self._package_dir)), None)

    def _spot(self, file: str, line: int) -> str:
        path = Path(file)
        if self._package_dir is not None and path.is_relative_to(self._package_dir):
            path = path.relative_to(self._package_dir.parent)
        return f"{path}:{line}"

    def _clean(self, text: str) -> str:
        cleaned = redact(" ".join(text.split()), self._secrets)
        return cleaned if len(cleaned) <= _TEXT_LENGTH else f"{cleaned[:_TEXT_LENGTH]}…"

    async def _cancel(self, task: asyncio.Task[_T]) -> None:
        """Cancel a task, and leave it behind if it does not end."""
        task.cancel()
        kept: asyncio.Task[Any] = task
        self.abandoned.add(kept)
        kept.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=_GRACE_SECONDS)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.abandoned.discard(task)
        if not task.cancelled():
            # Taken, so that asyncio does not complain: that it came too late has been told.
            task.exception()


def _suspended(task: asyncio.Task[Any]) -> list[tuple[FrameType, int]]:
    """Return where a task waits, the innermost frame first; ``Task.get_stack`` knows the outermost only."""
    frames: list[tuple[FrameType, int]] = []
    waiting: object = task.get_coro()
    while True:
        # By true type: any other awaitable is the provider's code, and would be asked on the event loop.
        if type(waiting) is CoroutineType:
            frame, inner = waiting.cr_frame, waiting.cr_await
        elif type(waiting) is GeneratorType:
            frame, inner = waiting.gi_frame, waiting.gi_yieldfrom
        else:
            return frames
        if frame is not None:
            frames.insert(0, (frame, frame.f_lineno))
        waiting = inner


def _exit_code(error: BaseException) -> str:
    code: object = SystemExit.__dict__["code"].__get__(error)
    return repr(code) if type(code) in (int, str, type(None)) else class_name(code)


def _text_of(error: BaseException) -> str:
    try:
        return str.__str__(str(error))  # exactly a text: of a subclass of it, a method could run elsewhere
    except BaseException:  # noqa: BLE001 - its __str__ is the provider's code too
        return ""
