"""Frames between a driver and an execution: cut anywhere, they come out whole; nonsense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.runtime.limits import CompileLimits, GuestLimits
from innkeeper_wasm.runtime.wire import FrameReader, Kind, Request, WireError, encode

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
COUNT = st.integers(0, (1 << 31) - 1)
LIMITS = st.builds(
    GuestLimits,
    log_line_bytes=COUNT,
    log_events_don=COUNT,
    log_events_node=COUNT,
    metrics=st.booleans(),
    metric_bytes=COUNT,
    poll_subscriptions=COUNT,
    message_bytes=COUNT,
    cpu_seconds=COUNT,
)


@given(
    frames=st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300)), max_size=6),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[tuple[Kind, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(encode(kind, payload) for kind, payload in frames)
    reader = FrameReader(1000)
    found = []
    position = turn = 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        reader.feed(stream[position : position + step])
        position += step
        turn += 1
        while (frame := reader.next()) is not None:
            found.append((frame.kind, frame.payload))
    assert found == frames


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\0\0\0\0\1", "0 bytes"),
        (b"\x0b\0\0\0\1", "11 bytes"),
        (b"\xff\xff\xff\xff\1", "4294967295 bytes"),
        (b"\1\0\0\0\xff", "kind 255"),
    ],
)
def test_a_frame_that_is_empty_too_long_or_unknown_is_refused(data: bytes, text: str) -> None:
    reader = FrameReader(10)
    reader.feed(data)
    with pytest.raises(WireError, match=text):
        reader.next()


@given(request=st.binary(max_size=200), don=INT64, node=INT64, limits=LIMITS)
def test_a_request_survives_its_wire_form(request: bytes, don: int, node: int, limits: GuestLimits) -> None:
    packed = Request(request=request, don_seed=don, node_seed=node, limits=limits)
    assert Request.unpack(packed.pack()) == packed


@given(st.binary(max_size=60))
def test_a_request_of_any_bytes_is_read_or_refused(payload: bytes) -> None:
    try:
        Request.unpack(payload)
    except WireError:
        return
    assert len(payload) >= 46


@pytest.mark.parametrize("change", [{"log_line_bytes": -1}, {"message_bytes": 1 << 31}, {"metrics": 1}])
def test_guest_limits_outside_their_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises((ValueError, TypeError)):
        GuestLimits(**change)  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize("change", [{"binary_bytes": 0}, {"wall_seconds": 0}, {"memory_bytes": -1}])
def test_compile_limits_outside_their_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CompileLimits(**change)  # type: ignore[arg-type]  # that is the test
