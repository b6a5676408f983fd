"""One generation of a process: everything that one launch makes, from its directory to its capabilities.

Rules of this module:

1. It is started once and reaped once. A start that fails or is cancelled leaves what it had made to ``reap``.
2. The process with its helpers is one: the first of them that ends is the end of the generation (``fell``).
3. All capabilities of the plan have been added when the start is over, or it has failed.
4. ``abandon`` is at once; ``close`` asks, and ``reap`` does not.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from innkeeper.loop import reaping
from innkeeper.loop.connection import Connection
from innkeeper.loop.directory import make_directory
from innkeeper.loop.handshake import exit_text, quoted
from innkeeper.loop.helpers import StartedHelper, start_helper
from innkeeper.loop.launch import InitialiseError, Launched, LaunchError, LostError, helper_variable, wire_environ
from innkeeper.loop.output import PluginLog
from innkeeper.loop.plans import ProcessPlan
from innkeeper.loop.registry_service import RegistryService
from innkeeper.loop.services import serve_host
from innkeeper.loop.surroundings import Surroundings
from innkeeper_sdk.errors import UnavailableError

__all__ = ["Generation"]

# Whatever belongs to a launch has this in its environment, with a value that no other launch has.
LAUNCH_VARIABLE: Final = "INNKEEPER_LAUNCH"

# How long processes may take to be gone after SIGKILL.
_KILL_SECONDS: Final = 5.0

# After a call failed for want of a connection: until the kernel tells why.
_NEWS_SECONDS: Final = 0.5

# A plugin that ends by itself takes its capabilities away first: ours has 1.8 s from then on, go-plugin's two.
_GRACE_SECONDS: Final = 2.5

# What Initialise may fail with though the plugin has refused nothing.
_NOT_ITS_WORD: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


class Generation:
    """One launch of a process.

    Args:
        number: Counts them, from 1.
        plan: What to launch.
        around: What of the host it needs.

    Attributes:
        number: Its number.
        fell: Why it is over, as soon as something of it has ended by itself. Never an exception.
    """

    def __init__(self, number: int, plan: ProcessPlan, around: Surroundings) -> None:
        self.number = number
        self.fell: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._around = around
        self._launch = f"{around.guard.mark[1]}-{secrets.token_hex(8)}"
        self._directory: Path | None = None
        self._helpers: list[StartedHelper] = []
        self._launched: Launched | None = None
        self._connection: Connection | None = None
        self._registry: RegistryService | None = None
        self._starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Return the process's id; None before it is launched."""
        return self._launched.process.pid if self._launched is not None else None

    def helper_pid(self, name: str) -> int | None:
        """Return a helper's process id; None before it is started."""
        return next((helper.helper.process.pid for helper in self._helpers if helper.name == name), None)

    async def start(self) -> None:
        """Launch it, and return when its capabilities are there.

        Raises:
            LaunchError: It has ended, is too slow, or is no plugin for this host.
            InitialiseError: It runs, but refuses to give its capabilities.
            InnkeeperError: Something else is in the way.
        """
        seconds = self._plan.restart.start_seconds
        starting = self._starting = asyncio.create_task(self._bring_up())
        happened: set[asyncio.Future[Any]] = {starting, self.fell}
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait(happened, return_when=asyncio.FIRST_COMPLETED)
                # Whichever was first, the other often knows better why, and says so in a moment.
                if not starting.done():
                    await asyncio.wait({starting}, timeout=2 * _NEWS_SECONDS)
                elif isinstance(starting.exception(), LostError | UnavailableError):
                    await asyncio.wait({self.fell}, timeout=_NEWS_SECONDS)
        except TimeoutError:
            raise self._failure(f"it was not ready within {seconds:g} s") from None
        finally:
            starting.cancel()
        error = starting.exception() if starting.done() else None
        if error is not None and not (self.fell.done() and isinstance(error, LostError | UnavailableError)):
            raise error
        if self.fell.done():
            if self._launched is not None:
                await self._launched.last_words()
            raise self._failure(self.fell.result())

    async def ping(self) -> str:
        """Ask whether it is well; return what is wrong, empty if it is well."""
        if self._connection is None:
            return "it is not connected"
        return await self._connection.ping(self._plan.restart.ping_seconds)

    def abandon(self) -> None:
        """Take its capabilities away, and end what waits for them; idempotent."""
        if self._starting is not None:
            self._starting.cancel()
        if self._registry is not None:
            self._registry.abandon()

    async def close(self) -> None:
        """Ask it to end, and wait for that, no longer than the plan says."""
        connection, launched = self._connection, self._launched
        if connection is None or launched is None or launched.exited.done():
            return
        faults = await connection.end(launched.exited, self._plan.restart.stop_seconds)
        for fault in faults:
            self._around.logger.warning(
                "process %s of provider %s: %s", self._plan.name, self._plan.provider_id, fault, extra=self._extra()
            )

    async def reap(self) -> None:
        """End whatever is left of it, and let go of everything; idempotent."""
        self.abandon()
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._directory is not None and await self._reap(self._directory):
            # Not again: process ids that were its own may be somebody else's later.
            self._directory = None
        if self._launched is not None:
            # What is left of it is its status and its last words.
            await asyncio.wait({self._launched.exited}, timeout=_NEWS_SECONDS)
            await self._launched.last_words()
        if self._registry is not None:
            await self._registry.close()
        if self._connection is not None:
            await self._connection.close()
        for helper in self._helpers:
            helper.close()
        if self._launched is not None:
            self._launched.close()

    async def _reap(self, directory: Path) -> bool:
        processes = [helper.helper.process for helper in self._helpers]
        if self._launched is not None:
            processes.append(self._launched.process)
        # By the module: there is one reaper, and a test can take it away.
        reaped = await reaping.reap(
            reaping.Remains(tuple(processes), f"{LAUNCH_VARIABLE}={self._launch}", directory),
            guard=self._around.guard,
            seconds=_KILL_SECONDS,
        )
        if reaped.left or reaped.fault:
            self._around.logger.error(
                "process %s of provider %s left something behind: %s",
                self._plan.name,
                self._plan.provider_id,
                reaped.fault or f"the processes {', '.join(map(str, reaped.left))} cannot be ended",
                extra=self._extra(),
            )
        return not reaped.left

    async def _bring_up(self) -> None:
        plan, around = self._plan, self._around
        directory = self._directory = make_directory(plan.socket_dir, guard=around.guard)
        common = dict((around.guard.mark, (LAUNCH_VARIABLE, self._launch)))
        for helper in plan.helpers:
            started = await start_helper(
                helper, common, provider=plan.provider_id, guard=around.guard, log=self._log(helper.name)
            )
            self._helpers.append(started)
            started.helper.ended.add_done_callback(partial(self._helper_ended, helper.name))
        sockets = {helper.name: helper.socket for helper in self._helpers}
        launched = self._launched = Launched.start(
            plan.executable,
            {
                **plan.environ,
                **wire_environ(directory, app_id=around.app_id),
                **common,
                **{helper_variable(name): str(sock.fileno()) for name, sock in sockets.items()},
            },
            name=plan.name,
            provider=plan.provider_id,
            descriptors=[sock.fileno() for sock in sockets.values()],
            guard=around.guard,
            log=self._log(plan.name),
        )
        for sock in sockets.values():
            sock.close()
        launched.exited.add_done_callback(self._process_ended)
        path = await launched.handshake(directory)
        await self._connect(path, directory, launched)

    async def _connect(self, path: Path, directory: Path, launched: Launched) -> None:
        plan, around = self._plan, self._around
        connection = self._connection = Connection(
            path, directory=directory, log=launched.log, lost=self._connection_lost
        )
        await connection.ready()
        registry = self._registry = RegistryService(
            connection.broker,
            provider=plan.provider_id,
            allowed=plan.capabilities,
            peers=around.peers,
            registrar=around.registrar,
            host_public_key=around.host_public_key,
            logger=around.logger,
            removed=self._capability_removed,
        )
        request = await serve_host(connection.broker, registry, config=plan.config, logger=around.logger)
        try:
            await connection.initialise(request, plan.restart.start_seconds)
        except grpc.aio.AioRpcError as error:
            text = quoted((error.details() or error.code().name).encode())
            if error.code() in _NOT_ITS_WORD:
                raise launched.late(LostError, f"it did not answer Initialise ({error.code().name})") from None
            raise launched.late(InitialiseError, f"it refused to be initialised: {text}") from None
        missing = [capability for capability in plan.capabilities if capability not in registry.added]
        if missing:
            raise launched.late(InitialiseError, f"it was initialised and did not add {', '.join(missing)}")

    def _process_ended(self, exited: asyncio.Future[int]) -> None:
        self._set_fell(f"the process {self._plan.name} {exit_text(exited.result())}")

    def _helper_ended(self, name: str, ended: asyncio.Future[int | None]) -> None:
        self._set_fell(f"its helper {name} {exit_text(ended.result())}")

    def _set_fell(self, reason: str) -> None:
        if not self.fell.done():
            self.fell.set_result(reason)

    def _connection_lost(self) -> None:
        opened = self._connection is not None and self._connection.opened
        reason = "it closed its connection and runs on" if opened else "nobody serves at the socket it named"
        # If its process has ended, that is the better reason, and on its way.
        asyncio.get_running_loop().call_later(_NEWS_SECONDS, self._set_fell, reason)

    def _capability_removed(self, capability_id: str) -> None:
        def look_again() -> None:
            if self._registry is None or capability_id not in self._registry.added:
                self._set_fell(f"it took {capability_id} away and runs on")

        asyncio.get_running_loop().call_later(_GRACE_SECONDS, look_again)

    def _failure(self, what: str) -> LaunchError:
        if self._launched is None:
            return LaunchError(
                f"the process {self._plan.name} was not launched: {what}", cause=None, provider=self._plan.provider_id
            )
        if self._connection is None:
            return self._launched.failure(what)
        return self._launched.late(LaunchError, what)

    def _log(self, name: str) -> PluginLog:
        return PluginLog(self._around.logger, {**self._extra(), "part": name})

    def _extra(self) -> dict[str, object]:
        return {"provider": self._plan.provider_id, "part": self._plan.name, "generation": self.number}
