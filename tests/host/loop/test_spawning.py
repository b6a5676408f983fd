"""What the guard answers about helpers."""

from __future__ import annotations

import asyncio
import os

import pytest

from innkeeper.loop.guard_process import Process
from innkeeper.loop.spawning import Spawns
from innkeeper_sdk.errors import ProviderFailedError, UnavailableError


def spawns() -> tuple[Spawns, list[Process], list[int]]:
    started: list[Process] = []
    dropped: list[int] = []
    return Spawns(started.append, dropped.append), started, dropped


async def test_an_answer_is_for_the_request_of_its_number() -> None:
    made, started, _ = spawns()
    first, waiting = made.ask()
    second, failing = made.ask()
    assert first != second
    made.take(b"failed %d 2" % second, [])
    made.take(b"spawned %d 77 88" % first, [os.pidfd_open(os.getpid())])
    helper = await waiting
    assert started == [helper.process] == [Process(77, 88, leads=True)]
    with pytest.raises(ProviderFailedError, match="No such file"):
        await failing
    made.take(b"ended %d -9" % first, [])
    assert await helper.ended == -9


async def test_the_end_of_the_guard_fails_what_was_asked_and_spares_what_lives() -> None:
    made, _, _ = spawns()
    first, waiting = made.ask()
    made.take(b"spawned %d 77 88" % first, [os.pidfd_open(os.getpid())])
    _, asked = made.ask()
    made.guard_ended()
    with pytest.raises(UnavailableError):
        await asked
    helper = await waiting
    assert not helper.ended.done()
    helper.close()
    helper.close()


@pytest.mark.parametrize(
    ("answer", "files"),
    [
        (b"", 0),
        (b"hello", 0),
        (b"spawned 1 2", 1),
        (b"spawned 1 2 3", 2),
        (b"spawned 9 2 3", 1),
        (b"spawned 1 x 3", 1),
        (b"failed 1", 0),
        (b"failed 9 2", 0),
        (b"ended 1 0", 1),
        (b"ended x 0", 0),
    ],
)
async def test_what_is_no_answer_is_an_error(answer: bytes, files: int) -> None:
    made, _, _ = spawns()
    made.ask()
    handed = [os.open("/dev/null", os.O_RDONLY) for _ in range(files)]
    with pytest.raises((KeyError, ValueError)):
        made.take(answer, handed)
    for file in handed:
        os.close(file)


async def test_what_comes_when_its_waiting_is_cancelled_is_ended() -> None:
    made, _, dropped = spawns()
    number, outcome = made.ask()
    child = await asyncio.create_subprocess_exec("sleep", "600")
    made.take(b"spawned %d %d 1" % (number, child.pid), [os.pidfd_open(child.pid)])
    made.unwanted(outcome)
    assert await child.wait() == -9
    made.take(b"ended %d -9" % number, [])
    await asyncio.sleep(0)
    assert dropped == [child.pid]


async def test_a_helper_whose_descriptor_did_not_arrive_has_failed() -> None:
    made, started, _ = spawns()
    number, outcome = made.ask()
    made.take(b"spawned %d 77 88" % number, [])
    with pytest.raises(ProviderFailedError, match="Too many open files"):
        await outcome
    made.take(b"ended %d 0" % number, [])
    assert started == []
