"""What the calls of executions go through, when the root process is told of something; and what it is started with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from innkeeper_wasm.driver import CallRefused, EndingKind, GuestLimits, RootCommand, Runtime, RuntimeLostError

HOOK = """
import os, struct
from innkeeper_wasm.runtime.guest import Refused
from innkeeper_wasm.runtime.wire import Kind

IMPORTED_BY = os.getpid()
MADE = 0


class Hook:
    def __init__(self, host):
        global MADE
        MADE += 1
        self.host = host

    def ask(self, kind, payload):
        if kind == Kind.NOW:
            return struct.pack("<q", IMPORTED_BY)
        if kind == Kind.NODE_TIME:
            return struct.pack("<q", os.getpid())
        if kind == Kind.GET_SECRETS:
            raise Refused(b"not here")
        if kind == Kind.EMIT_METRIC:
            return struct.pack("<i", MADE)
        if kind == Kind.CALL_CAPABILITY:
            open("/proc/self/status")
        return self.host.ask(kind, payload)

    def tell(self, kind, payload):
        self.host.tell(kind, payload[:4] + b"hooked" if kind == Kind.LOG else payload)


factory = Hook
"""

RUN = """
import runpy, sys
sys.path.insert(0, {0!r})
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def environment(pid: int | None) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@pytest.fixture
def hooked(new_runtime: Callable[..., Runtime], tmp_path: Path) -> Runtime:
    (tmp_path / "a_hook.py").write_text(HOOK)
    interpreter = (sys.executable, "-I", "-c", RUN.format(str(tmp_path)))
    return new_runtime(root=RootCommand(interpreter=interpreter, host="a_hook:factory"))


async def test_every_call_of_a_guest_goes_through_the_hook(hooked: Runtime, guests: Any) -> None:
    at = guests.data_at(8)
    asked = [
        ("now", at),
        ("load", at),
        ("clock_time_get", 0, at),
        ("load", at),
        ("get_secrets", at, 0, at + 32, 32),
        ("switch_modes", 1),
        ("log", at, 4),
        ("emit_metric", at, 4),
    ]
    host = guests.Host(guests.assemble(asked, b"\0" * 64))
    outcome = await guests.executor(hooked)(guests.interpreter(), host, limits=GuestLimits(metrics=True))
    _, imported_by, _, pid, refused, _, _, made = guests.results(outcome)
    assert imported_by == hooked.stats().root
    assert pid != imported_by
    assert refused == -len("not here")
    assert made == 1
    assert host.logs == [(1, b"hooked")]
    # The first await, by which the program comes, has gone on to the driver.
    assert [name for name, _ in host.calls] == ["send_response"]


async def test_each_execution_has_a_hook_of_its_own_in_its_own_process(hooked: Runtime, guests: Any) -> None:
    at = guests.data_at(2)
    program = guests.assemble([("clock_time_get", 0, at), ("load", at)], b"\0" * 16)
    execute = guests.executor(hooked)
    pids = [guests.results(await execute(guests.interpreter(), guests.Host(program)))[1] for _ in range(2)]
    assert len(set(pids)) == 2


async def test_a_hook_runs_in_the_confined_process(hooked: Runtime, guests: Any) -> None:
    host = guests.Host(guests.assemble([("call_capability", 0, 0)]))
    outcome = await guests.executor(hooked)(guests.interpreter(), host)
    assert outcome.kind is EndingKind.HOST_PANIC
    assert "PermissionError" in str(outcome.error)


async def test_a_hook_that_cannot_be_imported_is_told_before_anything_runs(
    new_runtime: Callable[..., Runtime], guests: Any
) -> None:
    runtime = new_runtime(root=RootCommand(host="there_is.no:hook"))
    with pytest.raises(RuntimeLostError, match="before it was ready"):
        await runtime.start()


async def test_without_a_hook_calls_go_to_the_driver(runtime: Runtime, guests: Any) -> None:
    host = guests.Host(
        guests.assemble([("get_secrets", 0, 0, guests.data_at(1), 32)]), get_secrets=CallRefused("driver")
    )
    outcome = await guests.executor(runtime)(guests.interpreter(), host)
    assert guests.results(outcome) == [-len("driver")]


async def test_starting_ahead_makes_the_root_process_that_is_used_later(runtime: Runtime, guests: Any) -> None:
    assert runtime.stats().root is None
    await runtime.start()
    root = runtime.stats().root
    assert root is not None
    await guests.executor(runtime)(guests.interpreter(), guests.Host(guests.assemble([])))
    assert runtime.stats().root == root


async def test_the_mark_of_the_guard_is_passed_on_and_nothing_else(
    runtime: Runtime, guests: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNKEEPER_GUARDED", "a-mark")
    monkeypatch.setenv("INNKEEPER_DATA_DIR", "/nowhere")
    await runtime.start()
    assert environment(runtime.stats().root) == [b"LC_ALL=C.UTF-8", b"INNKEEPER_GUARDED=a-mark", b""]
