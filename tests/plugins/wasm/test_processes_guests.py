"""What guests get when they call the host, run in real processes: one zygote, one process per execution."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import pytest

from innkeeper_wasm.driver import CallRefused, EndingKind, GuestLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def run(guests: Any, execute: Any, *instructions: tuple[Any, ...], data: bytes = b"", **options: Any) -> Any:
    """Run a program; return what its instructions returned, the outcome and the host."""
    host = guests.Host(guests.assemble(list(instructions), data), **options.pop("answers", {}))
    outcome = await execute(guests.interpreter(options.pop("call_parameters", 2)), host, **options)
    return guests.results(outcome), outcome, host


async def test_a_guest_reads_its_request_from_its_arguments(guests: Any, execute: Any) -> None:
    results, _, _ = await run(
        guests, execute, ("args_sizes_get", 0, 4), ("load", 0), ("args_get", 8, 64), ("load", 8), request=b"\0\xffabc"
    )
    encoded = base64.standard_b64encode(b"\0\xffabc")
    assert results[:2] == [0, (len(b"wasi\0") + len(encoded) + 1) << 32 | 2]
    assert results[2:] == [0, 69 << 32 | 64]


async def test_the_request_arrives_in_base64_with_padding(guests: Any, execute: Any) -> None:
    host = guests.Host(guests.assemble([("args_get", 8, 64), ("send_response", 64, 14), ("return",)]))
    outcome = await execute(guests.interpreter(), host, request=b"abcd")
    assert outcome.kind is EndingKind.RETURN
    assert outcome.response == b"wasi\0YWJjZA==\0"


async def test_a_large_request_arrives_whole(guests: Any, execute: Any) -> None:
    request = bytes(range(256)) * 8192  # 2 MiB, far more than a socket holds at once
    length = (len(request) + 2) // 3 * 4
    program = [("grow", 60), ("args_get", 8, 262144), ("send_response", 262144 + 5, length), ("return",)]
    outcome = await execute(guests.interpreter(), guests.Host(guests.assemble(program)), request=request)
    assert base64.standard_b64decode(outcome.response) == request


async def test_a_capability_call_and_its_answer_go_through_unchanged(guests: Any, execute: Any) -> None:
    at = guests.data_at(3)
    results, _, host = await run(
        guests,
        execute,
        ("call_capability", at, 7),
        ("await_capabilities", at, 3, 1024, 100),
        ("load", 1024),
        data=b"request",
        answers={"await_capabilities": b"8 bytes!"},
    )
    assert results == [0, 8, int.from_bytes(b"8 bytes!", "little")]
    assert host.calls[:2] == [("call_capability", b"request"), ("await_capabilities", b"req")]


async def test_secrets_go_through_unchanged(guests: Any, execute: Any) -> None:
    at = guests.data_at(3)
    results, _, host = await run(
        guests,
        execute,
        ("get_secrets", at, 7, 512, 64),
        ("await_secrets", at, 3, 1024, 100),
        ("load", 1024),
        data=b"request",
        answers={"await_secrets": b"secrets!"},
    )
    assert results == [0, 8, int.from_bytes(b"secrets!", "little")]
    assert host.calls[:2] == [("get_secrets", b"request"), ("await_secrets", b"req")]


@pytest.mark.parametrize("name", ["call_capability", "get_secrets"])
async def test_a_refused_call_is_told_to_the_guest(guests: Any, execute: Any, name: str) -> None:
    text = "error calling proto unmarshal: no"
    results, _, _ = await run(
        guests,
        execute,
        (name, 1024, 64, 2048, 64),
        ("load", 2048 if name == "get_secrets" else 1024),
        answers={name: CallRefused(text)},
    )
    assert results[0] == -len(text)
    assert results[1].to_bytes(8, "little") == b"error ca"


async def test_the_newer_call_capability_is_linked_for_four_parameters(guests: Any, execute: Any) -> None:
    results, _, host = await run(
        guests,
        execute,
        ("call_capability", 1024, 64, 2048, 10),
        ("load", 1024),
        ("load", 2048),
        ("call_capability", 1024, 2, 2048, 10),
        call_parameters=4,
        answers={"call_capability": CallRefused("refused, and so on")},
    )
    assert results[0] == -10
    assert results[1] == 0
    assert results[2].to_bytes(8, "little") == b"refused,"
    assert [name for name, _ in host.calls] == ["call_capability", "call_capability", "send_response"]


async def test_an_answer_larger_than_the_buffer_is_not_sent_and_named(guests: Any, execute: Any) -> None:
    results, _, _ = await run(
        guests,
        execute,
        ("await_capabilities", 0, 0, 1024, 99),
        ("load", 1024),
        ("await_secrets", 0, 0, guests.MEMORY_BYTES - 8, 100),
        ("await_capabilities", 0, 0, 1024, 100),
        answers={"await_capabilities": bytes(100), "await_secrets": bytes(100)},
    )
    assert results[0] == -len(b"response buffer too small")
    assert results[1].to_bytes(8, "little") == b"response"
    assert results[2:] == [-8, 100]


async def test_time_is_the_hosts_and_follows_the_mode(guests: Any, execute: Any) -> None:
    results, _, host = await run(
        guests,
        execute,
        ("now", 0),
        ("load", 0),
        ("switch_modes", 1),
        ("now", 0),
        ("switch_modes", 2),
        ("now", 0),
        ("clock_time_get", 1, 8),
        ("load", 8),
        ("clock_time_get", 0, 8),
        ("load", 8),
        ("clock_time_get", 2, 8),
        answers={"now": 1_577_934_245_000_000_000, "node_time": 77},
    )
    assert results[1] == 1_577_934_245_000_000_000
    assert [argument for name, argument in host.calls if name == "now"] == [0, 1, 2]
    assert results[6:] == [0, 1, 0, 77, 28]


async def test_without_time_clocks_are_invalid(guests: Any, execute: Any) -> None:
    answers = {"now": CallRefused("no"), "node_time": CallRefused("no")}
    results, _, _ = await run(guests, execute, ("now", 0), ("clock_time_get", 0, 8), answers=answers)
    assert results == [28, 28]


async def test_seeds_are_those_of_the_execution(guests: Any, execute: Any) -> None:
    program = (("random_seed", 1), ("random_seed", 2), ("random_seed", 0))
    results, _, _ = await run(guests, execute, *program, don_seed=-(1 << 63), node_seed=(1 << 63) - 1)
    assert results == [-(1 << 63), (1 << 63) - 1, -1]


async def test_entropy_differs_between_executions(guests: Any, execute: Any) -> None:
    first, _, _ = await run(guests, execute, ("random_get", 0, 8), ("load", 0))
    second, _, _ = await run(guests, execute, ("random_get", 0, 8), ("load", 0))
    assert first[0] == second[0] == 0
    assert first[1] != second[1]


async def test_log_lines_arrive_in_order_with_their_mode_and_within_their_limits(guests: Any, execute: Any) -> None:
    at = guests.data_at(8)
    _, _, host = await run(
        guests,
        execute,
        ("log", at, 4),
        ("switch_modes", 1),
        ("log", at, 4),
        ("log", at, 100),
        ("log", at + 4, 4),
        ("log", at + 8, 4),
        ("switch_modes", 2),
        ("log", at + 8, 4),
        data=b"one-two-\xff\xfe!?",
        limits=GuestLimits(log_events_don=3, log_events_node=3, log_line_bytes=50),
    )
    assert host.logs == [(1, b"one-"), (1, b"two-"), (2, b"\xff\xfe!?")]


async def test_metrics_pass_the_gate_and_the_hosts_word_counts(guests: Any, execute: Any) -> None:
    program = (("emit_metric", 1024, 10), ("emit_metric", 1024, 11), ("emit_metric", 1024, 0))
    limits = GuestLimits(metrics=True, metric_bytes=10)
    results, _, host = await run(guests, execute, *program, limits=limits)
    assert results == [0, -1, -1]
    assert [name for name, _ in host.calls].count("emit_metric") == 1
    results, _, _ = await run(guests, execute, *program, limits=limits, answers={"emit_metric": -1})
    assert results == [-1, -1, -1]
    results, _, host = await run(guests, execute, *program)
    assert results == [-1, -1, -1]
    assert [name for name, _ in host.calls] == ["send_response"]


async def test_the_last_response_that_the_host_accepts_counts(guests: Any, execute: Any) -> None:
    async def accept(response: bytes) -> int:
        return 21 if b"bad" in response else 0

    at = guests.data_at(4)
    program = [("send_response", at, 5), ("send_response", at + 5, 3), ("send_response", -1, 3), ("return",)]
    host = guests.Host(guests.assemble(program, b"firstbad"), send_response=accept)
    outcome = await execute(guests.interpreter(), host)
    assert outcome.response == b"first"
    assert outcome.error is None


async def test_a_response_beyond_the_message_limit_is_a_fault(guests: Any, execute: Any) -> None:
    results, _, host = await run(
        guests,
        execute,
        ("send_response", 0, 2001),
        ("get_secrets", 0, 2001, 4096, 20),
        limits=GuestLimits(message_bytes=2000),
    )
    assert results == [21, -20]
    assert [name for name, _ in host.calls] == ["send_response"]


async def test_a_poll_really_sleeps(guests: Any, execute: Any) -> None:
    at = guests.data_at(3)
    subscription = struct.pack("<QB7xI4xQQH6x", 5, 0, 1, 50_000_000, 0, 0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    results, _, _ = await run(
        guests, execute, ("poll_oneoff", at, 1024, 1, 2048), ("load", 1024), ("load", 2048), data=subscription
    )
    assert results == [0, 5, 1]
    assert loop.time() - started >= 0.05


@pytest.mark.parametrize("count", [0, -1, 129, 2_083_333, (1 << 31) // 48 - 1, (1 << 31) // 48])
async def test_a_poll_of_too_many_is_invalid_and_touches_nothing(guests: Any, execute: Any, count: int) -> None:
    results, _, _ = await run(guests, execute, ("poll_oneoff", 0, 0, count, 0), ("load", 0))
    assert results == [28, 0]


async def test_output_is_discarded_and_input_has_ended(guests: Any, execute: Any) -> None:
    at = guests.data_at(4)
    results, _, _ = await run(
        guests,
        execute,
        ("fd_write", 1, at, 1, 0),
        ("load", 0),
        ("fd_read", 0, at, 1, 8),
        ("fd_write", 3, at, 1, 0),
        data=struct.pack("<II", 1024, 10),
    )
    assert results == [0, 10, 0, 8]


@pytest.mark.parametrize(
    "call",
    [
        ("call_capability", 100, (1 << 31) - 1 - 100 + 1),
        ("call_capability", -(1 << 31), -(1 << 31)),
        ("clock_time_get", 0, 0x7FFFFFFC),
        ("now", 0x7FFFFFFC),
        ("await_capabilities", -1, -1, -1, -1),
        ("get_secrets", 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF),
        ("send_response", 0, 0x7FFFFFFF),
        ("log", 0x40000, 0x7FFFFFFF),
    ],
)
async def test_numbers_that_overflow_hurt_nobody(guests: Any, execute: Any, call: tuple[Any, ...]) -> None:
    results, _, _ = await run(guests, execute, ("switch_modes", 1), call, ("load", 0))
    assert len(results) == 3


async def test_memory_that_grew_is_memory(guests: Any, execute: Any) -> None:
    end = guests.MEMORY_BYTES
    results, outcome, _ = await run(
        guests,
        execute,
        ("await_capabilities", 0, 0, end, 8),
        ("grow", 1),
        ("await_capabilities", 0, 0, end + 65528, 8),
        ("load", end + 65528),
        answers={"await_capabilities": b"8 bytes!"},
    )
    assert results == [0, 4, 8, int.from_bytes(b"8 bytes!", "little")]
    assert outcome.response is not None


async def test_executions_of_one_zygote_share_no_memory(guests: Any, execute: Any) -> None:
    first, _, _ = await run(guests, execute, ("store", 4096, 7), ("grow", 1), ("load", 4096))
    second, _, _ = await run(guests, execute, ("load", 4096), ("grow", 1))
    assert first == [0, 4, 7]
    assert second == [0, 4]


async def test_what_a_guest_reads_first_differs_between_executions(guests: Any, execute: Any) -> None:
    """The prefix ends at the first host call, whichever it is: so it depends on nothing."""
    guest = guests.module(
        '(func (export "_start") (call $version)'
        " (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)))"
        " (drop (call $args_get (i32.const 16) (i32.const 64)))"
        " (i64.store (i32.const 8) (i64.load (i32.const 69)))"
        " (drop (call $send_response (i32.const 0) (i32.const 16))))"
    )
    for time, request in ((5, b"aaaaaa"), (6, b"bbbbbb")):
        outcome = await execute(guest, guests.Host(node_time=time), request=request)
        assert outcome.response == struct.pack("<q", time) + base64.standard_b64encode(request)


async def test_only_the_first_execution_of_a_binary_is_cold(guests: Any, execute: Any) -> None:
    guest = guests.module('(func (export "_start") (call $proc_exit (i32.const 3)))', memory="7")
    assert [(await execute(guest)).cold for _ in range(3)] == [True, False, False]
