"""The process of a host: its log, its event loop, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from innkeeper import logs
from innkeeper.config.plugins import PluginsConfig
from innkeeper.config.settings import Settings
from innkeeper.host import Host
from innkeeper.stopping import Stopping

__all__ = ["serve"]


def serve(
    settings: Settings,
    plugins: PluginsConfig,
    *,
    log_level: str,
    on_ready: Callable[[], None],
    ephemeral: Path | None,
) -> int:
    """Run a host until it is told to stop.

    Args:
        settings: Its settings.
        plugins: What it loads.
        log_level: The lowest level that its log shows.
        on_ready: Called when it is ready.
        ephemeral: The directory of a host that stops when its standard input ends; None is any other host.

    Returns:
        The exit code.

    Raises:
        InnkeeperError: It cannot be started.
    """
    logs.configure(sys.stderr, level=log_level)
    logger = logging.getLogger("innkeeper.host")
    for warning in settings.warnings:
        logger.warning(warning)
    for fault in plugins.faults:
        logger.error("left out of plugins.yaml: %s", fault)
    leftovers = () if ephemeral is None else (ephemeral,)
    host = Host(settings, plugins, on_ready=on_ready, leftovers=leftovers, logger=logger)

    async def main() -> int:
        with Stopping() as stopping:
            if ephemeral is not None:
                _stop_with_stdin(stopping)
            await host.run(stopping)
            if host.abandoned():
                # Nothing can end these; a loop that waits for them would not end either.
                logger.error("the host leaves without what does not end", extra={"abandoned": host.abandoned()})
                for path in leftovers:
                    shutil.rmtree(path, ignore_errors=True)
                os._exit(stopping.exit_code)
            return stopping.exit_code

    return asyncio.run(main())


def _stop_with_stdin(stopping: Stopping) -> None:
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stopping.ask_now()

    loop.add_reader(0, read)
