"""The host that is shown: started, stopped, and what it left looked at.

Rules of this module:

1. Everything of it is in one temporary directory that goes at the end: fresh data, its own settings, its own sockets.
2. No variable of the user's environment says anything to it: what counts is in its settings file.
3. It cannot outlive this process: it is told to stop when this process is gone, and its guard ends what it started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from innkeeper_demo.errors import StepError
from innkeeper_demo.folders import make_folder, remove
from innkeeper_demo.interrupts import held
from innkeeper_demo.processes import Family
from innkeeper_demo.tether import tethered
from innkeeper_sdk.control_errors import error_of_record
from innkeeper_sdk.control_socket import SOCKET_NAME

__all__ = ["DemoHost", "plain_environment"]

# The name is short, since it is part of the paths of sockets.
_NAME: Final = "demo"

_SETTINGS: Final = f"""\
name: {_NAME}
environment: development
data_dir: data
cache_dir: cache
runtime_dir: run
limits:
  global:
    PerWorkflow.CRONTrigger.FastestScheduleInterval: 1s
    PerWorkflow.ConfidentialWorkflows.Enabled: true
"""

# A host starts in some seconds; a loaded machine takes what it takes.
_READY_SECONDS: Final = 60.0
# A stop drains executions, then ends processes; after it a host is killed, and its guard ends the rest.
_STOP_SECONDS: Final = 20.0
_GONE_SECONDS: Final = 5.0
_COMMAND_SECONDS: Final = 30.0
_LOG_BYTES: Final = 3000

# Stays by design: a lock on a file that may be removed locks nothing.
_LOCK_NAME: Final = "host.lock"


def plain_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what speaks to Innkeeper."""
    return {name: value for name, value in environ.items() if not name.startswith("INNKEEPER_")}


class DemoHost:
    """A host in a temporary directory; leaving the context ends it and removes all.

    Args:
        plugins: What it loads.
        environ: Its environment.
    """

    def __init__(self, plugins: Sequence[Path], environ: Mapping[str, str]) -> None:
        self._plugins = [part for path in plugins for part in ("--plugins", str(path))]
        self._environ = dict(environ)
        self._folder, self._marker = make_folder()
        self._settings = self._folder / "innkeeper.yaml"
        self._log: IO[bytes] = (self._folder / "host.log").open("w+b")
        self._process: subprocess.Popen[bytes] | None = None
        self._family: Family | None = None

    def __enter__(self) -> Self:
        """Return the host, not started yet."""
        self._settings.write_text(_SETTINGS, encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whatever is left of it and remove its directory."""
        try:
            if self._process is not None and self._process.poll() is None:
                self._end(self._process, hurry=not isinstance(error, StepError | None))
            if self._family is not None:
                self._family.end()
                self._family.await_end(_GONE_SECONDS)
        finally:
            self._log.close()
            # A process that cannot be killed may still write there; what it leaves the next demonstration removes.
            remove(self._folder)
            self._marker.close()

    @property
    def socket(self) -> Path:
        """Return its control socket."""
        return self.runtime_dir / _NAME / SOCKET_NAME

    @property
    def runtime_dir(self) -> Path:
        """Return the directory of its sockets."""
        return self._folder / "run"

    @property
    def data_dir(self) -> Path:
        """Return the directory of what stays."""
        return self._folder / "data"

    @property
    def database(self) -> Path:
        """Return its SQLite database."""
        return self.data_dir / "innkeeper.db"

    @property
    def family(self) -> Family:
        """Return its processes."""
        if self._family is None:
            raise AssertionError("the host was not started")
        return self._family

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            InnkeeperError: The host's own, if it does not start; or it does not become ready.
        """
        reading, writing = os.pipe()
        try:
            with held():
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                    tethered(self._command("run", "--ready-fd", str(writing))),
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    env=self._environ,
                    cwd=self._folder,
                    # The directory is in use as long as the host has its marker open.
                    pass_fds=(writing, self._marker.fileno()),
                    # A terminal's Ctrl-C is for the command, which then stops its host.
                    start_new_session=True,
                )
                self._family = Family(self._process.pid)
        finally:
            os.close(writing)
            pipe = open(reading, "rb")  # noqa: SIM115 - closed just below, whatever happens
        with pipe:
            self._await_ready(pipe)

    def run(self, *words: str, stdin: bytes = b"") -> None:
        """Run a command of ``innkeeper`` about this host.

        Args:
            words: Its words.
            stdin: What it reads.

        Raises:
            StepError: It failed; the message has what it said.
        """
        with ExitStack() as stack:
            with held():
                process = stack.enter_context(
                    subprocess.Popen(  # noqa: S603 - our own interpreter and module
                        tethered(self._command(*words)),
                        env=self._environ,
                        cwd=self._folder,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                        # As the host has it: what still writes there keeps the directory in use.
                        pass_fds=(self._marker.fileno(),),
                        start_new_session=True,
                    )
                )
                stack.callback(self._end_command, process)
            try:
                _, said = process.communicate(stdin, _COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                raise StepError(f"`innkeeper {' '.join(words)}` does not end in {_COMMAND_SECONDS:.0f} s") from None
        if process.returncode != 0:
            text = said.decode("utf-8", "replace").strip()
            raise StepError(f"`innkeeper {' '.join(words)}` ended with {process.returncode}: {text}")

    def stop(self) -> int:
        """Stop it as an operator does, and return its exit code.

        Raises:
            StepError: It does not stop.
        """
        if self._process is None:
            raise AssertionError("the host was not started")
        self.family.look()
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise StepError(f"the host does not stop in {_STOP_SECONDS:.0f} s") from None

    def left(self) -> tuple[list[str], list[str]]:
        """Return the sockets and the other files in its runtime directory, but for its lock."""
        sockets: list[str] = []
        files: list[str] = []
        for folder, _, names in os.walk(self.runtime_dir):
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(self.runtime_dir)
                if relative == Path(_NAME, _LOCK_NAME):
                    continue
                (sockets if stat.S_ISSOCK(path.lstat().st_mode) else files).append(str(relative))
        return sorted(sockets), sorted(files)

    def holding(self, text: bytes) -> list[str]:
        """Return the files of this host, its log too, that hold a text."""
        self._log.flush()
        found = []
        for folder, _, names in os.walk(self._folder):
            for path in (Path(folder, name) for name in names):
                if stat.S_ISREG(path.lstat().st_mode) and text in path.read_bytes():
                    found.append(str(path.relative_to(self._folder)))
        return sorted(found)

    def last_words(self) -> str:
        """Return the end of its log."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_BYTES))
        return self._log.read().decode("utf-8", "replace").strip()

    def _command(self, *words: str) -> list[str]:
        # Flags and not the file alone: commands of providers are told of flags.
        return [
            *(sys.executable, "-I", "-m", "innkeeper", "--settings", str(self._settings), *self._plugins),
            *("--data-dir", str(self.data_dir), "--runtime-dir", str(self.runtime_dir), "--host-name", _NAME),
            *words,
        ]

    def _await_ready(self, pipe: IO[bytes]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        said = b""
        while not said.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise StepError(f"the host is not ready after {_READY_SECONDS:.0f} s")
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                raise StepError("the host ended before it was ready")
            said += chunk
        told: dict[str, Any] = json.loads(said)
        if "error" in told:
            raise error_of_record(told["error"])

    @staticmethod
    def _end_command(process: subprocess.Popen[bytes]) -> None:
        """End a command, unless it has ended: what it may have started it ends and waits for if it is told."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GONE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    @staticmethod
    def _end(process: subprocess.Popen[bytes], *, hurry: bool) -> None:
        """Stop the host now: a second SIGTERM is how an operator says that it should not drain."""
        process.send_signal(signal.SIGTERM)
        if hurry:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_GONE_SECONDS if hurry else _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # Its guard ends what it started.
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GONE_SECONDS)
