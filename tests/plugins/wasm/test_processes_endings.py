"""How executions end, one by one and many at once: each ending is its own execution's, and the driver goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from innkeeper_wasm.driver import EndingKind, GuestLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDLESS = "(loop $for_ever (br $for_ever))"


def start(body: str) -> str:
    return f'(func (export "_start") {body})'


async def run(guests: Any, execute: Any, *program: tuple[Any, ...], **options: Any) -> Any:
    answers = options.pop("answers", {})
    return await execute(guests.interpreter(), guests.Host(guests.assemble(list(program)), **answers), **options)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (0, None),
        (1, "wasm exited with exit status 1"),
        (2, "wasm exited with exit status 2"),
        (110, "invariant violation: error marshaling response"),
        (111, "invariant violation: invalid request to runner"),
        (112, "error executing runner"),
        (113, "invariant violation: host errored during sendResponse"),
        (125, "wasm exited with exit status 125"),
    ],
)
async def test_an_exit_code_decides_whether_a_response_counts(
    guests: Any, execute: Any, code: int, error: str | None
) -> None:
    outcome = await run(guests, execute, ("send_response", 0, 4), ("proc_exit", code))
    assert (outcome.kind, outcome.ending.code, outcome.error) == (EndingKind.EXIT, code, error)
    assert outcome.response == bytes(4)


async def test_an_exit_code_that_wasi_does_not_have_is_a_trap(guests: Any, execute: Any) -> None:
    outcome = await run(guests, execute, ("proc_exit", 126))
    assert outcome.kind is EndingKind.TRAP
    assert "exit with invalid exit status outside of [0..126)" in outcome.error


@pytest.mark.parametrize("last", [("proc_exit", 0), ("return",)])
async def test_an_end_without_a_response_is_an_error(guests: Any, execute: Any, last: tuple[Any, ...]) -> None:
    assert (await run(guests, execute, last)).error == "could not find response for execution"


async def test_returning_after_a_response_is_a_success(guests: Any, execute: Any) -> None:
    outcome = await run(guests, execute, ("send_response", 0, 2), ("return",))
    assert (outcome.kind, outcome.error, outcome.response) == (EndingKind.RETURN, None, bytes(2))


async def test_a_trap_drops_the_response(guests: Any, execute: Any) -> None:
    outcome = await run(guests, execute, ("send_response", 0, 4), ("trap",))
    assert outcome.kind is EndingKind.TRAP
    assert "wasm `unreachable` instruction executed" in outcome.error


async def test_deep_recursion_is_a_trap(guests: Any, execute: Any) -> None:
    outcome = await run(guests, execute, ("recurse", 0))
    assert outcome.kind is EndingKind.TRAP
    assert outcome.error.startswith("error while executing at wasm backtrace:")


async def test_memory_beyond_its_limit_is_not_given(guests: Any, execute: Any) -> None:
    host = guests.Host(guests.assemble([("grow", 3), ("grow", 9), ("grow", 1), ("grow", 65000)]))
    outcome = await execute(guests.interpreter(), host, memory_bytes=8 * 65536)
    assert guests.results(outcome) == [4, -1, 7, -1]


@pytest.mark.parametrize("pages", [3, 20_000])
async def test_a_guest_that_declares_more_memory_than_its_limit_cannot_be_linked(
    guests: Any, execute: Any, pages: int
) -> None:
    guest = guests.module(start("(call $proc_exit (i32.const 0))"), memory=str(pages))
    outcome = await execute(guest, memory_bytes=2 * 65536)
    assert outcome.kind is EndingKind.LINK
    assert outcome.error.startswith("error linking wasm: ")
    assert f"memory minimum size of {pages} pages exceeds memory limits" in outcome.error


async def test_a_guest_has_one_table_and_one_memory(guests: Any, execute: Any) -> None:
    outcome = await execute(guests.module("(table 1 funcref) (table 1 funcref)" + start("")))
    assert "error linking wasm: resource limit exceeded: table count too high at 2" in outcome.error
    outcome = await execute(guests.module("(memory 1)" + start("")))
    assert "error linking wasm: resource limit exceeded: memory count too high at 2" in outcome.error


@pytest.mark.parametrize(
    ("imported", "text"),
    [
        ('"env" "fetch" (func)', "unknown import: `env::fetch` has not been defined"),
        ('"wasi_snapshot_preview1" "fd_read" (func)', "incompatible import type for `wasi_snapshot_preview1::fd_read`"),
        ('"env" "version_v2_last" (func)', "unknown import: `env::version_v2` has not been defined"),
        ('"env" "version_v2" (func (param i32))', "incompatible import type for `env::version_v2`"),
    ],
)
async def test_an_import_that_is_not_offered_cannot_be_linked(
    guests: Any, execute: Any, imported: str, text: str
) -> None:
    guest = f'(module (import "env" "version_v2" (func)) (import {imported}) (memory (export "memory") 1))'
    for _ in range(2):  # The second time from what the zygote has said.
        outcome = await execute(guest)
        assert outcome.kind is EndingKind.LINK
        assert outcome.error.startswith("error linking wasm: ")
        assert text in outcome.error


@pytest.mark.parametrize("memory", ['(memory (export "memory") i64 1)', '(memory (export "memory") 1 1 shared)'])
async def test_a_memory_of_another_kind_hurts_nobody(guests: Any, execute: Any, memory: str) -> None:
    call = start("(drop (call $get_secrets (i32.const -8) (i32.const 9) (i32.const 8) (i32.const 64)))")
    outcome = await execute(f"(module {guests.IMPORTS} {memory} {call})")
    assert outcome.kind in (EndingKind.RETURN, EndingKind.LINK)


async def test_a_text_without_end_is_cut(guests: Any, execute: Any) -> None:
    name = "\u00e9" * 49_000
    guest = f'(module (import "env" "version_v2" (func)) (import "env" "{name}" (func)) (memory (export "memory") 1))'
    outcome = await execute(guest)
    assert outcome.kind is EndingKind.LINK
    assert len(outcome.error) == 4096


@pytest.mark.parametrize("body", ["", '(global (export "_start") i32 (i32.const 0))'])
async def test_a_guest_without_a_start_function_cannot_be_started(guests: Any, execute: Any, body: str) -> None:
    outcome = await execute(guests.module(body))
    assert (outcome.kind, outcome.error) == (EndingKind.LINK, "could not get start function")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (start("unreachable"), EndingKind.TRAP, "wasm `unreachable` instruction executed"),
        (start("(call $version)"), EndingKind.RETURN, "could not find response for execution"),
        ("(func $f unreachable) (start $f)" + start(""), EndingKind.LINK, "error linking wasm: "),
    ],
)
async def test_a_guest_that_ends_before_its_first_host_call_ends_so_each_time(
    guests: Any, execute: Any, body: str, kind: EndingKind, text: str
) -> None:
    guest = guests.module(body)
    host = guests.Host()
    for cold in (True, False, False):
        outcome = await execute(guest, host)
        assert outcome.kind is kind
        assert outcome.cold is cold
        assert text in outcome.error
    assert host.calls == []


@pytest.mark.parametrize(
    "body",
    [start(ENDLESS), start(f"(call $version) {ENDLESS}"), f"(func $f {ENDLESS}) (start $f)" + start("")],
    ids=["in _start", "behind the marker", "in the start function"],
)
async def test_an_endless_loop_before_the_first_host_call_is_ended_and_named(
    guests: Any, execute: Any, shared_runtime: Any, body: str
) -> None:
    outcome = await execute(guests.module(body), prefix_seconds=0.2)
    assert outcome.kind is EndingKind.PREFIX_DEADLINE
    assert outcome.killed_by_deadline
    assert outcome.error == "context deadline exceeded: the guest ran 0.2 s before its first host call"


async def test_the_deadline_of_an_execution_holds_for_its_prefix_too(guests: Any, execute: Any) -> None:
    outcome = await execute(guests.module(start(ENDLESS)), prefix_seconds=0.5, seconds=0.1)
    assert outcome.kind is EndingKind.DEADLINE
    assert 0.1 <= outcome.seconds < 0.5


async def test_host_calls_of_the_start_function_are_answered(guests: Any, execute: Any) -> None:
    guest = guests.module(
        "(func $f (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)))) (start $f)"
        + start("(drop (call $send_response (i32.const 0) (i32.const 8)))")
    )
    for time in (7, 8):
        outcome = await execute(guest, guests.Host(node_time=time))
        assert outcome.response == time.to_bytes(8, "little")


@pytest.mark.parametrize("program", [[("loop",)], [("send_response", 0, 4), ("loop",)], [("grow", 1), ("loop",)]])
async def test_an_endless_loop_is_ended_at_the_deadline(guests: Any, execute: Any, program: Any) -> None:
    outcome = await run(guests, execute, *program, seconds=0.2)
    assert outcome.kind is EndingKind.DEADLINE
    assert outcome.killed_by_deadline
    assert outcome.error == "context deadline exceeded"
    assert 0.2 <= outcome.seconds < 2


async def test_a_sleep_of_an_hour_is_ended_at_the_deadline(guests: Any, execute: Any) -> None:
    subscription = (3600 * 10**9).to_bytes(8, "little")
    program = [("poll_oneoff", guests.data_at(1), 1024, 1, 2048)]
    data = bytes(24) + subscription + bytes(16)
    outcome = await execute(guests.interpreter(), guests.Host(guests.assemble(program, data)), seconds=0.2)
    assert outcome.kind is EndingKind.DEADLINE


@pytest.mark.parametrize("name", ["call_capability", "get_secrets", "await_secrets", "now", "clock_time_get"])
async def test_the_deadline_holds_while_the_host_works_and_its_work_is_cancelled(
    guests: Any, execute: Any, name: str
) -> None:
    cancelled = asyncio.Event()

    async def never(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    answers = {"node_time" if name == "clock_time_get" else name: never}
    outcome = await run(guests, execute, (name, 0, 8, 16, 8), seconds=0.2, answers=answers)
    assert outcome.kind is EndingKind.DEADLINE
    assert cancelled.is_set()


async def test_a_deadline_that_is_over_already_ends_the_execution_at_once(guests: Any, execute: Any) -> None:
    outcome = await run(guests, execute, ("loop",), seconds=-1)
    assert outcome.kind is EndingKind.DEADLINE


@pytest.mark.parametrize("name", ["call_capability", "await_secrets", "now", "send_response", "log"])
async def test_an_exception_of_a_callback_is_a_panic_of_this_execution_alone(
    guests: Any, execute: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    program = [("switch_modes", 1), (name, 0, 4, 64, 8), ("loop",)]
    outcome = await run(guests, execute, *program, answers={name: RuntimeError("exit status 0: boom")})
    assert outcome.kind is EndingKind.HOST_PANIC
    assert outcome.error == "panic during wasm execution: exit status 0: boom"
    assert [record.message for record in caplog.records] == ["execution: panic during wasm execution"]


@pytest.mark.parametrize(("name", "value"), [("now", 1 << 63), ("emit_metric", None), ("await_secrets", "text")])
async def test_an_answer_that_no_guest_can_get_is_a_panic(
    guests: Any, execute: Any, name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    limits = GuestLimits(metrics=True)
    outcome = await run(guests, execute, (name, 0, 8, 64, 8), limits=limits, answers={name: value})
    assert outcome.kind is EndingKind.HOST_PANIC
    assert len(caplog.records) == 1


async def test_a_callback_that_is_cancelled_by_itself_is_a_panic(
    guests: Any, execute: Any, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await run(guests, execute, ("now", 0), answers={"now": asyncio.CancelledError()})
    assert outcome.kind is EndingKind.HOST_PANIC


async def test_sixteen_at_once_with_mixed_ends_never_see_each_other(guests: Any, execute: Any) -> None:
    endings = [
        lambda n: ([("send_response", 0, n + 1), ("proc_exit", 0)], EndingKind.EXIT, None),
        lambda n: ([("proc_exit", n)], EndingKind.EXIT, f"wasm exited with exit status {n}"),
        lambda n: ([("trap",)], EndingKind.TRAP, "unreachable"),
        lambda n: ([("loop",)], EndingKind.DEADLINE, "context deadline exceeded"),
        lambda n: ([("now", 0)], EndingKind.HOST_PANIC, f"panic during wasm execution: boom {n}"),
        lambda n: ([("send_response", 0, 4), ("return",)], EndingKind.RETURN, None),
        lambda n: ([("return",)], EndingKind.RETURN, "could not find response"),
        lambda n: ([("get_secrets", 0, 0, 0, 99), ("load", 0)], EndingKind.EXIT, None),
    ]

    async def one(number: int) -> None:
        program, kind, error = endings[number % len(endings)](number)
        host = guests.Host(
            guests.assemble(program), now=RuntimeError(f"boom {number}"), get_secrets=guests.CallRefused(f"{number:08}")
        )
        outcome = await execute(guests.interpreter(), host, seconds=1.5)
        assert outcome.kind is kind
        assert outcome.error is None if error is None else error in outcome.error
        if number % len(endings) == 0:
            assert outcome.response == bytes(number + 1)
        if program[0][0] == "get_secrets":
            assert outcome.response[8:16] == f"{number:08}".encode()

    await execute(guests.interpreter(), guests.Host(guests.assemble([])))
    await asyncio.gather(*(one(number) for number in range(16)))


async def test_a_cancelled_execution_is_gone(guests: Any, execute: Any, shared_runtime: Any) -> None:
    asked = asyncio.Event()

    async def never(_: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(guests, execute, ("now", 0), answers={"now": never}))
    await asked.wait()

    def found() -> list[int]:
        return [pid for zygote in shared_runtime.stats().zygotes for pid in zygote.executions]

    async with asyncio.timeout(10):
        # Its number may come behind its question, and those of earlier tests may not be reaped yet.
        while len(pids := found()) != 1:  # noqa: ASYNC110 - nothing says when
            await asyncio.sleep(0)
    (pid,) = pids
    async with guests.ends(pid):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_log_flood_costs_the_guest_its_time_and_nobody_else(guests: Any, execute: Any) -> None:
    program = [("switch_modes", 1), *[("log", 0, 10)] * 2900]
    host = guests.Host(guests.assemble(program))
    outcome = await execute(guests.interpreter(), host)
    assert outcome.error is None
    assert len(host.logs) == 1000
