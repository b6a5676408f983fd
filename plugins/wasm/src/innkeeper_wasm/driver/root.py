"""The driver's side of the root process: start it, log what it says, notice its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from attrs import field, frozen

from innkeeper_wasm.driver.channel import ControlChannel
from innkeeper_wasm.driver.children import Children
from innkeeper_wasm.driver.errors import RuntimeLostError
from innkeeper_wasm.driver.output import ProcessOutput

__all__ = ["RootCommand", "RootProcess"]

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_MODULE = "innkeeper_wasm.runtime.root"
_MARKS = ("INNKEEPER_GUARDED", "INNKEEPER_LAUNCH")
"""What is passed on, of the host and of one of its processes: by it whatever was left behind is found and ended."""


@frozen(kw_only=True)
class RootCommand:
    """How the root process is started.

    Args:
        interpreter: What goes before the name of a module to run it.
        host: ``package.module:factory``, see :mod:`innkeeper_wasm.runtime.root`; None for the driver alone.
    """

    interpreter: tuple[str, ...] = field(factory=lambda: (sys.executable, "-I", "-m"))
    host: str | None = field(default=None)

    def arguments(self, control: int) -> list[str]:
        """Return the command line, for a control socket of this number."""
        host = [] if self.host is None else [self.host]
        return [*self.interpreter, _MODULE, str(control), str(os.getpid()), *host]


class RootProcess:
    """One root process. Make it with :meth:`start`.

    Attributes:
        children: Its compile children and zygotes.
        engine: The digest that compiled modules of it are kept under.
        wasmtime: The version of the engine.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], sock: socket.socket, output: int, logger: logging.Logger
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._logger = logger
        self._pidfd = os.pidfd_open(process.pid)
        self._output = ProcessOutput(output, logger)
        self._channel = ControlChannel(sock, self._message, self._channel_closed)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        self.children = Children(self._channel, lambda: process.pid)
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.engine = ""
        self.wasmtime = ""
        self._loop.add_reader(self._pidfd, self._ended)

    @classmethod
    async def start(cls, logger: logging.Logger, command: RootCommand | None = None) -> RootProcess:
        """Start a root process, and wait until it can fork.

        It is started from the thread of the event loop, whose end would end it. It gets no environment but the mark of
        the guard, no input and one descriptor beside its output, and is a session of its own, so that no terminal's
        signal reaches it.

        Raises:
            RuntimeLostError: If it cannot be started, or ends or hangs before it is ready.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, output_end = os.pipe()
        os.set_blocking(output, False)
        try:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own module; the loop's thread must be its parent
                (command or RootCommand()).arguments(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=output_end,
                pass_fds=(theirs.fileno(),),
                env={"LC_ALL": "C.UTF-8"} | {name: os.environ[name] for name in _MARKS if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(output)
            raise RuntimeLostError(f"the process that runs guests cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(output_end)
        root = cls(process, ours, output, logger)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await asyncio.shield(root._ready)
        except TimeoutError as error:
            await root.stop()
            raise RuntimeLostError(f"the process that runs guests was not ready after {_START_SECONDS:g} s") from error
        except BaseException:
            await root.stop()
            raise
        return root

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs and can fork."""
        return not self.gone.done() and not self._stopping

    async def stop(self) -> None:
        """End it, and everything below it, and wait until it has ended."""
        self._stopping = True
        self._channel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.shield(self.gone)
        self.kill()
        await asyncio.shield(self.gone)

    def kill(self) -> None:
        """Kill it, and everything below it."""
        if not self.gone.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _message(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["op"] == "ready" and not descriptors:
            self.engine = str(message.get("engine"))
            self.wasmtime = str(message.get("wasmtime"))
            if not self._ready.done():
                self._ready.set_result(None)
            return
        try:
            self.children.handle(message, descriptors)
        except ValueError:
            self._logger.exception("the root process speaks another language; killing it")
            self.kill()

    def _channel_closed(self) -> None:
        # It is ending by itself, and may still be saying why.
        self._loop.call_later(_STOP_SECONDS, self.kill)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        status = self._process.wait()
        os.close(self._pidfd)
        self._channel.close()
        self._output.close()
        if not self._stopping:
            self._logger.error("the process that runs guests (pid %d) has ended with status %d", self.pid, status)
        if not self._ready.done():
            self._ready.set_exception(
                RuntimeLostError(f"the process that runs guests ended with status {status} before it was ready")
            )
            self._ready.exception()  # Looked at: nobody may be waiting.
        self.gone.set_result(None)
        self.children.lost()
