"""Reading what a process prints."""

from __future__ import annotations

import asyncio
import os

import pytest

from innkeeper.loop.handshake import LINE_BYTES
from innkeeper.loop.pipes import Drain, FirstLine


async def test_everything_is_read_and_the_end_is_told_once() -> None:
    reading, writing = os.pipe()
    taken: list[bytes] = []
    ended: list[int] = []
    drain = Drain(reading, taken.append, lambda: ended.append(1))
    whole = os.urandom(1 << 20)

    def write() -> None:
        with open(writing, "wb") as file:
            file.write(whole)

    await asyncio.to_thread(write)
    await drain.done.wait()
    drain.close()
    assert b"".join(taken) == whole
    assert ended == [1]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(reading)


async def test_who_reads_no_more_closes_its_end() -> None:
    reading, writing = os.pipe()
    drain = Drain(reading, lambda _: None, lambda: None)
    drain.close()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        ([b"a", b"b\nc\n"], b"ab\n"),
        ([b"\n"], b"\n"),
        ([b"x" * (LINE_BYTES + 1)], b"x" * (LINE_BYTES + 1)),
    ],
)
async def test_the_first_line_is_there_as_soon_as_it_ends_or_is_too_long(pieces: list[bytes], line: bytes) -> None:
    first = FirstLine()
    for piece in pieces:
        assert not first.line.done()
        first.take(piece)
    first.take(b"later\n")
    first.end()
    assert first.line.result() == first.printed == line


@pytest.mark.parametrize("pieces", [[], [b"ab"]])
async def test_the_end_of_the_output_ends_the_first_line(pieces: list[bytes]) -> None:
    first = FirstLine()
    for piece in pieces:
        first.take(piece)
    first.end()
    assert first.line.result() == b"".join(pieces)
