"""Run a tool of somebody else: npm, node, bun.

Rules of this module:

1. A tool runs in a session of its own, with an environment that the caller chose, no standard input, and its
   output in a file: it can neither block on us nor write to our terminal.
2. It ends by itself, by its time limit or with us. In the last two cases its whole process group is ended:
   asked to first, and made to after :data:`GRACE` seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

from innkeeper_wasm.build.interrupts import Interrupts

__all__ = ["Outcome", "ToolError", "Toolbox", "excerpt"]

GRACE = 2.0  # seconds between SIGTERM and SIGKILL
OUTPUT_LIMIT = 1 << 20  # bytes read of what a tool prints, from its end
EXCERPT_LINES = 30
EXCERPT_WIDTH = 400  # characters of one line


class ToolError(Exception):
    """Raised when a tool cannot be started or does not end in time.

    Args:
        problem: What happened, to follow the tool's name in a sentence.
        output: What it had printed.
    """

    def __init__(self, problem: str, output: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.output = output


@frozen
class Outcome:
    """How a tool ended: its exit code (negative for a signal) and what it printed on both its streams."""

    code: int
    output: str


def excerpt(lines: Sequence[str]) -> str:
    """Return the first lines, each cut to a width, and how many were left out."""
    shown = [line if len(line) <= EXCERPT_WIDTH else line[:EXCERPT_WIDTH] + "…" for line in lines[:EXCERPT_LINES]]
    if len(lines) > EXCERPT_LINES:
        shown.append(f"… and {len(lines) - EXCERPT_LINES} more lines (--verbose shows all)")
    return "\n".join(shown)


@frozen
class Toolbox:
    """Run tools under one set of rules.

    Args:
        interrupts: What turns signals into exceptions.
        timeout: Seconds that each tool may take.
        verbose: Whether to repeat on standard error what each tool printed.
    """

    interrupts: Interrupts
    timeout: float
    verbose: bool = field(default=False)

    def run(self, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> Outcome:
        """Run one tool to its end.

        Raises:
            ToolError: It cannot be started, or was stopped at its time limit.
            Interrupted: A signal came; the tool is gone.
        """
        with tempfile.TemporaryFile() as log:
            process: subprocess.Popen[bytes] | None = None
            try:
                with self.interrupts.held():
                    process = subprocess.Popen(  # noqa: S603 - the caller's own command, never a shell
                        [os.fspath(part) for part in command],
                        cwd=cwd,
                        env=dict(env),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                code = process.wait(self.timeout)
            except OSError as error:
                msg = f"cannot be started: {error.strerror}"
                raise ToolError(msg) from error
            except subprocess.TimeoutExpired as error:
                _end(process)
                msg = f"did not end within {self.timeout:g} s"
                raise ToolError(msg, self._output(log.fileno())) from error
            except BaseException:
                _end(process)
                raise
            return Outcome(code, self._output(log.fileno()))

    def _output(self, log: int) -> str:
        size = os.fstat(log).st_size
        data = os.pread(log, OUTPUT_LIMIT, max(0, size - OUTPUT_LIMIT))
        text = data.decode(errors="replace")
        if self.verbose:
            sys.stderr.write(text)
            sys.stderr.flush()
        return text


def _end(process: subprocess.Popen[bytes] | None) -> None:
    """End a tool and all that it started in its process group."""
    if process is None:
        return
    _signal_group(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        # It is made to below, like the children that it may have left behind.
        pass
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        # All of the group are gone, which is what the signal is for.
        return
