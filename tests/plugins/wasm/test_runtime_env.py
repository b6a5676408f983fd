"""The env functions, one by one: return values, texts, and the order of their checks."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_wasm.runtime.env import Env
from innkeeper_wasm.runtime.guest import Guest, Refused
from innkeeper_wasm.runtime.limits import GuestLimits
from innkeeper_wasm.runtime.wire import Kind, Request

FUNCTIONS = [
    "send_response",
    "call_capability_v1",
    "call_capability_v2",
    "await_capabilities",
    "get_secrets",
    "await_secrets",
    "log",
    "emit_metric",
    "switch_modes",
    "random_seed",
    "now",
]
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


class Memory:
    def __init__(self, size: int = 256) -> None:
        self.data = bytearray(size)

    def size(self) -> int:
        return len(self.data)

    def load(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= len(self.data)
        return bytes(self.data[start : start + length])

    def store(self, start: int, data: bytes) -> None:
        assert 0 <= start <= start + len(data) <= len(self.data)
        self.data[start : start + len(data)] = data


class Host:
    def __init__(self) -> None:
        self.answer: bytes | Refused = b""
        self.asked: list[tuple[int, bytes]] = []
        self.told: list[tuple[int, bytes]] = []

    def ask(self, kind: int, payload: bytes) -> bytes:
        self.asked.append((kind, payload))
        if isinstance(self.answer, Refused):
            raise self.answer
        return self.answer

    def tell(self, kind: int, payload: bytes) -> None:
        self.told.append((kind, payload))


class Bench:
    """A guest without a wasm engine."""

    def __init__(self, **limits: Any) -> None:
        self.memory = Memory()
        self.host = Host()
        self.guest = Guest(self.memory)
        self.guest.begin(
            self.host,
            Request(request=b"", don_seed=-5, node_seed=6, limits=GuestLimits(**limits)),
        )
        self.env = Env(self.guest)

    def put(self, text: bytes, at: int = 0) -> tuple[int, int]:
        self.memory.data[at : at + len(text)] = text
        return at, len(text)

    def text(self, at: int, result: int) -> bytes:
        assert result < 0
        return bytes(self.memory.data[at : at - result])

    @property
    def notices(self) -> list[str]:
        return [payload.decode() for kind, payload in self.host.told if kind == Kind.NOTICE]

    @property
    def lines(self) -> list[bytes]:
        return [payload[4:] for kind, payload in self.host.told if kind == Kind.LOG]


def test_send_response_hands_over_the_bytes_and_returns_what_the_host_says() -> None:
    bench = Bench()
    bench.host.answer = struct.pack("<i", 0)
    assert bench.env.send_response(*bench.put(b"result")) == 0
    assert bench.host.asked == [(Kind.SEND_RESPONSE, b"result")]
    bench.host.answer = struct.pack("<i", 21)
    assert bench.env.send_response(0, 6) == 21


@pytest.mark.parametrize(("pointer", "length"), [(-1, 4), (0, -1), (250, 10)])
def test_a_response_that_cannot_be_read_is_a_fault_and_never_sent(pointer: int, length: int) -> None:
    bench = Bench()
    assert bench.env.send_response(pointer, length) == 21
    assert bench.host.asked == []
    assert len(bench.notices) == 1


def test_a_response_beyond_the_message_limit_is_a_fault() -> None:
    bench = Bench(message_bytes=5)
    assert bench.env.send_response(*bench.put(b"result")) == 21
    assert bench.host.asked == []


def test_call_capability_returns_0_and_leaves_memory_alone() -> None:
    bench = Bench()
    bench.put(b"request")
    before = bytes(bench.memory.data)
    assert bench.env.call_capability_v1(0, 7) == 0
    assert bench.env.call_capability_v2(0, 7, 100, 50) == 0
    assert bench.host.asked == [(Kind.CALL_CAPABILITY, b"request")] * 2
    assert bench.memory.data == before


def test_an_error_of_the_old_call_capability_overwrites_the_request_and_is_cut_to_it() -> None:
    bench = Bench()
    bench.host.answer = Refused(b"error calling proto unmarshal: no")
    result = bench.env.call_capability_v1(*bench.put(b"0123456789"))
    assert bench.text(0, result) == b"error call"


def test_an_error_of_the_new_call_capability_goes_to_its_own_buffer() -> None:
    bench = Bench()
    bench.host.answer = Refused(b"error calling callCapAsync: duplicate callback id not allowed")
    result = bench.env.call_capability_v2(*bench.put(b"0123456789"), 100, 100)
    assert bench.text(100, result) == b"error calling callCapAsync: duplicate callback id not allowed"
    assert bench.memory.data[:10] == b"0123456789"


@pytest.mark.parametrize(
    ("pointer", "length", "text"),
    [
        (-3, 4, b"error calling wasmRead: invalid memory access: ptr: -3, size: 4"),
        (250, 20, b"error calling wasmRead: out of bounds memory access"),
    ],
)
@pytest.mark.parametrize("name", ["call_capability_v2", "get_secrets"])
def test_a_request_that_cannot_be_read_is_told_to_the_guest(name: str, pointer: int, length: int, text: bytes) -> None:
    bench = Bench()
    assert bench.text(100, getattr(bench.env, name)(pointer, length, 100, 120)) == text
    assert bench.host.asked == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("get_secrets", b"error calling wasmRead: message of 6 bytes, at most 5 are allowed"),
        ("await_secrets", b"error reading from wasm message of 6 bytes, at most 5 are allowed"),
    ],
)
def test_a_request_beyond_the_message_limit_is_told_to_the_guest(name: str, text: bytes) -> None:
    bench = Bench(message_bytes=5)
    assert bench.text(100, getattr(bench.env, name)(*bench.put(b"123456"), 100, 120)) == text
    assert bench.host.asked == []


AWAITS = pytest.mark.parametrize(
    ("name", "kind"),
    [("await_capabilities", Kind.AWAIT_CAPABILITIES), ("await_secrets", Kind.AWAIT_SECRETS)],
)


@AWAITS
def test_an_await_writes_the_answer_and_returns_its_length(name: str, kind: Kind) -> None:
    bench = Bench()
    bench.host.answer = b"answer"
    assert getattr(bench.env, name)(*bench.put(b"ids"), 100, 50) == 6
    assert bench.memory.data[100:106] == b"answer"
    assert bench.host.asked == [(kind, struct.pack("<q", 50) + b"ids")]


@AWAITS
def test_an_await_that_cannot_be_read_never_reaches_the_host(name: str, kind: Kind) -> None:
    bench = Bench()
    result = getattr(bench.env, name)(-1, 2, 100, 100)
    assert bench.text(100, result) == b"error reading from wasm invalid memory access: ptr: -1, size: 2"
    assert bench.host.asked == []


@AWAITS
@pytest.mark.parametrize(("response", "limit"), [(-1, 50), (100, -1), (200, 57)])
def test_an_await_with_an_unusable_buffer_tells_the_host_that_nothing_fits(
    name: str, kind: Kind, response: int, limit: int
) -> None:
    bench = Bench()
    bench.host.answer = Refused(b"response buffer too small")
    result = getattr(bench.env, name)(*bench.put(b"ids"), response, limit)
    assert bench.host.asked == [(kind, struct.pack("<q", -1) + b"ids")]
    assert result == (-25 if response == 200 else -1)


@AWAITS
def test_an_answer_that_does_not_fit_is_an_error_cut_to_the_buffer(name: str, kind: Kind) -> None:
    bench = Bench()
    bench.host.answer = b"far too long an answer"
    result = getattr(bench.env, name)(*bench.put(b"ids"), 100, 8)
    assert bench.text(100, result) == b"response"


def test_an_error_in_a_buffer_of_length_0_reads_as_success_as_in_the_reference() -> None:
    bench = Bench()
    bench.host.answer = Refused(b"no")
    assert bench.env.get_secrets(0, 0, 100, 0) == 0


def test_log_lines_are_delivered_until_the_limit_of_their_mode() -> None:
    bench = Bench(log_events_don=3, log_events_node=1, log_line_bytes=4)
    bench.env.switch_modes(1)
    for line in (b"1", b"long!", b"3", b"4"):
        bench.env.log(*bench.put(line))
    assert bench.lines == [b"1", b"3"]
    bench.env.switch_modes(2)
    for line in (b"n1", b"n2"):
        bench.env.log(*bench.put(line))
    assert bench.lines == [b"1", b"3", b"n1"]
    assert [notice.split(";")[0].split(":")[0] for notice in bench.notices] == [
        "user log line dropped",
        "user log limit reached in mode 1",
        "user log limit reached in mode 2",
    ]


@pytest.mark.parametrize("mode", [0, 3, -1, 1 << 30])
def test_log_lines_outside_of_both_modes_are_dropped_silently(mode: int) -> None:
    bench = Bench()
    bench.env.switch_modes(mode)
    bench.env.log(*bench.put(b"line"))
    assert bench.host.told == []


def test_a_log_line_that_cannot_be_read_has_used_up_its_count() -> None:
    bench = Bench(log_events_don=1)
    bench.env.switch_modes(1)
    bench.env.log(-1, 4)
    bench.env.log(*bench.put(b"line"))
    assert bench.lines == []


def test_a_log_line_needs_no_utf_8() -> None:
    bench = Bench()
    bench.env.switch_modes(2)
    bench.env.log(*bench.put(b"\xff\xfe"))
    assert bench.host.told == [(Kind.LOG, b"\2\0\0\0\xff\xfe")]


def test_metrics_are_refused_while_their_gate_is_closed() -> None:
    bench = Bench()
    assert bench.env.emit_metric(*bench.put(b"metric")) == -1
    assert bench.host.asked == []


@pytest.mark.parametrize(("pointer", "length"), [(0, 0), (0, -1), (0, 11), (-1, 4), (250, 10)])
def test_a_metric_that_is_empty_too_large_or_unreadable_is_refused(pointer: int, length: int) -> None:
    bench = Bench(metrics=True, metric_bytes=10)
    assert bench.env.emit_metric(pointer, length) == -1
    assert bench.host.asked == []


def test_a_metric_is_handed_over_and_the_hosts_word_counts() -> None:
    bench = Bench(metrics=True, metric_bytes=6)
    bench.host.answer = struct.pack("<i", 0)
    assert bench.env.emit_metric(*bench.put(b"metric")) == 0
    bench.host.answer = struct.pack("<i", -1)
    assert bench.env.emit_metric(0, 6) == -1
    assert bench.host.asked == [(Kind.EMIT_METRIC, b"metric")] * 2


@pytest.mark.parametrize(("mode", "seed"), [(1, -5), (2, 6), (0, -1), (3, -1), (-1, -1)])
def test_each_mode_has_its_seed_and_no_other_has_one(mode: int, seed: int) -> None:
    assert Bench().env.random_seed(mode) == seed


def test_now_asks_for_the_time_of_the_mode_and_writes_it() -> None:
    bench = Bench()
    bench.env.switch_modes(1)
    bench.host.answer = struct.pack("<q", 1_577_934_245_000_000_000)
    assert bench.env.now(8) == 0
    assert struct.unpack_from("<q", bench.memory.data, 8) == (1_577_934_245_000_000_000,)
    assert bench.host.asked == [(Kind.NOW, struct.pack("<I", 1))]


@pytest.mark.parametrize("pointer", [-8, 252, 0x7FFFFFFC])
def test_now_does_not_report_an_unusable_buffer(pointer: int) -> None:
    bench = Bench()
    bench.host.answer = bytes(range(8))
    assert bench.env.now(pointer) == 0
    assert bench.memory.data == bytes(256)


def test_now_is_invalid_if_the_host_has_no_time() -> None:
    bench = Bench()
    bench.host.answer = Refused(b"no time")
    assert bench.env.now(0) == 28


@given(
    name=st.sampled_from(FUNCTIONS),
    numbers=st.lists(INT32 | st.integers(-4, 300), min_size=4, max_size=4),
    refuse=st.booleans(),
    answer=st.binary(min_size=8, max_size=300),
)
def test_no_numbers_lead_outside_of_the_memory(name: str, numbers: list[int], refuse: bool, answer: bytes) -> None:
    bench = Bench(metrics=True)
    bench.guest.mode = 1
    # The host's end answers within the capacity that it was told; these are its fixed sizes.
    sizes = {"send_response": 4, "emit_metric": 4, "now": 8}
    bench.host.answer = Refused(answer) if refuse else answer[: sizes.get(name, 300)]
    function = getattr(bench.env, name)
    arity = function.__code__.co_argcount - 1
    function(*numbers[:arity])
