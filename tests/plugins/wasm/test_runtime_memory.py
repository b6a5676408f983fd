"""Reading and writing guest memory: what is inside is copied, what is outside is never touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.runtime.memory import AccessError, fits, read, write, write_error

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
NEAR = st.integers(-4, 80)


class Bytes:
    """A memory that fails the test when anything outside of it is asked for."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(range(size))

    def size(self) -> int:
        return len(self.data)

    def load(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= len(self.data)
        return bytes(self.data[start : start + length])

    def store(self, start: int, data: bytes) -> None:
        assert 0 <= start <= start + len(data) <= len(self.data)
        self.data[start : start + len(data)] = data


@given(pointer=INT32 | NEAR, size=INT32 | NEAR)
def test_a_read_returns_exactly_the_range_or_raises(pointer: int, size: int) -> None:
    memory = Bytes(64)
    if pointer >= 0 and size >= 0 and pointer + size <= 64:
        assert read(memory, pointer, size) == bytes(range(64))[pointer : pointer + size]
    else:
        with pytest.raises(AccessError):
            read(memory, pointer, size)


@pytest.mark.parametrize(
    ("pointer", "size", "text"),
    [
        (-1, 4, "invalid memory access: ptr: -1, size: 4"),
        (4, -1, "invalid memory access: ptr: 4, size: -1"),
        (60, 5, "out of bounds memory access"),
        (100, (1 << 31) - 1 - 100 + 1, "out of bounds memory access"),
    ],
)
def test_a_refused_read_says_why_in_the_words_of_the_reference(pointer: int, size: int, text: str) -> None:
    with pytest.raises(AccessError) as caught:
        read(Bytes(64), pointer, size)
    assert str(caught.value) == text


@given(data=st.binary(max_size=70), pointer=INT32 | NEAR, limit=INT32 | NEAR)
def test_a_write_needs_the_whole_buffer_inside_and_changes_nothing_else(data: bytes, pointer: int, limit: int) -> None:
    memory = Bytes(64)
    result = write(memory, data, pointer, limit)
    if pointer >= 0 and limit >= len(data) and pointer + limit <= 64:
        assert result == len(data)
        expected = bytearray(range(64))
        expected[pointer : pointer + len(data)] = data
        assert memory.data == expected
    else:
        assert result == -1
        assert memory.data == bytes(range(64))


def test_nothing_can_be_written_at_the_end_of_memory() -> None:
    assert write(Bytes(64), b"", 64, 0) == 0
    assert write(Bytes(64), b"", 65, 0) == -1


@given(text=st.binary(max_size=90), pointer=INT32 | NEAR, size=INT32 | NEAR)
def test_an_error_text_is_cut_to_buffer_and_memory(text: bytes, pointer: int, size: int) -> None:
    memory = Bytes(64)
    result = write_error(memory, text, pointer, size)
    if pointer < 0 or size < 0 or pointer > 64:
        assert result == -1
        assert memory.data == bytes(range(64))
    else:
        expected = text[: min(size, 64 - pointer)]
        assert result == -len(expected)
        assert memory.data[pointer : pointer + len(expected)] == expected


@given(pointer=INT32 | NEAR, limit=INT32 | NEAR)
def test_a_buffer_fits_exactly_when_nothing_can_be_written_into_it(pointer: int, limit: int) -> None:
    memory = Bytes(64)
    assert fits(memory, pointer, limit) == (write(memory, b"", pointer, limit) == 0)
