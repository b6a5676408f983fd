"""Starting the helpers of one launch, each with a socket to the process.

Rules of this module:

1. Each pair of a process and a helper has a socket of its own: a message socket, made anew for each launch.
2. The host keeps neither end: whichever of the two ends first, the other sees it.
3. What a helper prints goes where its process's output goes, under its own name.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack

from attrs import define

from innkeeper.loop.guard import Guard
from innkeeper.loop.guard_process import HELPER_SOCKET
from innkeeper.loop.launch import LaunchError, helper_variable
from innkeeper.loop.output import Lines, PluginLog
from innkeeper.loop.pipes import Drain
from innkeeper.loop.plans import HelperPlan
from innkeeper.loop.spawning import Helper
from innkeeper_sdk.errors import ProviderFailedError

__all__ = ["StartedHelper", "start_helper"]


@define(eq=False)
class StartedHelper:
    """A helper that runs.

    Attributes:
        name: Its name.
        helper: Its process.
        log: Its log.
        drain: What reads its output.
        socket: The process's end of their socket, until that has been started.
    """

    name: str
    helper: Helper
    log: PluginLog
    drain: Drain
    socket: socket.socket

    def close(self) -> None:
        """Let go of it; idempotent."""
        self.socket.close()
        self.drain.close()
        self.helper.close()


async def start_helper(
    plan: HelperPlan, environ: Mapping[str, str], *, provider: str, guard: Guard, log: PluginLog
) -> StartedHelper:
    """Start a helper; the caller bounds it with a timeout.

    Args:
        plan: The helper.
        environ: What the launch adds to its environment.
        provider: Its provider's id.
        guard: Starts it.
        log: Where its output goes.

    Raises:
        LaunchError: It cannot be run.
        UnavailableError: The guard has ended meanwhile.
    """
    with ExitStack() as given, ExitStack() as kept:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept.enter_context(ours)
        given.enter_context(theirs)
        reading, writing = os.pipe()
        given.callback(os.close, writing)
        lines = Lines(log.take)
        drain = Drain(reading, lines.feed, lines.end)
        kept.callback(drain.close)
        try:
            helper = await guard.spawn(
                plan.executable,
                {**plan.environ, **environ, helper_variable(plan.name): str(HELPER_SOCKET)},
                sock=theirs,
                output=writing,
            )
        except ProviderFailedError as error:
            raise LaunchError(
                f"the helper {plan.name} cannot be run: {plan.executable}: {error.message}",
                cause=None,
                provider=provider,
                hint="install the provider anew, for this machine",
            ) from None
        kept.pop_all()
    return StartedHelper(plan.name, helper, log, drain, ours)
