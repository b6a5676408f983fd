"""How fast a schedule may tick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import frozen

from innkeeper_cron.rate import check_rate
from innkeeper_sdk.capability import CapabilityError

START = datetime(2026, 1, 1, tzinfo=UTC)


@frozen
class Listed:
    """A schedule that ticks at given seconds after the start of 2026."""

    seconds: tuple[int, ...]

    def next(self, after: datetime) -> datetime | None:
        later = (START + timedelta(seconds=second) for second in self.seconds)
        return next((tick for tick in later if tick > after), None)

    def resume(self, last: datetime, now: datetime) -> datetime | None:
        return self.next(max(last, now))


def refusal(*seconds: int) -> str:
    with pytest.raises(CapabilityError) as caught:
        check_rate(Listed(seconds), 30)
    return caught.value.serialize()


def test_twelve_ticks_apart_by_the_limit_pass() -> None:
    check_rate(Listed(tuple(range(30, 13 * 30, 30))), 30)


def test_the_gap_before_the_twelfth_tick_counts() -> None:
    assert refusal(*range(30, 12 * 30, 30), 11 * 30 + 29) == (
        "Public:User:LimitExceeded:maximum fastest cron schedule is 30s"
    )


def test_the_gap_after_the_twelfth_tick_does_not_count() -> None:
    check_rate(Listed((*range(30, 13 * 30, 30), 12 * 30 + 1)), 30)


def test_the_gap_before_the_first_tick_does_not_count() -> None:
    check_rate(Listed((1, *range(100, 100 + 11 * 30, 30))), 30)


def test_fewer_than_twelve_ticks_cannot_be_judged() -> None:
    assert refusal(*range(30, 12 * 30, 30)) == (
        "Public:System:Internal:expected 12 ticks from 2026-01-01 on to judge the schedule by, found 11"
    )


def test_no_tick_at_all_is_the_authors_fault() -> None:
    assert refusal() == "Public:User:InvalidArgument:failed to initialize job: gocron: CronJob: invalid crontab"
