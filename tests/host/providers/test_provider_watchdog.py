"""The watchdog: who blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from innkeeper.providers.watchdog import Blockade, Watchdog

HERE = Path(__file__).parent


@pytest.fixture
def reports() -> list[Blockade]:
    return []


@pytest.fixture
def watch(reports: list[Blockade]) -> Iterator[Callable[..., Watchdog]]:
    started: list[Watchdog] = []

    def start(seconds: float = 0.2, **packages: Path) -> Watchdog:
        dogs = {path: id_ for id_, path in packages.items()}
        watchdog = Watchdog(
            lambda: dogs, logger=logging.getLogger("innkeeper.test"), seconds=seconds, on_blockade=reports.append
        )
        watchdog.start()
        started.append(watchdog)
        return watchdog

    yield start
    for watchdog in started:
        watchdog.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.01)


def block(reports: list[Blockade]) -> None:
    """Block until it was seen, 30 seconds at most."""
    end = time.monotonic() + 30
    while not reports and time.monotonic() < end:
        time.sleep(0.01)


async def test_a_blockade_is_told_while_it_lasts_and_when_it_is_over(
    watch: Callable[..., Watchdog], reports: list[Blockade], caplog: pytest.LogCaptureFixture
) -> None:
    watch(probe=HERE)
    block(reports)
    await until(lambda: len(reports) > 1)
    first, second = reports
    assert (first.over, first.provider_id) == (False, "probe")
    assert first.where.startswith(f"{__file__}:")
    assert first.seconds >= 0.2
    assert (second.over, second.provider_id, second.where) == (True, "probe", first.where)
    assert second.seconds >= first.seconds
    assert "provider probe blocks the event loop at " in caplog.text
    assert "provider probe blocked the event loop at " in caplog.text


async def test_the_provider_nearest_to_the_top_of_the_stack_is_named(
    watch: Callable[..., Watchdog], reports: list[Blockade], tmp_path: Path
) -> None:
    inner = tmp_path / "inner.py"
    inner.write_text("def call(function):\n    function(reports)\n")
    scope: dict[str, object] = {"reports": reports}
    exec(compile(inner.read_text(), str(inner), "exec"), scope)  # noqa: S102 - a frame of a file of our own
    watch(outer=HERE, inner=tmp_path)
    scope["call"](block)  # type: ignore[operator]  # the function that was just made
    # `block` is in this file, above `call`: the nearest of the two is the outer one's.
    assert reports[0].provider_id == "outer"


async def test_code_of_nobody_is_named_by_its_place(watch: Callable[..., Watchdog], reports: list[Blockade]) -> None:
    watch(probe=HERE / "elsewhere")
    block(reports)
    assert reports[0].provider_id is None
    assert __file__ in reports[0].where


async def test_a_loop_that_runs_is_left_in_peace(watch: Callable[..., Watchdog], reports: list[Blockade]) -> None:
    watch(seconds=5.0, probe=HERE)
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert reports == []


async def test_closing_ends_it_and_can_be_repeated(watch: Callable[..., Watchdog], reports: list[Blockade]) -> None:
    watchdog = watch(probe=HERE)
    watchdog.close()
    watchdog.close()
    time.sleep(0.6)  # noqa: ASYNC251 - a blockade that nobody must see
    await asyncio.sleep(0.05)
    assert reports == []


SCRIPT = """
import asyncio, logging, re, sys, time
from pathlib import Path
from innkeeper.providers.watchdog import Watchdog

async def main():
    dog = Watchdog(lambda: {}, logger=logging.getLogger("x"), seconds=0.5,
                   on_blockade=lambda b: print(b.over, b.provider_id, repr(b.where), flush=True))
    dog.start()
    await asyncio.sleep(0.1)
    BODY
    await asyncio.sleep(1.0)
    print("end", flush=True)
    dog.close()

asyncio.run(main())
"""


def test_c_code_that_keeps_the_lock_is_told_when_it_is_over() -> None:
    # One sum of about two and a half seconds, during which the interpreter's lock is not given up.
    body = (
        "start = time.perf_counter(); sum(range(10**6)); took = time.perf_counter() - start\n"
        "    sum(range(int(2.5 / took * 10**6)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("BODY", body)], capture_output=True, text=True, check=True, timeout=100
    )
    *reports, end = done.stdout.splitlines()
    assert end == "end"
    assert reports[-1].startswith("True None")


def test_a_process_that_was_stopped_is_nobodys_fault() -> None:
    code = SCRIPT.replace("BODY", "print('up', flush=True); await asyncio.sleep(0.5)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        child.send_signal(signal.SIGCONT)
        assert child.stdout.read() == "end\n"
