"""The WASI functions: what the reference replaces, and the rest just as wasmtime itself answers."""

from __future__ import annotations

import base64
import struct

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_wasm.runtime.guest import Guest, GuestFault, ProcessExit, Refused
from innkeeper_wasm.runtime.imports import WASI, WASI_MODULE
from innkeeper_wasm.runtime.limits import GuestLimits
from innkeeper_wasm.runtime.wasi import Wasi
from innkeeper_wasm.runtime.wire import Kind, Request

SIZE = 65536
REQUEST = b"a request"
OURS_ALONE = {"clock_time_get", "poll_oneoff", "proc_exit", "random_get"}
"""Replaced by the reference, without an answer of their own, or random."""
SHARED = sorted(WASI.keys() - OURS_ALONE)


class Memory:
    def __init__(self, data: bytes = bytes(SIZE)) -> None:
        self.data = bytearray(data)

    def size(self) -> int:
        return len(self.data)

    def load(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= len(self.data)
        return bytes(self.data[start : start + length])

    def store(self, start: int, data: bytes) -> None:
        assert 0 <= start <= start + len(data) <= len(self.data)
        self.data[start : start + len(data)] = data


class Host:
    def __init__(self, *times: int | Refused) -> None:
        self.times = list(times)

    def ask(self, kind: int, payload: bytes) -> bytes:
        assert kind == Kind.NODE_TIME
        time = self.times.pop(0)
        if isinstance(time, Refused):
            raise time
        return struct.pack("<q", time)

    def tell(self, kind: int, payload: bytes) -> None:
        raise AssertionError("WASI tells nothing")


def wasi(memory: Memory, *times: int | Refused) -> Wasi:
    guest = Guest(memory)
    guest.begin(Host(*times), Request(request=REQUEST, don_seed=0, node_seed=0, limits=GuestLimits()))
    return Wasi(guest)


class Wasmtime:
    """wasmtime's own WASI, each function exported under its name."""

    def __init__(self) -> None:
        self._engine = wasmtime.Engine()
        types = {"i": "i32", "I": "i64"}
        imports, exports = [], []
        for name in SHARED:
            letters = WASI[name].parameters
            parameters = f"(param {' '.join(types[letter] for letter in letters)})" if letters else ""
            gets = " ".join(f"(local.get {index})" for index in range(len(letters)))
            imports.append(f'(import "{WASI_MODULE}" "{name}" (func ${name} {parameters} (result i32)))')
            exports.append(f'(func (export "{name}") {parameters} (result i32) (call ${name} {gets}))')
        text = f'(module {" ".join(imports)} (memory (export "memory") 1) {" ".join(exports)})'
        self._module = wasmtime.Module(self._engine, text)

    def call(self, before: bytes, calls: list[tuple[str, tuple[int, ...]]]) -> tuple[list[int | None], bytes]:
        """Return what the calls return (None: the guest was ended), and the memory after them."""
        store = wasmtime.Store(self._engine)
        config = wasmtime.WasiConfig()
        config.argv = ["wasi", base64.standard_b64encode(REQUEST).decode()]
        store.set_wasi(config)
        linker = wasmtime.Linker(self._engine)
        linker.define_wasi()
        exports = linker.instantiate(store, self._module).exports(store)
        memory = exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        memory.write(store, before)
        results: list[int | None] = []
        for name, numbers in calls:
            function = exports[name]
            assert isinstance(function, wasmtime.Func)
            try:
                results.append(function(store, *numbers))
            except wasmtime.WasmtimeError:
                results.append(None)
                break
        return results, bytes(memory.read(store, 0, SIZE))


@pytest.fixture(scope="module")
def theirs() -> Wasmtime:
    return Wasmtime()


def ours(before: bytes, calls: list[tuple[str, tuple[int, ...]]]) -> tuple[list[int | None], bytes]:
    memory = Memory(before)
    functions = wasi(memory)
    results: list[int | None] = []
    for name, numbers in calls:
        try:
            results.append(getattr(functions, name)(*numbers))
        except GuestFault:
            results.append(None)
            break
    return results, bytes(memory.data)


POINTERS = st.sampled_from([0, 1, 4, 8, 100, 104, 1000, 4096, SIZE - 8, SIZE - 4, SIZE - 1, SIZE, -1, -8, -(1 << 31)])
SMALL = st.integers(-2, 6)
BIG = st.sampled_from([31, 32, 1 << 14, 1 << 24, 1 << 26, (1 << 30) - 1, (1 << 31) - 1])


@st.composite
def _calls(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...]]]:
    calls = []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(SHARED))
        calls.append((name, tuple(draw(SMALL | POINTERS | BIG) for _ in WASI[name].parameters)))
    return calls


def memory_with_vectors(numbers: list[int]) -> bytes:
    data = bytearray(b"\xee" * SIZE)
    packed = struct.pack(f"<{len(numbers)}I", *(number & 0xFFFFFFFF for number in numbers))
    data[100 : 100 + len(packed)] = packed
    data[1000:1009] = b"hello.txt"
    return bytes(data)


@settings(max_examples=500, deadline=None)
@given(calls=_calls(), vectors=st.lists(POINTERS | SMALL, min_size=8, max_size=8))
def test_every_shared_function_answers_and_writes_as_wasmtime_does(
    theirs: Wasmtime, calls: list[tuple[str, tuple[int, ...]]], vectors: list[int]
) -> None:
    before = memory_with_vectors(vectors)
    expected, expected_memory = theirs.call(before, calls)
    found, memory = ours(before, calls)
    assert found == expected
    if None not in expected:  # A guest that was ended does not look at its memory any more.
        assert memory == expected_memory


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("fd", [0, 1, 2, 3, -1])
def test_every_shared_function_knows_the_three_streams_and_no_other(theirs: Wasmtime, name: str, fd: int) -> None:
    before = memory_with_vectors([200, 4, 300, 3, 0, 0, 0, 0])
    for first in (fd, 1000):
        numbers = (first, 100, 1, 1000, 8, 0, 0, 0, 1000)
        calls = [(name, numbers[: len(WASI[name].parameters)])]
        expected, expected_memory = theirs.call(before, calls)
        found, memory = ours(before, calls)
        assert found == expected
        assert memory == expected_memory or found == [None]


def test_streams_can_be_closed_and_moved_as_wasmtime_does(theirs: Wasmtime) -> None:
    before = memory_with_vectors([200, 4, 300, 3, 0, 0, 0, 0])
    calls = [
        ("fd_renumber", (1, 2)),
        ("fd_write", (1, 100, 2, 1000)),
        ("fd_write", (2, 100, 2, 1004)),
        ("fd_renumber", (5, 2)),
        ("fd_renumber", (2, 5)),
        ("fd_close", (2,)),
        ("fd_close", (2,)),
        ("fd_renumber", (0, 0)),
        ("fd_read", (0, 100, 2, 1000)),
        ("fd_close", (0,)),
        ("fd_read", (0, 100, 2, 1000)),
        ("fd_close", (-1,)),
    ]
    assert ours(before, calls) == theirs.call(before, calls)


def test_clocks_read_node_time_and_the_monotonic_one_starts_at_one_nanosecond() -> None:
    memory = Memory()
    functions = wasi(memory, 1_000, 1_000, 1_500, 2_000)
    expected = [(1, 1), (0, 1_000), (1, 501), (0, 2_000)]
    for clock, value in expected:
        assert functions.clock_time_get(clock, 0, 8) == 0
        assert struct.unpack_from("<Q", memory.data, 8) == (value,)


@pytest.mark.parametrize("clock", [2, 3, 4, -1])
def test_other_clocks_are_invalid(clock: int) -> None:
    assert wasi(Memory()).clock_time_get(clock, 0, 8) == 28


@pytest.mark.parametrize("pointer", [-1, SIZE - 7, 0x7FFFFFFC])
def test_a_clock_does_not_report_an_unusable_buffer(pointer: int) -> None:
    memory = Memory()
    assert wasi(memory, 5).clock_time_get(0, 0, pointer) == 0
    assert memory.data == bytes(SIZE)


def test_a_clock_is_invalid_if_the_host_has_no_time() -> None:
    assert wasi(Memory(), Refused(b"no")).clock_time_get(0, 0, 8) == 28


def test_random_bytes_are_entropy_and_stay_in_their_buffer() -> None:
    memory = Memory()
    assert wasi(memory).random_get(100, 64) == 0
    first = bytes(memory.data[100:164])
    assert wasi(memory).random_get(100, 64) == 0
    assert bytes(memory.data[100:164]) != first != bytes(64)
    assert memory.data[:100] == bytes(100)
    assert memory.data[164:] == bytes(SIZE - 164)


def test_random_bytes_for_a_negative_length_are_invalid() -> None:
    assert wasi(Memory()).random_get(0, -1) == 28


@pytest.mark.parametrize(("pointer", "length"), [(SIZE - 4, 8), (-8, 16), (0, SIZE + 1), (0, 67_108_865)])
def test_random_bytes_outside_of_the_memory_end_the_guest(pointer: int, length: int) -> None:
    with pytest.raises(GuestFault):
        wasi(Memory()).random_get(pointer, length)


def test_no_random_bytes_are_fine_anywhere() -> None:
    assert wasi(Memory()).random_get(-1, 0) == 0


@pytest.mark.parametrize("code", [0, 1, 110, 125])
def test_exit_codes_that_wasi_has_end_the_process(code: int) -> None:
    with pytest.raises(ProcessExit) as caught:
        wasi(Memory()).proc_exit(code)
    assert caught.value.code == code


@pytest.mark.parametrize("code", [126, 255, -1])
def test_exit_codes_that_wasi_does_not_have_end_the_guest(code: int) -> None:
    with pytest.raises(GuestFault, match=r"outside of \[0..126\)"):
        wasi(Memory()).proc_exit(code)
