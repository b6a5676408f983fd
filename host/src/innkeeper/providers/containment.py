"""The wall around a provider's code while it is loaded, started and stopped.

Rules of this module:

1. What comes out of a provider is a value, a ``ProviderFailedError`` with one sentence, or the cancellation of the
   caller. ``SystemExit``, ``KeyboardInterrupt`` and a cancellation that nobody asked for are failures like others.
2. Code that may block runs in a daemon thread of its own: one that never ends is left behind, and does not keep the
   process from ending. Coroutines run as tasks; one that does not let itself be cancelled is left behind too, and
   named.
3. A failure says where in the provider it happened, or where the provider is stuck.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

from innkeeper.config.references import redact
from innkeeper_sdk.errors import InnkeeperError, ProviderFailedError

__all__ = ["Wall"]

_T = TypeVar("_T")

# Enough for a sentence; what somebody else's exception says has no bounds.
_TEXT_LENGTH: Final = 500
# How long a cancelled task may take to end before it is left behind.
_GRACE_SECONDS: Final = 1.0


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
            ProviderFailedError: It raised, or did not return in time.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def settle(value: _T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(self.failure(what, error))
            else:
                future.set_result(value)  # type: ignore[arg-type]  # of two, the one that is

        def work() -> None:
            value: _T | None = None
            failure: BaseException | None = None
            try:
                value = function()
            except BaseException as error:  # noqa: BLE001 - see rule 1
                failure = error
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
            ProviderFailedError: It raised, or did not end in time.
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
            if task.cancelled():
                raise self.failure(what, asyncio.CancelledError())
            error = task.exception()
            if error is not None:
                raise self.failure(what, error.error if isinstance(error, _EscapeError) else error)
            return task.result()
        late = self._late(what, seconds, _suspended(task))
        await self._cancel(task)
        raise late

    def failure(self, what: str, error: BaseException) -> ProviderFailedError:
        """Return the error for something that a provider's code raised."""
        if isinstance(error, InnkeeperError):
            reason = f"{what} failed: {self.sentence(error)}"
        elif isinstance(error, SystemExit):
            reason = f"{what} ended with sys.exit({error.code!r}){self._where(error)}"
        elif isinstance(error, asyncio.CancelledError):
            reason = f"{what} was cancelled by the provider itself"
        else:
            text = _text_of(error)
            reason = f"{what} failed: {type(error).__name__}{': ' if text else ''}{text}{self._where(error)}"
        failure = ProviderFailedError(self._clean(reason), provider=self._provider_id)
        failure.__cause__ = error
        return failure

    def sentence(self, error: InnkeeperError) -> str:
        """Return what an error says, without secrets and without naming this provider once more."""
        return self._clean(_text_of(error).removeprefix(f"provider {self._provider_id}: ") or type(error).__name__)

    def traceback(self, error: BaseException) -> str:
        """Return an error's traceback, without secrets."""
        return redact("".join(traceback.format_exception(error)).rstrip(), self._secrets)

    def _late(self, what: str, seconds: float, stack: Iterable[tuple[FrameType, int]]) -> ProviderFailedError:
        """Return the error for code that does not end; ``stack`` is where it is, the innermost frame first."""
        frames = [(frame.f_code.co_filename, line) for frame, line in stack]
        where = self._own(frames) or (frames[0] if frames else None)
        stuck = f", it is at {self._spot(*where)}" if where else ""
        return ProviderFailedError(f"{what} did not end in {seconds:g} s{stuck}", provider=self._provider_id)

    def _where(self, error: BaseException) -> str:
        frames = [(entry.f_code.co_filename, line) for entry, line in traceback.walk_tb(error.__traceback__)]
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
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if isinstance(frame, FrameType):
            frames.insert(0, (frame, frame.f_lineno))
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return frames


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - its __str__ is the provider's code too
        return ""
