"""The monitor: the one process of the enclave that lives as long as it does.

It is run as ``innkeeper_confidential_workflows.enclave.monitor PARENT HOST NSM SCRATCH INTERPRETER…`` where PARENT is
the process that starts it, HOST and NSM are the numbers of its two sockets, SCRATCH is a private directory, and
INTERPRETER… goes before the name of a module to run that in the guests' root process.

Rules of this module:

1. It boots once: the configuration is measured and locked before anything is served, and the boot document shows it.
2. Each request is a task of its own, and no task ends the monitor. What ends it is the end of the conversation with its
   parent, or a frame that is none.
3. It has its two sockets, its scratch directory, and where it says what went wrong; nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Final

from attrs import frozen

from innkeeper_confidential_workflows.enclave.channel import FrameChannel, unexpected
from innkeeper_confidential_workflows.enclave.executions import (
    EnclaveParts,
    Executions,
    Tally,
    default_slots,
)
from innkeeper_confidential_workflows.enclave.frames import (
    BOOT_METHOD,
    Boot,
    Booted,
    Cancel,
    Execute,
    Failed,
    Frame,
    FrameError,
    Result,
)
from innkeeper_confidential_workflows.enclave.link import HostLink
from innkeeper_confidential_workflows.enclave.reservations import Reservations
from innkeeper_confidential_workflows.nsm.client import NsmClient
from innkeeper_confidential_workflows.nsm.transport import SeqpacketTransport
from innkeeper_confidential_workflows.protocol.configuration import CONFIG_PCR, EnclaveConfig
from innkeeper_confidential_workflows.protocol.hashing import user_data_of
from innkeeper_sdk.capability import CapabilityError, ErrorCode
from innkeeper_wasm.driver import RootCommand, Runtime, RuntimeLostError
from innkeeper_wasm.runtime.process import close_all_but, die_with_parent, forbid_new_privileges

__all__ = ["Monitor", "main"]

_HOST_HOOK: Final = "innkeeper_confidential_workflows.enclave.child:factory"
_NSM_SECONDS: Final = 10.0
_STANDARD_ERROR: Final = 2

_log = logging.getLogger("innkeeper.enclave")


@frozen(kw_only=True)
class Settings:
    """How the monitor was started.

    Attributes:
        parent: Process id of the launcher.
        host: Number of the socket to the parent.
        nsm: Number of the socket to the NSM.
        scratch: A private directory.
        interpreter: What goes before the name of a module to run it.
    """

    parent: int
    host: int
    nsm: int
    scratch: Path
    interpreter: tuple[str, ...]

    @classmethod
    def parse(cls, arguments: list[str]) -> Settings:
        """Return the settings of a command line."""
        parent, host, nsm, scratch, *interpreter = arguments
        return cls(
            parent=int(parent), host=int(host), nsm=int(nsm), scratch=Path(scratch), interpreter=tuple(interpreter)
        )


class Monitor:
    """Serves one parent.

    Args:
        channel: The conversation with it.
        nsm: The NSM.
        runtime: What compiles and runs guests.
        slots: How many executions may run at once.
    """

    def __init__(self, channel: FrameChannel, nsm: NsmClient, runtime: Runtime, *, slots: int) -> None:
        self._channel = channel
        self._nsm = nsm
        self._runtime = runtime
        self._slots = slots
        self._link = HostLink(channel)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Boot, then serve until the conversation ends.

        Raises:
            FrameError: The parent says what it must not.
            AttestationError: The configuration is none.
            NsmError: The NSM refuses, or is gone.
        """
        boot = await self._channel.receive()
        if boot is None:
            return
        if not isinstance(boot, Boot):
            raise unexpected(boot)
        executions = await self._boot(boot)
        try:
            while (frame := await self._channel.receive()) is not None:
                self._take(frame, executions)
        finally:
            await self._end()

    async def _boot(self, boot: Boot) -> Executions:
        config = EnclaveConfig.decode(boot.config)
        self._nsm.extend(CONFIG_PCR, config.extension)
        self._nsm.lock(CONFIG_PCR)
        document = self._nsm.attest(user_data=user_data_of(BOOT_METHOD, boot.config), nonce=boot.nonce)
        await self._channel.send(Booted(document=document))
        parts = EnclaveParts(link=self._link, attester=self._nsm, config=config, runtime=self._runtime)
        return Executions(parts, reservations=Reservations(time.monotonic), slots=self._slots, logger=_log)

    def _take(self, frame: Frame, executions: Executions) -> None:
        match frame:
            case Execute():
                if frame.id in self._tasks:
                    raise FrameError("a frame execute with the id of another")
                task = asyncio.create_task(self._execute(frame, executions))
                self._tasks[frame.id] = task
                task.add_done_callback(lambda _: self._tasks.pop(frame.id, None))
            case Cancel():
                # It may be over, and its answer on the way.
                if (running := self._tasks.get(frame.id)) is not None:
                    running.cancel()
            case _:
                self._link.take(frame)

    async def _execute(self, frame: Execute, executions: Executions) -> None:
        tally = Tally()
        answer: Result | Failed
        try:
            response = await executions.execute(frame.request, frame.deadline_ms / 1000, tally)
            answer = Result(id=frame.id, response=response, dropped_logs=tally.logs, dropped_metrics=tally.metrics)
        except CapabilityError as error:
            answer = _failed(frame.id, error, tally)
        try:
            await self._answer(answer, tally)
        except ConnectionError:
            return  # The conversation has ended; whoever receives finds that out.

    async def _answer(self, answer: Result | Failed, tally: Tally) -> None:
        try:
            await self._channel.send(answer)
        except FrameError as error:
            await self._channel.send(
                _failed(answer.id, CapabilityError(str(error), error_code=ErrorCode.ResourceExhausted), tally)
            )

    async def _end(self) -> None:
        self._link.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _failed(id_: int, error: CapabilityError, tally: Tally) -> Failed:
    return Failed(id=id_, error=error.serialize(), dropped_logs=tally.logs, dropped_metrics=tally.metrics)


async def serve(settings: Settings) -> None:
    """Be the monitor of the sockets that the settings name."""
    nsm = socket.socket(fileno=settings.nsm)
    nsm.settimeout(_NSM_SECONDS)
    channel = await FrameChannel.open(socket.socket(fileno=settings.host))
    runtime = Runtime(
        settings.scratch / "modules",
        logger=_log,
        root=RootCommand(interpreter=settings.interpreter, host=_HOST_HOOK),
    )
    # Importing the engine takes as long as the boot: whoever executes first need not wait for it.
    warming = asyncio.create_task(_warm_up(runtime))
    try:
        await Monitor(channel, NsmClient(SeqpacketTransport(nsm)), runtime, slots=default_slots()).run()
    finally:
        await channel.close()
        await runtime.close()
        await warming
        nsm.close()


async def _warm_up(runtime: Runtime) -> None:
    try:
        await runtime.start()
    except RuntimeLostError as error:
        _log.warning("guests cannot be run yet: %s", error)  # The next execution tries again, and says so itself.


def main(arguments: list[str]) -> int:
    """Run the monitor; return its exit status."""
    settings = Settings.parse(arguments)
    die_with_parent(settings.parent)
    forbid_new_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    close_all_but((0, 1, _STANDARD_ERROR, settings.host, settings.nsm))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        asyncio.run(serve(settings))
    except FrameError as error:
        _log.critical("the conversation with the parent is over: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
