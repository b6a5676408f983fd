"""The capability ``cron-trigger@1.0.0``.

Rules of this module:

1. Classes and texts of the refusals are the reference's: a workflow author's fault is *User*, ours is *System*.
2. Nothing is stored: the first tick of a registration is computed from now, and ticks missed while down are lost.
3. Every tick is sent, however slow its reader; when 1,000 wait, further ones are dropped and logged.
4. Unregistering is idempotent, so that it can be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from attrs import frozen
from google.protobuf.message import DecodeError

from innkeeper_cron.clock import Clock, SystemClock
from innkeeper_cron.events import METHODS, tick_event
from innkeeper_cron.proto.capabilities.scheduler.cron.v1.trigger_pb2 import Config
from innkeeper_cron.rate import check_rate, never_ticks
from innkeeper_cron.schedule import ScheduleError, parse_schedule
from innkeeper_cron.stream import EventStream
from innkeeper_cron.ticker import Entry, Ticker
from innkeeper_cron.ticks import Schedule
from innkeeper_sdk.capability import (
    Capability,
    CapabilityError,
    CapabilityInfo,
    CapabilityType,
    ErrorCode,
    Origin,
    TriggerEvent,
    TriggerRegistration,
)
from innkeeper_sdk.errors import ConfigError
from innkeeper_sdk.hooks import Limits

__all__ = ["BUFFER", "CAPABILITY_ID", "FASTEST_INTERVAL", "CronTrigger", "configured_interval"]

CAPABILITY_ID: Final = "cron-trigger@1.0.0"
FASTEST_INTERVAL: Final = "PerWorkflow.CRONTrigger.FastestScheduleInterval"
BUFFER: Final = 1000  # events that wait per registration, as in the reference

_CONFIG_KEY: Final = "fastestScheduleIntervalSeconds"


def configured_interval(config: Mapping[str, Any]) -> int | None:
    """Return the fastest interval that a provider's config sets, in seconds; None to go by the limit.

    Raises:
        ConfigError: The config is not valid.
    """
    value = config.get(_CONFIG_KEY, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(
            f"failed to unmarshal config: {_CONFIG_KEY} is not a number of seconds",
            path=f"config.{_CONFIG_KEY}",
            expected="a whole number, 0 for the limit's own value",
            actual=repr(value),
        )
    return value or None


@frozen
class _Registration:
    entry: Entry
    stream: EventStream


class CronTrigger(Capability):
    """A trigger that fires on schedules.

    Args:
        limits: The limits; asked for the fastest interval at each registration.
        logger: Where dropped events and faults are told.
        fastest: Least seconds between two ticks instead of the limit; None to go by the limit.
        clock: What ticks are measured by.
    """

    def __init__(
        self, *, limits: Limits, logger: logging.Logger, fastest: int | None = None, clock: Clock | None = None
    ) -> None:
        self._limits = limits
        self._logger = logger
        self._fastest = fastest
        self._clock: Clock = clock or SystemClock()
        self._ticker = Ticker(self._clock, logger)
        self._registrations: dict[str, _Registration] = {}
        self._closed = False

    @property
    def info(self) -> CapabilityInfo:
        """Return what this capability says of itself."""
        return CapabilityInfo(
            id=CAPABILITY_ID,
            type=CapabilityType.TRIGGER,
            description="Fires on a cron schedule",
            methods=METHODS,
        )

    async def start(self) -> None:
        """Start the timer."""
        self._ticker.start()

    async def close(self) -> None:
        """Stop the timer and end every stream; idempotent."""
        self._closed = True
        await self._ticker.close()
        registrations, self._registrations = self._registrations, {}
        for registration in registrations.values():
            registration.stream.close()

    async def register_trigger(self, registration: TriggerRegistration) -> AsyncIterator[TriggerEvent]:
        """Register a schedule.

        Raises:
            CapabilityError: The method or the schedule is refused, or the trigger id is taken.
        """
        if registration.method not in METHODS:
            return await super().register_trigger(registration)
        trigger_id = registration.trigger_id
        if self._closed:
            raise _internal("cannot register a new trigger, service has been closed")
        if trigger_id in self._registrations:
            raise _internal(f"triggerId {trigger_id} already registered")
        stream = EventStream(BUFFER)
        entry = Entry(
            self._schedule(registration),
            deliver=partial(self._deliver, trigger_id, registration.method, stream),
            fail=partial(self._fail, trigger_id, stream),
        )
        if not self._ticker.add(entry):
            raise never_ticks()
        self._registrations[trigger_id] = _Registration(entry, stream)
        self._logger.debug("registered trigger %s; its first tick is %s", trigger_id, entry.pending)
        return stream

    async def unregister_trigger(self, registration: TriggerRegistration) -> None:
        """End a registration; an unknown id is fine.

        Raises:
            CapabilityError: The method is unknown, or this capability is closed.
        """
        if registration.method not in METHODS:
            return await super().unregister_trigger(registration)
        if self._closed:
            raise _internal("cannot unregister a new trigger, service has been closed")
        found = self._registrations.pop(registration.trigger_id, None)
        if found is None:
            self._logger.warning("triggerId %s is not registered; nothing to unregister", registration.trigger_id)
            return None
        self._ticker.remove(found.entry)
        found.stream.close()
        return None

    async def next_event(self, registration: TriggerRegistration) -> TriggerEvent:
        """Return the event of the schedule's next tick, without registering it.

        Raises:
            CapabilityError: The method or the schedule would be refused.
        """
        if registration.method not in METHODS:
            raise CapabilityError(
                f"trigger {registration.method} not found", error_code=ErrorCode.NotFound, origin=Origin.USER
            )
        tick = self._schedule(registration).next(self._clock.now())
        if tick is None:
            raise never_ticks()
        return tick_event(registration.method, tick)

    def _schedule(self, registration: TriggerRegistration) -> Schedule:
        config = Config()
        try:
            unpacked = registration.payload.Unpack(config)
        except DecodeError as error:
            raise _invalid(f"failed to unmarshal {config.DESCRIPTOR.full_name}: {error}") from error
        if not unpacked:
            found = registration.payload.type_url or "nothing"
            raise _invalid(f"failed to unmarshal payload: expected {config.DESCRIPTOR.full_name}, found {found}")
        try:
            schedule = parse_schedule(config.schedule)
        except ScheduleError as error:
            raise _invalid(f"failed to initialize job: {error}") from error
        check_rate(schedule, self._fastest_interval(registration))
        return schedule

    def _fastest_interval(self, registration: TriggerRegistration) -> float:
        if self._fastest is not None:
            return self._fastest
        who = registration.metadata
        return self._limits.get(FASTEST_INTERVAL, owner=who.workflow_owner, workflow_id=who.workflow_id)

    def _deliver(self, trigger_id: str, method: str, stream: EventStream, tick: datetime) -> None:
        event = tick_event(method, tick)
        if not stream.push(event):
            self._logger.error("callback channel full, dropping event: trigger %s, event %s", trigger_id, event.id)

    def _fail(self, trigger_id: str, stream: EventStream, error: Exception) -> None:
        self._registrations.pop(trigger_id, None)
        stream.close(_internal(f"triggerId {trigger_id} has ended: {type(error).__name__}"))


def _internal(text: str) -> CapabilityError:
    return CapabilityError(text, error_code=ErrorCode.Internal)


def _invalid(text: str) -> CapabilityError:
    return CapabilityError(text, error_code=ErrorCode.InvalidArgument, origin=Origin.USER)
