"""Processes that die, are evicted or closed: typed ends for what was in flight, and a driver that goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from innkeeper_wasm.driver import EndingKind, HotSetLimits, Outcome, Runtime, RuntimeLostError

NewRuntime = Callable[..., Runtime]


class Running:
    """An execution that is held in a host call, and its processes."""

    def __init__(self, guests: Any, execute: Any, guest: str | None = None, **options: Any) -> None:
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        self._guests = guests
        host = guests.Host(guests.assemble([("now", 0), ("load", 0)]), now=self._now)
        self.task: asyncio.Task[Outcome] = asyncio.create_task(execute(guest or guests.interpreter(), host, **options))

    async def _now(self, _: int) -> int:
        self.asked.set()
        await self.release.wait()
        return 5

    async def finish(self) -> Outcome:
        self.release.set()
        return await self.task


async def running(guests: Any, execute: Any, **options: Any) -> Running:
    held = Running(guests, execute, **options)
    async with asyncio.timeout(20):
        await held.asked.wait()
    return held


async def executions(runtime: Runtime) -> list[Any]:
    """Return the process ids of what runs; they may come behind its first question."""

    def found() -> list[int]:
        return [pid for zygote in runtime.stats().zygotes for pid in zygote.executions]

    await until(lambda: bool(found()))
    return found()


def children(runtime: Runtime) -> list[str]:
    root = runtime.stats().root
    with open(f"/proc/{root}/task/{root}/children", encoding="ascii") as file:
        return file.read().split()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what only /proc tells."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0)


def handles(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (caught,) = (line.split()[1] for line in file if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


async def works(guests: Any, execute: Any) -> Outcome:
    outcome: Outcome = await execute(guests.interpreter(), guests.Host(guests.assemble([("grow", 0)])))
    assert guests.results(outcome) == [4]
    return outcome


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGSYS, 40])
async def test_an_execution_that_is_killed_is_one_failed_execution(runtime: Runtime, guests: Any, number: int) -> None:
    execute = guests.executor(runtime)
    held = await running(guests, execute)
    (pid,) = await executions(runtime)
    other = await running(guests, execute)
    os.kill(pid, number)
    if number == signal.SIGSEGV:
        # The engine has handled the first one: a fault of the machine would come again, this one must be sent again.
        await until(lambda: not handles(pid, number))
        os.kill(pid, number)
    outcome = await held.task
    assert (outcome.kind, outcome.ending.signal) == (EndingKind.CRASHED, number)
    assert outcome.error is not None
    assert outcome.error.startswith("the execution was killed by ")
    assert (await other.finish()).error is None
    assert (await works(guests, execute)).cold is False


async def test_a_zygote_that_is_killed_loses_its_executions_and_is_built_again(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    held = await running(guests, execute)
    pids = await executions(runtime)
    (zygote,) = runtime.stats().zygotes
    async with guests.ends(*pids):
        os.kill(zygote.pid, signal.SIGKILL)
        outcome = await held.task
    assert outcome.kind is EndingKind.LOST
    assert outcome.error == "the execution was lost: its zygote has ended"
    await until(lambda: children(runtime) == [])  # The root process reaps what its zygotes leave.
    assert (await works(guests, execute)).cold is True
    assert [found.pid for found in runtime.stats().zygotes] != [zygote.pid]


async def test_a_zygote_that_was_killed_unnoticed_costs_no_execution(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    await works(guests, execute)
    (zygote,) = runtime.stats().zygotes
    os.kill(zygote.pid, signal.SIGKILL)
    assert (await works(guests, execute)).cold is True


async def test_a_root_process_that_is_killed_loses_everything_once(
    runtime: Runtime, guests: Any, caplog: pytest.LogCaptureFixture
) -> None:
    execute = guests.executor(runtime)
    held = await running(guests, execute)
    root = runtime.stats().root
    assert root is not None
    compiling = asyncio.create_task(runtime.compile(guests.module("").encode() + b" " * 50_000_000, text=True))
    await until(lambda: len(children(runtime)) == 2)
    async with guests.ends(*await executions(runtime), *(zygote.pid for zygote in runtime.stats().zygotes)):
        os.kill(root, signal.SIGKILL)
        assert (await held.task).kind is EndingKind.LOST
    with pytest.raises(RuntimeLostError) as caught:
        await compiling
    assert caught.value.code == "wasm-runtime-lost"
    assert (await works(guests, execute)).cold is True
    assert runtime.stats().root not in (None, root)
    assert "has ended with status -9" in caplog.text


async def test_the_deadline_holds_although_the_zygote_answers_no_more(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    await works(guests, execute)
    (zygote,) = runtime.stats().zygotes
    os.kill(zygote.pid, signal.SIGSTOP)
    async with guests.ends(zygote.pid):
        outcome = await execute(guests.interpreter(), guests.Host(guests.assemble([])), seconds=0.1)
    assert outcome.kind is EndingKind.DEADLINE
    await works(guests, execute)


@pytest.mark.parametrize(
    ("executable", "text"),
    [("/bin/false", "ended with status 1 before it was ready"), ("/nonexistent", "cannot be started: ")],
)
async def test_a_root_process_that_cannot_start_is_a_typed_error_and_tried_again(
    runtime: Runtime, guests: Any, monkeypatch: pytest.MonkeyPatch, executable: str, text: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", executable)
        with pytest.raises(RuntimeLostError, match=text):
            await runtime.compile(b"\0asm")
    await works(guests, guests.executor(runtime))


async def test_an_evicted_zygote_ends_after_its_executions(new_runtime: NewRuntime, guests: Any) -> None:
    runtime = new_runtime(hot_set=HotSetLimits(count=1))
    execute = guests.executor(runtime)
    held = await running(guests, execute)
    (first,) = runtime.stats().zygotes
    async with guests.ends(first.pid):
        outcome = await execute(guests.module('(func (export "_start") (call $proc_exit (i32.const 9)))'))
        assert outcome.ending.code == 9
        assert {zygote.pid for zygote in runtime.stats().zygotes} > {first.pid}
        assert guests.results(await held.finish()) == [0, 5]
    assert (await works(guests, execute)).cold is True


async def test_the_hot_set_is_bounded_by_bytes_and_the_longest_unused_goes(
    new_runtime: NewRuntime, guests: Any
) -> None:
    runtime = new_runtime(hot_set=HotSetLimits(bytes=1))
    execute = guests.executor(runtime)
    await works(guests, execute)
    (first,) = runtime.stats().zygotes
    assert first.private_bytes > 100_000
    async with guests.ends(first.pid):
        await execute(guests.module('(func (export "_start") (call $proc_exit (i32.const 9)))'))


async def test_of_several_zygotes_the_one_used_longest_ago_is_evicted(new_runtime: NewRuntime, guests: Any) -> None:
    runtime = new_runtime(hot_set=HotSetLimits(count=2))
    execute = guests.executor(runtime)
    texts = [guests.module(f'(func (export "_start") (call $proc_exit (i32.const {code})))') for code in (1, 2, 3)]
    await execute(texts[0])
    await execute(texts[1])
    await execute(texts[0])
    await execute(texts[2])
    assert [(await execute(text)).cold for text in (texts[0], texts[2], texts[1])] == [False, False, True]


async def test_each_memory_limit_has_its_zygote(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    for pages in (5, 6):
        host = guests.Host(guests.assemble([("grow", 1), ("grow", 1)]))
        outcome = await execute(guests.interpreter(), host, memory_bytes=pages * 65536)
        assert guests.results(outcome) == [4, 5 if pages == 6 else -1]
    assert len(runtime.stats().zygotes) == 2


async def test_many_who_need_a_zygote_build_one(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    module = await runtime.compile(guests.interpreter().encode(), text=True)
    hosts = [guests.Host(guests.assemble([("grow", 0)])) for _ in range(6)]
    outcomes = await asyncio.gather(*(execute(module, host) for host in hosts))
    assert [guests.results(outcome) for outcome in outcomes] == [[4]] * 6
    assert len(runtime.stats().zygotes) == 1


async def test_one_who_stops_waiting_for_a_zygote_does_not_stop_the_others(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    module = await runtime.compile(guests.interpreter().encode(), text=True)
    tasks = [asyncio.create_task(execute(module, guests.Host(guests.assemble([("grow", 0)])))) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    for task in tasks[1:]:
        assert guests.results(await task) == [4]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_a_module_that_nobody_uses_any_more_has_no_zygote(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    text = guests.interpreter().encode()
    first, second = await runtime.compile(text, text=True), await runtime.compile(text, text=True)
    held = await running(guests, execute, guest=first)
    (zygote,) = runtime.stats().zygotes
    runtime.release(first)
    assert runtime.stats().zygotes == (zygote,)
    async with guests.ends(zygote.pid):
        runtime.release(second)
        assert (await held.finish()).error is None


async def test_closing_ends_what_runs_and_leaves_no_process(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    held = await running(guests, execute)
    pids = await executions(runtime)
    stats = runtime.stats()
    pids += [stats.root, *(zygote.pid for zygote in stats.zygotes)]
    async with guests.ends(*pids, seconds=1):
        await runtime.close()
    outcome = await held.task
    assert outcome.kind is EndingKind.LOST
    assert outcome.error == "the execution was lost: the runtime was closed"
    assert runtime.stats().root is None
    assert runtime.stats().zygotes == ()


async def test_closing_ends_a_prefix_and_a_compilation(runtime: Runtime, guests: Any) -> None:
    execute = guests.executor(runtime)
    endless = guests.module('(func (export "_start") (loop $l (br $l)))')
    module = await runtime.compile(endless.encode(), text=True)
    waiting = asyncio.create_task(execute(module))
    compiling = asyncio.create_task(runtime.compile(endless.encode() + b" " * 50_000_000, text=True))
    await until(lambda: len(children(runtime)) == 2)
    await runtime.close()
    for task in (waiting, compiling):
        with pytest.raises(RuntimeLostError):
            await task


async def test_a_closed_driver_does_nothing_any_more(runtime: Runtime, guests: Any) -> None:
    await runtime.close()
    with pytest.raises(RuntimeLostError, match="the runtime was closed"):
        await runtime.compile(b"\0asm")


async def test_a_driver_that_was_never_used_has_no_process(runtime: Runtime) -> None:
    assert runtime.stats().root is None
    await runtime.close()
