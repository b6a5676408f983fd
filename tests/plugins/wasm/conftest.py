"""Guests in the text format, a host that answers them, and the driver's processes.

Most tests run the *interpreter*: one guest whose program comes with the answer to its first host call. So each test
says which host calls a guest makes, with which numbers, and reads what they returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from innkeeper_wasm.driver import CallRefused, CompiledModule, GuestLimits, Outcome, Runtime

PROGRAM = 0x10000
RESULTS = 0x20000
MEMORY_BYTES = 0x40000

Instruction = tuple[Any, ...]
"""A name of :data:`OPERATIONS` with at most four signed 32-bit numbers."""

IMPORTS = """
 (import "env" "version_v2_test" (func $version))
 (import "env" "send_response" (func $send_response (param i32 i32) (result i32)))
 (import "env" "call_capability" (func $call_capability (param {call}) (result i64)))
 (import "env" "await_capabilities" (func $await_capabilities (param i32 i32 i32 i32) (result i64)))
 (import "env" "get_secrets" (func $get_secrets (param i32 i32 i32 i32) (result i64)))
 (import "env" "await_secrets" (func $await_secrets (param i32 i32 i32 i32) (result i64)))
 (import "env" "log" (func $log (param i32 i32)))
 (import "env" "emit_metric" (func $emit_metric (param i32 i32) (result i32)))
 (import "env" "switch_modes" (func $switch_modes (param i32)))
 (import "env" "random_seed" (func $random_seed (param i32) (result i64)))
 (import "env" "now" (func $now (param i32) (result i32)))
 (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
 (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
 (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"""

_A, _B, _C, _D = ("(local.get $a)", "(local.get $b)", "(local.get $c)", "(local.get $d)")
_ZERO = "(i64.const 0)"
OPERATIONS = {
    "send_response": f"(i64.extend_i32_s (call $send_response {_A} {_B}))",
    "call_capability": f"(call $call_capability {_A} {_B} {{rest}})",
    "await_capabilities": f"(call $await_capabilities {_A} {_B} {_C} {_D})",
    "get_secrets": f"(call $get_secrets {_A} {_B} {_C} {_D})",
    "await_secrets": f"(call $await_secrets {_A} {_B} {_C} {_D})",
    "log": f"(call $log {_A} {_B}) {_ZERO}",
    "emit_metric": f"(i64.extend_i32_s (call $emit_metric {_A} {_B}))",
    "switch_modes": f"(call $switch_modes {_A}) {_ZERO}",
    "random_seed": f"(call $random_seed {_A})",
    "now": f"(i64.extend_i32_s (call $now {_A}))",
    "args_sizes_get": f"(i64.extend_i32_s (call $args_sizes_get {_A} {_B}))",
    "args_get": f"(i64.extend_i32_s (call $args_get {_A} {_B}))",
    "environ_sizes_get": f"(i64.extend_i32_s (call $environ_sizes_get {_A} {_B}))",
    "clock_time_get": f"(i64.extend_i32_s (call $clock_time_get {_A} {_ZERO} {_B}))",
    "random_get": f"(i64.extend_i32_s (call $random_get {_A} {_B}))",
    "poll_oneoff": f"(i64.extend_i32_s (call $poll_oneoff {_A} {_B} {_C} {_D}))",
    "fd_write": f"(i64.extend_i32_s (call $fd_write {_A} {_B} {_C} {_D}))",
    "fd_read": f"(i64.extend_i32_s (call $fd_read {_A} {_B} {_C} {_D}))",
    "fd_close": f"(i64.extend_i32_s (call $fd_close {_A}))",
    "proc_exit": f"(call $proc_exit {_A}) {_ZERO}",
    "load": f"(i64.load {_A})",
    "store": f"(i32.store {_A} {_B}) {_ZERO}",
    "fill": f"(memory.fill {_A} {_B} {_C}) {_ZERO}",
    "grow": f"(i64.extend_i32_s (memory.grow {_A}))",
    "trap": "(unreachable)",
    "return": "(global.set $stop (i32.const 1)) (i64.const 0)",
    "loop": f"(loop $for_ever (br $for_ever)) {_ZERO}",
    "recurse": f"(call $recurse {_A})",
}
_NUMBERS = {name: number for number, name in enumerate(OPERATIONS)}


def interpreter(call_parameters: int = 2) -> str:
    """Return the interpreter as text, with an import of ``call_capability`` that has so many parameters."""
    rest = " ".join((_C, _D)[: call_parameters - 2])
    steps = "\n".join(
        f"  (if (i32.eq (local.get $op) (i32.const {_NUMBERS[name]})) (then {body.format(rest=rest)} return))"
        for name, body in OPERATIONS.items()
    )
    return f"""(module
 {IMPORTS.format(call=" ".join(["i32"] * call_parameters))}
 (memory (export "memory") {MEMORY_BYTES // 65536})
 (global $stop (mut i32) (i32.const 0))
 (func $recurse (param $a i32) (result i64)
  (i64.add (i64.const 1) (call $recurse (i32.add (local.get $a) (i32.const 1)))))
 (func $step (param $op i32) (param $a i32) (param $b i32) (param $c i32) (param $d i32) (result i64)
 {steps}
  unreachable)
 (func (export "_start") (local $i i32) (local $p i32)
  (call $version)
  (drop (call $await_capabilities
   (i32.const 0) (i32.const 0) (i32.const {PROGRAM}) (i32.const {RESULTS - PROGRAM})))
  (local.set $p (i32.const {PROGRAM + 4}))
  (block $done (loop $next
   (br_if $done (i32.ge_u (local.get $i) (i32.load (i32.const {PROGRAM}))))
   (i64.store (i32.add (i32.const {RESULTS}) (i32.mul (local.get $i) (i32.const 8)))
    (call $step (i32.load (local.get $p)) (i32.load offset=4 (local.get $p)) (i32.load offset=8 (local.get $p))
     (i32.load offset=12 (local.get $p)) (i32.load offset=16 (local.get $p))))
   (if (global.get $stop) (then return))
   (local.set $p (i32.add (local.get $p) (i32.const 20)))
   (local.set $i (i32.add (local.get $i) (i32.const 1)))
   (br $next)))
  (drop (call $send_response (i32.const {RESULTS}) (i32.mul (local.get $i) (i32.const 8))))
  (call $proc_exit (i32.const 0))))"""


def assemble(instructions: list[Instruction], data: bytes = b"") -> bytes:
    """Return a program of the interpreter; ``data`` lies behind it, where :func:`data_at` says."""
    code = [struct.pack("<I", len(instructions))]
    for name, *numbers in instructions:
        code.append(struct.pack("<I4i", _NUMBERS[name], *(numbers + [0] * 4)[:4]))
    return b"".join(code) + data


def data_at(count: int) -> int:
    """Return where the data behind a program of so many instructions lies."""
    return PROGRAM + 4 + 20 * count


class Host:
    """Answers an execution, and remembers what it was asked.

    Attributes:
        answers: By the name of a callback: what it returns, or the exception that it raises, or an async function of
            its argument.
        calls: What was asked: the name of the callback, and its argument.
        logs: Log lines, with their modes.
    """

    def __init__(self, program: bytes | None = None, **answers: Any) -> None:
        self._program = program
        self.answers: dict[str, Any] = {"now": 1_000, "node_time": 2_000, "emit_metric": 0, "send_response": 0}
        self.answers |= answers
        self.calls: list[tuple[str, Any]] = []
        self.logs: list[tuple[int, bytes]] = []

    async def _answer(self, name: str, argument: Any, default: Any = None) -> Any:
        self.calls.append((name, argument))
        answer = self.answers.get(name, default)
        if callable(answer):
            answer = await answer(argument)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def call_capability(self, request: bytes) -> None:
        await self._answer("call_capability", request)

    async def await_capabilities(self, request: bytes) -> bytes:
        if self._program is not None:
            program, self._program = self._program, None
            return program
        answer: bytes = await self._answer("await_capabilities", request, b"")
        return answer

    async def get_secrets(self, request: bytes) -> None:
        await self._answer("get_secrets", request)

    async def await_secrets(self, request: bytes) -> bytes:
        answer: bytes = await self._answer("await_secrets", request, b"")
        return answer

    async def now(self, mode: int) -> int:
        answer: int = await self._answer("now", mode)
        return answer

    async def node_time(self) -> int:
        answer: int = await self._answer("node_time", None)
        return answer

    async def emit_metric(self, metric: bytes) -> int:
        answer: int = await self._answer("emit_metric", metric)
        return answer

    async def send_response(self, response: bytes) -> int:
        answer: int = await self._answer("send_response", response)
        return answer

    def log(self, mode: int, line: bytes) -> None:
        self.logs.append((mode, line))
        if isinstance(problem := self.answers.get("log"), BaseException):
            raise problem


class Execute(Protocol):
    """Executes a guest."""

    def __call__(
        self,
        guest: str | CompiledModule,
        host: Host | None = None,
        *,
        request: bytes = b"request",
        seconds: float = 20.0,
        limits: GuestLimits | None = None,
        **options: Any,
    ) -> Awaitable[Outcome]: ...


def executor(runtime: Runtime) -> Execute:
    """Return what executes guests of a runtime, compiling each text once."""
    modules: dict[str, CompiledModule] = {}

    async def execute(
        guest: str | CompiledModule,
        host: Host | None = None,
        *,
        request: bytes = b"request",
        seconds: float = 20.0,
        limits: GuestLimits | None = None,
        **options: Any,
    ) -> Outcome:
        if isinstance(guest, str):
            if guest not in modules:
                modules[guest] = await runtime.compile(guest.encode(), text=True)
            module = modules[guest]
        else:
            module = guest
        options = {"don_seed": 11, "node_seed": 22} | options
        return await runtime.execute(
            module,
            request=request,
            callbacks=host or Host(),
            deadline=asyncio.get_running_loop().time() + seconds,
            limits=limits,
            **options,
        )

    return execute


class Guests:
    """What the tests of this directory share."""

    Host = Host
    CallRefused = CallRefused
    IMPORTS = IMPORTS.format(call="i32 i32")
    OPERATIONS = OPERATIONS
    PROGRAM = PROGRAM
    RESULTS = RESULTS
    MEMORY_BYTES = MEMORY_BYTES
    interpreter = staticmethod(interpreter)
    assemble = staticmethod(assemble)
    data_at = staticmethod(data_at)
    executor = staticmethod(executor)

    @staticmethod
    def module(body: str, memory: str = "1") -> str:
        """Return a guest with all imports, a memory and this body."""
        return f'(module {Guests.IMPORTS} (memory (export "memory") {memory}) {body})'

    @staticmethod
    @contextlib.asynccontextmanager
    async def ends(*pids: int, seconds: float = 10.0) -> AsyncIterator[None]:
        """Wait, at the end of the block, until these processes have ended."""
        loop = asyncio.get_running_loop()
        ended = {os.pidfd_open(pid): asyncio.Event() for pid in pids}
        try:
            for pidfd, event in ended.items():
                loop.add_reader(pidfd, event.set)
            yield
            async with asyncio.timeout(seconds):
                for event in ended.values():
                    await event.wait()
        finally:
            for pidfd in ended:
                loop.remove_reader(pidfd)
                os.close(pidfd)

    @staticmethod
    def results(outcome: Outcome) -> list[int]:
        """Return what the instructions of a program returned."""
        assert outcome.error is None, outcome
        assert outcome.response is not None
        return [number for (number,) in struct.iter_unpack("<q", outcome.response)]


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no coverage in processes that a test confines: what writes it down would be refused there."""
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def guests() -> type[Guests]:
    return Guests


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    """A driver for all tests of a module, which must run on the module's loop and leave it as it was."""
    runtime = Runtime(tmp_path_factory.mktemp("cache", numbered=True) / "modules")
    yield runtime
    await runtime.close()


@pytest.fixture(scope="module")
def execute(shared_runtime: Runtime) -> Execute:
    return executor(shared_runtime)


@pytest_asyncio.fixture
async def new_runtime(tmp_path: Path) -> AsyncIterator[Callable[..., Runtime]]:
    """Makes drivers that share a cache; a test may kill their processes."""
    made: list[Runtime] = []

    def make(**options: Any) -> Runtime:
        made.append(Runtime(tmp_path / "modules", **options))
        return made[-1]

    yield make
    for runtime in made:
        await runtime.close()


@pytest.fixture
def runtime(new_runtime: Callable[..., Runtime]) -> Runtime:
    """A driver for one test."""
    return new_runtime()
