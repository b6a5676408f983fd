"""Helpers that the guard starts for the host: what was asked for, what lives, and how it ended.

Rules of this module:

1. The guard is a helper's parent; the host has a descriptor of the process, so that its end is noticed also while there
   is no guard. How it ended then stays unknown.
2. A helper that comes when nobody waits for it any more is killed.
3. An answer that is none is an error: the guard is ours.

For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import define, field

from innkeeper.loop.guard_process import Process
from innkeeper_sdk.errors import ProviderFailedError, UnavailableError

__all__ = ["Helper", "Spawns", "program"]

# The guard tells how a helper ended as soon as the kernel does; if it does not, nobody will.
_STATUS_SECONDS: Final = 0.5


@define(eq=False)
class Helper:
    """A helper that was started.

    Attributes:
        process: Its process; it leads a session of its own.
        ended: How it ended: its exit status, negative for a signal, None if nobody knows. Never an exception.
    """

    process: Process
    ended: asyncio.Future[int | None]
    _pidfd: int
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def watch(self) -> None:
        """Notice its end."""
        asyncio.get_running_loop().add_reader(self._pidfd, self._gone)

    def end(self, status: int | None) -> None:
        """Take note of its end; the first word counts."""
        if self._timer is not None:
            self._timer.cancel()
        self.close()
        if not self.ended.done():
            self.ended.set_result(status)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it; idempotent."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _gone(self) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(_STATUS_SECONDS, self.end, None)


class Spawns:
    """What the guard was asked to start.

    Args:
        started: Called with each process that was started, before anybody knows of it.
        dropped: Called with the id of one that nobody had waited for, when it has ended.
    """

    def __init__(self, started: Callable[[Process], None], dropped: Callable[[int], None]) -> None:
        self._started = started
        self._dropped = dropped
        self._last = 0
        self._asked: dict[int, asyncio.Future[Helper]] = {}
        self._living: dict[int, Helper] = {}

    def ask(self) -> tuple[int, asyncio.Future[Helper]]:
        """Return the number of a new request, and what will be its outcome.

        The outcome raises ProviderFailedError if the program cannot be run, UnavailableError if the guard has ended.
        """
        self._last += 1
        future: asyncio.Future[Helper] = asyncio.get_running_loop().create_future()
        self._asked[self._last] = future
        return self._last, future

    def unwanted(self, outcome: asyncio.Future[Helper]) -> None:
        """Take note that nobody waits for an outcome any more."""
        # It may have come in the very moment in which its waiting was cancelled.
        if not outcome.cancel() and not outcome.cancelled() and outcome.exception() is None:
            self._end(outcome.result())

    def take(self, answer: bytes, handed: list[int]) -> None:
        """Take one answer of the guard.

        Args:
            answer: The answer.
            handed: The descriptors that came with it.

        Raises:
            KeyError, ValueError: It is none.
        """
        match answer.split(b" "), handed:
            case [b"spawned", number, pid, start], [pidfd]:
                self._spawned(int(number), Process(int(pid), int(start), leads=True), pidfd)
            case [b"spawned", number, _, _], []:
                # The kernel had no descriptor left to give: it is found by its mark, and ended, as what failed is.
                self._failed(int(number), errno.EMFILE)
            case [b"failed", number, code], []:
                self._failed(int(number), int(code))
            case [b"ended", number, status], []:
                helper = self._living.pop(int(number), None)
                if helper is not None:
                    helper.end(int(status))
            case _:
                raise ValueError(f"no answer of a guard: {answer[:64]!r}")

    def guard_ended(self) -> None:
        """Take note that the guard will tell no more."""
        asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(UnavailableError("the guard has ended while it was to start a helper"))
        # The ends of those that live are noticed by their descriptors.
        self._living = {}

    def _spawned(self, number: int, process: Process, pidfd: int) -> None:
        future = self._asked.pop(number)
        helper = Helper(process, asyncio.get_running_loop().create_future(), pidfd)
        self._living[number] = helper
        helper.watch()
        self._started(process)
        if future.done():
            self._end(helper)
        else:
            future.set_result(helper)

    def _end(self, helper: Helper) -> None:
        helper.ended.add_done_callback(lambda _: self._dropped(helper.process.pid))
        helper.kill()

    def _failed(self, number: int, code: int) -> None:
        future = self._asked.pop(number)
        if not future.done():
            future.set_exception(ProviderFailedError(f"a helper cannot be run: {os.strerror(code)}"))


def program(executable: Path, environ: Mapping[str, str]) -> int:
    """Return the file that tells the guard what to run.

    Args:
        executable: Absolute.
        environ: Its whole environment.

    Raises:
        ValueError: A path or a variable cannot be said to a program.
    """
    items = [os.fspath(executable), *(f"{name}={value}" for name, value in environ.items())]
    if not executable.is_absolute() or any("\0" in item for item in items) or any("=" in name for name in environ):
        raise ValueError(f"not a program and its environment: {executable}, {', '.join(environ)}")
    file = os.memfd_create("innkeeper-helper")
    with open(file, "wb", closefd=False) as writer:
        writer.write(b"".join(os.fsencode(item) + b"\0" for item in items))
    return file
