"""The parts of the confidential provider are what the host tells *and* what runs; killing stops the enclave first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from innkeeper_demo.enclave import EnclaveParts, enclave_parts, provider_rows
from innkeeper_demo.errors import StepError
from innkeeper_demo.processes import process_table
from innkeeper_demo.record import ProviderRow
from innkeeper_sdk.proto.innkeeper.control.v1 import control_pb2 as pb

WAIT = "import sys; print('up', flush=True); sys.stdin.read()"
LAUNCHER = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()']);"
    "print(child.pid, flush=True); sys.stdin.read()"
)


def started(code: str) -> tuple[subprocess.Popen[bytes], str]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, process.stdout.readline().decode().strip()


def provider(parent: int | None, launcher: int | None, *, state: str = "ready") -> pb.Provider:
    return pb.Provider(
        id="confidential-workflows",
        parts=[
            pb.Part(name="host", mode="host", state="ready", pid=os.getpid()),
            pb.Part(name="launcher", mode="helper", state=state, pid=launcher, generation=2),
            pb.Part(name="confidential-workflows", mode="loop", state=state, pid=parent, generation=2),
        ],
    )


@pytest.fixture
def running() -> Iterator[tuple[EnclaveParts, subprocess.Popen[bytes], int]]:
    """Yield the parts, the LOOP process and the id of the launcher's child."""
    parent, _ = started(WAIT)
    launcher, child = started(LAUNCHER)
    yield enclave_parts([provider(parent.pid, launcher.pid)], process_table()), parent, int(child)
    # Stopped or not; it holds the launcher's pipe open.
    os.kill(int(child), signal.SIGKILL)
    for process in (parent, launcher):
        process.kill()
        process.communicate()


def test_the_enclave_is_what_runs_below_them(running: tuple[EnclaveParts, subprocess.Popen[bytes], int]) -> None:
    parts, _, child = running
    assert parts.generation == 2
    assert [process.pid for process in parts.enclave(process_table())] == [child]


def test_killing_stops_what_could_end_by_itself(running: tuple[EnclaveParts, subprocess.Popen[bytes], int]) -> None:
    parts, parent, child = running
    parts.kill(process_table())
    assert parent.wait() == -signal.SIGKILL
    os.waitid(os.P_PID, parts.launcher.pid, os.WSTOPPED)
    assert process_table()[parts.launcher.pid].state == "T"
    # It is nobody's here to wait for: it takes the signal when the kernel next lets it run.
    deadline = time.monotonic() + 10
    while process_table()[child].state != "T":
        assert time.monotonic() < deadline


def test_a_launcher_without_an_enclave_is_an_error() -> None:
    parent, _ = started(WAIT)
    launcher, _ = started(WAIT)
    try:
        parts = enclave_parts([provider(parent.pid, launcher.pid)], process_table())
        with pytest.raises(StepError, match="no enclave"):
            parts.kill(process_table())
    finally:
        for process in (parent, launcher):
            process.kill()
            process.communicate()


def test_parts_that_do_not_run_are_an_error() -> None:
    gone, _ = started(WAIT)
    gone.kill()
    gone.communicate()
    with pytest.raises(StepError, match="no process of launcher"):
        enclave_parts([provider(os.getpid(), gone.pid)], process_table())
    with pytest.raises(StepError, match=r"no process of .*restarting"):
        enclave_parts([provider(None, os.getpid(), state="restarting")], process_table())
    with pytest.raises(StepError, match="loads no confidential-workflows"):
        enclave_parts([pb.Provider(id="wasm")], process_table())


def test_there_is_a_row_for_each_host_part_and_process_part_and_none_for_a_helper() -> None:
    assert provider_rows([provider(None, 7, state="starting")]) == [
        ProviderRow("confidential-workflows", "host", "ready", os.getpid(), None),
        ProviderRow("confidential-workflows", "loop", "starting", None, 2),
    ]
