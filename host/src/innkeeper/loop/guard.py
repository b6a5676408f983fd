"""The host's side of the guard: the small process that ends and cleans everything when the host is gone.

Rules of this module:

1. The guard is started first and told goodbye last. What it is to end or remove is noted *before* it can be left
   behind: a process right after its start, a path before it is made.
2. A guard that dies is started again and told everything again; until then the host goes on.
3. The host's environment gets a mark that its children inherit; those are ended even if they were never noted. What is
   given an environment of its own must be noted or given the mark, or end by itself when the host does.
4. Helpers of providers' processes are started by the guard (``spawning``). It knows of each before the host does.
5. Started and used in the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from innkeeper.loop import guard_process
from innkeeper.loop.guard_notes import file_of, path_note, process_note
from innkeeper.loop.guard_process import Process, read_stat, receive, transmit
from innkeeper.loop.spawning import Helper, Spawns, program
from innkeeper_sdk.errors import HostError

__all__ = ["Guard"]

_GOODBYE_SECONDS: Final = 2.0

# Its socket holds some hundred notes, which it reads at once; a guard that does not is stopped or wedged, and no guard.
_NOTE_SECONDS: Final = 1.0

# A guard that lives shorter than this did not fail by accident: the next one is started later and later.
_STEADY_SECONDS: Final = 1.0
_FIRST_DELAY: Final = 0.05
_LAST_DELAY: Final = 5.0

# The mark's name, and the host's id and start time as its value: no other process, now or later, has the same.
_MARK: Final = "INNKEEPER_GUARDED"

# An interpreter may need to find its own library; nothing else of the host's environment is the guard's business.
_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "PATH")


class Guard:
    """Keep the guard alive and informed.

    Args:
        logger: Where deaths of the guard are told.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._processes: dict[int, Process] = {}
        self._paths: dict[str, None] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._pidfd = -1
        self._started = 0.0
        self._delay = _FIRST_DELAY
        self._retry: asyncio.TimerHandle | None = None
        self._ended: asyncio.Event | None = None
        self._closing = False
        self._mark = f"{os.getpid()}-{_own_start()}"
        self._spawns = Spawns(self._remember, self.drop_process)
        self._up = asyncio.Event()

    @property
    def mark(self) -> tuple[str, str]:
        """Return the variable, and its value, that is given to whatever belongs to this host."""
        return _MARK, self._mark

    @property
    def pid(self) -> int | None:
        """Return the process id of the guard, or None while there is none."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Start the guard.

        Raises:
            HostError: It cannot be started.
        """
        os.environ[_MARK] = self._mark
        try:
            self._spawn()
        except OSError as error:
            raise HostError(
                f"the guard process cannot be started: {error}", hint="look at the process limits"
            ) from error

    def add_process(self, pid: int) -> None:
        """Have a process ended with the host, with its descendants and, if it leads one, its session.

        Args:
            pid: Of a child that has been started and not yet been waited for.
        """
        stat = read_stat(pid)
        if stat is None:
            return  # it ended and was waited for: there is nothing to end
        process = Process(pid, stat.start, leads=stat.session == pid)
        self._processes[pid] = process
        self._tell(process_note(process))

    def drop_process(self, pid: int) -> None:
        """Forget a process that has been waited for; unknown ones are fine."""
        if self._processes.pop(pid, None) is not None:
            self._tell(b"-pid %d" % pid)

    async def spawn(self, executable: Path, environ: Mapping[str, str], *, sock: socket.socket, output: int) -> Helper:
        """Start a helper; while there is no guard, wait for the next one. The caller bounds it with a timeout.

        Args:
            executable: Absolute; it is given no arguments.
            environ: Its whole environment, with the mark.
            sock: What it finds as descriptor 3; a copy stays with the caller.
            output: A descriptor that takes what it prints, on stdout and stderr; a copy stays with the caller.

        Returns:
            The helper, noted; when it has been ended and waited for, ``drop_process`` forgets it.

        Raises:
            ProviderFailedError: The program cannot be run.
            UnavailableError: The guard ended before it had answered.
        """
        file = program(executable, environ)
        try:
            await self._up.wait()
            number, outcome = self._spawns.ask()
            self._tell(b"spawn %d" % number, [file, sock.fileno(), output])
        finally:
            os.close(file)
        try:
            return await outcome
        except asyncio.CancelledError:
            self._spawns.unwanted(outcome)
            raise

    def add_path(self, path: Path) -> None:
        """Have a file, a socket or a whole directory removed if the host does not do it itself.

        Args:
            path: Absolute; it need not exist yet.
        """
        if not path.is_absolute():
            raise ValueError(f"expected an absolute path, found {path}")
        self._paths[os.fspath(path)] = None
        self._tell(path_note(os.fspath(path)))

    def drop_path(self, path: Path) -> None:
        """Forget a path; unknown ones are fine."""
        if os.fspath(path) in self._paths:
            del self._paths[os.fspath(path)]
            self._tell(b"-path " + os.fsencode(path))

    async def close(self) -> None:
        """Say goodbye to the guard and wait for its end; idempotent."""
        self._closing = True
        os.environ.pop(_MARK, None)
        if self._retry is not None:
            self._retry.cancel()
        if self._child is None:
            return
        self._ended = asyncio.Event()
        self._tell(b"bye")
        try:
            await asyncio.wait_for(self._ended.wait(), _GOODBYE_SECONDS)
        except TimeoutError:
            self._logger.warning("the guard does not end by itself; it is killed", extra={"pid": self._child.pid})
            self._child.kill()
            await self._ended.wait()

    def _spawn(self) -> None:
        # A guard whose socket is closed takes the host for gone and ends everything, so one that cannot be watched is
        # killed before its socket is closed.
        with ExitStack() as given, ExitStack() as kept:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            kept.enter_context(ours)
            given.enter_context(theirs)
            ours.settimeout(_NOTE_SECONDS)
            # A descriptor of the host itself: the socket alone would stay open in any child forked without exec.
            host = _given(given, os.pidfd_open(os.getpid()))
            known = _given(given, file_of(self._processes.values(), self._paths))
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and file
                [
                    *(sys.executable, "-I", "-S", guard_process.__file__),
                    *(str(theirs.fileno()), str(host), str(known), f"{_MARK}={self._mark}"),
                ],
                pass_fds=(theirs.fileno(), host, known),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )
            kept.callback(child.wait)
            kept.callback(child.kill)
            self._pidfd = os.pidfd_open(child.pid)
            kept.pop_all()
        self._child, self._sock = child, ours
        self._started = time.monotonic()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pidfd, self._on_end)
        loop.add_reader(ours, self._on_answer)
        self._up.set()

    def _remember(self, process: Process) -> None:
        # The guard that started it knows it already.
        self._processes[process.pid] = process

    def _on_answer(self) -> None:
        if self._sock is None:
            return
        try:
            answer, handed = receive(self._sock)
        except (BlockingIOError, ConnectionError):
            return
        if answer:
            self._spawns.take(answer, handed)
        else:
            asyncio.get_running_loop().remove_reader(self._sock)  # its end is handled where it is noticed

    def _tell(self, note: bytes, handed: Sequence[int] = ()) -> None:
        if self._sock is None:
            return  # the next guard is told everything
        try:
            transmit(self._sock, note, handed)
        except TimeoutError:
            self._logger.warning("the guard does not read; it is replaced", extra={"pid": self.pid})
            if self._child is not None:
                self._child.kill()
        except ConnectionError:
            self._logger.debug(
                "the guard has just ended", extra={"pid": self.pid}
            )  # its end is handled where it is noticed

    def _on_end(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        child, sock = self._child, self._sock
        if child is None or sock is None:
            raise AssertionError("the guard ended twice")
        loop.remove_reader(sock)
        self._hear_out(sock)
        self._child = self._sock = None
        self._up.clear()
        sock.close()
        status = child.wait()
        if self._closing:
            if self._ended is not None:
                self._ended.set()
            return
        self._logger.warning("the guard has ended; it is started again", extra={"pid": child.pid, "status": status})
        steady = time.monotonic() - self._started >= _STEADY_SECONDS
        self._delay = _FIRST_DELAY if steady else min(2 * self._delay, _LAST_DELAY)
        self._retry = loop.call_later(self._delay, self._again)

    def _hear_out(self, sock: socket.socket) -> None:
        # What it had sent before it ended is there to be read.
        sock.setblocking(False)
        try:
            while (received := receive(sock))[0]:
                self._spawns.take(*received)
        except (BlockingIOError, ConnectionError):
            pass  # that was all of it
        finally:
            self._spawns.guard_ended()

    def _again(self) -> None:
        try:
            self._spawn()
        except OSError as error:
            self._logger.warning("the guard cannot be started yet", extra={"error": str(error)})
            self._delay = min(2 * self._delay, _LAST_DELAY)
            self._retry = asyncio.get_running_loop().call_later(self._delay, self._again)


def _given(stack: ExitStack, file: int) -> int:
    stack.callback(os.close, file)
    return file


def _own_start() -> int:
    stat = read_stat(os.getpid())
    if stat is None:
        raise HostError("/proc does not show this process", hint="mount /proc")
    return stat.start
