"""The stream between the ticker and its reader."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from innkeeper_cron.stream import EventStream
from innkeeper_sdk.capability import CapabilityError, TriggerEvent


def event(name: str) -> TriggerEvent:
    return TriggerEvent(name, AnyMessage())


async def test_events_come_in_their_order_and_a_full_stream_refuses() -> None:
    stream = EventStream(2)
    assert [stream.push(event(name)) for name in "abc"] == [True, True, False]
    assert [(await anext(stream)).id for _ in range(2)] == ["a", "b"]
    assert stream.push(event("d"))


async def test_a_closed_stream_gives_what_it_holds_then_how_it_was_closed_first() -> None:
    stream = EventStream(2)
    stream.push(event("a"))
    stream.close(CapabilityError("gone"))
    stream.close()
    assert not stream.push(event("b"))
    assert (await anext(stream)).id == "a"
    for _ in range(2):
        with pytest.raises(CapabilityError, match="gone"):
            await anext(stream)
