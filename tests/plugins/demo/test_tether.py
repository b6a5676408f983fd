"""A tethered command is told to stop when whoever started it is gone, however it went."""

from __future__ import annotations

import os
import subprocess
import sys

from innkeeper_demo.tether import tethered

# Starts a tethered process that tells its id, and waits for the end of its own input.
PARENT = """
import subprocess, sys
from innkeeper_demo.tether import tethered
code = "import os, signal, sys; print(os.getpid(), flush=True); signal.pause()"
subprocess.Popen(tethered([sys.executable, "-c", code]))
sys.stdin.read()
"""


def test_it_becomes_the_command() -> None:
    process = subprocess.run(
        tethered([sys.executable, "-c", "import os; print(os.getpid(), os.getppid())"]),
        capture_output=True,
        check=True,
        text=True,
    )
    assert process.stdout.split()[1] == str(os.getpid())


def test_it_is_told_to_stop_when_its_parent_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline())
        parent.kill()
        # The tethered process has the pipe too: it reads to its end only when that one is gone as well.
        assert parent.stdout.read() == b""


def test_it_starts_nothing_for_a_parent_that_is_gone() -> None:
    command = tethered([sys.executable, "-c", "print('started')"])
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
