"""The machine's clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from innkeeper_cron.clock import SystemClock


def test_now_is_the_wall_clocks_time_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


@pytest.mark.parametrize(
    ("ahead", "naps"),
    [(timedelta(seconds=0.25), (0.2, 0.25)), (timedelta(days=365), (2, 2)), (timedelta(seconds=-3), (0, 0))],
)
async def test_nobody_sleeps_long_without_looking_at_the_clock_again(
    monkeypatch: pytest.MonkeyPatch, ahead: timedelta, naps: tuple[float, float]
) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    clock = SystemClock()
    await clock.sleep_until(clock.now() + ahead)
    assert len(slept) == 1
    assert naps[0] <= slept[0] <= naps[1]
