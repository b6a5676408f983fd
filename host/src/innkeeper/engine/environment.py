"""What all engines of a host share."""

from __future__ import annotations

import logging

from attrs import field, frozen

from innkeeper.engine.backoff import Backoff
from innkeeper.engine.clock import Clock, SystemClock
from innkeeper.engine.concurrency import ExecutionSlots
from innkeeper.engine.events import Broadcast
from innkeeper.engine.metrics import LogMetrics
from innkeeper.engine.ports import CapabilityRegistry, HostLimits, MetricSink, SecretSource
from innkeeper.engine.secrets import NoSecrets
from innkeeper.store.stores import Stores

__all__ = ["Environment"]

_LOGGER = logging.getLogger("innkeeper.engine")


@frozen(kw_only=True)
class Environment:
    """The host around an engine.

    Attributes:
        registry: The way to capabilities.
        stores: Where executions, logs and journals are kept.
        limits: Every declared limit, with the operator's settings.
        slots: The host's places for executions.
        events: Who is told what happens.
        secrets: The way to secrets.
        metrics: Where user metrics go.
        clock: The time.
        backoff: The pauses between tries, of a lost trigger and of a module that is not available.
        logger: Where troubles go.
    """

    registry: CapabilityRegistry
    stores: Stores
    limits: HostLimits
    slots: ExecutionSlots
    events: Broadcast
    secrets: SecretSource = field(factory=NoSecrets)
    metrics: MetricSink = field(factory=lambda: LogMetrics(_LOGGER))
    clock: Clock = field(factory=SystemClock)
    backoff: Backoff = field(factory=lambda: Backoff(first=1.0, most=60.0))
    logger: logging.Logger = _LOGGER
