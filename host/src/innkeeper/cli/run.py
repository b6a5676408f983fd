"""``innkeeper run``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from innkeeper.cli.ephemeral import ephemeral_settings
from innkeeper.cli.hosts import plugins_files, settings_of
from innkeeper.cli.options import HostCommand, Invocation, pass_invocation
from innkeeper.config.plugins import load_plugins
from innkeeper.config.settings import DEVELOPMENT
from innkeeper_sdk.errors import HostError, InnkeeperError, UsageError

__all__ = ["run"]

_LEVELS: Final = ("debug", "info", "warning", "error")


@click.command(cls=HostCommand)
@click.option("--dev", is_flag=True, help="Run a development host: the same as INNKEEPER_ENVIRONMENT=development.")
@click.option("--keep-going", is_flag=True, help="Leave out faulty entries of plugins.yaml instead of refusing it.")
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True, help="What the log shows.")
@click.option(
    "--ready-fd", type=click.IntRange(min=0), metavar="N", help="Tell this descriptor when the host is ready."
)
@click.option("--ephemeral", type=click.Path(path_type=Path), hidden=True)
@pass_invocation
def run(
    invocation: Invocation,
    *,
    dev: bool,
    keep_going: bool,
    log_level: str,
    ready_fd: int | None,
    ephemeral: Path | None,
) -> int:
    """Run a host until it is told to stop.

    SIGTERM or Ctrl-C drains and stops it, a second one stops it now. The log goes to stderr.
    """
    # Whatever the host makes is its user's alone.
    os.umask(0o077)
    tell = _teller(ready_fd)
    removed: list[Path] = []
    try:
        _check_platform()
        if dev:
            invocation.flags["environment"] = DEVELOPMENT
        if ephemeral is not None:
            _check_empty(ephemeral)
            removed.append(ephemeral)
            invocation.flags.update(ephemeral_settings(ephemeral))
        settings = settings_of(invocation)
        plugins = load_plugins(plugins_files(invocation), keep_going=keep_going)
        # A second of imports, which neither --help nor a faulty plugins.yaml waits for.
        from innkeeper.cli.serve import serve  # noqa: PLC0415 - see above

        return serve(
            settings, plugins, log_level=log_level, on_ready=lambda: tell({"ready": True}), ephemeral=ephemeral
        )
    except InnkeeperError as error:
        tell({"error": {**error.to_dict(), "exit_code": int(error.exit_code)}})
        raise
    finally:
        for folder in removed:
            shutil.rmtree(folder, ignore_errors=True)


def _teller(descriptor: int | None) -> Callable[[dict[str, Any]], None]:
    """Return what tells a descriptor, once, whether the host is ready, or why it is not.

    Raises:
        UsageError: There is no such descriptor.
    """
    waiting: list[int] = []
    if descriptor is not None:
        try:
            # Whatever the host starts must not hold it open.
            os.set_inheritable(descriptor, False)
        except OSError as error:
            raise UsageError(f"--ready-fd {descriptor} cannot be used: {error.strerror}") from None
        waiting.append(descriptor)

    def tell(what: dict[str, Any]) -> None:
        while waiting:
            with suppress(BrokenPipeError), open(waiting.pop(), "wb") as file:  # whoever asked may be gone
                file.write(json.dumps(what).encode() + b"\n")

    return tell


def _check_platform() -> None:
    missing = [
        name
        for name, there in (
            ("Linux", sys.platform == "linux"),
            ("pidfd_open (Linux 5.3)", hasattr(os, "pidfd_open")),
            ("memfd_create", hasattr(os, "memfd_create")),
        )
        if not there
    ]
    if missing:
        raise HostError(f"this machine lacks what a host needs: {', '.join(missing)}")


def _check_empty(folder: Path) -> None:
    # It will be removed with all that is in it.
    found = folder.stat()
    if found.st_uid != os.geteuid() or any(folder.iterdir()):
        raise HostError("an ephemeral host needs an empty directory of its user", path=str(folder))
