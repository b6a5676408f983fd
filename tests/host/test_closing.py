"""Closing what was opened, whatever happens to one of them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from innkeeper import closing as module
from innkeeper.closing import Closing

LOGGER = logging.getLogger("test.closing")


async def hang() -> None:
    await asyncio.Event().wait()


async def test_parts_are_closed_in_reverse_once() -> None:
    closed: list[str] = []
    closing = Closing(LOGGER)
    closing.add_plain("first", lambda: closed.append("first"))
    closing.add_plain("second", lambda: closed.append("second"))
    await closing.close(asyncio.Event())
    await closing.close(asyncio.Event())
    assert closed == ["second", "first"]


@pytest.mark.parametrize("fault", ["raises", "is cancelled", "hangs"])
async def test_one_that_does_not_close_is_told_and_the_next_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.01)

    async def bad() -> None:
        if fault == "raises":
            raise RuntimeError("broken")
        if fault == "is cancelled":
            raise asyncio.CancelledError
        await hang()

    closed: list[str] = []
    closing = Closing(LOGGER)
    closing.add_plain("first", lambda: closed.append("first"))
    closing.add("the bad one", bad)
    await closing.close(asyncio.Event())
    assert closed == ["first"]
    assert "the bad one" in caplog.text
    assert ("broken" in caplog.text) == (fault == "raises")


@pytest.mark.parametrize("already", [False, True])
async def test_whoever_is_in_a_hurry_waits_a_moment_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, already: bool
) -> None:
    monkeypatch.setattr(module, "_HURRY_SECONDS", 0.01)
    now = asyncio.Event()
    closing = Closing(LOGGER)
    for what in ("one", "two", "three"):
        closing.add(what, hang)
    if already:
        now.set()
    closes = asyncio.create_task(closing.close(now))
    await asyncio.sleep(0)
    now.set()
    async with asyncio.timeout(5):
        await closes
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["three", "two", "one"]
