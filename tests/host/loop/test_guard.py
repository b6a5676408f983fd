"""The guard, seen from its host: real hosts that are killed."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from innkeeper.loop import guard as guard_module
from innkeeper.loop.guard import Guard
from innkeeper_sdk.errors import HostError

DEADLINE = 10.0

# A host with a child that has a child, both known to the guard through the first, and one that nobody noted.
HOST = """
import asyncio, logging, pathlib, subprocess, sys
from innkeeper.loop.guard import Guard

async def main(folder):
    guard = Guard(logging.getLogger("guard"))
    guard.start()
    guard.add_path(folder / "socket")
    guard.add_path(folder / "cache")
    child = subprocess.Popen(
        [sys.executable, "-c",
         "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE, text=True, start_new_session=True)
    guard.add_process(child.pid)
    unnoted = subprocess.Popen(["setsid", "sleep", "600"])
    print(guard.pid, child.pid, child.stdout.readline().strip(), unnoted.pid, flush=True)
    while True:
        await asyncio.sleep(0.01)
        line = await asyncio.to_thread(sys.stdin.readline)
        print(guard.pid, flush=True)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return the host above, with files that it would leave behind."""
    (tmp_path / "socket").write_text("")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file").write_text("")
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    """Return a guard of this process, started."""
    started = Guard(logging.getLogger("test.guard"))
    started.start()
    yield started
    await started.close()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Return a child that lives until it is ended, with an environment of its own."""
    process = subprocess.Popen(["/bin/sleep", "600"], env={})
    yield process
    process.kill()
    process.wait()


def ask(host: subprocess.Popen[str]) -> list[int]:
    assert host.stdout is not None
    return [int(word) for word in host.stdout.readline().split()]


def wait_gone(*pidfds: int) -> None:
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], DEADLINE)[0], "a process lives on"
        os.close(pidfd)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.002)


async def changed(guard: Guard, old: int | None) -> int:
    """Return the guard's process id once it is another one."""
    await until(lambda: guard.pid not in (old, None))
    assert guard.pid is not None
    return guard.pid


def test_a_killed_host_leaves_no_process_and_no_path(host: subprocess.Popen[str], tmp_path: Path) -> None:
    pidfds = [os.pidfd_open(pid) for pid in ask(host)]
    host.kill()
    wait_gone(*pidfds)
    assert list(tmp_path.iterdir()) == []


def test_a_guard_that_was_killed_is_replaced_and_knows_everything(host: subprocess.Popen[str], tmp_path: Path) -> None:
    first, *others = ask(host)
    pidfds = [os.pidfd_open(pid) for pid in others]
    gone = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    wait_gone(gone)
    assert host.stdin is not None
    second = first
    while second == first:
        print(file=host.stdin, flush=True)
        answer = host.stdout.readline().strip() if host.stdout else ""
        second = first if answer == "None" else int(answer)
    pidfds.append(os.pidfd_open(second))
    host.kill()
    wait_gone(*pidfds)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_what_ends_a_host_does_not_end_its_guard_first(host: subprocess.Popen[str], number: int) -> None:
    pids = ask(host)
    # Its name says that it is past its start.
    while Path(f"/proc/{pids[0]}/comm").read_text().strip() != "innkeeper-guard":
        pass
    os.kill(pids[0], number)
    pidfds = [os.pidfd_open(pid) for pid in pids]
    host.kill()
    wait_gone(*pidfds)


async def test_after_goodbye_nothing_is_ended_or_removed(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("")
    guard = Guard(logging.getLogger("test.guard"))
    guard.start()
    guard.add_process(child.pid)
    guard.add_path(kept)
    await guard.close()
    await guard.close()
    assert guard.pid is None
    assert child.poll() is None
    assert kept.exists()


async def test_what_was_taken_back_is_spared(
    guard: Guard, child: subprocess.Popen[bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    guard.add_process(child.pid)
    guard.drop_process(child.pid)
    guard.drop_process(child.pid)
    guard.add_path(tmp_path / "x")
    guard.drop_path(tmp_path / "x")
    guard.drop_path(tmp_path / "x")
    first = guard.pid
    assert first is not None
    # The socket closes as it does when a host dies; the guard then cleans what it still knows.
    assert guard._sock is not None
    guard._sock.shutdown(2)
    await changed(guard, first)
    assert child.poll() is None
    assert "started again" in caplog.text


async def test_a_process_that_has_ended_is_not_noted(guard: Guard, child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    guard.add_process(child.pid)
    assert guard._processes == {}


async def test_a_path_must_be_absolute(guard: Guard) -> None:
    with pytest.raises(ValueError, match="absolute"):
        guard.add_path(Path("relative"))


async def test_a_guard_that_does_not_listen_is_replaced_and_told_everything(guard: Guard, tmp_path: Path) -> None:
    first = guard.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    assert guard._sock is not None
    guard._sock.settimeout(0.05)
    paths = [tmp_path / str(number) for number in range(2000)]
    for path in paths:
        guard.add_path(path)  # more than its socket holds
    second = await changed(guard, first)
    paths[-1].write_text("")
    assert guard._sock is not None
    guard._sock.shutdown(2)  # as when the host dies: it cleans what it knows
    await changed(guard, second)
    assert not paths[-1].exists()


async def test_a_guard_that_does_not_hear_goodbye_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_GOODBYE_SECONDS", 0.05)
    guard = Guard(logging.getLogger("test.guard"))
    guard.start()
    assert guard.pid is not None
    gone = os.pidfd_open(guard.pid)
    os.kill(guard.pid, signal.SIGSTOP)
    await guard.close()
    wait_gone(gone)


async def test_a_guard_that_cannot_be_started_is_tried_again(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = guard.pid
    assert first is not None
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(HostError, match="guard process cannot be started"):
        Guard(logging.getLogger("test.guard")).start()
    os.kill(first, signal.SIGKILL)
    await until(lambda: "cannot be started yet" in caplog.text)
    monkeypatch.undo()
    await changed(guard, first)


async def test_closing_while_there_is_no_guard_starts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(logging.getLogger("test.guard"))
    guard.start()
    assert guard.pid is not None
    os.kill(guard.pid, signal.SIGKILL)
    await until(lambda: guard.pid is None)
    await guard.close()
    assert guard.pid is None
