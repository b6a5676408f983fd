"""What stays behind: nothing, after many rounds and after the host's own death."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from innkeeper.loop.states import ProcessState
from innkeeper_sdk.errors import ProviderFailedError
from tests.host.loop.loop_world import AIDE, World, wait_gone

ROUNDS = 20


def held() -> tuple[int, int, int]:
    """Return how many descriptors, threads and tasks there are."""
    gc.collect()
    # The loop's own pool starts its threads when it likes, and not many.
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
    return len(os.listdir("/proc/self/fd")), len(threads), len(asyncio.all_tasks())


def children() -> set[int]:
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


async def test_many_rounds_leave_no_file_process_task_or_thread(world: World) -> None:
    plan = world.plan(aide=AIDE)
    counts = []
    for _ in range(ROUNDS):
        async with world.running(plan):
            await world.call("echo", "x")
        counts.append(held())
    # The first round makes what stays for the whole process, as gRPC's own.
    assert counts[-1] == counts[2], counts
    assert children() == {world.guard.pid}
    assert list(world.sockets.iterdir()) == []
    assert (world.guard._processes, world.guard._paths) == ({}, {})


async def test_many_failed_starts_leave_nothing(world: World) -> None:
    plans = [
        world.plan("import sys; sys.exit(3)", aide=AIDE),
        world.plan("print('no', flush=True); import time; time.sleep(600)", aide=AIDE),
        world.plan(aide="import sys; sys.exit(7)"),
        world.plan(capabilities=("other@1.0.0",)),
    ]
    counts = []
    for _ in range(3):
        for plan in plans:
            supervisor = world.supervisor(plan)
            with pytest.raises(ProviderFailedError):
                await supervisor.start()
            await supervisor.close()
        counts.append(held())
    assert counts[-1] == counts[1], counts
    assert children() == {world.guard.pid}
    assert list(world.sockets.iterdir()) == []
    assert (world.guard._processes, world.guard._paths) == ({}, {})


async def test_many_relaunches_leave_one_generation(world: World) -> None:
    async with world.running(world.plan(aide=AIDE, restart={"budget": 100})) as supervisor:
        counts = []
        for generation in range(1, 6):
            await world.until_state(supervisor, ProcessState.READY, generation=generation)
            counts.append(held())
            pid = supervisor.parts()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        await world.until_state(supervisor, ProcessState.READY, generation=6)
        assert counts[-1] == counts[1], counts
        assert len(list(world.sockets.iterdir())) == 1


HOST = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[2])
from tests.host.loop.loop_world import AIDE, open_world

async def main():
    async with open_world(pathlib.Path(sys.argv[1])) as world:
        async with world.running(world.plan(aide=AIDE)) as supervisor:
            orphan = await world.call("spawn", "exec setsid sleep 600")
            pids = [part.pid for part in supervisor.parts()]
            print(world.guard.pid, orphan, *pids, world.sockets, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_killed_host_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    host = subprocess.Popen([sys.executable, "-c", HOST, str(tmp_path), root], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    *pids, sockets = host.stdout.readline().split()
    assert len(pids) == 4
    assert list(Path(sockets).iterdir()) != []
    host.kill()
    wait_gone(*map(int, pids))
    assert list(Path(sockets).iterdir()) == []
    host.communicate()
    Path(sockets).rmdir()
    Path(sockets).parent.rmdir()
