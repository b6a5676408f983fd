"""A host for the time of one command.

Rules of this module:

1. Everything of it is in one temporary directory, except the cache: what is compiled once serves the next run.
2. It lives as long as its standard input is open: whatever happens to the command, SIGKILL too, the host notices, stops
   and removes its directory.
3. A pipe tells when it is ready or why it is not, so nobody polls; the pipe's end alone tells that it died.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final

from innkeeper.cli.options import Invocation
from innkeeper_sdk.control_socket import SOCKET_NAME, SOCKET_PATH_LIMIT
from innkeeper_sdk.errors import HostError

if TYPE_CHECKING:
    from innkeeper_sdk.control import ControlClient

__all__ = ["RUNTIME_NAME", "EphemeralHost", "ephemeral_settings"]

# The host's name and its directories' are as short as they can be: a socket's path has 107 bytes.
RUNTIME_NAME: Final = "h"

# Every provider has deadlines of its own, which the host keeps; this is for a host that does nothing at all.
_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 10.0
_LOG_BYTES: Final = 4096


def ephemeral_settings(folder: Path) -> dict[str, str]:
    """Return the settings, as flags, of a host whose everything is in one directory."""
    return {
        "data_dir": str(folder / "d"),
        "runtime_dir": str(folder / "r"),
        "name": RUNTIME_NAME,
        "database_url": f"sqlite:///{folder / 'd' / 'host.db'}",
    }


class EphemeralHost:
    """Run a host while the context is open; entering it gives a client.

    Args:
        invocation: Whose plugins and settings it has.
        scrub: Variables that its process must not have.
        show_log: Whether its log goes to stderr.
    """

    def __init__(self, invocation: Invocation, *, scrub: Collection[str] = (), show_log: bool = False) -> None:
        self._invocation = invocation
        self._scrub = frozenset(scrub)
        self._show_log = show_log
        self._folder = _folder()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the host
        self._process: subprocess.Popen[bytes] | None = None
        self._client: ControlClient | None = None

    def __enter__(self) -> ControlClient:
        """Start the host and wait until it is ready.

        Raises:
            InnkeeperError: The host's own, if it does not start.
        """
        try:
            ready = self._start()
            # While the host starts, which takes longer.
            from innkeeper_sdk.control import ControlClient  # noqa: PLC0415

            with open(ready, "rb") as pipe:
                self._await_ready(pipe)
            self._client = ControlClient(self._folder / "r" / RUNTIME_NAME / SOCKET_NAME)
        except BaseException:
            self._stop()
            raise
        return self._client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the host and remove what it had."""
        self._stop()

    def _start(self) -> int:
        command = [sys.executable, "-m", "innkeeper", "run", "--dev", "--ephemeral", str(self._folder)]
        command += ["--log-level", "info" if self._show_log else "warning"]
        for path in self._invocation.plugins:
            command += ["--plugins", str(path)]
        if self._invocation.settings_file is not None:
            command += ["--settings", str(self._invocation.settings_file)]
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, "--ready-fd", str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=None if self._show_log else self._log,
                env={name: value for name, value in os.environ.items() if name not in self._scrub},
                pass_fds=(writing,),
                # A terminal's Ctrl-C is for the command, which then stops its host.
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            raise HostError(f"the ephemeral host cannot be started: {error}") from error
        finally:
            os.close(writing)
        return reading

    def _await_ready(self, pipe: IO[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        said = b""
        while not said.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise HostError(f"the ephemeral host is not ready after {_START_SECONDS:.0f} s{self._last_words()}")
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                raise HostError(f"the ephemeral host ended before it was ready{self._last_words()}")
            said += chunk
        told = json.loads(said)
        if "error" in told:
            # Here, and not at the top: only a failure pays for it.
            from innkeeper_sdk.control_errors import error_of_record  # noqa: PLC0415

            raise error_of_record(told["error"])

    def _stop(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # Its guard ends what it started.
                self._process.kill()
                self._process.wait()
        self._log.close()
        # The host does so itself, unless it did not come that far.
        shutil.rmtree(self._folder, ignore_errors=True)

    def _last_words(self) -> str:
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _LOG_BYTES))
        text = self._log.read().decode("utf-8", "replace").strip()
        return f"; its last words:\n{text}" if text else ""


def _folder() -> Path:
    room = SOCKET_PATH_LIMIT - len(f"/ik-12345678/r/{RUNTIME_NAME}/{SOCKET_NAME}")
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes a directory of our own
        if len(os.fsencode(place)) <= room and os.access(place, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix="ik-", dir=place))
    raise HostError("there is no temporary directory with a path short enough for a socket", hint="set TMPDIR")
