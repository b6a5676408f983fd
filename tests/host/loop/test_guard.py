"""The guard, seen from its host: real hosts that are killed."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from innkeeper.loop import guard as guard_module
from innkeeper.loop.guard import Guard
from innkeeper.loop.spawning import Helper
from innkeeper_sdk.errors import HostError, ProviderFailedError, UnavailableError

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


async def test_a_guard_that_cannot_be_watched_ends_nothing_and_another_is_started(
    guard: Guard, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guard.add_process(child.pid)
    first, opened = guard.pid, len(os.listdir("/proc/self/fd"))
    assert first is not None
    real, failed = os.pidfd_open, []

    def none_left(pid: int) -> int:
        if pid == os.getpid() or failed:
            return real(pid)
        failed.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("innkeeper.loop.guard.os.pidfd_open", none_left)
    os.kill(first, signal.SIGKILL)
    await changed(guard, first)
    assert len(failed) == 1
    assert "the guard cannot be started yet" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(failed[0], 0)
    assert child.poll() is None
    assert len(os.listdir("/proc/self/fd")) == opened


async def test_closing_while_there_is_no_guard_starts_no_other(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(logging.getLogger("test.guard"))
    guard.start()
    assert guard.pid is not None
    os.kill(guard.pid, signal.SIGKILL)
    await until(lambda: guard.pid is None)
    await guard.close()
    assert guard.pid is None


# Says on its socket what it was given, and lives until the other end is closed or it is told to end.
HELPER = f"""#!{sys.executable} -I
import json, os, signal, socket, sys
sock = socket.socket(fileno=3)
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
sock.send(json.dumps({{
    "environ": dict(os.environ),
    "arguments": sys.argv,
    "session": os.getsid(0),
    "files": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "stdin": os.readlink("/proc/self/fd/0"),
    "ignored": [n for n in range(1, 32) if n not in (9, 13, 19, 25) and signal.getsignal(n) == signal.SIG_IGN],
}}).encode())
if order := sock.recv(100):
    os.kill(os.getpid(), 9) if order == b"die" else sys.exit(int(order))
"""

# A host with one helper, which it tells of; it lives until it is killed.
HELPED_HOST = """
import asyncio, logging, os, pathlib, socket, sys
from innkeeper.loop.guard import Guard

async def main(program):
    guard = Guard(logging.getLogger("guard"))
    guard.start()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    helper = await guard.spawn(program, {}, sock=theirs, output=2)
    print(guard.pid, helper.process.pid, flush=True)
    while True:
        await asyncio.sleep(0.01)
        await asyncio.to_thread(sys.stdin.readline)
        print(guard.pid, flush=True)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""

STUBBORN = "#!/bin/sh\nexec sleep 600\n"


@pytest.fixture
def helper_program(tmp_path: Path) -> Path:
    path = tmp_path / "helper"
    path.write_text(HELPER)
    path.chmod(0o700)
    return path


async def spawned(guard: Guard, program: Path, environ: dict[str, str]) -> tuple[Helper, socket.socket, int]:
    """Start a helper; return it, the other end of its socket, and what it prints."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(DEADLINE)
    reading, writing = os.pipe()
    try:
        return await guard.spawn(program, environ, sock=theirs, output=writing), ours, reading
    except BaseException:
        ours.close()
        os.close(reading)
        raise
    finally:
        theirs.close()
        os.close(writing)


async def test_a_helper_has_its_socket_its_environment_and_nothing_else(guard: Guard, helper_program: Path) -> None:
    environ = {"A": "1", "EMPTY": "", "LONG": "x" * 100_000, "B": "a=b", "LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}
    helper, sock, output = await spawned(guard, helper_program, environ)
    told = json.loads(await asyncio.to_thread(sock.recv, 1 << 20))
    assert told == {
        "environ": environ,
        "arguments": [str(helper_program)],
        "session": helper.process.pid,
        "files": [0, 1, 2, 3],
        "stdin": "/dev/null",
        "ignored": [],
    }
    assert guard._processes == {helper.process.pid: helper.process}
    sock.send(b"7")
    assert await asyncio.wait_for(helper.ended, DEADLINE) == 7
    assert os.read(output, 100) == b"to stdout\nto stderr\n"
    sock.close()
    os.close(output)
    guard.drop_process(helper.process.pid)


async def test_the_end_of_a_helper_by_a_signal_is_told(guard: Guard, helper_program: Path) -> None:
    helper, sock, output = await spawned(guard, helper_program, {})
    with sock:
        sock.send(b"die")
        assert await asyncio.wait_for(helper.ended, DEADLINE) == -signal.SIGKILL
    os.close(output)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "No such file"), ("", "Permission denied"), ("\x7fELF", "Exec format error")],
)
async def test_a_helper_that_cannot_be_run_is_told_and_the_guard_lives_on(
    guard: Guard, tmp_path: Path, helper_program: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "broken"
    if text is not None:
        path.write_text(text)
        path.chmod(0o700 if text else 0o600)
    with pytest.raises(ProviderFailedError, match=words):
        await spawned(guard, path, {})
    helper, sock, output = await spawned(guard, helper_program, {})
    sock.send(b"0")
    assert await asyncio.wait_for(helper.ended, DEADLINE) == 0
    sock.close()
    os.close(output)


@pytest.mark.parametrize(
    ("program", "environ"), [("relative", {}), ("/bin/true", {"A": "x\0y"}), ("/bin/true", {"A=B": "x"})]
)
async def test_what_cannot_be_said_to_a_program_is_refused(guard: Guard, program: str, environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not a program"):
        await spawned(guard, Path(program), environ)


async def test_a_helper_that_nobody_waits_for_any_more_is_killed_and_forgotten(
    guard: Guard, helper_program: Path
) -> None:
    first = guard.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    spawning = asyncio.create_task(spawned(guard, helper_program, {}))
    await asyncio.sleep(0)
    spawning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spawning
    os.kill(first, signal.SIGCONT)
    helper, sock, output = await spawned(guard, helper_program, {})
    await until(lambda: list(guard._processes) == [helper.process.pid])
    sock.close()
    os.close(output)


async def test_a_guard_that_ends_before_it_has_answered_is_told_and_the_next_one_serves(
    guard: Guard, helper_program: Path
) -> None:
    first = guard.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    spawning = asyncio.create_task(spawned(guard, helper_program, {}))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(UnavailableError, match="guard has ended"):
        await spawning
    assert guard.pid is None
    helper, sock, output = await spawned(guard, helper_program, {})
    assert guard.pid not in (first, None)
    sock.send(b"0")
    assert await asyncio.wait_for(helper.ended, DEADLINE) == 0
    sock.close()
    os.close(output)


async def test_the_end_of_a_helper_is_noticed_without_its_guard(guard: Guard, helper_program: Path) -> None:
    helper, sock, output = await spawned(guard, helper_program, {})
    first = guard.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await changed(guard, first)
    assert not helper.ended.done()
    sock.close()
    assert await asyncio.wait_for(helper.ended, DEADLINE) is None
    os.close(output)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_killed_host_leaves_no_helper_though_its_guard_was_replaced(tmp_path: Path, replaced: bool) -> None:
    program = tmp_path / "stubborn"
    program.write_text(STUBBORN)
    program.chmod(0o700)
    host = subprocess.Popen(
        [sys.executable, "-c", HELPED_HOST, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert host.stdin is not None
    assert host.stdout is not None
    first, helper = map(int, host.stdout.readline().split())
    gone = os.pidfd_open(helper)
    if replaced:
        os.kill(first, signal.SIGKILL)
        answer = str(first)
        while answer in (str(first), "None"):
            print(file=host.stdin, flush=True)
            answer = host.stdout.readline().strip()
    host.kill()
    wait_gone(gone)
    host.communicate()
