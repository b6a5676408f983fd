"""What a tick is on the wire.

Rules of this module:

1. An event's id is its scheduled time, UTC, RFC 3339, whole seconds: a tick has the same id after a restart.
2. The payload is the scheduled time, never the moment of sending. The legacy method carries it as text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper_cron.proto.capabilities.scheduler.cron.v1.trigger_pb2 import Config, LegacyPayload, Payload
from innkeeper_sdk.capability import MethodInfo, TriggerEvent

__all__ = ["LEGACY", "METHODS", "TRIGGER", "tick_event"]

TRIGGER: Final = "Trigger"
LEGACY: Final = ""  # LegacyTrigger is reached by the empty name

METHODS: Final = {
    TRIGGER: MethodInfo(TRIGGER, Config.DESCRIPTOR.full_name, Payload.DESCRIPTOR.full_name, idempotent=True),
    LEGACY: MethodInfo(LEGACY, Config.DESCRIPTOR.full_name, LegacyPayload.DESCRIPTOR.full_name, idempotent=True),
}


def tick_event(method: str, tick: datetime) -> TriggerEvent:
    """Return the event of a tick.

    Args:
        method: :data:`TRIGGER` or :data:`LEGACY`.
        tick: Its scheduled time, a whole second.
    """
    text = tick.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    payload = AnyMessage()
    if method == LEGACY:
        payload.Pack(LegacyPayload(scheduled_execution_time=text), deterministic=True)
    else:
        scheduled = Payload()
        scheduled.scheduled_execution_time.FromDatetime(tick)
        payload.Pack(scheduled, deterministic=True)
    return TriggerEvent(id=text, payload=payload)
