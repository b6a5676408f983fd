"""How a host is told to stop: real signals to real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

DEADLINE = 10.0

# Says what it is told; `drains` never finishes draining, `blocked` blocks the event loop with the first signal.
HOST = """
import asyncio, sys, time
from innkeeper import stopping
from innkeeper.stopping import Stopping
stopping._LAST_SECONDS = 0.2

async def main(how):
    with Stopping() as stop:
        print("ready", flush=True)
        await stop.asked.wait()
        print("asked", flush=True)
        if how == "drains":
            await stop.now.wait()
            print("now", flush=True)
        while how == "blocked":
            time.sleep(0.01)
    return stop.exit_code

sys.exit(asyncio.run(main(sys.argv[1])))
"""

Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts the host above and waits until it listens to signals."""
    started: list[subprocess.Popen[str]] = []

    def run(how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOST, how], stdout=subprocess.PIPE, text=True)
        started.append(process)
        says(process, "ready")
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == text + "\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_the_first_signal_asks(start: Start, number: int, code: int) -> None:
    process = start("stops")
    process.send_signal(number)
    says(process, "asked")
    assert process.wait(DEADLINE) == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_the_second_signal_stops_the_draining(start: Start, number: int, code: int) -> None:
    process = start("drains")
    process.send_signal(number)
    says(process, "asked")
    process.send_signal(number)
    says(process, "now")
    assert process.wait(DEADLINE) == code


def test_a_blocked_host_is_ended_some_time_after_the_second_signal(start: Start) -> None:
    process = start("blocked")
    process.send_signal(signal.SIGTERM)
    says(process, "asked")
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 1


def test_the_third_signal_ends_a_blocked_host_at_once(start: Start) -> None:
    process = start("blocked")
    process.send_signal(signal.SIGTERM)
    says(process, "asked")
    # Two kinds, since the kernel delivers one of each at a time.
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    assert process.wait(DEADLINE) == 1


def test_an_ignored_hangup_stays_ignored() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{HOST}", "stops"],
        stdout=subprocess.PIPE,
        text=True,
    )
    says(process, "ready")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    says(process, "asked")
    assert process.wait(DEADLINE) == 0
    process.communicate()
