"""Processes of a host are found by descent and by its mark, and what was seen once is known for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from innkeeper_demo.processes import Family, descendants, process_table, read_process, send_signal

Start = Callable[..., subprocess.Popen[bytes]]

# Tells that it runs, then waits for its input to end.
WAIT = "import sys; print('up', flush=True); sys.stdin.read()"
# Starts another one like that, tells its id, and waits.
PARENT = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()']);"
    "print(child.pid, flush=True); sys.stdin.read()"
)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(code: str, **environ: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environ},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_descendants_are_found_and_their_roots_left_out(start: Start) -> None:
    parent = start(PARENT)
    child = int(said(parent))
    table = process_table()
    assert [process.pid for process in descendants([parent.pid], table)] == [child]
    assert child in [process.pid for process in descendants([os.getpid()], table)]


def test_a_dead_process_is_in_no_table(start: Start) -> None:
    process = start("")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process.pid not in process_table()
    assert read_process(process.pid) is not None  # its parent has not waited for it


def test_a_signal_reaches_only_the_process_that_was_meant(start: Start) -> None:
    process = start(WAIT)
    said(process)
    known = read_process(process.pid)
    assert known is not None
    other = type(known)(known.pid, known.start + 1, known.ppid, known.state, known.name)
    assert not send_signal(other, signal.SIGKILL)
    assert process.poll() is None
    assert send_signal(known, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not send_signal(known, signal.SIGKILL)


def test_a_child_that_has_lost_its_parent_is_still_of_the_family(start: Start) -> None:
    host = start(PARENT)
    child = int(said(host))
    family = Family(host.pid)
    assert child in [process.pid for process in family.living()]
    host.kill()
    host.wait()
    assert [process.pid for process in family.living()] == [child]
    family.end()
    assert family.await_end(10) == []


def test_a_stranger_with_the_mark_is_of_the_family(start: Start) -> None:
    host = start(WAIT)
    said(host)
    known = read_process(host.pid)
    assert known is not None
    marked = start(WAIT, INNKEEPER_GUARDED=f"{host.pid}-{known.start}")
    unmarked = start(WAIT, INNKEEPER_GUARDED=f"{host.pid}-{known.start + 1}")
    said(marked)
    said(unmarked)
    assert [process.pid for process in Family(host.pid).living()] == [marked.pid]


def test_what_does_not_end_is_told(start: Start) -> None:
    host = start(PARENT)
    child = int(said(host))
    family = Family(host.pid)
    os.kill(child, signal.SIGSTOP)
    assert [process.pid for process in family.await_end(0.05)] == [child]
    os.kill(child, signal.SIGKILL)
    assert family.await_end(10) == []


def test_a_host_that_is_gone_has_no_family(start: Start) -> None:
    process = start("")
    process.wait()
    with pytest.raises(ProcessLookupError):
        Family(process.pid)
