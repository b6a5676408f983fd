"""The program of a LOOP plugin.

Rules of this module:

1. Standard output is taken away first; the cookie is checked before anything is made; the line is written once the
   main connection is served. What fails before the line is told in one sentence on standard error, and exits with 1.
2. After the line SIGINT is ignored: it is meant for the host, which ends its plugins itself. SIGTERM ends cleanly.
3. On the way out the capabilities are closed, within the grace of ``innkeeper_sdk.loop.ending``, and no socket stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from innkeeper_sdk.errors import InnkeeperError, ProviderError
from innkeeper_sdk.loop import handshake, hclog, stdout
from innkeeper_sdk.loop.broker import Broker
from innkeeper_sdk.loop.context import Surroundings, read_surroundings
from innkeeper_sdk.loop.ending import Ending, Reason
from innkeeper_sdk.loop.faults import describe
from innkeeper_sdk.loop.session import Provide, Sessions
from innkeeper_sdk.loop.wire_server import WireServer

__all__ = ["serve"]

_LOGGER: Final = logging.getLogger(__name__)


def serve(provide: Provide) -> None:
    """Make this program a LOOP plugin; return when its host has no use for it any more.

    Call it from the main thread, as the last thing the program does. Import what is heavy within ``provide``: the
    host waits for the handshake, and learns of a failed import only after it.

    Args:
        provide: Called at each Initialise with what the plugin is given; returns its capabilities, new ones each
            time. What it returned before is closed by then.

    Raises:
        SystemExit: With 1 and a sentence on standard error, when the program was not started by a host, or cannot
            serve it.
    """
    line_fd = stdout.claim()
    try:
        shaken = handshake.read(os.environ)
        surroundings = read_surroundings(os.environ)
        directory = _make_directory(shaken.directory)
    except InnkeeperError as error:
        _exit(error)
    hclog.install()
    for entry in shaken.ignored:
        _LOGGER.warning("the host offers %r, which is no version", entry)
    try:
        asyncio.run(_serve(provide, shaken, surroundings, directory, line_fd))
    except InnkeeperError as error:
        _exit(error)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _serve(
    provide: Provide, shaken: handshake.Handshake, surroundings: Surroundings, directory: Path, line_fd: int
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    ended: asyncio.Future[Reason] = loop.create_future()

    def on_end(reason: Reason) -> None:
        # Without a loop there is nothing left to close.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set_result, reason)

    ending = Ending()
    broker = Broker(directory)
    sessions = Sessions(provide, surroundings, broker)
    socket = directory / "main.sock"
    server = WireServer(socket, loop, broker, sessions, ending)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: ending.request(Reason.TERMINATED))
    ending.start(on_end, lambda: shutil.rmtree(directory, ignore_errors=True))
    try:
        _write_line(line_fd, shaken.line(socket))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        reason = await ended
        _LOGGER.info("the plugin ends: %s", reason.name.lower().replace("_", " "))
    finally:
        await sessions.close()
        await broker.close()
        await server.stop()
        ending.closed()


def _make_directory(parent: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="plugin-", dir=parent))
    except OSError as error:
        raise ProviderError(
            "the plugin cannot make a directory for its sockets",
            path=str(parent),
            actual=error.strerror,
            hint="set PLUGIN_UNIX_SOCKET_DIR or TMPDIR to a directory that it may write",
        ) from None


def _write_line(fd: int, line: str) -> None:
    try:
        stdout.write_line(fd, line)
    except OSError as error:
        raise ProviderError("nobody reads the plugin's handshake", actual=error.strerror) from None


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    # asyncio's own handler logs the exception's text, and the task that holds it.
    error = context.get("exception")
    what = describe(error) if isinstance(error, BaseException) else "no exception"
    _LOGGER.error("an error was not handled in the loop: %s", what)


def _exit(error: InnkeeperError) -> NoReturn:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(1) from None
