"""Starting a plugin's process, up to its handshake.

Rules of this module:

1. It is started from the event loop's thread: a process with a parent-death signal dies with the thread that started
   it.
2. Nothing of the host's environment is inherited: what is given is the plan's, the wire's and the launch's.
3. It leads a session of its own, its input is empty, its output is read for ever.
4. Its end is noticed by a descriptor of the process; the status is taken in the same moment.
5. A failed start says what was printed, how the process ended, and why that probably is.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from innkeeper.loop.guard import Guard
from innkeeper.loop.guard_process import Process, read_stat
from innkeeper.loop.handshake import Cause, HandshakeError, cause_of, exit_text, parse, quoted
from innkeeper.loop.output import Lines, PluginLog
from innkeeper.loop.pipes import Drain, FirstLine
from innkeeper_sdk.errors import ProviderFailedError
from innkeeper_sdk.loop.handshake import APP_VERSION, COOKIE_NAME, COOKIE_VALUE

__all__ = ["InitialiseError", "LaunchError", "Launched", "LostError", "helper_variable", "wire_environ"]

# How long output may take to arrive when its process has ended; its descendants may hold it open.
_LAST_WORDS_SECONDS: Final = 0.5

_WORDS_LINES: Final = 5


class LaunchError(ProviderFailedError):
    """Raised when a process has not become a plugin.

    Args:
        message: What happened, with the process's own words.
        cause: The likely cause; None if it cannot be run at all.
        provider: Its provider.
        hint: What to do.
    """

    def __init__(self, message: str, *, cause: Cause | None, provider: str, hint: str | None = None) -> None:
        super().__init__(message, provider=provider, hint=hint)
        self.cause = cause


class InitialiseError(LaunchError):
    """Raised when a plugin runs, but does not give the capabilities that it is started for."""


class LostError(LaunchError):
    """Raised when a plugin does not answer."""


class Launched:
    """A process that runs.

    Args:
        child: It.
        name: Its name in the manifest.
        provider: Its provider's id.
        guard: Has been or will be told of it.
        log: Where its stderr goes.

    Attributes:
        process: Its identity.
        exited: Its exit status, negative for a signal, as soon as it has ended. Never an exception.
        log: Its log.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], *, name: str, provider: str, guard: Guard, log: PluginLog
    ) -> None:
        stat = read_stat(child.pid)
        if stat is None or child.stdout is None or child.stderr is None:
            raise RuntimeError("a child that has not been waited for is not in /proc, or has no pipes")
        loop = asyncio.get_running_loop()
        self._child = child
        self._name = name
        self._provider = provider
        self.process = Process(child.pid, stat.start, leads=True)
        self.log = log
        self.exited: asyncio.Future[int] = loop.create_future()
        self._first = FirstLine()
        lines = Lines(log.take)
        # Their files would close the pipes when they are collected.
        with child.stdout as out, child.stderr as err:
            self._pidfd, stdout, stderr = _descriptors(
                lambda: os.pidfd_open(child.pid), lambda: os.dup(out.fileno()), lambda: os.dup(err.fileno())
            )
        guard.add_process(child.pid)
        loop.add_reader(self._pidfd, self._on_exit)
        self._drains = (
            Drain(stdout, self._first.take, self._first.end),
            Drain(stderr, lines.feed, lines.end),
        )

    @classmethod
    def start(
        cls,
        executable: Path,
        environ: Mapping[str, str],
        *,
        name: str,
        provider: str,
        descriptors: Sequence[int],
        guard: Guard,
        log: PluginLog,
    ) -> Launched:
        """Start a process.

        Args:
            executable: Absolute; it is given no arguments.
            environ: Its whole environment.
            name: Its name in the manifest.
            provider: Its provider's id.
            descriptors: What it inherits, under the same numbers.
            guard: Is told of it.
            log: Where its stderr goes.

        Raises:
            LaunchError: It cannot be run.
        """
        try:
            child = subprocess.Popen(  # noqa: S603 - what a manifest names, and no shell
                [executable],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=descriptors,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(
                f"the process {name} cannot be run: {executable}: {error.strerror or error}",
                cause=None,
                provider=provider,
                hint="install the provider anew, for this machine",
            ) from error
        try:
            return cls(child, name=name, provider=provider, guard=guard, log=log)
        except OSError as error:
            child.kill()
            child.wait()
            raise LaunchError(
                f"the process {name} cannot be watched: {error.strerror}",
                cause=None,
                provider=provider,
                hint="raise the limit of open files",
            ) from error

    async def handshake(self, directory: Path) -> Path:
        """Return the socket that it serves on; the caller bounds it with a timeout.

        Args:
            directory: The private directory that it was given.

        Raises:
            LaunchError: It ended, or said something else.
        """
        happened: set[asyncio.Future[Any]] = {self._first.line, self.exited}
        await asyncio.wait(happened, return_when=asyncio.FIRST_COMPLETED)
        error = HandshakeError("it ended before its handshake", Cause.ENDED)
        if self._first.line.done():
            try:
                return parse(self._first.line.result(), directory=directory)
            except HandshakeError as found:
                error = found
        # Its output may be at its end a moment before it is.
        await asyncio.wait({self.exited}, timeout=_LAST_WORDS_SECONDS)
        if self.exited.done():
            await self.last_words()
        printed = self._first.printed
        raise self.failure(str(error) if printed else "it printed no handshake", error.cause if printed else None)

    def failure(self, what: str, cause: Cause | None = None) -> LaunchError:
        """Return the error for a start that failed, with what the process has said.

        Args:
            what: What happened.
            cause: Why, if that is known; found out if not.
        """
        status = self.exited.result() if self.exited.done() else None
        cause = cause or cause_of(self._first.printed, "\n".join(self.log.last), status)
        parts = [f"the process {self._name} did not become a plugin: {what}"]
        if status is not None:
            parts.append(f"it {exit_text(status)}")
        if self._first.printed:
            parts.append(f"stdout: {quoted(self._first.printed.rstrip())!r}")
        if self.words:
            parts.append(f"stderr: {self.words!r}")
        parts.append(f"likely cause: {cause.value}")
        return LaunchError("; ".join(parts), cause=cause, provider=self._provider)

    def late(self, kind: type[LaunchError], what: str) -> LaunchError:
        """Return the error for what failed after its handshake, with what the process has said.

        Args:
            kind: The class of the error.
            what: What happened.
        """
        said = f"; stderr: {self.words!r}" if self.words else ""
        return kind(
            f"the process {self._name} gives no capabilities: {what}{said}", cause=None, provider=self._provider
        )

    @property
    def words(self) -> str:
        """Return the last lines that it printed on stderr, as they can stand in a sentence."""
        return quoted(" / ".join(self.log.last[-_WORDS_LINES:]).encode())

    async def last_words(self) -> None:
        """Wait for what it has printed, when it has ended."""
        waiting = [asyncio.ensure_future(drain.done.wait()) for drain in self._drains]
        await asyncio.wait(waiting, timeout=_LAST_WORDS_SECONDS)
        for task in waiting:
            task.cancel()

    def close(self) -> None:
        """Read no more of what it prints; when it has ended, nothing of it is left here. Idempotent."""
        for drain in self._drains:
            drain.close()

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.exited.set_result(self._child.wait())


def wire_environ(directory: Path, *, app_id: str) -> dict[str, str]:
    """Return the variables that the wire asks for.

    Args:
        directory: The private directory for sockets.
        app_id: What the plugin knows this host by.
    """
    return {
        COOKIE_NAME: COOKIE_VALUE,
        # go-plugin's defaults; nothing of LOOP listens on TCP here.
        "PLUGIN_MIN_PORT": "10000",
        "PLUGIN_MAX_PORT": "25000",
        "PLUGIN_PROTOCOL_VERSIONS": str(APP_VERSION),
        "PLUGIN_UNIX_SOCKET_DIR": str(directory),
        "TMPDIR": str(directory),
        "CL_APP_ID": app_id,
        # The three that a Go LOOP does not start without: no port of ours, and nothing of Mercury's.
        "CL_PROMETHEUS_PORT": "0",
        "CL_MERCURY_TRANSMITTER_TRANSMIT__QUEUE_MAX_SIZE": "0",
        "CL_MERCURY_TRANSMITTER_TRANSMIT_CONCURRENCY": "0",
    }


def helper_variable(name: str) -> str:
    """Return the variable that holds the number of the socket to or of a helper."""
    return f"INNKEEPER_HELPER_{name.upper().replace('-', '_')}_FD"


def _descriptors(*opens: Callable[[], int]) -> list[int]:
    """Open all or none."""
    opened: list[int] = []
    try:
        for each in opens:
            opened.append(each())
    except OSError:
        for file in opened:
            os.close(file)
        raise
    return opened
