"""The frames between an enclave and its parent."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_confidential_workflows.enclave.channel import FrameChannel
from innkeeper_confidential_workflows.enclave.frames import (
    LENGTH,
    MAX_FRAME_BYTES,
    Answer,
    Ask,
    Boot,
    Booted,
    Cancel,
    Chunk,
    Execute,
    Failed,
    Frame,
    FrameError,
    Read,
    Refusal,
    Result,
    decode,
    encode,
    payload_length,
)
from innkeeper_confidential_workflows.protocol import cbor

KINDS: tuple[type[Frame], ...] = (
    Boot,
    Booted,
    Execute,
    Cancel,
    Result,
    Failed,
    Ask,
    Answer,
    Read,
    Chunk,
    Refusal,
)
VALUES = {"bytes": st.binary(max_size=64), "str": st.text(max_size=64), "int": st.integers(0, 2**63 - 1)}


def frames() -> st.SearchStrategy[Frame]:
    def of(kind: type[Frame]) -> st.SearchStrategy[Frame]:
        return st.builds(kind, **{item.name: VALUES[str(item.type)] for item in fields(kind)})

    return st.sampled_from(KINDS).flatmap(of)


@given(frames())
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    data = encode(frame)
    assert payload_length(data[: LENGTH.size]) == len(data) - LENGTH.size
    assert decode(data[LENGTH.size :]) == frame


@given(st.binary(max_size=200))
def test_what_is_no_frame_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode(data)


@given(frames(), st.data())
def test_a_changed_byte_is_another_frame_or_a_typed_error(frame: Frame, data: st.DataObject) -> None:
    content = bytearray(encode(frame)[LENGTH.size :])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = decode(bytes(content))
    except FrameError:
        return
    assert found != frame


@pytest.mark.parametrize(
    "content",
    [
        {"op": "cancel"},
        {"op": "cancel", "id": "1"},
        {"op": "cancel", "id": -1},
        {"op": "cancel", "id": 1, "more": 1},
        {"op": "read", "id": 1, "locator": b"bytes", "offset": 0},
        {"op": "unknown", "id": 1},
        {"id": 1},
        {"op": None},
        ["cancel", 1],
    ],
)
def test_other_fields_types_and_kinds_are_refused(content: Any) -> None:
    with pytest.raises(FrameError):
        decode(cbor.encode(content))


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_anything_is_read(length: int) -> None:
    with pytest.raises(FrameError):
        payload_length(LENGTH.pack(length))


def test_the_longest_frame_is_taken_and_a_longer_one_is_not_made() -> None:
    frame = Answer(id=1, payload=b"")
    most = MAX_FRAME_BYTES - (len(encode(evolve(frame, payload=bytes(1 << 20)))) - LENGTH.size - (1 << 20))
    data = encode(evolve(frame, payload=bytes(most)))
    assert payload_length(data[: LENGTH.size]) == MAX_FRAME_BYTES
    with pytest.raises(FrameError, match="at most"):
        encode(evolve(frame, payload=bytes(most + 1)))


async def test_frames_cross_a_channel_whole_and_in_order() -> None:
    left, right = socket.socketpair()
    one, other = await FrameChannel.open(left), await FrameChannel.open(right)
    sent = [Answer(id=number, payload=bytes(100_000)) for number in range(20)]
    sending = asyncio.gather(*(one.send(frame) for frame in sent))
    async with asyncio.timeout(20):
        assert [await other.receive() for _ in sent] == sent
        await sending
        await one.close()
        assert await other.receive() is None
    await other.close()


async def test_a_stream_that_ends_within_a_frame_is_an_end() -> None:
    left, right = socket.socketpair()
    channel = await FrameChannel.open(left)
    with right:
        right.sendall(encode(Cancel(id=1))[:-1])
    assert await channel.receive() is None
    await channel.close()


async def test_nonsense_on_a_stream_is_said_to_be_that() -> None:
    left, right = socket.socketpair()
    channel = await FrameChannel.open(left)
    with right:
        right.sendall(LENGTH.pack(3) + b"abc")
        with pytest.raises(FrameError):
            await channel.receive()
    await channel.close()
