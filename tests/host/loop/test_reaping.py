"""Ending a process with everything that belongs to it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from innkeeper.loop import guard_process, reaping
from innkeeper.loop.guard_process import Process, read_stat
from innkeeper.loop.reaping import Remains, reap
from innkeeper.loop.states import ProcessState
from tests.host.loop.loop_world import World, alive, wait_gone

MARK = f"INNKEEPER_LAUNCH=test-of-reaping-{os.getpid()}"

# Leads a session, with a child in it, one in a session of its own, and one that has lost its parent.
FAMILY = """
import os, subprocess, sys, time
print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
print(subprocess.Popen(["sleep", "600"], start_new_session=True).pid, flush=True)
if os.fork() == 0:
    print(subprocess.Popen(["sleep", "600"], start_new_session=True).pid, flush=True)
    os._exit(0)
os.wait()
print(0, flush=True)
time.sleep(600)
"""


def start(*arguments: str, mark: bool, launch: str = "other") -> subprocess.Popen[str]:
    environ = dict([MARK.split("=")]) if mark else {"INNKEEPER_LAUNCH": launch}
    return subprocess.Popen(
        [sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True, env=environ
    )


def noted(pid: int) -> Process:
    stat = read_stat(pid)
    assert stat is not None
    return Process(pid, stat.start, leads=True)


def read_pids(process: subprocess.Popen[str], count: int) -> list[int]:
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(count)]
    assert process.stdout.readline() == "0\n", "the one in between has gone"
    return pids


@pytest.mark.parametrize("stopped", [False, True])
async def test_it_ends_a_session_its_descendants_and_what_bears_the_mark_stopped_or_not(
    world: World, tmp_path: Path, stopped: bool
) -> None:
    directory = tmp_path / "launch"
    directory.mkdir()
    (directory / "socket").write_text("")
    leader = start(FAMILY, mark=True)
    pids = [leader.pid, *read_pids(leader, 3)]
    for pid in pids if stopped else ():
        os.kill(pid, signal.SIGSTOP)
    world.guard.add_process(leader.pid)
    world.guard.add_path(directory)
    reaped = await reap(Remains((noted(leader.pid),), MARK, directory), guard=world.guard, seconds=5)
    assert sorted(reaped.ended) == sorted(pids)
    assert (reaped.left, reaped.fault) == ((), "")
    wait_gone(*pids)
    assert not directory.exists()
    assert (world.guard._processes, world.guard._paths) == ({}, {})
    leader.communicate()


async def test_it_ends_what_is_left_when_the_process_has_gone_before(world: World, tmp_path: Path) -> None:
    leader = start(FAMILY, mark=True)
    process = noted(leader.pid)
    pids = read_pids(leader, 3)
    leader.kill()
    leader.wait()
    reaped = await reap(Remains((process,), MARK, tmp_path / "none"), guard=world.guard, seconds=5)
    assert sorted(reaped.ended) == sorted(pids)
    assert reaped.fault == ""
    leader.communicate()


async def test_it_spares_everybody_else(world: World, tmp_path: Path) -> None:
    other = start("import time; time.sleep(600)", mark=False, launch="test-of-reaping-2")
    ours = start("import time; time.sleep(600)", mark=False)
    try:
        reaped = await reap(Remains((noted(ours.pid),), MARK, tmp_path / "none"), guard=world.guard, seconds=5)
        assert reaped.ended == (ours.pid,)
        assert other.poll() is None
        # Its number alone is not it.
        stranger = noted(other.pid)._replace(start=1)
        assert (await reap(Remains((stranger,), MARK, tmp_path), guard=world.guard, seconds=5)).ended == ()
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()
        ours.communicate()


async def test_what_cannot_be_ended_is_told_in_time_and_stays_noted(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("import time; time.sleep(600)", mark=True)
    world.guard.add_process(process.pid)
    monkeypatch.setattr(guard_process, "send", lambda pid, start, number: False)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    reaped = await reap(Remains((noted(process.pid),), MARK, tmp_path), guard=world.guard, seconds=0.1)
    assert loop.time() - begun < 3
    assert (reaped.ended, reaped.left) == ((), (process.pid,))
    assert list(world.guard._processes) == [process.pid]
    assert list(tmp_path.parent.glob(tmp_path.name)) == [tmp_path]
    process.kill()
    process.communicate()


async def test_a_directory_that_cannot_be_removed_is_told_and_stays_noted(world: World, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    world.guard.add_path(path)
    reaped = await reap(Remains((), MARK, path), guard=world.guard, seconds=1)
    assert "Not a directory" in reaped.fault
    assert list(world.guard._paths) == [str(path)]
    path.unlink()


async def test_without_the_reaper_a_generation_leaves_something(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> reaping.Reaped:
        return reaping.Reaped((), ())

    stubborn = "import time; time.sleep(600)"
    async with world.running(world.plan(aide=stubborn)) as supervisor:
        process, helper = supervisor.parts()
        assert process.pid is not None
        assert helper.pid is not None
        orphan = int(await world.call("spawn", "exec setsid sleep 600"))
        with monkeypatch.context() as patched:
            patched.setattr(reaping, "reap", nothing)
            os.kill(process.pid, signal.SIGKILL)
            await world.until_state(supervisor, ProcessState.READY, generation=2)
        assert alive(helper.pid)
        assert alive(orphan)
        assert len(list(world.sockets.iterdir())) == 2
    for pid in (helper.pid, orphan):
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
