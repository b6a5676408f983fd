"""After many executions of every kind, nothing is left: no descriptor, process, zombie, thread, task or timer."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path
from typing import Any

from innkeeper_wasm.driver import EndingKind, Runtime

ROUNDS = 40
AT_ONCE = 5


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children(pid: int | None) -> list[int]:
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def resident(pid: int | None) -> int:
    """Return what a process has dirtied for itself, in kB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


def scheduled(loop: asyncio.AbstractEventLoop) -> int:
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # there is no public way
    return sum(not timer.cancelled() for timer in timers)


async def settled(runtime: Runtime) -> None:
    """Wait until every execution has been reaped, which the driver does not wait for."""
    async with asyncio.timeout(20):
        while any(zygote.executions for zygote in runtime.stats().zygotes):  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0.001)


async def test_two_hundred_executions_of_mixed_ends_leave_nothing(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    trap = guests.module('(func (export "_start") unreachable)')

    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    async def round_() -> None:
        programs = [
            ([("send_response", 0, 8), ("proc_exit", 0)], {}, 20, EndingKind.EXIT),
            ([("proc_exit", 3)], {}, 20, EndingKind.EXIT),
            ([("trap",)], {}, 20, EndingKind.TRAP),
            ([("now", 0)], {"now": never}, 0.03, EndingKind.DEADLINE),
        ]
        outcomes = await asyncio.gather(
            *(
                execute(guests.interpreter(), guests.Host(guests.assemble(program), **answers), seconds=seconds)
                for program, answers, seconds, _ in programs
            ),
            execute(trap),
        )
        assert [outcome.kind for outcome in outcomes[:3]] == [kind for *_, kind in programs[:3]]
        # A machine that is busy may not get as far as the question; it is ended either way.
        assert outcomes[3].kind is EndingKind.DEADLINE
        assert outcomes[4].kind is EndingKind.TRAP

    async def census() -> tuple[int, ...]:
        await settled(runtime)
        gc.collect()
        stats = runtime.stats()
        (zygote,) = (found for found in stats.zygotes if found.pid in children(stats.root))
        return (
            descriptors(),
            len(children(stats.root)),
            len(children(zygote.pid)),
            len(os.listdir(f"/proc/{zygote.pid}/fd")),
            len(os.listdir(f"/proc/{stats.root}/fd")),
            threading.active_count(),
            len(asyncio.all_tasks()),
            scheduled(asyncio.get_running_loop()),
        )

    for _ in range(3):
        await round_()
    before = await census()
    root = runtime.stats().root
    memory = resident(root)
    for _ in range(ROUNDS):
        await round_()
    assert await census() == before
    assert runtime.stats().root == root
    assert resident(root) <= memory + 256


async def test_a_driver_that_is_closed_leaves_nothing(runtime: Runtime, guests: Any) -> None:
    own = children(os.getpid())
    await asyncio.sleep(0)
    before = descriptors(), len(asyncio.all_tasks()), scheduled(asyncio.get_running_loop())
    execute = guests.executor(runtime)
    for _ in range(3):
        await execute(guests.interpreter(), guests.Host(guests.assemble([("proc_exit", 1)])))
    await runtime.close()
    assert (descriptors(), len(asyncio.all_tasks()), scheduled(asyncio.get_running_loop())) == before
    assert children(os.getpid()) == own
