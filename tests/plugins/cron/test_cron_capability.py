"""The capability and its ticker: refusals, events, lateness, and the clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from innkeeper_cron.capability import BUFFER, FASTEST_INTERVAL, CronTrigger, configured_interval
from innkeeper_cron.clock import Clock
from innkeeper_cron.proto.capabilities.scheduler.cron.v1.trigger_pb2 import Config, LegacyPayload, Payload
from innkeeper_sdk.capability import (
    CapabilityError,
    CapabilityRequest,
    CapabilityType,
    ErrorCode,
    Origin,
    RequestMetadata,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.errors import ConfigError

WORKFLOW, OWNER = "11" * 32, "22" * 20
START = datetime(2026, 1, 1, tzinfo=UTC)
LOGGER = logging.getLogger("innkeeper.test.cron")


class FakeClock:
    """A clock that stands until it is set; setting it waits until the ticker has done what was due."""

    def __init__(self, now: datetime = START) -> None:
        self.time = now
        self.fault: Exception | None = None
        self._set = asyncio.Event()
        self._asleep = asyncio.Event()

    def now(self) -> datetime:
        if self.fault is not None:
            raise self.fault
        return self.time

    async def sleep_until(self, when: datetime) -> None:
        while self.time < when:
            self._asleep.set()
            await self._set.wait()
            self._set.clear()
            return

    async def set(self, now: datetime) -> None:
        self.time = now
        async with asyncio.timeout(5):
            await self._asleep.wait()
            self._asleep.clear()
            self._set.set()
            await self._asleep.wait()

    async def advance(self, seconds: float) -> None:
        await self.set(self.time + timedelta(seconds=seconds))


class FixedLimits:
    """Limits with one value, which remember who asked."""

    def __init__(self, seconds: float = 30) -> None:
        self.seconds = seconds
        self.asked: list[tuple[str, str, str]] = []

    def get(self, name: str, *, owner: str = "", workflow_id: str = "") -> float:
        self.asked.append((name, owner, workflow_id))
        return self.seconds


def registration(schedule: str, *, index: int = 0, method: str = "Trigger") -> TriggerRegistration:
    payload = AnyMessage()
    payload.Pack(Config(schedule=schedule))
    return TriggerRegistration(
        trigger_id=f"trigger_reg_{WORKFLOW}_{index}",
        metadata=RequestMetadata(WORKFLOW, OWNER, reference_id=f"trigger_{index}"),
        method=method,
        payload=payload,
    )


def scheduled(event: TriggerEvent) -> datetime:
    payload = Payload()
    assert event.payload.Unpack(payload)
    return payload.scheduled_execution_time.ToDatetime(UTC)


async def following(stream: AsyncIterator[TriggerEvent]) -> TriggerEvent:
    async with asyncio.timeout(5):
        return await anext(stream)


async def rest(stream: AsyncIterator[TriggerEvent]) -> list[str]:
    async with asyncio.timeout(5):
        return [event.id async for event in stream]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def trigger(clock: FakeClock) -> AsyncIterator[CronTrigger]:
    capability = CronTrigger(limits=FixedLimits(1), logger=LOGGER, clock=clock)
    await capability.start()
    yield capability
    await capability.close()


def test_it_says_what_it_is() -> None:
    info = CronTrigger(limits=FixedLimits(), logger=LOGGER).info
    assert (info.id, info.type) == ("cron-trigger@1.0.0", CapabilityType.TRIGGER)
    assert info.methods["Trigger"].input == "capabilities.scheduler.cron.v1.Config"
    assert info.methods["Trigger"].output == "capabilities.scheduler.cron.v1.Payload"
    assert info.methods[""].output == "capabilities.scheduler.cron.v1.LegacyPayload"


async def test_an_event_carries_its_scheduled_time_not_the_moment_of_sending(
    trigger: CronTrigger, clock: FakeClock
) -> None:
    stream = await trigger.register_trigger(registration("0 */5 * * * *"))
    await clock.advance(302.25)
    event = await following(stream)
    assert event.id == "2026-01-01T00:05:00Z"
    # The bytes that the reference gives for this payload, alone and as Any.
    assert event.payload.value.hex() == "0a0608acf4d6ca06"
    assert event.payload.SerializeToString().hex() == (
        "0a3a747970652e676f6f676c65617069732e636f6d2f6361706162696c69746965732e7363686564756c65722e63726f6e2e76312e"
        "5061796c6f616412080a0608acf4d6ca06"
    )


def test_the_configuration_of_the_reference_is_what_it_takes() -> None:
    assert registration("0 */5 * * * *").payload.SerializeToString().hex() == (
        "0a39747970652e676f6f676c65617069732e636f6d2f6361706162696c69746965732e7363686564756c65722e63726f6e2e76312e"
        "436f6e666967120f0a0d30202a2f35202a202a202a202a"
    )


async def test_the_legacy_method_is_reached_by_the_empty_name(trigger: CronTrigger, clock: FakeClock) -> None:
    stream = await trigger.register_trigger(registration("* * * * * *", method=""))
    await clock.advance(1)
    event = await following(stream)
    payload = LegacyPayload()
    assert event.payload.Unpack(payload)
    assert payload.scheduled_execution_time == event.id == "2026-01-01T00:00:01Z"


@pytest.mark.parametrize("method", ["LegacyTrigger", "trigger", "Simple"])
async def test_another_method_is_not_found(trigger: CronTrigger, method: str) -> None:
    asked = registration("* * * * * *", method=method)
    for call in (trigger.register_trigger, trigger.unregister_trigger, trigger.next_event):
        with pytest.raises(CapabilityError, match=f"trigger {method} not found"):
            await call(asked)


async def test_it_answers_no_calls(trigger: CronTrigger) -> None:
    request = CapabilityRequest(RequestMetadata(WORKFLOW, OWNER), "cron-trigger@1.0.0", "Trigger", AnyMessage())
    with pytest.raises(CapabilityError, match="method Trigger not found"):
        await trigger.execute(request)


@pytest.mark.parametrize(
    ("limit", "schedule", "wire"),
    [
        (30, "*/30 * * * * *", None),
        (30, "0 * * * *", None),
        (30, "@every 30s", None),
        (15, "*/45 * * * * *", None),
        (0, "* * * * * *", None),
        (0, "@every 1s", None),
        (30, "*/45 * * * * *", "Public:User:LimitExceeded:maximum fastest cron schedule is 30s"),
        (30, "0,40 * * * * *", "Public:User:LimitExceeded:maximum fastest cron schedule is 30s"),
        (30, "@every 29s", "Public:User:LimitExceeded:maximum fastest cron schedule is 30s"),
        (90, "* * * * *", "Public:User:LimitExceeded:maximum fastest cron schedule is 1m30s"),
        (1.5, "* * * * * *", "Public:User:LimitExceeded:maximum fastest cron schedule is 1.5s"),
        (
            30,
            "d * * * * *",
            "Public:User:InvalidArgument:failed to initialize job: gocron: CronJob: crontab parse failure\n"
            'failed to parse int from d: strconv.Atoi: parsing "d": invalid syntax',
        ),
        (30, "0 0 0 30 2 *", "Public:User:InvalidArgument:failed to initialize job: gocron: CronJob: invalid crontab"),
    ],
)
async def test_a_schedule_is_judged_by_its_next_twelve_ticks(
    limit: float, schedule: str, wire: str | None, clock: FakeClock
) -> None:
    trigger = CronTrigger(limits=FixedLimits(limit), logger=LOGGER, clock=clock)
    if wire is None:
        assert await trigger.next_event(registration(schedule)) is not None
        assert await trigger.register_trigger(registration(schedule)) is not None
        await trigger.close()
        return
    for call in (trigger.next_event, trigger.register_trigger):
        with pytest.raises(CapabilityError) as caught:
            await call(registration(schedule))
        assert caught.value.serialize() == wire
    await trigger.unregister_trigger(registration(schedule))  # nothing is left of it
    await trigger.close()


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (AnyMessage(), "failed to unmarshal payload: expected capabilities.scheduler.cron.v1.Config, found nothing"),
        (
            AnyMessage(
                type_url="type.googleapis.com/google.protobuf.StringValue", value=StringValue().SerializeToString()
            ),
            "failed to unmarshal payload: expected capabilities.scheduler.cron.v1.Config, found "
            "type.googleapis.com/google.protobuf.StringValue",
        ),
        (
            AnyMessage(type_url="type.googleapis.com/capabilities.scheduler.cron.v1.Config", value=b"\x0a\xff"),
            "failed to unmarshal capabilities.scheduler.cron.v1.Config: ",
        ),
    ],
)
async def test_another_payload_is_the_authors_fault(trigger: CronTrigger, payload: AnyMessage, text: str) -> None:
    asked = TriggerRegistration("id", RequestMetadata(WORKFLOW, OWNER), "Trigger", payload)
    with pytest.raises(CapabilityError) as caught:
        await trigger.register_trigger(asked)
    assert caught.value.serialize().startswith(f"Public:User:InvalidArgument:{text}")


async def test_the_limit_is_asked_for_the_workflow(clock: FakeClock) -> None:
    limits = FixedLimits()
    await CronTrigger(limits=limits, logger=LOGGER, clock=clock).next_event(registration("0 * * * *"))
    assert limits.asked == [(FASTEST_INTERVAL, OWNER, WORKFLOW)]


async def test_the_configured_interval_replaces_the_limit(clock: FakeClock) -> None:
    limits = FixedLimits(30)
    trigger = CronTrigger(limits=limits, logger=LOGGER, fastest=5, clock=clock)
    assert await trigger.next_event(registration("*/5 * * * * *"))
    with pytest.raises(CapabilityError, match="maximum fastest cron schedule is 5s"):
        await trigger.next_event(registration("*/4 * * * * *"))
    assert limits.asked == []


@pytest.mark.parametrize(("config", "seconds"), [({}, None), ({"fastestScheduleIntervalSeconds": 0}, None)])
def test_without_an_interval_in_the_config_the_limit_counts(config: Mapping[str, int], seconds: int | None) -> None:
    assert configured_interval(config) is seconds


def test_an_interval_in_the_config_counts() -> None:
    assert configured_interval({"fastestScheduleIntervalSeconds": 7}) == 7


@pytest.mark.parametrize("value", [-1, 1.5, "30", True, None])
def test_an_interval_that_is_no_number_of_seconds_fails_the_start(value: object) -> None:
    with pytest.raises(ConfigError, match=r"failed to unmarshal config: .*found"):
        configured_interval({"fastestScheduleIntervalSeconds": value})


async def test_a_trigger_id_is_taken_once(trigger: CronTrigger) -> None:
    await trigger.register_trigger(registration("* * * * * *"))
    with pytest.raises(CapabilityError) as caught:
        await trigger.register_trigger(registration("nonsense"))
    assert caught.value.serialize() == f"Public:System:Internal:triggerId trigger_reg_{WORKFLOW}_0 already registered"


async def test_a_refused_registration_leaves_its_id_free(trigger: CronTrigger) -> None:
    with pytest.raises(CapabilityError):
        await trigger.register_trigger(registration("nonsense"))
    assert await trigger.register_trigger(registration("* * * * * *"))


async def test_unregistering_ends_the_stream_and_can_be_repeated(
    trigger: CronTrigger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    asked = registration("* * * * * *")
    stream = await trigger.register_trigger(asked)
    other = await trigger.register_trigger(registration("* * * * * *", index=1))
    await clock.advance(1)
    await trigger.unregister_trigger(asked)
    assert not caplog.records
    await clock.advance(1)
    assert await rest(stream) == ["2026-01-01T00:00:01Z"]
    await trigger.unregister_trigger(asked)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert (await following(other)).id == "2026-01-01T00:00:01Z"
    assert await trigger.register_trigger(asked)


async def test_a_reader_that_waits_is_woken_by_the_end(trigger: CronTrigger) -> None:
    asked = registration("* * * * * *")
    reading = asyncio.ensure_future(rest(await trigger.register_trigger(asked)))
    await asyncio.sleep(0)
    assert not reading.done()
    await trigger.unregister_trigger(asked)
    assert await reading == []


async def test_a_cancelled_reader_loses_no_event(trigger: CronTrigger, clock: FakeClock) -> None:
    stream = await trigger.register_trigger(registration("* * * * * *"))
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await clock.advance(1)
    assert (await following(stream)).id == "2026-01-01T00:00:01Z"


async def test_closing_ends_every_stream_and_refuses_what_comes_after(trigger: CronTrigger) -> None:
    asked = registration("* * * * * *")
    stream = await trigger.register_trigger(asked)
    await trigger.close()
    await trigger.close()
    assert await rest(stream) == []
    with pytest.raises(CapabilityError) as caught:
        await trigger.unregister_trigger(asked)
    assert caught.value.message == "cannot unregister a new trigger, service has been closed"
    with pytest.raises(CapabilityError) as caught:
        await trigger.register_trigger(asked)
    assert (caught.value.error_code, caught.value.origin) == (ErrorCode.Internal, Origin.SYSTEM)


async def test_closing_leaves_no_task_behind(clock: FakeClock) -> None:
    before = asyncio.all_tasks()
    for schedules in ([], ["* * * * * *"]):
        trigger = CronTrigger(limits=FixedLimits(1), logger=LOGGER, clock=clock)
        await trigger.start()
        for schedule in schedules:
            await trigger.register_trigger(registration(schedule))
        await asyncio.sleep(0)
        await trigger.close()
        assert asyncio.all_tasks() == before


async def test_next_event_needs_no_registration_and_makes_none(trigger: CronTrigger) -> None:
    asked = registration("TZ=America/New_York 0 12 * * *")
    first, second = await trigger.next_event(asked), await trigger.next_event(asked)
    assert first.id == second.id == "2026-01-01T17:00:00Z"
    assert scheduled(first) == datetime(2026, 1, 1, 17, tzinfo=UTC)
    assert await trigger.register_trigger(asked)
    assert (await trigger.next_event(asked)).id == first.id


async def test_every_tick_is_sent_while_nobody_reads(trigger: CronTrigger, clock: FakeClock) -> None:
    stream = await trigger.register_trigger(registration("* * * * * *"))
    for _ in range(3):
        await clock.advance(1)
    assert [(await following(stream)).id[-3:] for _ in range(3)] == ["01Z", "02Z", "03Z"]


async def test_when_a_thousand_events_wait_the_next_is_dropped_and_said(
    trigger: CronTrigger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    asked = registration("* * * * * *")
    stream = await trigger.register_trigger(asked)
    for _ in range(BUFFER):
        await clock.advance(1)
    assert not caplog.records
    await clock.advance(1)
    assert [record.message for record in caplog.records] == [
        f"callback channel full, dropping event: trigger {asked.trigger_id}, event 2026-01-01T00:16:41Z"
    ]
    assert (await following(stream)).id == "2026-01-01T00:00:01Z"
    await clock.advance(1)
    await trigger.unregister_trigger(asked)
    left = await rest(stream)
    assert (len(left), left[-1]) == (BUFFER, "2026-01-01T00:16:42Z")


@pytest.mark.parametrize("schedule", ["*/10 * * * * *", "@every 10s"])
async def test_a_late_tick_is_sent_once_with_its_time_and_the_missed_ones_are_skipped(
    trigger: CronTrigger, clock: FakeClock, schedule: str
) -> None:
    asked = registration(schedule)
    stream = await trigger.register_trigger(asked)
    await clock.advance(8 * 3600 + 5)  # the machine slept through the night
    await clock.advance(5)
    await trigger.unregister_trigger(asked)
    assert await rest(stream) == ["2026-01-01T00:00:10Z", "2026-01-01T08:00:10Z"]


async def test_a_clock_set_back_a_little_repeats_no_tick(trigger: CronTrigger, clock: FakeClock) -> None:
    asked = registration("* * * * * *")
    stream = await trigger.register_trigger(asked)
    for seconds in (1, 1, -1.5, 1, 1.5):
        await clock.advance(seconds)
    await trigger.unregister_trigger(asked)
    assert await rest(stream) == ["2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z"]


async def test_after_a_clock_that_had_run_ahead_ticks_go_on(
    trigger: CronTrigger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    asked = registration("0 * * * * *")
    stream = await trigger.register_trigger(asked)
    await clock.advance(4 * 365 * 86400 + 5)
    await clock.set(START + timedelta(seconds=90))
    await clock.advance(30)
    await trigger.unregister_trigger(asked)
    assert await rest(stream) == ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]
    assert "the clock was set back" in caplog.text


async def test_an_earlier_schedule_registered_later_ticks_in_time(trigger: CronTrigger, clock: FakeClock) -> None:
    yearly = await trigger.register_trigger(registration("@yearly"))
    await asyncio.sleep(0)
    stream = await trigger.register_trigger(registration("* * * * * *", index=1))
    await clock.advance(1)
    assert (await following(stream)).id == "2026-01-01T00:00:01Z"
    await trigger.unregister_trigger(registration("@yearly"))
    assert await rest(yearly) == []


async def test_two_triggers_may_share_an_event_id(trigger: CronTrigger, clock: FakeClock) -> None:
    streams = [await trigger.register_trigger(registration("* * * * * *", index=index)) for index in range(2)]
    await clock.advance(1)
    assert {(await following(stream)).id for stream in streams} == {"2026-01-01T00:00:01Z"}


async def test_a_thousand_triggers_share_one_timer_and_come_and_go(trigger: CronTrigger, clock: FakeClock) -> None:
    before = len(asyncio.all_tasks())
    asked = [registration("0 * * * * *", index=index) for index in range(1000)]
    streams = [await trigger.register_trigger(one) for one in asked]
    assert len(asyncio.all_tasks()) <= before + 2
    await clock.advance(60)
    assert {(await following(stream)).id for stream in streams} == {"2026-01-01T00:01:00Z"}
    for one in asked[1:]:
        await trigger.unregister_trigger(one)
    await clock.advance(60)
    assert (await following(streams[0])).id == "2026-01-01T00:02:00Z"
    assert await rest(streams[-1]) == []


async def test_the_last_tick_of_a_schedule_ends_nothing(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    # After the leap day of 2096 the next one is beyond the horizon.
    clock.time = datetime(2096, 2, 28, tzinfo=UTC)
    trigger = CronTrigger(limits=FixedLimits(1), logger=LOGGER, clock=clock)
    await trigger.start()
    stream = await trigger.register_trigger(registration("0 0 0 29 2 *"))
    await trigger.register_trigger(registration("@hourly", index=1))
    await clock.advance(86400)
    assert (await following(stream)).id == "2096-02-29T00:00:00Z"
    assert "has no further tick" in caplog.text
    await trigger.close()
    assert await rest(stream) == []


async def test_a_schedule_without_a_tick_from_now_on_is_refused(clock: FakeClock) -> None:
    clock.time = datetime(2096, 3, 1, tzinfo=UTC)
    trigger = CronTrigger(limits=FixedLimits(1), logger=LOGGER, clock=clock)
    for call in (trigger.register_trigger, trigger.next_event):
        with pytest.raises(CapabilityError, match="invalid crontab"):
            await call(registration("0 0 0 29 2 *"))


async def test_a_fault_of_one_trigger_ends_that_one_alone(
    trigger: CronTrigger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await trigger.register_trigger(registration("* * * * * *"))
    other = await trigger.register_trigger(registration("* * * * * *", index=1))
    monkeypatch.setattr(stream, "push", lambda _: 1 / 0)
    await clock.advance(1)
    assert (await following(other)).id == "2026-01-01T00:00:01Z"
    with pytest.raises(CapabilityError) as caught:
        await following(stream)
    assert caught.value.serialize() == (
        f"Public:System:Internal:triggerId trigger_reg_{WORKFLOW}_0 has ended: ZeroDivisionError"
    )
    assert "a trigger failed" in caplog.text
    assert await trigger.register_trigger(registration("* * * * * *"))


async def test_a_fault_of_the_clock_ends_every_trigger_with_that_fault(
    trigger: CronTrigger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    streams = [await trigger.register_trigger(registration("* * * * * *", index=index)) for index in range(2)]
    await asyncio.sleep(0)
    clock.fault = OSError("no clock")
    with pytest.raises(TimeoutError):  # the ticker never sleeps again
        await asyncio.wait_for(clock.set(START + timedelta(seconds=1)), 0.05)
    for stream in streams:
        with pytest.raises(CapabilityError, match="has ended: OSError"):
            await following(stream)
    assert "the ticker failed" in caplog.text
    clock.fault = None
    with pytest.raises(RuntimeError, match="the ticker has failed"):
        await trigger.register_trigger(registration("* * * * * *"))


async def test_by_the_real_clock_ticks_come_in_time_and_never_early() -> None:
    trigger = CronTrigger(limits=FixedLimits(1), logger=LOGGER)
    await trigger.start()
    try:
        asked = registration("* * * * * *")
        expected = await trigger.next_event(asked)
        stream = await trigger.register_trigger(asked)
        events, lateness = [], []
        for _ in range(2):
            event = await following(stream)
            events.append(event)
            lateness.append(time.time() - scheduled(event).timestamp())
        assert events[0].id >= expected.id
        assert scheduled(events[1]) >= scheduled(events[0]) + timedelta(seconds=1)
        assert min(lateness) >= 0  # never early, however fast the machine
        assert min(lateness) < 0.5  # and in time, unless the machine stands still for both
    finally:
        await trigger.close()


def test_the_fake_clock_is_a_clock() -> None:
    clock: Clock = FakeClock()
    assert clock.now() == START
