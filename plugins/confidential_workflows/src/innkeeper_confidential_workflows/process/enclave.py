"""The enclave of this process: booted once, asked to execute, and answered when it asks.

Rules of this module:

1. The process has one enclave for its whole life. A later Initialise finds it booted, and is refused if it comes with
   another configuration: that needs another enclave, and so another generation.
2. Its questions are answered by the registry of the Initialise that stands; without one they are refused.
3. When the conversation or the launcher ends, what was asked fails, and whoever made this is told, once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable

from innkeeper_confidential_workflows.enclave.channel import FrameChannel, unexpected
from innkeeper_confidential_workflows.enclave.frames import (
    Ask,
    Cancel,
    Execute,
    Failed,
    Frame,
    FrameError,
    Read,
    Refusal,
    Result,
)
from innkeeper_confidential_workflows.launcher.errors import LaunchError
from innkeeper_confidential_workflows.process.answers import answer_ask, answer_read
from innkeeper_confidential_workflows.process.boot import boot_enclave
from innkeeper_sdk.capability import CapabilityError, ErrorCode, Registry

__all__ = ["Enclave"]


class Enclave:
    """The enclave of one process.

    Args:
        launcher: The socket to its launcher; owned from here on.
        logger: Where it is told what becomes of it.
        on_gone: Called once, when it is over and nobody has closed it.

    Attributes:
        registry: Who answers its questions; None while no Initialise stands.
    """

    def __init__(self, launcher: socket.socket, logger: logging.Logger, on_gone: Callable[[], None]) -> None:
        launcher.setblocking(False)
        self._launcher = launcher
        self._logger = logger
        self._on_gone = on_gone
        self._booting = asyncio.Lock()
        self._config: bytes | None = None
        self._channel: FrameChannel | None = None
        self._serving: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self._running: dict[int, asyncio.Future[Result | Failed]] = {}
        self.registry: Registry | None = None

    async def boot(self, config: bytes) -> None:
        """Boot the enclave, or find it booted.

        Args:
            config: Its configuration.

        Raises:
            LaunchError: It does not boot, was booted with another configuration, or is over.
        """
        async with self._booting:
            if self._config is None:
                self._config = config
                self._channel = await boot_enclave(self._launcher, config, self._logger)
                asyncio.get_running_loop().add_reader(self._launcher, self._launcher_readable)
                self._serving = asyncio.create_task(self._serve(self._channel))
            elif self._config != config:
                raise LaunchError(
                    "the enclave was booted with another configuration",
                    hint="run innkeeper plugins restart confidential-workflows",
                )
            if self._channel is None:
                raise LaunchError("the enclave is over", hint="its log says why")

    async def execute(self, request: bytes, seconds: float) -> bytes:
        """Have a request executed.

        Args:
            request: A serialized ConfidentialWorkflowRequest.
            seconds: How long the caller waits.

        Returns:
            A serialized ConfidentialWorkflowResponse.

        Raises:
            CapabilityError: It was refused, or failed, or the enclave is over.
        """
        channel = self._channel
        if channel is None:
            raise _gone()
        id_ = next(self._ids)
        future: asyncio.Future[Result | Failed] = asyncio.get_running_loop().create_future()
        self._running[id_] = future
        try:
            await channel.send(Execute(id=id_, request=request, deadline_ms=max(0, int(seconds * 1000))))
            answer = await future
        except FrameError as error:
            raise CapabilityError(str(error), error_code=ErrorCode.InvalidArgument) from None
        except ConnectionError:
            raise _gone() from None
        except asyncio.CancelledError:
            await self._cancel(channel, id_)
            raise
        finally:
            self._running.pop(id_, None)
        if answer.dropped_logs or answer.dropped_metrics:
            self._logger.info(
                "%d lines and %d metrics of a confidential guest were dropped: they do not leave the enclave",
                answer.dropped_logs,
                answer.dropped_metrics,
            )
        if isinstance(answer, Failed):
            raise CapabilityError.parse(answer.error)
        return answer.response

    async def close(self) -> None:
        """Let the enclave go, and wait until nothing of it is left here; idempotent."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            await asyncio.wait([serving])
        await self._end()
        if self._launcher.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._launcher)
            self._launcher.close()

    async def _cancel(self, channel: FrameChannel, id_: int) -> None:
        try:
            await asyncio.shield(channel.send(Cancel(id=id_)))
        except ConnectionError:
            return  # It is over, and so is what it ran.

    async def _serve(self, channel: FrameChannel) -> None:
        reason = "it has closed the conversation"
        try:
            while (frame := await channel.receive()) is not None:
                self._take(frame, channel)
        except FrameError as error:
            reason = f"it has sent {error}"
        await self._over(f"the enclave is over: {reason}")

    def _take(self, frame: Frame, channel: FrameChannel) -> None:
        match frame:
            case Result() | Failed():
                # Nobody may be waiting for it any more.
                future = self._running.pop(frame.id, None)
                if future is not None and not future.done():
                    future.set_result(frame)
            case Ask() | Read():
                task = asyncio.create_task(self._answer(frame, channel))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case _:
                raise unexpected(frame)

    async def _answer(self, question: Ask | Read, channel: FrameChannel) -> None:
        registry = self.registry
        answer: Frame
        if registry is None:
            error = CapabilityError("the plugin is not initialised", error_code=ErrorCode.Unavailable)
            answer = Refusal(id=question.id, error=error.serialize())
        elif isinstance(question, Ask):
            answer = await answer_ask(question, registry)
        else:
            answer = await answer_read(question, registry)
        try:
            await channel.send(answer)
        except ConnectionError:
            return  # Whoever receives finds that out, and says so.

    def _launcher_readable(self) -> None:
        # It says nothing after the boot: this is its end.
        asyncio.get_running_loop().remove_reader(self._launcher)
        task = asyncio.create_task(self._over("the enclave's launcher has ended"))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _over(self, reason: str) -> None:
        if self._channel is None:
            return
        self._logger.error("%s; this process ends, and another one with a new enclave takes its place", reason)
        channel, self._channel = self._channel, None
        self._fail()
        await channel.close()
        self._on_gone()

    async def _end(self) -> None:
        channel, self._channel = self._channel, None
        self._fail()
        for task in list(self._answering):
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering)
        if channel is not None:
            await channel.close()

    def _fail(self) -> None:
        for future in self._running.values():
            if not future.done():
                future.set_exception(_gone())
        self._running.clear()


def _gone() -> CapabilityError:
    return CapabilityError("the enclave is over", error_code=ErrorCode.Unavailable)
