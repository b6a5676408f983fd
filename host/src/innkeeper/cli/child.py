"""A provider's command, run in a child process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from innkeeper.cli.hosts import settings_of
from innkeeper.cli.options import Invocation
from innkeeper.cli.provided import declared
from innkeeper.providers.discovery import discover
from innkeeper_sdk.command import command_line
from innkeeper_sdk.errors import ConfigError, ConflictError, ExitCode

__all__ = ["DIRECTORY_VARIABLE", "OWNER_VARIABLE", "run_command"]

# What a command cannot resolve without the host's code: the provider's own directory below the data directory, and
# whose something is when nobody says. They are no settings: a host that the command starts does not take them for some.
DIRECTORY_VARIABLE: Final = "INNKEEPER_PROVIDER_DIR"
OWNER_VARIABLE: Final = "INNKEEPER_OWNER"


def run_command(words: str, arguments: Sequence[str], invocation: Invocation) -> int:
    """Run a provider's command in a child process.

    Args:
        words: The words that call it.
        arguments: The words behind them.
        invocation: What the host's options say.

    Returns:
        Its exit code.

    Raises:
        ConflictError: Several providers have this command, or none has it any more.
    """
    # A scan, not the index: what is stale or foreign must not choose the code that runs.
    found = [command for command in declared(discover().providers) if command.words == words]
    if len(found) != 1:
        names = " and ".join(command.provider for command in found) or "none"
        raise ConflictError(
            f"`innkeeper {words}` must be the command of one provider",
            actual=names,
            hint="uninstall all but one of them" if found else "something was uninstalled just now",
        )
    (one,) = found
    # With its parent's id: when this process is killed it can pass nothing on, and the kernel tells the child to stop.
    command = command_line(one.run, arguments, locations=[one.location], prog=f"innkeeper {words}", parent=os.getpid())
    environ = _environment(invocation, one.provider)
    with subprocess.Popen(command, env=environ) as child, _passing_on(signal.SIGTERM, child):  # noqa: S603 - see above
        try:
            return _exit_code(child.wait())
        except KeyboardInterrupt:
            # The terminal has told the child too; it says by its exit code what it made of it.
            return _exit_code(child.wait()) or ExitCode.INTERRUPTED


@contextmanager
def _passing_on(number: signal.Signals, child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass a signal that was sent to this process alone on to the child, which ends what it started."""
    before = signal.signal(number, lambda *_: child.send_signal(number))
    try:
        yield
    finally:
        signal.signal(number, before)


def _exit_code(status: int) -> int:
    """Return a child's status as a shell would."""
    return 128 - status if status < 0 else status


def _environment(invocation: Invocation, provider: str) -> dict[str, str]:
    environ = dict(os.environ)
    for variable in (DIRECTORY_VARIABLE, OWNER_VARIABLE):
        environ.pop(variable, None)
    # Broken settings take away no command: one that needs these says so.
    with suppress(ConfigError):
        settings = settings_of(invocation)
        # Where a provider's context has it too (providers.contexts).
        environ[DIRECTORY_VARIABLE] = str(settings.data_dir / "providers" / provider)
        environ[OWNER_VARIABLE] = settings.default_owner
    if invocation.plugins:
        environ["INNKEEPER_PLUGINS"] = os.pathsep.join(str(path.absolute()) for path in invocation.plugins)
    if invocation.settings_file is not None:
        environ["INNKEEPER_SETTINGS"] = str(invocation.settings_file.absolute())
    for key, value in invocation.flags.items():
        environ[f"INNKEEPER_{key.upper()}"] = value
    return environ
